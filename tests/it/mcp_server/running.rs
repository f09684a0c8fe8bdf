//! What happens while things run: cancelled calls, changing tools, and the end of the gateway.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rpc::{KEY, Rpc, request};
use crate::harness::{Gateway, PATIENCE, eventually, within};

/// A gateway with the tools of a shell server that notes what it is told.
pub(super) async fn shell(config: &str) -> Gateway {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/shell-server.sh");
    let server = json!({"command": "sh", "args": [script, "shell.log"]});
    Gateway::builder().env("WITGATE_API_KEY", KEY).server("shell", server).config(config).start().await
}

fn noted(gateway: &Gateway, word: &str) -> usize {
    let log = std::fs::read_to_string(gateway.folder().join("shell.log")).unwrap_or_default();
    log.lines().filter(|line| *line == word).count()
}

/// An open stream of a session, and what has come of it.
struct Listening(TcpStream, String);

impl Listening {
    async fn start(rpc: &Rpc<'_>) -> Self {
        let mut stream = TcpStream::connect(rpc.gateway.address()).await.unwrap();
        let (address, session) = (rpc.gateway.address(), rpc.session.as_deref().unwrap());
        let head = format!(
            "GET /mcp HTTP/1.1\r\nhost: {address}\r\nx-api-key: {KEY}\r\naccept: text/event-stream\r\n\
             mcp-session-id: {session}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut listening = Self(stream, String::new());
        listening.hear("200 OK").await;
        listening
    }

    async fn hear(&mut self, words: &str) {
        let heard = async {
            let mut buffer = [0; 4096];
            while !self.1.contains(words) {
                let count = self.0.read(&mut buffer).await.unwrap();
                assert!(count > 0, "the stream ended without {words:?}: {}", self.1);
                self.1.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        within(PATIENCE, words, heard).await;
    }
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_its_server() {
    let gateway = shell("").await;
    let slow = request(5, "tools/call", &json!({"name": "slow", "arguments": {}}));
    let rpc = Rpc::open(&gateway, "/mcp", "2025-11-25").await;
    let call = rpc.post(&slow);
    let cancel = async {
        eventually("the call is there", async || noted(&gateway, "slow") == 1).await;
        let params = json!({"requestId": 5, "reason": "enough"});
        let told = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        assert_eq!(rpc.post(&told).await.status, 202);
        eventually("the server is told", async || noted(&gateway, "cancelled") == 1).await;
    };
    tokio::join!(call, cancel);
    // Without a session, going away is cancelling.
    let plain = Rpc::plain(&gateway, "/mcp");
    tokio::select! {
        _ = plain.post(&slow) => panic!("the tool never answers"),
        () = eventually("the call is there", async || noted(&gateway, "slow") == 2) => {}
    }
    eventually("the server is told", async || noted(&gateway, "cancelled") == 2).await;
    // So is the end of a session.
    let session = Rpc::open(&gateway, "/mcp", "2025-11-25").await;
    let call = session.post(&slow);
    let end = async {
        eventually("the call is there", async || noted(&gateway, "slow") == 3).await;
        assert_eq!(session.send(gateway.request("DELETE", "/mcp")).await.status, 204);
        eventually("the server is told", async || noted(&gateway, "cancelled") == 3).await;
    };
    tokio::join!(call, end);
}

#[tokio::test]
async fn clients_are_told_when_the_tools_change() {
    let gateway = shell("").await;
    let rpc = Rpc::open(&gateway, "/mcp", "2025-11-25").await;
    let mut listening = Listening::start(&rpc).await;
    // Its server dies: the tools leave, and come back with the next one.
    let died = rpc.ask("tools/call", &json!({"name": "die", "arguments": {}})).await;
    assert_eq!(died["isError"], true);
    listening.hear("notifications/tools/list_changed").await;
}

#[tokio::test]
async fn open_streams_do_not_hold_up_the_end() {
    let gateway = shell("").await;
    let rpc = Rpc::open(&gateway, "/mcp", "2025-11-25").await;
    let _listening = Listening::start(&rpc).await;
    // Running requests would get half a minute.
    within(PATIENCE, "the end", gateway.stop()).await;
}
