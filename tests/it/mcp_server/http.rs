//! Raw messages over streamable HTTP: lists, calls, errors, in the versions with sessions and without.

use serde_json::json;

use super::rpc::{KEY, Rpc, gateway, last, names, request};

#[tokio::test]
async fn tools_are_listed_and_called_in_a_session() {
    let gateway = gateway().await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let rpc = Rpc::open(&gateway, "/mcp", version).await;
        let list = rpc.ask("tools/list", &json!({})).await;
        assert!(names(&list).contains(&"read_query"), "{list}");
        let tool =
            list["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "read_query").unwrap();
        assert_eq!(tool["inputSchema"]["required"], json!(["query"]));
        assert_eq!(tool["annotations"]["readOnlyHint"], true);
        assert!(tool["outputSchema"]["properties"]["rows"].is_object(), "{tool}");
        let call = json!({"name": "read_query", "arguments": {"query": "SELECT 41 + 1 AS answer"}});
        let result = rpc.ask("tools/call", &call).await;
        assert_eq!(result["structuredContent"]["rows"][0]["answer"], 42, "{result}");
        assert_eq!(result["isError"], false);
        assert_eq!(result["content"][0]["type"], "text");
    }
}

#[tokio::test]
async fn tools_are_listed_and_called_without_a_session() {
    let gateway = gateway().await;
    for path in ["/mcp", "/api/v1/mcp", "/mcp/sqlite"] {
        let rpc = Rpc::plain(&gateway, path);
        assert_eq!(names(&rpc.ask("tools/list", &json!({})).await).len(), 6, "{path}");
        let call = json!({"name": "read_query", "arguments": {"query": "SELECT 1 AS one"}});
        assert_eq!(rpc.ask("tools/call", &call).await["structuredContent"]["rows"][0]["one"], 1);
    }
    // As simple as it gets.
    let answer = gateway
        .request("POST", &format!("/api/v1/mcp?apikey={KEY}"))
        .json(&request(1, "tools/list", &json!({})))
        .send()
        .await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(names(&answer.expect(200)["result"]).len(), 6);
}

#[tokio::test]
async fn wrong_calls_are_answered_as_the_version_wants() {
    let gateway = gateway().await;
    let wrong = json!({"name": "read_query", "arguments": {"query": 1}});
    let older = Rpc::open(&gateway, "/mcp", "2025-06-18").await;
    let error = older.ask("tools/call", &wrong).await;
    assert_eq!(error["error"]["code"], -32602);
    assert!(error["error"]["message"].as_str().unwrap().contains("query"), "{error}");
    let newer = Rpc::open(&gateway, "/mcp", "2025-11-25").await;
    let result = newer.ask("tools/call", &wrong).await;
    assert_eq!(result["isError"], true);
    assert!(result["content"][0]["text"].as_str().unwrap().contains("query"), "{result}");
    for rpc in [&older, &newer] {
        let failing = json!({"name": "read_query", "arguments": {"query": "SELECT nothing FROM nowhere"}});
        assert_eq!(rpc.ask("tools/call", &failing).await["isError"], true);
        let unknown = rpc.ask("tools/call", &json!({"name": "no_such_tool", "arguments": {}})).await;
        assert_eq!(unknown["error"]["code"], -32602);
        assert_eq!(rpc.ask("no/such/method", &json!({})).await["error"]["code"], -32601);
        assert_eq!(rpc.ask("tools/list", &json!({"cursor": "!"})).await["error"]["code"], -32602);
        assert_eq!(rpc.ask("ping", &json!({})).await, json!({}));
    }
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let gateway = gateway().await;
    let rpc = Rpc::plain(&gateway, "/mcp");
    for (body, code) in [("{", -32700), ("", -32700), ("[]", -32600), ("1", -32600)] {
        let request = gateway.request("POST", "/mcp").header("content-type", "application/json");
        let error = rpc.send(request.body(body)).await.expect(400);
        assert_eq!(error["error"]["code"], code, "{body:?}");
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"x":{deep}}}}}"#);
    let post = |body: String| {
        let request = gateway.request("POST", "/mcp").header("content-type", "application/json");
        rpc.send(request.body(body))
    };
    let error = post(body).await.expect(400);
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(-32700)));
    assert!(error["error"]["message"].as_str().unwrap().contains("nested too deeply"), "{error}");
    for body in
        [r#"{"id": 1, "method": "tools/list"}"#, r#"{"jsonrpc": "1.0", "id": 1, "method": "ping"}"#, "{}"]
    {
        let error = post(body.to_owned()).await.expect(400);
        assert_eq!(error["error"]["code"], -32600, "{body}");
        assert!(error["error"]["message"].as_str().unwrap().contains("`jsonrpc`"), "{error}");
    }
    // What does not even say that it is JSON.
    let text = gateway.request("POST", "/mcp").header("content-type", "text/plain").body("{}");
    assert_eq!(rpc.send(text).await.expect(415)["error"]["code"], -32600);
}

#[tokio::test]
async fn the_version_without_sessions_is_spoken() {
    let gateway = gateway().await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let rpc = Rpc::plain(&gateway, "/mcp");
    let ask = async |method: &str, name: Option<&str>, params: serde_json::Value| {
        let mut params = params;
        params["_meta"] = meta.clone();
        let mut request = gateway.request("POST", "/mcp").json(&request(1, method, &params));
        request = request.header("mcp-protocol-version", "2026-07-28").header("mcp-method", method);
        if let Some(name) = name {
            request = request.header("mcp-name", name);
        }
        rpc.send(request).await
    };
    let discovered = last(&ask("server/discover", None, json!({})).await);
    let versions = discovered["result"]["supportedVersions"].as_array().unwrap();
    assert!(
        versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2024-11-05")),
        "{discovered}"
    );
    let list = last(&ask("tools/list", None, json!({})).await);
    assert_eq!(names(&list["result"]).len(), 6);
    assert_eq!(list["result"]["cacheScope"], "private");
    let call = json!({"name": "read_query", "arguments": {"query": "SELECT 1 AS one"}});
    let result = last(&ask("tools/call", Some("read_query"), call.clone()).await);
    assert_eq!(result["result"]["structuredContent"]["rows"][0]["one"], 1, "{result}");
    // What the header says is what others on the way go by.
    let lied = ask("tools/call", Some("list_tables"), call).await;
    assert_eq!((lied.status, last(&lied)["error"]["code"].as_i64()), (400, Some(-32020)));
}

#[tokio::test]
async fn resources_are_listed_read_and_not_found() {
    let gateway = gateway().await;
    for path in ["/mcp", "/mcp/sqlite"] {
        let rpc = Rpc::open(&gateway, path, "2025-11-25").await;
        let list = rpc.ask("resources/list", &json!({})).await;
        assert_eq!(list["resources"][0]["uri"], "memo://insights", "{list}");
        let read = rpc.ask("resources/read", &json!({"uri": "memo://insights"})).await;
        assert_eq!(read["contents"][0]["uri"], "memo://insights", "{read}");
        let missing = rpc.ask("resources/read", &json!({"uri": "memo://nothing"})).await;
        assert_eq!(missing["error"]["code"], -32002, "{missing}");
        assert_eq!(missing["error"]["data"]["uri"], "memo://nothing");
        assert_eq!(rpc.ask("prompts/list", &json!({})).await["prompts"], json!([]));
        assert_eq!(rpc.ask("prompts/get", &json!({"name": "none"})).await["error"]["code"], -32602);
    }
}
