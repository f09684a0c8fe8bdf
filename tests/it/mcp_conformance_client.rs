//! The MCP client against the scenarios of `@modelcontextprotocol/conformance`, one after the other as the suite has them.
//!
//! A failure that is not in `tests/clients/mcp_conformance_client.yml` fails the test, and so does one in there that no
//! longer happens.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::harness::mcp;

const SUITE: &str = "@modelcontextprotocol/conformance/dist/index.js";

/// Scenarios at the same time: each runs a few programs, and the suite gives them a time limit.
const AT_ONCE: usize = 3;

/// The suite's limit for one scenario, in milliseconds; it only guards against hanging.
const LIMIT_MS: &str = "90000";

#[test]
fn the_client_conforms_but_for_what_is_known() {
    let (Some(node), Some(suite)) = (mcp::node(), mcp::node_script(SUITE)) else { return };
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let results = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&node);
        // The suite starts the client through a shell, which finds `node` by name.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = node.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&path));
        command.arg(&suite).args(arguments).env("PATH", std::env::join_paths(folders).unwrap());
        command.env("GATEWAY_PROGRAM", env!("CARGO_BIN_EXE_witgate")).current_dir(results.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    };
    let (listed, list) = run(&["list", "--client"]);
    let scenarios: Vec<String> = list
        .lines()
        .filter_map(|line| line.strip_prefix("  - ")?.split(' ').next().map(str::to_owned))
        .collect();
    assert!(listed && scenarios.len() > 20, "{list}");

    let (client, known) =
        (clients.join("mcp_conformance_client.mjs"), clients.join("mcp_conformance_client.yml"));
    let client = format!("node {}", client.display());
    let known = known.to_str().unwrap();
    let (waiting, wrong) = (Mutex::new(scenarios.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(scenario) = waiting.lock().unwrap().next() else { return };
                    let (fits, text) = run(&[
                        "client",
                        "--command",
                        &client,
                        "--scenario",
                        scenario,
                        "--expected-failures",
                        known,
                        "--timeout",
                        LIMIT_MS,
                        "-o",
                        "results",
                    ]);
                    if !fits {
                        wrong.lock().unwrap().push(format!("{scenario}:\n{text}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} scenarios differ from the list:\n{}", wrong.len(), wrong.join("\n"));
}
