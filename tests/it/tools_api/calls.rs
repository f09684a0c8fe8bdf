//! Calls: what comes back, what is refused, and what is left behind when the caller goes away.

use serde_json::{Value, json};

use super::{CALL, KEY, builder, call, get, post, start};
use crate::harness::eventually;

#[tokio::test]
async fn a_call_answers_with_the_text_of_the_result() {
    let gateway = start().await;
    let arguments = json!({"title": "流浪地球", "year": "2019", "media_type": "电影"});
    let wanted = json!({
        "success": true, "result": "成功添加订阅:流浪地球 (2019)", "error": null,
        "content": [{"type": "text", "text": "成功添加订阅:流浪地球 (2019)"}],
    });
    for name in ["add_subscribe", "subscribe__add_subscribe"] {
        assert_eq!(call(&gateway, name, &arguments).await.expect(200), wanted);
        assert_eq!(post(&gateway, &format!("/api/v1/tools/{name}"), &arguments).await.expect(200), wanted);
    }
    let escaped = r#"{"tool_name":"add_subscribe","arguments":{"title":"\u6d41\u6d6a\u5730\u7403","year":"2019","media_type":"\u7535\u5f71"}}"#;
    let request = gateway.request("POST", CALL).header("x-api-key", KEY);
    let answer = request.header("content-type", "application/json").body(escaped).send().await;
    assert_eq!(answer.expect(200), wanted);
}

/// It is listed in a form that every model API takes, and scripts may write it as its server does.
#[tokio::test]
async fn a_tool_answers_to_its_servers_own_name() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/subscribe-server.sh");
    let server = json!({"command": "sh", "args": [script, "subscribe.log", "named"]});
    let gateway = builder().server("subscribe", server).start().await;
    let found = get(&gateway, "/api/v1/mcp/tools/%E6%9F%A5%E8%AF%A2").await.expect(200);
    assert_eq!(found["name"], "__");
    for name in ["查询", "__", "subscribe__查询", "subscribe____"] {
        assert_eq!(call(&gateway, name, &json!({})).await.expect(200)["result"], "查询", "{name}");
    }
    call(&gateway, "查", &json!({})).await.words(404);
}

#[tokio::test]
async fn more_than_text_comes_as_content() {
    let gateway = start().await;
    let answer =
        call(&gateway, "query_subscribes", &json!({"status": "all", "media_type": "all"})).await.expect(200);
    assert_eq!(
        (&answer["result"], &answer["structuredContent"]),
        (&json!("共 2 个订阅"), &json!({"count": 2}))
    );
    let answer = call(&gateway, "picture", &json!(null)).await.expect(200);
    assert_eq!(answer["result"], "[image image/png]");
    assert_eq!(answer["content"], json!([{"type": "image", "data": "aGk=", "mimeType": "image/png"}]));
    assert!(answer.get("structuredContent").is_none());
}

#[tokio::test]
async fn a_call_that_goes_wrong_says_why() {
    // Errors of tools, which may repeat arguments, are in the log; arguments and results are not.
    let gateway =
        builder().env("WITGATE_TOOLS__CALL_TIMEOUT_MS", "2000").env("RUST_LOG", "info").start().await;
    for (name, arguments, words) in [
        ("add_subscribe", json!({"title": "x", "year": 2019, "media_type": "电影"}), "arguments/year"),
        ("add_subscribe", json!({"title": "x", "year": "2019", "media_type": "书"}), "arguments/media_type"),
        ("add_subscribe", json!({"title": "x"}), "\"year\" is a required property"),
        ("fail", json!({}), "disk full"),
        ("slow", json!({}), "no answer within 2000 ms"),
    ] {
        let answer = call(&gateway, name, &arguments).await.expect(200);
        assert_eq!((&answer["success"], &answer["result"]), (&json!(false), &json!(null)), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer}");
        let answer = post(&gateway, &format!("/api/v1/tools/{name}"), &arguments).await.expect(200);
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer}");
    }
    for cause in ["InvalidArguments", "the tool reports a failure", "Timeout"] {
        gateway
            .until_logged(&[cause, "request_id=", "principal=", "key:static", "call_id=", "server="])
            .await;
    }
    assert!(!gateway.log().contains("书"), "an argument is in the log");
}

