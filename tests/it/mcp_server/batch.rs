//! Several messages in one post, for versions that know them.

use serde_json::{Value, json};

use super::rpc::{KEY, Rpc, gateway, names, request};
use crate::harness::Gateway;

fn call(id: u64, query: &str) -> Value {
    request(id, "tools/call", &json!({"name": "read_query", "arguments": {"query": query}}))
}

#[tokio::test]
async fn each_message_is_answered_as_if_it_came_alone() {
    let gateway = gateway().await;
    let mut in_session = Rpc::open(&gateway, "/mcp", "2025-03-26").await;
    for rpc in [&in_session, &Rpc::plain(&gateway, "/api/v1/mcp")] {
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let batch = json!([
            request(1, "tools/list", &json!({})),
            initialized,
            call(2, "SELECT 7 AS n"),
            call(3, "SELECT nothing"),
            request(4, "no/such/method", &json!({})),
            request(5, "initialize", &json!({})),
            6,
            [request(7, "ping", &json!({}))],
        ]);
        let answers = rpc.post(&batch).await.expect(200);
        let answers = answers.as_array().unwrap();
        let ids: Vec<&Value> = answers.iter().map(|answer| &answer["id"]).collect();
        assert_eq!(json!(ids), json!([1, 2, 3, 4, 5, null, null]), "{answers:?}");
        assert_eq!(names(&answers[0]["result"]).len(), 6);
        assert_eq!(answers[1]["result"]["structuredContent"]["rows"][0]["n"], 7);
        assert_eq!(answers[2]["result"]["isError"], true);
        let codes: Vec<&Value> = answers[3..].iter().map(|answer| &answer["error"]["code"]).collect();
        assert_eq!(json!(codes), json!([-32601, -32600, -32600, -32600]));
        let told = rpc.post(&json!([initialized])).await;
        assert_eq!((told.status, told.body.len()), (202, 0));
        for (count, status) in [(0, 400), (32, 200), (33, 400)] {
            let pings: Vec<Value> = (0..count).map(|id| request(id, "ping", &json!({}))).collect();
            let answer = rpc.post(&json!(pings)).await.expect(status);
            assert!(
                status == 200 || answer["error"]["message"].as_str().unwrap().contains("1 to 32"),
                "{answer}"
            );
        }
    }
    // Later versions have no batches; their clients say which they speak.
    in_session.version = "2025-06-18";
    let error = in_session.post(&json!([request(1, "ping", &json!({}))])).await.expect(400);
    assert_eq!(error["error"]["code"], -32600);
}

#[tokio::test]
async fn each_message_counts_as_a_request() {
    let limits = "[access]\nlimits.service = { requests_per_minute = 3 }";
    let gateway = Gateway::builder().env("WITGATE_API_KEY", KEY).sqlite().config(limits).start().await;
    let batch: Vec<Value> = (0..5).map(|id| request(id, "ping", &json!({}))).collect();
    let answer = Rpc::plain(&gateway, "/mcp").post(&json!(batch)).await;
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("0"));
    let answers = answer.expect(200);
    let refused = |answer: &Value| {
        answer["error"]["message"].as_str().is_some_and(|text| text.contains("limit of 3 requests"))
    };
    let refused: Vec<bool> = answers.as_array().unwrap().iter().map(refused).collect();
    assert_eq!(refused, [false, false, false, true, true], "{answers}");
    // What is told has no answer, not even when there is too much of it.
    let told = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let batch = json!([told, told, told, told, told]);
    let gateway = Gateway::builder().env("WITGATE_API_KEY", KEY).sqlite().config(limits).start().await;
    let told = Rpc::plain(&gateway, "/mcp").post(&batch).await;
    assert_eq!((told.status, told.body.len()), (202, 0), "{}", told.text());
}
