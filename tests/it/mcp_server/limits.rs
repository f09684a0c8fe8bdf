//! Streams of MCP clients are counted: those that listen, and those that answer calls, each kind by itself.

use serde_json::{Value, json};

use super::rpc::{KEY, Rpc, request};
use super::running::shell;
use crate::harness::client::{Request, Stream};
use crate::harness::{Gateway, eventually};

const ONE: &str = "[access]\nlimits.service = { concurrent_streams = 1, requests_per_minute = 10000 }";

fn call(name: &str) -> Value {
    request(5, "tools/call", &json!({"name": name, "arguments": {}}))
}

/// The call, with news of it wanted.
fn told(mut call: Value) -> Value {
    call["params"]["_meta"] = json!({"progressToken": "t"});
    call
}

fn listen(rpc: &Rpc<'_>) -> Request {
    rpc.dress(rpc.gateway.request("GET", "/mcp"))
}

async fn stream(rpc: &Rpc<'_>, message: &Value) -> Stream {
    rpc.dress(rpc.gateway.request("POST", "/mcp").json(message)).stream().await
}

/// Refused for the streams there are, and told so by the request's `id`.
async fn refused(rpc: &Rpc<'_>, sent: Request, id: &Value) {
    let answer = rpc.send(sent).await;
    let error = answer.expect(429);
    assert_eq!((&error["jsonrpc"], &error["id"]), (&json!("2.0"), id), "{error}");
    assert_eq!(error["error"]["code"], -32000);
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("limit of 1 streams at the same time"), "{message}");
    assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (Some("1"), Some("1000")));
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("10000"));
}

fn refusals(gateway: &Gateway) -> usize {
    let text = std::fs::read_to_string(gateway.folder().join("data/audit/audit.jsonl")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let is_it = |line: &Value| line["via"] == "mcp" && line.to_string().contains("rate:streams");
    lines.filter(is_it).count()
}

#[tokio::test]
async fn who_listens_can_call_and_nobody_listens_twice() {
    let gateway = shell(ONE).await;
    let rpc = Rpc::open(&gateway, "/mcp", "2025-11-25").await;
    let listening = listen(&rpc).stream().await;
    for _ in 0..2 {
        let whoami = rpc.ask("tools/call", &json!({"name": "whoami", "arguments": {}})).await;
        assert_eq!(whoami["isError"], false, "{whoami}");
    }
    let other = Rpc::open(&gateway, "/mcp", "2025-11-25").await;
    refused(&other, gateway.request("GET", "/mcp"), &Value::Null).await;
    // Neither does one that comes back for what it missed.
    refused(&other, gateway.request("GET", "/mcp").header("last-event-id", "0"), &Value::Null).await;
    eventually("the refusals are written down", async || refusals(&gateway) == 2).await;
    drop(listening);
    // Who takes no stream gets none, but not before there would be a place for it.
    eventually("the place is free", async || {
        let sent = gateway.request("GET", "/mcp").header("x-api-key", KEY).header("accept", "text/html");
        sent.header("mcp-session-id", other.session.as_deref().unwrap()).send().await.status == 406
    })
    .await;
    drop(listen(&other).stream().await);
}

#[tokio::test]
async fn calls_of_sessions_are_counted() {
    let gateway = shell(ONE).await;
    let rpc = Rpc::open(&gateway, "/mcp", "2025-11-25").await;
    let slow = stream(&rpc, &call("slow")).await;
    refused(&rpc, gateway.request("POST", "/mcp").json(&call("whoami")), &json!(5)).await;
    // What is answered at once needs no place, in a session or without one; nor does listening.
    rpc.ask("tools/list", &json!({})).await;
    let other = Rpc::open(&gateway, "/mcp", "2025-06-18").await;
    drop(listen(&other).stream().await);
    let plain = Rpc::plain(&gateway, "/mcp");
    plain.post(&call("whoami")).await.expect(200);
    // A call that wants to be told of its progress may become a stream.
    refused(&plain, gateway.request("POST", "/mcp").json(&told(call("whoami"))), &json!(5)).await;
    // So may one over REST, which counts with them.
    let rest = gateway.request("POST", "/api/v1/tools/whoami").header("accept", "text/event-stream");
    rest.header("x-api-key", KEY).json(&json!({})).send().await.expect(429);
    drop(slow);
    eventually("the place is free", async || {
        let request = gateway.request("POST", "/mcp").json(&told(call("whoami")));
        plain.send(request).await.status == 200
    })
    .await;
    // It was answered as JSON, which gave the place back.
    plain.post(&told(call("whoami"))).await.expect(200);
}
