//! The credential table with access tokens: from a login, as an admin and as a user, expired, made up, and of users who
//! may not come in any more; and what is written down of calls that are not allowed.

use serde_json::{Value, json};

use super::{CALL, KEY, TOOLS, builder, endpoints};
use crate::attacks::tokens::{SECRET, expired};
use crate::harness::Gateway;
use crate::identity_http::login::{form, token};
use crate::identity_http::{PASSWORD, USERS, add_key, add_user, events, with};

/// A gateway with the users `admin` and `ann`, the number of the latter, and a token of each.
async fn start() -> (Gateway, [String; 2], i64) {
    let builder = builder().env("WITGATE_ADMIN_PASSWORD", PASSWORD).env("WITGATE_TOKEN_SECRET", SECRET);
    let gateway = builder.start().await;
    let admin = token(&gateway, "admin").await;
    let number = add_user(&gateway, &admin, "ann", "user").await;
    let ann = token(&gateway, "ann").await;
    (gateway, [admin, ann], number)
}

/// What every endpoint says to `token` in each of the three places where it may stand.
async fn everywhere(gateway: &Gateway, token: &str, status: u16, words: &str) {
    for (method, path, body) in endpoints() {
        for place in ["authorization", "x-api-key", "query"] {
            let request = match place {
                "query" => gateway.request(method, &format!("{path}?apikey={token}")),
                "x-api-key" => gateway.request(method, path).header(place, token),
                _ => gateway.request(method, path).header(place, &format!("Bearer {token}")),
            };
            let answer = if body.is_null() { request.send().await } else { request.json(&body).send().await };
            assert_eq!(answer.status, status, "{method} {path}, {place}: {}", answer.text());
            if status == 401 {
                assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{method} {path}");
                let said = answer.words(401);
                assert!(said.contains(words) && !said.contains(token), "{method} {path}, {place}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn tokens_of_admins_and_users_open_every_endpoint_until_they_end() {
    let (gateway, [admin, ann], number) = start().await;
    everywhere(&gateway, &admin, 200, "").await;
    everywhere(&gateway, &ann, 200, "").await;
    for token in [&admin, &ann] {
        everywhere(&gateway, &expired(token), 401, "has expired").await;
        let mut garbled = token.clone();
        garbled.truncate(token.len() - 3);
        everywhere(&gateway, &garbled, 401, "is not valid").await;
    }
    for garbage in ["eyJhbGciOiJIUzI1NiJ9.e30.x", "a.b.c", "wgk-1", "%F0%9F%92%A9"] {
        everywhere(&gateway, garbage, 401, "is not valid").await;
    }

    // Scopes of a user that are taken away are taken from the tokens it has.
    let user = format!("{USERS}/{number}");
    let change = async |body: Value| with(&gateway, &admin, "PATCH", &user, &body).await.expect(200);
    change(json!({"scopes": ["tools:list"]})).await;
    for (method, path, body) in endpoints() {
        let wanted = if method == "GET" { 200 } else { 403 };
        assert_eq!(with(&gateway, &ann, method, path, &body).await.status, wanted, "{method} {path}");
    }
    change(json!({"disabled": true})).await;
    everywhere(&gateway, &ann, 401, "log in again").await;
    assert_eq!(form(&gateway, &format!("username=ann&password={PASSWORD}")).await.status, 401);
    change(json!({"disabled": false})).await;
    everywhere(&gateway, &ann, 401, "log in again").await;
    assert_eq!(with(&gateway, &admin, "DELETE", &user, &Value::Null).await.status, 204);
    assert_eq!(with(&gateway, &ann, "GET", TOOLS, &Value::Null).await.status, 401);
    everywhere(&gateway, &admin, 200, "").await;
    let log = gateway.log();
    assert!(!log.contains(&admin) && !log.contains(&ann), "a token is in the log");
}

#[tokio::test]
async fn calls_that_are_not_allowed_are_written_down_by_the_way_they_came() {
    let (gateway, [admin, _], _) = start().await;
    let narrow = json!({"name": "narrow", "scopes": ["tools:list", "tools:call:query_*"]});
    let (id, narrow) = add_key(&gateway, &admin, &narrow).await;
    let refused = async |path: &str, name: &str, body: Value| {
        let request = gateway.request("POST", path).header("x-api-key", &narrow).json(&body);
        let request = request.header("accept", "application/json, text/event-stream");
        let answer = request.header("x-request-id", name).send().await;
        assert!(answer.text().contains("no tool named") || answer.text().contains("unknown tool"));
        answer.status
    };
    assert_eq!(refused(CALL, "req_by_rest", json!({"tool_name": "subscribe__fail"})).await, 404);
    assert_eq!(refused("/api/v1/tools/fail", "req_by_name", json!({})).await, 404);
    assert_eq!(refused(CALL, "req_nothing", json!({"tool_name": "nobody"})).await, 404);
    for (path, name) in [("/mcp", "req_by_mcp"), ("/mcp/subscribe", "req_of_server")] {
        let call = json!({"name": "fail", "arguments": {}});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call});
        refused(path, name, call).await;
    }

    let (folder, _keep) = (gateway.folder().to_owned(), gateway.again());
    gateway.stop().await;
    let events = events(&folder);
    for (name, via) in
        [("req_by_rest", "rest"), ("req_by_name", "rest"), ("req_by_mcp", "mcp"), ("req_of_server", "mcp")]
    {
        let own: Vec<&Value> = events.iter().filter(|event| event["request_id"] == name).collect();
        assert_eq!(own.len(), 1, "{name}: {own:#?}");
        for (field, wanted) in [
            ("action", json!("denied")),
            ("outcome", json!("denied")),
            ("rule", json!("scope")),
            ("status", json!(404)),
            ("principal", json!(format!("key:{id}"))),
            ("via", json!(via)),
            ("target", json!("fail")),
        ] {
            assert_eq!(own[0][field], wanted, "{name}: {field}");
        }
        assert!(own[0].get("arguments").is_none(), "{name}");
    }
    // There is nothing to forbid where there is nothing.
    assert!(!events.iter().any(|event| event["request_id"] == "req_nothing"));
    assert!(!events.iter().any(|event| event.to_string().contains(KEY)));
}