#[tokio::test]
async fn a_wrong_request_names_its_field() {
    let gateway = start().await;
    for (body, words) in [
        ("", "JSON object"),
        ("{", "line 1"),
        ("[]", "JSON object"),
        ("{}", "`tool_name`"),
        (r#"{"tool_name": 1}"#, "`tool_name`"),
        (r#"{"tool_name": "fail", "arguments": "{}"}"#, "`arguments`"),
        (r#"{"tool_name": "fail", "arguments": [1]}"#, "`arguments`"),
    ] {
        let request = gateway.request("POST", CALL).header("x-api-key", KEY);
        let said = request.header("content-type", "application/json").body(body).send().await.words(400);
        assert!(said.contains(words), "{body}: {said}");
    }
    for body in ["[]", "null", "1", "{", "{\"a\": 1} x"] {
        let request = gateway.request("POST", "/api/v1/tools/fail").header("x-api-key", KEY);
        let said = request.header("content-type", "application/json").body(body).send().await.words(400);
        assert!(said.contains("JSON object"), "{body}: {said}");
    }
    let form = gateway.request("POST", CALL).header("x-api-key", KEY);
    form.header("content-type", "text/plain").body("{}").send().await.words(415);
    let absent = post(&gateway, CALL, &json!({"tool_name": "query_subscribes"})).await.expect(200);
    assert_eq!(absent["success"], true);
    call(&gateway, "nobody", &json!({})).await.words(404);
    gateway.until_logged(&["tool call refused: there is no such tool"]).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_the_call() {
    let gateway = start().await;
    let log = gateway.folder().join("subscribe.log");
    let seen = |word: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(word);
    {
        let arguments = json!({});
        let running = call(&gateway, "slow", &arguments);
        tokio::pin!(running);
        let reached = eventually("the call is at its server", async || seen("slow"));
        tokio::select! {
            answer = &mut running => panic!("an answer to a call that has none: {answer:?}"),
            () = reached => {}
        }
    }
    eventually("the server was told", async || seen("cancelled")).await;
    eventually("the log has it", async || gateway.log().contains("tool call cancelled by its caller")).await;
}

#[tokio::test]
async fn a_stream_tells_how_the_tool_gets_on() {
    let gateway = start().await;
    let stream = async |path: &str, body: Value| {
        let request = gateway.request("POST", path).header("x-api-key", KEY).json(&body);
        request.header("accept", "text/event-stream").stream().await.collect_named().await
    };
    let events = stream(CALL, json!({"tool_name": "steps"})).await;
    let progress: Vec<&Value> =
        events.iter().filter(|(name, _)| name == "progress").map(|(_, data)| data).collect();
    // Steps that come faster than they are read give way to the latest.
    assert_eq!(*progress.last().unwrap(), &json!({"progress": 3.0, "total": 3.0, "message": "第3步"}));
    let log = events.iter().find(|(name, _)| name == "log").map(|(_, data)| data);
    assert_eq!(log, Some(&json!({"level": "info", "logger": "steps", "data": "almost there"})));
    let (name, answer) = events.last().unwrap();
    assert_eq!((name.as_str(), &answer["result"]), ("result", &json!("three steps")));

    let events = stream("/api/v1/tools/fail", json!({})).await;
    let wanted = json!({
        "success": false, "result": null, "error": "disk full", "content": [{"type": "text", "text": "disk full"}],
    });
    assert_eq!(events, [("result".to_owned(), wanted)]);
    let refused =
        gateway.request("POST", CALL).header("x-api-key", KEY).header("accept", "text/event-stream");
    refused.json(&json!({"tool_name": "nobody"})).send().await.words(404);
}

#[tokio::test]
async fn closing_a_stream_cancels_the_call() {
    let gateway = start().await;
    let log = gateway.folder().join("subscribe.log");
    let seen = |word: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(word);
    let request = gateway.request("POST", "/api/v1/tools/slow").header("x-api-key", KEY).json(&json!({}));
    let stream = request.header("accept", "text/event-stream").stream().await;
    eventually("the call is at its server", async || seen("slow")).await;
    drop(stream);
    eventually("the server was told", async || seen("cancelled")).await;
}
