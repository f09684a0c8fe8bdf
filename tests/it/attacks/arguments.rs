//! Arguments that are too large or too deep, and schemas that would keep a thread busy for ever.

use serde_json::json;

use super::serves;
use crate::bad_input::talk;
use crate::harness::Gateway;
use crate::identity_http::{CALL, STATIC, TOOLS, builder, get, post};

/// A server whose schemas are bombs: patterns that run away, references in circles, definitions that double.
const BOMBS: &str = r##"
while read -r line; do
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  tool() { printf '{"name":"%s","inputSchema":{"type":"object",%s}}' "$1" "$2"; }
  case $line in
    *'"initialize"'*)
      answer '{"protocolVersion":"2024-11-05","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *'"tools/list"'*)
      answer "{\"tools\":[
        $(tool linear '"properties":{"a":{"type":"string","pattern":"^(a+)+$"}}'),
        $(tool looking '"properties":{"a":{"type":"string","pattern":"^(?=(a+)+$)(a|aa)+$"}}'),
        $(tool circle '"properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"anyOf":[{"$ref":"#/$defs/y"},{"type":"string"}]},"y":{"allOf":[{"$ref":"#/$defs/x"}]}}'),
        $(tool itself '"properties":{"a":{"$ref":"#"}}'),
        $(tool fetching '"properties":{"a":{"$ref":"http://127.0.0.1:1/schema.json"}}'),
        $(tool fine '"properties":{"a":{"type":"string"}}')]}" ;;
    *'"tools/call"'*) answer '{"content":[{"type":"text","text":"called"}]}' ;;
    *'"ping"'*) answer '{}' ;;
  esac
done
"##;

#[tokio::test]
async fn schemas_that_are_bombs_hold_nobody_up() {
    let one_line = BOMBS.replace(",\n        $(tool", ",$(tool").replace("[\n        $(tool", "[$(tool");
    let builder = builder().server("bombs", json!({"command": "sh", "args": ["bombs.sh"]}));
    std::fs::write(builder.folder().join("bombs.sh"), one_line).unwrap();
    let gateway = builder.start().await;
    let listed = get(&gateway, STATIC, &format!("{TOOLS}?server=bombs")).await.expect(200);
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"fine") && names.contains(&"linear"), "{names:?}");
    assert!(!names.contains(&"fetching"), "nothing is fetched for a schema: {names:?}");
    let evil = format!("{}!", "a".repeat(50_000));
    for name in &names {
        for argument in [json!(evil), json!("a".repeat(50_000)), json!({"a": {"a": {"a": 1}}})] {
            // Whatever the answer is: there is one.
            post(&gateway, STATIC, CALL, &json!({"tool_name": name, "arguments": {"a": argument}}))
                .await
                .expect(200);
        }
    }
    let refused =
        post(&gateway, STATIC, CALL, &json!({"tool_name": "linear", "arguments": {"a": evil}})).await;
    assert_eq!(refused.expect(200)["success"], false);
    serves(&gateway, STATIC).await;
}

#[tokio::test]
async fn large_and_deep_arguments_are_refused_at_every_door() {
    let gateway = builder().config("[limits]\nmax_body_bytes = 4000000").start().await;
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let begun = rpc(&gateway, None, initialize.to_string()).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let session = begun.header("mcp-session-id").map(str::to_owned);
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    rpc(&gateway, session.as_deref(), ready.to_string()).await;

    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let wide = format!("\"{}\"", "x".repeat(2_000_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    for (what, value) in [("deep lists", &deep), ("deep objects", &objects), ("2 MB", &wide)] {
        let arguments = format!("{{\"query\":\"SELECT 1\",\"x\":{value}}}");
        let call =
            raw(&gateway, CALL, format!("{{\"tool_name\":\"read_query\",\"arguments\":{arguments}}}")).await;
        let one = raw(&gateway, "/api/v1/tools/read_query", arguments.clone()).await;
        for answer in [call, one] {
            match answer.status {
                200 => assert_eq!(answer.json()["success"], false, "{what}"),
                status => assert!(matches!(status, 400 | 413), "{what}: {status}"),
            }
            assert!(answer.body.len() < 5000, "{what}: an error repeats what was sent");
        }
        let message = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{{\"name\":\"read_query\",\"arguments\":{arguments}}}}}"
        );
        let answer = rpc(&gateway, session.as_deref(), message).await;
        let text = answer.text();
        let is_refused =
            answer.status >= 400 || text.contains("\"error\"") || text.contains("\"isError\":true");
        assert!(
            is_refused && answer.status < 500,
            "{what}: {} {}",
            answer.status,
            &text[..text.len().min(500)]
        );
        serves(&gateway, STATIC).await;
    }
    // Beyond what a body may have, the length alone is enough; nothing is read.
    for path in [CALL, "/api/v1/tools/read_query", "/mcp"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {STATIC}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: 5000000\r\n\r\n"
        );
        let answer = talk(&gateway, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
    }
    serves(&gateway, STATIC).await;
}

async fn raw(gateway: &Gateway, path: &str, body: String) -> crate::harness::Answer {
    let request = gateway.request("POST", path).header("x-api-key", STATIC);
    request.header("content-type", "application/json").body(body).send().await
}

async fn rpc(gateway: &Gateway, session: Option<&str>, body: String) -> crate::harness::Answer {
    rpc_request(gateway, session, body).send().await
}

fn rpc_request(gateway: &Gateway, session: Option<&str>, body: String) -> crate::harness::client::Request {
    let mut request = gateway.request("POST", "/mcp").header("x-api-key", STATIC);
    request = request.header("accept", "application/json, text/event-stream");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    request.header("content-type", "application/json").body(body)
}
