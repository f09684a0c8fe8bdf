//! Doors that somebody could lock, hold, or lean on: the last admin, the places of MCP clients, bodies nobody asked for.

use serde_json::json;

use crate::bad_input::talk;
use crate::harness::{Answer, Gateway};
use crate::identity_http::{KEYS, STATIC, USERS, add_key, admin, builder, get, start, with};

#[tokio::test]
async fn the_last_admin_keeps_the_scope() {
    let (gateway, root) = start().await;
    let me = get(&gateway, &root, "/api/v1/users/me").await.expect(200)["id"].clone();
    let path = format!("{USERS}/{me}");
    let narrowed = with(&gateway, &root, "PATCH", &path, &json!({"scopes": ["chat"]})).await;
    assert!(narrowed.words(409).contains("last admin"));
    get(&gateway, &root, USERS).await.expect(200);
    // Somebody who is called an admin and may not act as one does not count.
    let powerless = json!({"name": "b", "password": "a-long-password", "role": "admin", "scopes": ["chat"]});
    with(&gateway, &root, "POST", USERS, &powerless).await.expect(201);
    with(&gateway, &root, "PATCH", &path, &json!({"role": "user"})).await.words(409);
    with(&gateway, &root, "DELETE", &path, &json!(null)).await.words(409);
    let other = json!({"name": "c", "password": "a-long-password", "role": "admin"});
    with(&gateway, &root, "POST", USERS, &other).await.expect(201);
    with(&gateway, &root, "PATCH", &path, &json!({"scopes": ["chat"]})).await.expect(200);
}

#[tokio::test]
async fn the_body_of_a_request_without_use_for_one_is_not_collected() {
    let gateway = builder().start().await;
    for (method, path) in [("GET", KEYS), ("DELETE", "/mcp"), ("GET", "/v1/models")] {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 30000000\r\n\
             content-digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n\r\n"
        );
        let answer = talk(&gateway, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{method} {path}: {answer}");
    }
}

/// Opens a session, and a stream in it where it is to be in use.
async fn open(
    gateway: &Gateway,
    key: &str,
    in_use: bool,
) -> (Answer, Option<crate::harness::client::Stream>) {
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
    });
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let begun = with(gateway, key, "POST", "/mcp", &request).await;
    let Some(session) = begun.header("mcp-session-id").filter(|_| in_use) else { return (begun, None) };
    let listen = gateway.request("GET", "/mcp").header("x-api-key", key).header("mcp-session-id", session);
    let stream = listen.header("accept", "text/event-stream").stream().await;
    (begun, Some(stream))
}

#[tokio::test]
async fn nobody_holds_all_places_of_mcp_clients_with_many_keys() {
    let builder = builder().config("[mcp_server]\nmax_sessions = 4");
    let root = admin(builder.folder()).await;
    let gateway = builder.start().await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let (_, key) = add_key(&gateway, &root, &json!({"name": "k", "scopes": ["tools:list"]})).await;
        held.extend(open(&gateway, &key, true).await.1);
    }
    assert_eq!(held.len(), 4);
    // The user of all four keys has all places in use, and gives up one.
    assert_eq!(open(&gateway, STATIC, false).await.0.status, 200);
}

#[tokio::test]
async fn nobody_holds_all_places_of_mcp_clients() {
    let builder = builder().config("[mcp_server]\nmax_sessions = 4");
    let root = admin(builder.folder()).await;
    let gateway = builder.start().await;
    let (_, other) = add_key(&gateway, &root, &json!({"name": "k", "scopes": ["tools:list"]})).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let (begun, stream) = open(&gateway, STATIC, true).await;
        assert_eq!(begun.status, 200);
        held.extend(stream);
    }
    // All places are in use, by one caller: it gets no further one, and gives up one to another.
    assert_eq!(open(&gateway, STATIC, false).await.0.status, 503);
    let (begun, _) = open(&gateway, &other, false).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    // Nor does it push out who has less, idle or not.
    assert_eq!(open(&gateway, STATIC, false).await.0.status, 503);
    let session = begun.header("mcp-session-id").unwrap();
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    let request = gateway.request("POST", "/mcp").header("x-api-key", &other).json(&list);
    assert_eq!(request.header("mcp-session-id", session).send().await.status, 200);
}
