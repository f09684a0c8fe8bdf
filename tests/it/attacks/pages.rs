//! Web pages of strangers that call an open gateway from the browser of somebody who may know nothing of it.

use serde_json::{Value, json};

use super::serves;
use crate::harness::{Gateway, Reply, Upstream, ask, call};

/// What a page's browser sends along: from its own address, under a name that it made point here, and from nowhere.
const FOREIGN: [&[(&str, &str)]; 4] = [
    &[("origin", "http://evil.example")],
    &[("origin", "http://evil.example:8000"), ("host", "evil.example:8000")],
    &[("host", "evil.example:8000")],
    &[("origin", "null")],
];

/// Those of this machine, of the gateway itself, and programs.
const OWN: [&[(&str, &str)]; 3] = [&[], &[("origin", "http://localhost:3000")], &[("host", "[::1]:8000")]];

async fn send(
    gateway: &Gateway,
    headers: &[(&str, &str)],
    path: &str,
    body: &Value,
) -> crate::harness::Answer {
    let method = if body.is_null() { "GET" } else { "POST" };
    let mut request = gateway.request(method, path);
    if !body.is_null() {
        request = request.json(body);
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await
}

#[tokio::test]
async fn a_page_of_a_stranger_has_no_tools() {
    let upstream = Upstream::scripted(|request| match request.messages().last() {
        Some(message) if message["role"] == "user" => Reply::calls([call("c1", "list_tables", &json!({}))]),
        _ => Reply::text("Done."),
    });
    let gateway = Gateway::with_tools(&upstream).await;
    for headers in FOREIGN {
        let before = upstream.requests().len();
        // A call of a tool that was not offered goes back to the page, as that of a tool of its own.
        let answer = send(&gateway, headers, "/v1/chat/completions", &ask("which tables are there?")).await;
        assert_eq!(answer.status, 200, "{headers:?}: {}", answer.text());
        let requests = upstream.requests();
        assert_eq!(requests.len(), before + 1, "{headers:?}: no tool ran");
        assert!(requests[before].tool_names().is_empty(), "{headers:?}");
    }
    for headers in OWN {
        let before = upstream.requests().len();
        let answer = send(&gateway, headers, "/v1/chat/completions", &ask("which tables are there?")).await;
        assert_eq!(answer.expect(200)["choices"][0]["message"]["content"], "Done.", "{headers:?}");
        assert!(!upstream.requests()[before].tool_names().is_empty(), "{headers:?}");
    }
}

#[tokio::test]
async fn a_page_of_a_stranger_sees_no_conversation_but_its_own() {
    let gateway = Gateway::builder().start().await;
    let said = gateway.post("/chat", &json!({"message": "my secret plan"})).await.expect(200);
    let session = said["session_id"].as_str().unwrap();
    for headers in FOREIGN {
        let listed = send(&gateway, headers, "/chat/sessions", &Value::Null).await.expect(200);
        assert_eq!(listed["sessions"], json!([]), "{headers:?}");
        let read = send(&gateway, headers, &format!("/chat/sessions/{session}"), &Value::Null).await;
        assert_eq!(read.status, 404, "{headers:?}");
        let join = json!({"message": "what did I say?", "session_id": session});
        assert_eq!(send(&gateway, headers, "/chat", &join).await.status, 404, "{headers:?}");
    }
    let own = send(&gateway, FOREIGN[0], "/chat", &json!({"message": "hello"})).await.expect(200);
    let path = format!("/chat/sessions/{}", own["session_id"].as_str().unwrap());
    assert_eq!(send(&gateway, FOREIGN[0], &path, &Value::Null).await.status, 200);
    assert_eq!(send(&gateway, FOREIGN[3], &path, &Value::Null).await.status, 404);
    assert_eq!(gateway.request("GET", &path).send().await.status, 404);
}

#[tokio::test]
async fn what_a_page_reads_under_a_name_of_its_own_is_no_conversation_of_others() {
    // Others can reach this one, so programs may have any name for it; what a page reads looks like their requests.
    let upstream = Upstream::replying((0..2).map(|_| Reply::text("Hello.")));
    let gateway = Gateway::builder().upstream(&upstream).sqlite().env("HOST", "0.0.0.0").start().await;
    gateway.post("/chat", &json!({"message": "my secret plan"})).await.expect(200);
    let named = [("host", "gateway.example:8000")];
    let listed = send(&gateway, &named, "/chat/sessions", &Value::Null).await.expect(200);
    assert_eq!(listed["sessions"], json!([]));
    let said = send(&gateway, &named, "/chat", &json!({"message": "hello"})).await.expect(200);
    assert!(!upstream.requests()[1].tool_names().is_empty(), "programs have tools");
    let listed = send(&gateway, &named, "/chat/sessions", &Value::Null).await.expect(200);
    assert_eq!(listed["sessions"][0]["session_id"], said["session_id"], "{listed}");
    let listed =
        send(&gateway, &[("host", "gateway:8000")], "/chat/sessions", &Value::Null).await.expect(200);
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1, "nobody can own such a name: {listed}");
}

#[tokio::test]
async fn pages_without_an_address_find_nothing_of_each_other() {
    let gateway = Gateway::builder().start().await;
    let page = FOREIGN[3];
    let said = send(&gateway, page, "/chat", &json!({"message": "my secret plan"})).await.expect(200);
    let listed = send(&gateway, page, "/chat/sessions", &Value::Null).await.expect(200);
    assert_eq!(listed["sessions"], json!([]));
    // Who began it knows its id.
    let join = json!({"message": "and?", "session_id": said["session_id"]});
    send(&gateway, page, "/chat", &join).await.expect(200);
}

#[tokio::test]
async fn a_page_that_the_operator_names_or_that_has_a_key_is_no_stranger() {
    let upstream = Upstream::replying((0..2).map(|_| Reply::text("Hello.")));
    let named = Gateway::builder().upstream(&upstream).sqlite().env("WITGATE_API_KEY", "the-key-of-a-test");
    let named = named.config("[cors]\nallow_origins = [\"https://chat.example\"]").start().await;
    let key = [("origin", "https://other.example"), ("x-api-key", "the-key-of-a-test")];
    for headers in [&[("origin", "https://chat.example")][..], &key] {
        send(&named, headers, "/v1/chat/completions", &ask("hello")).await.expect(200);
        assert!(!upstream.requests().last().unwrap().tool_names().is_empty(), "{headers:?}");
    }
    serves(&named, "the-key-of-a-test").await;
}
