//! Clients that go away while something is changed for them, or take their time until it may no longer be.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::harness::{PATIENCE, within};

/// Sends the head of a request on a connection of its own.
async fn begin(gateway: &Gateway, key: &str, request: &str, body: &str, more: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         connection: close\r\n{more}content-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

/// Reads until the gateway has said `end`, or all.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&answer).contains(end) {
            match socket.read(&mut buffer).await {
                Ok(count @ 1..) => answer.extend_from_slice(&buffer[..count]),
                _ => break,
            }
        }
    };
    within(PATIENCE, "the gateway's answer", read).await;
    String::from_utf8(answer).unwrap()
}

/// A client of which the gateway knows who it is, and that has not sent its body.
async fn waiting(gateway: &Gateway, key: &str, request: &str, body: &str) -> TcpStream {
    let mut socket = begin(gateway, key, request, body, "expect: 100-continue\r\n").await;
    let told = read_until(&mut socket, "\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 100 "), "{told}");
    socket
}

async fn finish(mut socket: TcpStream, body: &str) -> String {
    socket.write_all(body.as_bytes()).await.unwrap();
    read_until(&mut socket, "never said").await
}

#[tokio::test]
async fn who_was_shut_out_meanwhile_changes_nothing() {
    let (gateway, root) = start().await;
    let eve = add_user(&gateway, &root, "eve", "admin").await;
    let eve_path = format!("{USERS}/{eve}");
    let token = login::token(&gateway, "eve").await;
    let wide = json!({"name": "k", "user": "eve", "scopes": ["admin", "tools:list"]});
    let (id, key) = add_key(&gateway, &root, &wide).await;
    let (_, left) = add_key(&gateway, &root, &wide).await;
    let user = format!(r#"{{"name": "mallory", "role": "admin", "password": "{PASSWORD}"}}"#);
    let wish = r#"{"name": "mine"}"#;
    let admin = r#"{"role": "admin"}"#;
    let change = format!("PATCH {eve_path}");
    let by_key = waiting(&gateway, &key, "POST /api/v1/keys", wish).await;
    with(&gateway, &root, "DELETE", &format!("{KEYS}/{id}"), &Value::Null).await.expect(200);
    let told = finish(by_key, wish).await;
    assert!(told.contains(" 401 ") && told.contains("revoked"), "{told}");
    // What is left of the owner is what counts of its key.
    let by_left = waiting(&gateway, &left, "POST /api/v1/users", &user).await;
    let mut by_token = Vec::new();
    for (request, body) in
        [("POST /api/v1/users", user.as_str()), ("POST /api/v1/keys", wish), (change.as_str(), admin)]
    {
        by_token.push((waiting(&gateway, &token, request, body).await, body));
    }
    with(&gateway, &root, "PATCH", &eve_path, &json!({"role": "user"})).await.expect(200);
    let told = finish(by_left, &user).await;
    assert!(told.contains(" 403 ") && told.contains("`admin`"), "{told}");
    for (socket, body) in by_token {
        let told = finish(socket, body).await;
        assert!(told.contains(" 401 ") && told.contains("log in again"), "{told}");
    }
    let users = get(&gateway, &root, USERS).await.expect(200);
    let users = users["users"].as_array().unwrap();
    assert!(users.iter().all(|user| user["name"] != "mallory"), "{users:?}");
    assert_eq!(users.iter().find(|user| user["name"] == "eve").unwrap()["role"], "user");
    assert_eq!(get(&gateway, &root, &format!("{KEYS}?user=eve")).await.expect(200)["total"], 2);
    // Who was not shut out is not in the way of itself.
    let patient = waiting(&gateway, &root, "POST /api/v1/users", &user).await;
    assert!(finish(patient, &user).await.contains(" 201 "));
    let folder = gateway.folder().to_owned();
    let _keep = gateway.again();
    gateway.stop().await;
    let denied = events(&folder).iter().filter(|event| event["action"] == "denied").count();
    assert_eq!(denied, 5);
}

#[tokio::test]
async fn a_change_whose_client_left_is_written_down() {
    let (gateway, root) = start().await;
    let folder = gateway.folder().to_owned();
    let body = format!(r#"{{"role": "admin", "password": "{PASSWORD}"}}"#);
    let mut ids = Vec::new();
    for number in 0..12 {
        let user = json!({"name": format!("user {number}")});
        let id = post(&gateway, &root, USERS, &user).await.expect(201)["id"].as_i64().unwrap();
        let mut socket = begin(&gateway, &root, &format!("PATCH {USERS}/{id}"), &body, "").await;
        socket.write_all(body.as_bytes()).await.unwrap();
        // It leaves at another moment each time: before the change, within it, after it.
        tokio::time::sleep(Duration::from_millis(number * 4)).await;
        drop(socket);
        ids.push(id);
    }
    let _keep = gateway.again();
    gateway.stop().await;
    let told: Vec<Value> =
        events(&folder).iter().filter(|event| event["action"] == "user_changed").cloned().collect();
    let listed = access(&folder, &["user", "list", "--json"], "").await.output();
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    for id in ids {
        let user = listed.iter().find(|user| user["id"] == id).unwrap();
        let lines = told.iter().filter(|event| event["target"] == format!("user:{id}")).count();
        assert_eq!(lines, usize::from(user["role"] == "admin"), "{user}");
    }
}

#[tokio::test]
async fn a_change_that_is_refused_in_part_is_refused_as_a_whole() {
    let (gateway, root) = start().await;
    let path = format!("{USERS}/{}", add_user(&gateway, &root, "ann", "user").await);
    let body = json!({"role": "admin", "password": "x".repeat(1025)});
    let told = with(&gateway, &root, "PATCH", &path, &body).await.words(400);
    assert!(told.contains("`password`") && told.contains("1024 bytes"), "{told}");
    assert_eq!(get(&gateway, &root, &path).await.expect(200)["role"], "user");
}

#[tokio::test]
async fn what_changes_users_and_keys_is_small() {
    let (gateway, root) = start().await;
    let body = json!({"name": "k", "tools": vec!["x"; 400_000]});
    assert_eq!(post(&gateway, &root, KEYS, &body).await.status, 413);
}
