//! What comes from MCP servers: ways to them around the policies, and what they send back.

use serde_json::{Value, json};

use super::serves;
use crate::access_policies::NO_TOOLS;
use crate::component;
use crate::harness::{Answer, Gateway, eventually};
use crate::identity_http::{CALL, STATIC, builder, events, post};

/// A server with a resource template, a prompt and completions for both, whose one tool fails with a very long message.
const SERVER: &str = r##"
while read -r line; do
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  case $line in
    *'"initialize"'*)
      answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{},"resources":{},"prompts":{},"completions":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *'"tools/list"'*) answer '{"tools":[{"name":"fails","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*)
      printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"%s"}}\n' "$id" "$(head -c 1000000 /dev/zero | tr '\0' e)" ;;
    *'"resources/list"'*) answer '{"resources":[]}' ;;
    *'"resources/templates/list"'*) answer '{"resourceTemplates":[{"uriTemplate":"db://files/{name}","name":"files"}]}' ;;
    *'"resources/read"'*) answer '{"contents":[{"uri":"x://y","text":"read"}]}' ;;
    *'"prompts/list"'*) answer '{"prompts":[{"name":"ask","arguments":[{"name":"of"}]}]}' ;;
    *'"completion/complete"'*) answer '{"completion":{"values":["payroll-secret"]}}' ;;
    *'"ping"'*) answer '{}' ;;
  esac
done
"##;

async fn gateway(policy: Option<&str>) -> Gateway {
    let builder = builder().server("files", json!({"command": "sh", "args": ["files.sh"]}));
    std::fs::write(builder.folder().join("files.sh"), SERVER).unwrap();
    if let Some(policy) = policy {
        std::fs::create_dir(builder.folder().join("plugins")).unwrap();
        let policy = component::component("auth-policy", policy);
        std::fs::write(builder.folder().join("plugins/guard.wasm"), policy).unwrap();
    }
    builder.start().await
}

async fn rpc(gateway: &Gateway, method: &str, params: &Value) -> Answer {
    post(gateway, STATIC, "/mcp", &json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        .await
}

fn completions() -> [Value; 2] {
    [
        json!({"ref": {"type": "ref/resource", "uri": "db://files/{name}"}, "argument": {"name": "name", "value": "p"}}),
        json!({"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "of", "value": "p"}}),
    ]
}

#[tokio::test]
async fn a_completion_is_no_way_around_a_policy() {
    let guarded = gateway(Some(NO_TOOLS)).await;
    let read = rpc(&guarded, "resources/read", &json!({"uri": "db://files/a"})).await;
    assert!(read.text().contains("not at night"), "the policy is in force: {}", read.text());
    for params in completions() {
        let answer = rpc(&guarded, "completion/complete", &params).await.text();
        assert!(answer.contains("not at night") && !answer.contains("payroll"), "{answer}");
    }
    let open = gateway(None).await;
    for params in completions() {
        let answer = rpc(&open, "completion/complete", &params).await.text();
        assert!(answer.contains("payroll-secret"), "{answer}");
    }
    let written = async || {
        let events = events(open.folder());
        events.iter().filter(|event| event["action"] == "completion").count() == 2
    };
    eventually("both are in the audit log", written).await;
}

#[tokio::test]
async fn a_long_error_of_a_server_is_cut() {
    let gateway = gateway(None).await;
    let answer = post(&gateway, STATIC, CALL, &json!({"tool_name": "fails", "arguments": {}})).await;
    let error = answer.expect(200)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("eeee") && error.len() < 10_000, "{} bytes", error.len());
    serves(&gateway, STATIC).await;
}

#[tokio::test]
async fn a_password_in_the_address_of_a_resource_is_not_written_down() {
    let gateway = gateway(None).await;
    for uri in ["db://files/x?token=hunter2hunter2", "db://ann:hunter2hunter2@files/x"] {
        let read = json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": uri}});
        post(&gateway, STATIC, "/mcp/files", &read).await.expect(200);
    }
    let reads = || {
        let events = events(gateway.folder()).into_iter();
        events.filter(|event| event["action"] == "resource_read").collect::<Vec<_>>()
    };
    eventually("both are in the audit log", async || reads().len() == 2).await;
    for event in reads() {
        assert!(event["target"].as_str().unwrap().starts_with("db://"), "{event}");
        assert!(!event.to_string().contains("hunter2"), "{event}");
    }
}
