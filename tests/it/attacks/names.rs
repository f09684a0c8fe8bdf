//! Tricks with names, and things that belong to others.

use serde_json::{Value, json};

use crate::harness::{Gateway, Reply, Upstream, ask, call};
use crate::identity_http::{CALL, TOOLS, add_key, add_user, admin, builder, get, post, start, with};

/// Names that could be taken for `write_query`, for a path, or for something else altogether.
const NAMES: [&str; 16] = [
    "write_query",
    "sqlite__write_query",
    "WRITE_QUERY",
    "write_query ",
    "write_query\0",
    "read_query\0write_query",
    "read_query/../write_query",
    "../write_query",
    "/write_query",
    "..",
    "read_*",
    "*",
    "write\u{200b}_query",
    "\u{ff57}rite_query",
    "%77rite_query",
    "sqlite__sqlite__write_query",
];

#[tokio::test]
async fn a_name_reaches_no_tool_but_its_own() {
    let (gateway, root) = start().await;
    let narrow = json!({"name": "k", "scopes": ["tools:list", "tools:call:read_*"]});
    let (_, key) = add_key(&gateway, &root, &narrow).await;
    let make = json!({"query": "CREATE TABLE stolen (id INTEGER)"});
    for name in NAMES {
        let answer = post(&gateway, &key, CALL, &json!({"tool_name": name, "arguments": make})).await;
        assert_eq!(answer.status, 404, "{name}: {}", answer.text());
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for (method, path) in [
            ("POST", format!("/api/v1/tools/{encoded}")),
            ("GET", format!("{TOOLS}/{encoded}")),
            ("GET", format!("{TOOLS}/{encoded}/schema")),
        ] {
            let body = if method == "POST" { make.clone() } else { Value::Null };
            let status = with(&gateway, &key, method, &path, &body).await.status;
            assert!(matches!(status, 400 | 404 | 405), "{name} at {path}: {status}");
        }
    }
    for path in [
        "/api/v1/mcp/tools/..%2f..%2fusers",
        "/api/v1/mcp/tools//call",
        "/api/v1/mcp//tools",
        "/api/v1/mcp/tools/%ff",
        "//api/v1/users",
        "/API/v1/users",
    ] {
        let status = get(&gateway, &key, path).await.status;
        assert!(matches!(status, 400 | 403 | 404 | 405), "{path}: {status}");
    }
    let long = get(&gateway, &key, &format!("{TOOLS}/{}", "x".repeat(8000))).await;
    assert!(long.status == 404 && long.body.len() < 2000);
    let tables = json!({"tool_name": "list_tables", "arguments": {}});
    let tables = post(&gateway, &root, CALL, &tables).await.expect(200);
    assert!(!tables["result"].as_str().unwrap().contains("stolen"), "{tables}");
}

#[tokio::test]
async fn a_conversation_is_its_owners() {
    let (gateway, root) = start().await;
    for name in ["ann", "bob"] {
        add_user(&gateway, &root, name, "user").await;
    }
    let (_, ann) = add_key(&gateway, &root, &json!({"name": "a", "user": "ann"})).await;
    let (_, bob) = add_key(&gateway, &root, &json!({"name": "b", "user": "bob"})).await;
    let said = post(&gateway, &ann, "/chat", &json!({"message": "my secret plan"})).await.expect(200);
    let session = said["session_id"].as_str().unwrap();
    let path = format!("/chat/sessions/{session}");
    assert!(get(&gateway, &ann, &path).await.text().contains("my secret plan"));
    let unknown = get(&gateway, &bob, "/chat/sessions/ses_unknown").await.words(404);
    for key in [bob.as_str(), "some-other-key", root.as_str()] {
        for method in ["GET", "DELETE"] {
            assert_eq!(with(&gateway, key, method, &path, &Value::Null).await.words(404), unknown);
        }
        let join = json!({"message": "what did I say?", "session_id": session});
        assert_eq!(post(&gateway, key, "/chat", &join).await.words(404), unknown);
        let listed = get(&gateway, key, "/chat/sessions").await;
        assert!(!listed.text().contains(session));
    }
    assert_eq!(gateway.request("GET", &path).send().await.words(404), unknown);
    assert!(get(&gateway, &ann, &path).await.text().contains("my secret plan"), "it is still there");
}

#[tokio::test]
async fn a_model_cannot_do_for_its_caller_what_the_caller_may_not() {
    let make = json!({"query": "CREATE TABLE stolen (id INTEGER)"});
    let upstream = Upstream::replying([
        Reply::calls([call("c1", "create_table", &make), call("c2", "sqlite__create_table", &make)]),
        Reply::text("Done."),
    ]);
    let builder = builder().upstream(&upstream);
    let root = admin(builder.folder()).await;
    let gateway: Gateway = builder.start().await;
    let narrow = json!({"name": "k", "scopes": ["chat", "tools:call:read_*"]});
    let (_, key) = add_key(&gateway, &root, &narrow).await;
    post(&gateway, &key, "/v1/chat/completions", &ask("make a table")).await.expect(200);
    assert_eq!(upstream.requests()[0].tool_names(), ["read_query"]);
    let tables = json!({"tool_name": "list_tables", "arguments": {}});
    let tables = post(&gateway, &root, CALL, &tables).await.expect(200);
    assert!(!tables["result"].as_str().unwrap().contains("stolen"), "{tables}");
}
