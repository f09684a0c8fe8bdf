//! Public clients, unmodified, at `/mcp` and `witgate mcp`; skipped, loudly, where they are not installed.

use serde_json::{Value, json};
use tokio::process::Command;

use super::rpc::{KEY, gateway};
use crate::harness::program::{Finished, node, python, repository, run};
use crate::harness::{Gateway, eventually, mcp};

const INSPECTOR: &str = "@modelcontextprotocol/inspector/clients/launcher/build/index.js";

#[tokio::test]
async fn the_python_client() {
    let Some(mut command) = python("tests/clients/mcp_python.py") else { return };
    let gateway = gateway().await;
    command.env("WITGATE_URL", gateway.url()).env("WITGATE_KEY", KEY);
    command.env("WITGATE_PROGRAM", env!("CARGO_BIN_EXE_witgate")).current_dir(gateway.folder());
    command.env("WITGATE_PLUGINS__BUNDLED", "[]");
    run(command, "").await.output();
}

#[tokio::test]
async fn the_inspector() {
    let (Some(node), Some(script)) = (mcp::node(), mcp::node_script(INSPECTOR)) else { return };
    let gateway = gateway().await;
    let inspect = async |path: &str, arguments: &[&str]| -> Finished {
        let mut command = Command::new(&node);
        command
            .arg(&script)
            .arg("--cli")
            .arg(format!("{}{path}", gateway.url()))
            .args(["--transport", "http"]);
        command.args(["--header", &format!("Authorization: Bearer {KEY}")]).args(arguments);
        command.current_dir(gateway.folder()).env("HOME", gateway.folder());
        run(command, "").await
    };
    for path in ["/mcp", "/mcp/sqlite", "/api/v1/mcp"] {
        let list = inspect(path, &["--method", "tools/list"]).await.output();
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list["tools"].as_array().unwrap().len(), 6, "{path}");
        let call =
            ["--method", "tools/call", "--tool-name", "read_query", "--tool-arg", "query=SELECT 6 * 7 AS n"];
        let result: Value = serde_json::from_str(&inspect(path, &call).await.output()).unwrap();
        assert_eq!(result["structuredContent"]["rows"][0]["n"], 42, "{path}");
    }
}

/// A gateway before the server that the scenarios ask for.
async fn fixture(folder: &tempfile::TempDir) -> Option<Gateway> {
    let server = node("tests/clients/conformance_server.mjs", folder.path())?;
    let server = server.as_std();
    let arguments: Vec<_> = server.get_args().map(|argument| argument.to_str().unwrap()).collect();
    let server = json!({"command": server.get_program().to_str().unwrap(), "args": arguments});
    let gateway = Gateway::builder().env("WITGATE_API_KEY", KEY).server("fixture", server).start().await;
    eventually("the fixture is ready", async || {
        gateway.get("/readyz").await.json()["components"]["mcp_servers"]["servers"][0]["state"] == "ready"
    })
    .await;
    Some(gateway)
}

async fn conforms(revision: &str) {
    let folder = tempfile::tempdir().unwrap();
    let Some(gateway) = fixture(&folder).await else { return };
    let Some(mut suite) = node("tests/clients/mcp_conformance.mjs", folder.path()) else { return };
    suite.args(["--requirements", revision]).current_dir(folder.path());
    suite.env("WITGATE_URL", gateway.url()).env("WITGATE_KEY", KEY).env("WITGATE_PATH", "/mcp/fixture");
    suite.env("WITGATE_BASELINE", repository("tests/clients/conformance_baseline.yml"));
    let output = run(suite, "").await.output();
    assert!(output.contains("Baseline check passed"), "{output}");
}

#[tokio::test]
async fn conformance_with_sessions() {
    conforms("2025-11-25").await;
}

#[tokio::test]
async fn conformance_without_sessions() {
    conforms("2026-07-28").await;
}
