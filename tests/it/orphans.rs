//! The processes below a gateway: none survives it, wherever it has gone, and a server that dies comes back.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::gateway::{descendants, is_alive};
use crate::harness::{Gateway, Reply, Upstream, ask, call, eventually};

/// An MCP server that leaves its process group with a child of its own, and tells that child's number in a file.
const WANDERER: &str = r#"
setsid sh -c 'echo $$ > wanderer.pid; while :; do sleep 1; done' &
while read -r line; do
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  case $line in
    *'"method":"initialize"'*)
      answer '{"protocolVersion":"2024-11-05","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *'"method":"tools/list"'*)
      answer '{"tools":[{"name":"wander","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"ping"'*)
      answer '{}' ;;
  esac
done
"#;

/// A gateway with two servers and a grandchild out of reach of any process group.
async fn with_family(upstream: &Upstream) -> (Gateway, Vec<i32>) {
    // In a file, since a configuration would take the script's variables for its own.
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), WANDERER).unwrap();
    let wanderer = json!({"command": "sh", "args": [script.path()]});
    let gateway = Gateway::builder().upstream(upstream).sqlite().server("wanderer", wanderer).start().await;
    let file = gateway.folder().join("wanderer.pid");
    eventually("the grandchild has told its number", async || read_number(&file).is_some()).await;
    let mut family: Vec<i32> = descendants(gateway.pid()).into_iter().map(|(pid, _)| pid).collect();
    let wanderer = read_number(&file).unwrap();
    if !family.contains(&wanderer) {
        family.push(wanderer);
    }
    // Two guards, two servers, one grandchild.
    assert!(family.len() >= 5, "{:?}", descendants(gateway.pid()));
    (gateway, family)
}

fn read_number(file: &Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

async fn all_gone(family: &[i32]) {
    eventually("nothing the gateway started is left", async || !family.iter().any(|pid| is_alive(*pid)))
        .await;
}

#[tokio::test]
async fn nothing_survives_a_gateway_that_is_stopped() {
    let upstream = Upstream::start();
    let (gateway, family) = with_family(&upstream).await;
    gateway.stop().await;
    all_gone(&family).await;
}

#[tokio::test]
async fn nothing_survives_a_gateway_that_is_killed() {
    let upstream = Upstream::start();
    let (gateway, family) = with_family(&upstream).await;
    gateway.kill().await;
    all_gone(&family).await;
}

#[tokio::test]
async fn a_killed_server_comes_back_for_the_next_call() {
    let upstream = Upstream::start();
    let gateway = Gateway::with_tools(&upstream).await;
    let list = |id: &str| Reply::calls([call(id, "list_tables", &json!({}))]);
    upstream.replies([list("a"), Reply::text("first")]);
    gateway.complete(&ask("x")).await;
    let is_server =
        |(_, command): &(i32, String)| command.contains("sqlite-server") && !command.contains("__guard");
    let (server, _) = descendants(gateway.pid()).into_iter().find(is_server).unwrap();
    kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    eventually("the server is gone", async || !is_alive(server)).await;
    eventually("the gateway is ready again", async || {
        let ready = gateway.get("/readyz").await.expect(200);
        let state = ready["status"].as_str().unwrap().to_owned();
        assert!(state == "ready" || state == "degraded", "{ready}");
        let back = descendants(gateway.pid()).iter().any(|process| is_server(process) && process.0 != server);
        back && state == "ready"
    })
    .await;
    upstream.replies([list("b"), Reply::text("second")]);
    gateway.complete(&ask("x")).await;
    let result = upstream.last().messages().pop().unwrap();
    assert_eq!((&result["role"], &result["tool_call_id"]), (&json!("tool"), &json!("b")));
    assert_eq!(result["content"], "[]", "an empty database has no tables");
}

#[tokio::test]
async fn a_wrong_server_entry_is_found_at_the_start() {
    let mut process = Gateway::builder().server("broken", json!({"args": []})).spawn();
    assert_eq!(process.wait().await.code(), Some(1));
    eventually("file and server are told", async || {
        let log = process.log_text();
        log.contains("servers_config.json") && log.contains("broken") && log.contains("command")
    })
    .await;
}
