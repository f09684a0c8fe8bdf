//! Tools that take their time: calls of one reply run together, and no wait is without an end.

use serde_json::{Value, json};

use crate::harness::gateway::Builder;
use crate::harness::{Gateway, Reply, Upstream, ask, ask_stream, call};

/// Two shell servers that share a log; the second one's tools are `b__...`.
fn two_servers(upstream: &Upstream) -> Builder {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/shell-server.sh");
    let server = || json!({"command": "sh", "args": [script, "shell.log"]});
    Gateway::builder().upstream(upstream).server("a", server()).server("b", server())
}

#[tokio::test]
async fn calls_of_one_reply_run_at_the_same_time() {
    let both = [call("1", "meet", &json!({})), call("2", "b__meet", &json!({}))];
    let upstream = Upstream::replying([Reply::calls(both), Reply::text("done")]);
    let gateway = two_servers(&upstream).start().await;
    // Each call answers only when both are running: one after the other would never end.
    assert_eq!(gateway.stream(&ask_stream("go")).await.text(), "done");
    let messages = upstream.last().messages();
    let results: Vec<&Value> = messages[2..].iter().map(|message| &message["content"]).collect();
    assert_eq!(results, ["met", "met"]);
}

#[tokio::test]
async fn a_tool_that_never_answers_is_told_to_the_model() {
    let upstream = Upstream::replying([Reply::calls([call("1", "slow", &json!({}))]), Reply::text("I see.")]);
    let gateway = two_servers(&upstream).env("WITGATE_TOOLS__CALL_TIMEOUT_MS", "200").start().await;
    assert_eq!(gateway.complete(&ask("go")).await["choices"][0]["message"]["content"], "I see.");
    let told = upstream.last().messages()[2]["content"].as_str().unwrap().to_owned();
    assert!(told.starts_with("Error") && told.contains("slow"), "{told}");
}

#[tokio::test]
async fn a_whole_turn_has_its_limit() {
    let upstream = Upstream::scripted(|_| Reply::calls([call("1", "slow", &json!({}))]));
    let gateway = two_servers(&upstream).env("WITGATE_CHAT__TURN_TIMEOUT_MS", "3000").start().await;
    let error = gateway.refused(&ask("go"), 504).await;
    assert_eq!(error["code"], "turn_timeout");
    let reply = gateway.stream(&ask_stream("go")).await;
    assert_eq!(reply.error.expect("an error in the stream")["code"], "turn_timeout");
}
