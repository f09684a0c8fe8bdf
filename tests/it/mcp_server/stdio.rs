//! `witgate mcp`: the protocol on standard input and output, and nothing else there.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::rpc::request;
use crate::harness::gateway::descendants;
use crate::harness::{Gateway, PATIENCE, eventually, within};

fn command(folder: &tempfile::TempDir) -> Command {
    let servers = json!({"mcpServers": {"sqlite": {
        "command": env!("CARGO_BIN_EXE_sqlite-server"), "args": ["tools.db"],
    }}});
    std::fs::write(folder.path().join("servers_config.json"), servers.to_string()).unwrap();
    let mut command = Command::from(Gateway::builder().command());
    // The same surroundings as a gateway's, another command.
    let settings: Vec<_> =
        command.as_std().get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    command = Command::new(env!("CARGO_BIN_EXE_witgate"));
    command
        .env_clear()
        .envs(settings.into_iter().filter_map(|(k, v)| Some((k, v?))))
        .env("RUST_LOG", "debug");
    command.arg("mcp").current_dir(folder.path()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn a_client_that_starts_it_has_the_tools() {
    for (arguments, qualified) in [(&[][..], true), (&["--server", "sqlite"], false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = command(&folder).args(arguments).spawn().unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let info = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let messages = [
            request(1, "initialize", &info),
            json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            request(2, "tools/list", &json!({})),
            request(3, "tools/call", &json!({"name": "read_query", "arguments": {"query": "SELECT 7 AS n"}})),
        ];
        let mut answers = Vec::new();
        for message in messages {
            stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
            while message["id"].is_number() {
                let line = within(PATIENCE, "an answer", lines.next_line()).await.unwrap().unwrap();
                // Whatever is there is a message.
                let answer: Value = serde_json::from_str(&line).unwrap();
                if answer["id"] == message["id"] {
                    answers.push(answer["result"].clone());
                    break;
                }
            }
        }
        assert_eq!(answers[0]["protocolVersion"], "2025-06-18");
        assert_eq!(answers[1]["tools"].as_array().unwrap().len(), 6);
        assert_eq!(answers[2]["structuredContent"]["rows"][0]["n"], 7, "{qualified}");
        let children = descendants(pid);
        assert!(!children.is_empty());
        drop(stdin);
        let status = within(PATIENCE, "the end", child.wait()).await.unwrap();
        assert!(status.success(), "{status}");
        assert!(lines.next_line().await.unwrap().is_none());
        for (child, _) in children {
            eventually("no child is left", async || !crate::harness::gateway::is_alive(child)).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let child = command(&folder).args(["--server", "nothing"]).spawn().unwrap();
    let output = within(PATIENCE, "the end", child.wait_with_output()).await.unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("no MCP server or plugin `nothing`") && words.contains("sqlite"), "{words}");
}
