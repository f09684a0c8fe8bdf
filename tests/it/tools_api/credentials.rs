//! The credential table with keys of users: which scope opens what, and keys that have ended.

use std::process::Command as Program;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{CALL, TOOLS, endpoints, start};
use crate::harness::{Gateway, eventually};

const ADD: &str = "/api/v1/mcp/tools/add_subscribe";

/// An admin's key, made beside the running gateway.
fn admin_key(gateway: &Gateway) -> String {
    let run = |arguments: &[&str]| {
        let mut program = Program::new(env!("CARGO_BIN_EXE_witgate"));
        program.current_dir(gateway.folder()).env_clear().arg("access").args(arguments);
        let output = program.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    run(&["user", "add", "root", "--role", "admin", "--no-password"]);
    run(&[
        "key",
        "create",
        "tests",
        "--user",
        "root",
        "--scope",
        "admin",
        "--scope",
        "chat",
        "--scope",
        "tools:list",
        "--scope",
        "tools:call",
    ])
}

async fn status(gateway: &Gateway, method: &str, path: &str, body: &Value, key: &str) -> u16 {
    let request = gateway.request(method, path).header("authorization", &format!("Bearer {key}"));
    if body.is_null() { request.send().await.status } else { request.json(body).send().await.status }
}

/// A key that an admin makes for itself with `wish`, and its id.
async fn new_key(gateway: &Gateway, admin: &str, mut wish: Value) -> (String, String) {
    wish["name"] = json!("a key");
    let request = gateway.request("POST", "/api/v1/keys").header("x-api-key", admin).json(&wish);
    let made = request.send().await.expect(201);
    (made["key"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn scopes_open_what_they_name_and_ended_keys_nothing() {
    let gateway = start().await;
    let admin = admin_key(&gateway);
    eventually("the key made beside it is known", async || {
        status(&gateway, "GET", TOOLS, &Value::Null, &admin).await == 200
    })
    .await;

    let (lists, _) = new_key(&gateway, &admin, json!({"scopes": ["tools:list"]})).await;
    let (calls, _) = new_key(&gateway, &admin, json!({"scopes": ["tools:call"]})).await;
    let (chats, _) = new_key(&gateway, &admin, json!({"scopes": ["chat"]})).await;
    for (method, path, body) in endpoints() {
        let is_list = method == "GET";
        for (key, is_open) in [(&lists, is_list), (&calls, !is_list), (&chats, false), (&admin, true)] {
            let wanted = if is_open { 200 } else { 403 };
            assert_eq!(status(&gateway, method, path, &body, key).await, wanted, "{method} {path}");
        }
    }

    // Who may call one tool sees that one, and the others are not there.
    let (one, _) = new_key(&gateway, &admin, json!({"scopes": ["tools:list", "tools:call:query_*"]})).await;
    let list = gateway.request("GET", TOOLS).header("x-api-key", &one).send().await.expect(200);
    assert_eq!((list.as_array().unwrap().len(), &list[0]["name"]), (1, &json!("query_subscribes")));
    assert_eq!(status(&gateway, "GET", ADD, &Value::Null, &one).await, 404);
    let call = |name: &str| json!({"tool_name": name, "arguments": {}});
    assert_eq!(status(&gateway, "POST", CALL, &call("query_subscribes"), &one).await, 200);
    for name in ["fail", "subscribe__fail", "nobody"] {
        let request = gateway.request("POST", CALL).header("x-api-key", &one).json(&call(name));
        let words = request.send().await.words(404);
        assert!(words.starts_with(&format!("there is no tool named `{name}`")), "{words}");
    }
    let document = gateway.request("GET", "/openapi.json").header("x-api-key", &one).send().await.expect(200);
    let paths = &document["paths"];
    assert!(
        paths.get("/api/v1/tools/query_subscribes").is_some() && paths.get("/api/v1/tools/fail").is_none()
    );
    let document =
        gateway.request("GET", "/openapi.json").header("x-api-key", &chats).send().await.expect(200);
    assert!(document["paths"].get("/api/v1/tools/query_subscribes").is_none());

    let (revoked, id) = new_key(&gateway, &admin, json!({"scopes": ["tools:list", "tools:call"]})).await;
    let soon = SystemTime::now() + Duration::from_secs(6);
    let since = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let wish = json!({"scopes": ["tools:list", "tools:call"], "expires_at": rfc3339(since)});
    let (expired, _) = new_key(&gateway, &admin, wish).await;
    let request = gateway.request("DELETE", &format!("/api/v1/keys/{id}")).header("x-api-key", &admin);
    request.send().await.expect(200);
    eventually("the key has ended", async || {
        status(&gateway, "GET", TOOLS, &Value::Null, &expired).await == 401
    })
    .await;
    for (method, path, body) in endpoints() {
        for key in [&revoked, &expired] {
            assert_eq!(status(&gateway, method, path, &body, key).await, 401, "{method} {path}");
        }
    }
}

/// Seconds since 1970 as a time of day in UTC.
fn rfc3339(seconds: u64) -> String {
    let output =
        Program::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}
