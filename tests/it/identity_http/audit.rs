//! What is written down of changes and calls.

use super::*;

const ME: &str = "/api/v1/users/me";

#[tokio::test]
async fn calls_and_changes_are_written_down_with_who_and_how() {
    let (gateway, root) = start().await;
    let (id, key) =
        add_key(&gateway, &root, &json!({"name": "k", "scopes": ["tools:list", "tools:call"]})).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let body = json!({"tool_name": "read_query", "arguments": {"query": "SELECT 1", "password": "hunter2"}});
    let call = gateway.request("POST", CALL).header("x-api-key", &key).header("x-request-id", "req_mine");
    let call = call.header("traceparent", &format!("00-{trace}-b7ad6b7169203331-01")).json(&body);
    let answer = call.send().await.expect(200);
    let wrong = json!({"tool_name": "read_query", "arguments": {"query": "DROP"}});
    post(&gateway, &key, CALL, &wrong).await.expect(200);
    with(&gateway, &root, "DELETE", &format!("{KEYS}/{id}"), &Value::Null).await.expect(200);
    let folder = gateway.folder().to_owned();
    gateway.terminate();
    let _keep = gateway.again();
    assert!(gateway.wait().await.success());
    let events = events(&folder);
    let of =
        |action: &str| -> Vec<&Value> { events.iter().filter(|event| event["action"] == action).collect() };
    let calls = of("tool_call");
    assert_eq!(calls.len(), 2, "{events:#?}");
    let first = calls[0];
    assert_eq!(
        (&first["principal"], &first["via"], &first["target"], &first["server"], &first["request_id"]),
        (
            &json!(format!("key:{id}")),
            &json!("rest"),
            &json!("read_query"),
            &json!("sqlite"),
            &json!("req_mine")
        )
    );
    assert_eq!((&first["trace_id"], &first["peer"]), (&json!(trace), &json!("127.0.0.1")));
    assert_eq!(first["arguments"]["password"], "[redacted]");
    assert_eq!(first["outcome"] == "success", answer["success"] == true, "{first}");
    assert!(first["duration_ms"].is_f64() || first["duration_ms"].is_u64());
    assert_eq!(calls[1]["outcome"], "tool_error");
    assert_eq!(of("user_created")[0]["target"], "user:1", "by the command line");
    assert_eq!(of("user_created")[0]["via"], "cli");
    let made = of("key_created");
    assert_eq!((made[0]["via"].as_str(), made[1]["via"].as_str()), (Some("cli"), Some("rest")));
    assert_eq!(made[1]["target"], format!("key:{id}"));
    assert_eq!(of("key_revoked")[0]["target"], format!("key:{id}"));
    let text = std::fs::read_to_string(folder.join("data/audit/audit.jsonl")).unwrap();
    for secret in [key.as_str(), root.as_str(), PASSWORD, STATIC, "hunter2", key.rsplit('_').next().unwrap()]
    {
        assert!(!text.contains(secret), "{secret}");
    }
}

/// Every refusal, and nothing that was none: the document is for everybody.
#[tokio::test]
async fn refusals_are_written_down_and_answers_are_not() {
    let (gateway, root) = start().await;
    let grants = |scopes: Value| json!({"name": "k", "scopes": scopes});
    let (lister, listing) = add_key(&gateway, &root, &grants(json!(["tools:list"]))).await;
    let (_, chatting) = add_key(&gateway, &root, &grants(json!(["chat"]))).await;
    gateway.get("/openapi.json").await.expect(200);
    get(&gateway, &chatting, "/openapi.json").await.expect(200);
    get(&gateway, "wg_unknown", "/openapi.json").await.words(401);
    post(&gateway, &listing, KEYS, &grants(json!(["tools:list"]))).await.words(403);
    get(&gateway, STATIC, KEYS).await.words(403);
    add_user(&gateway, &root, "ann", "user").await;
    let ann = login::token(&gateway, "ann").await;
    get(&gateway, &ann, &format!("{KEYS}?user=1")).await.words(403);
    get(&gateway, &ann, &format!("{KEYS}?user=ann")).await.expect(200);
    post(&gateway, &ann, KEYS, &grants(json!(["admin"]))).await.words(403);
    let password = json!({"password": "another-horse", "current_password": PASSWORD});
    with(&gateway, &listing, "PATCH", ME, &password).await.words(403);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read_query"}});
    assert_eq!(post(&gateway, &listing, "/mcp", &call).await.status, 403);
    // Web pages of strangers, whose keys nobody looks at.
    for (name, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let page = gateway.request("POST", "/mcp").header(name, value).header("x-api-key", &listing);
        assert_eq!(page.json(&call).send().await.status, 403);
    }
    let folder = gateway.folder().to_owned();
    gateway.terminate();
    let _keep = gateway.again();
    assert!(gateway.wait().await.success());
    let events = events(&folder);
    let denied: Vec<Value> = events
        .iter()
        .filter(|event| event["action"] == "denied")
        .map(|event| json!([event["target"], event["status"], event["rule"]]))
        .collect();
    let wanted = [
        json!(["GET /openapi.json", 401, "credential"]),
        json!(["POST /api/v1/keys", 403, "scope"]),
        json!(["GET /api/v1/keys", 403, "scope"]),
        json!(["GET /api/v1/keys", 403, "scope"]),
        json!(["POST /api/v1/keys", 403, "scope"]),
        json!(["PATCH /api/v1/users/me", 403, "scope"]),
        json!(["tools/call", 403, "scope"]),
        json!(["POST /mcp", 403, "host"]),
        json!(["POST /mcp", 403, "origin"]),
    ];
    assert_eq!(denied, wanted, "{events:#?}");
    let last: Vec<_> = events.iter().rev().take(3).map(|event| event["principal"].clone()).collect();
    assert_eq!(last, ["anonymous", "anonymous", &format!("key:{lister}")]);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let gateway = builder().config("[audit]\nenabled = false").start().await;
    let call = json!({"tool_name": "list_tables", "arguments": {}});
    post(&gateway, STATIC, CALL, &call).await.expect(200);
    let folder = gateway.folder().to_owned();
    let _keep = gateway.again();
    gateway.stop().await;
    assert!(!folder.join("data/audit").exists());
}
