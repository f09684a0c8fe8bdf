//! Who is turned away at `/mcp`: strangers, web pages of strangers, and users of other people's sessions.

use serde_json::json;

use super::rpc::{KEY, Rpc, gateway, request};
use crate::harness::{Answer, Gateway};

const PATHS: [&str; 3] = ["/mcp", "/mcp/sqlite", "/api/v1/mcp"];

async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut post = gateway.request("POST", path).json(&request(1, "tools/list", &json!({})));
    for (name, value) in headers {
        post = post.header(name, value);
    }
    post.send().await
}

#[tokio::test]
async fn only_known_callers_come_in() {
    let gateway = gateway().await;
    for path in PATHS {
        for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("x-api-key", "")]] {
            let refused = post(&gateway, path, headers).await;
            assert_eq!(refused.status, 401, "{path} {headers:?}");
            assert!(refused.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"), "{path}");
        }
        for method in ["GET", "DELETE"] {
            assert_eq!(gateway.request(method, path).send().await.status, 401, "{method} {path}");
        }
        assert_eq!(post(&gateway, path, &[("x-api-key", KEY)]).await.status, 200);
    }
    // Addresses end up in logs: a key in one is taken under /api/v1 only.
    assert_eq!(post(&gateway, &format!("/mcp?apikey={KEY}"), &[]).await.status, 401);
    assert_eq!(post(&gateway, &format!("/api/v1/mcp?apikey={KEY}"), &[]).await.status, 200);
    assert!(!gateway.log().contains(KEY));
}

#[tokio::test]
async fn names_that_point_here_by_trickery_are_refused() {
    let gateway = gateway().await;
    let port = gateway.address().port();
    for path in PATHS {
        let send = |name: &'static str, value: &str| {
            let (gateway, value) = (&gateway, value.to_owned());
            async move { post(gateway, path, &[("x-api-key", KEY), (name, &value)]).await.status }
        };
        for host in
            [format!("evil.example:{port}"), "127.0.0.1.evil.example".into(), "localhost.evil.example".into()]
        {
            assert_eq!(send("host", &host).await, 403, "{path} {host}");
        }
        for origin in ["http://evil.example", "null", "https://localhost.evil.example", "file://"] {
            assert_eq!(send("origin", origin).await, 403, "{path} {origin}");
        }
        for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "[::1]:1".into()] {
            assert_eq!(send("host", &host).await, 200, "{path} {host}");
        }
        for origin in [format!("http://127.0.0.1:{port}"), "http://localhost:6274".into()] {
            assert_eq!(send("origin", &origin).await, 200, "{path} {origin}");
        }
    }
    // A stranger's page learns nothing, not even whether a key is right.
    assert_eq!(post(&gateway, "/mcp", &[("origin", "http://evil.example")]).await.status, 403);
}

#[tokio::test]
async fn an_operator_can_name_hosts_and_pages() {
    let config =
        "[server]\nallowed_hosts = [\"tools.example\"]\n[cors]\nallow_origins = [\"https://chat.example\"]\n";
    let gateway = Gateway::builder().env("WITGATE_API_KEY", KEY).sqlite().config(config).start().await;
    let send = |headers: &'static [(&str, &str)]| {
        let all: Vec<_> = [("x-api-key", KEY)].into_iter().chain(headers.iter().copied()).collect();
        let gateway = &gateway;
        async move { post(gateway, "/mcp", &all).await.status }
    };
    assert_eq!(send(&[("host", "tools.example"), ("origin", "https://chat.example")]).await, 200);
    assert_eq!(send(&[("host", "other.example")]).await, 403);
    assert_eq!(send(&[("origin", "https://other.example")]).await, 403);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let gateway = gateway().await;
    let key = [("x-api-key", KEY)];
    for path in ["/mcp/nothing", "/mcp/..%2Fsqlite", "/mcp/SQLITE", "/mcp/%00"] {
        assert_eq!(post(&gateway, path, &key).await.status, 404, "{path}");
    }
    for id in ["", "nothing", "00000000-0000-0000-0000-000000000000"] {
        let answer = post(&gateway, "/mcp", &[key[0], ("mcp-session-id", id)]).await;
        assert_eq!(answer.status, 404, "{id:?}");
    }
}

#[tokio::test]
async fn a_session_is_its_endpoints_own_and_ends() {
    let gateway = gateway().await;
    let mut rpc = Rpc::open(&gateway, "/mcp", "2025-11-25").await;
    rpc.path = "/mcp/sqlite";
    assert_eq!(rpc.post(&request(1, "tools/list", &json!({}))).await.status, 404);
    rpc.path = "/mcp";
    assert_eq!(rpc.post(&request(2, "tools/list", &json!({}))).await.status, 200);
    assert_eq!(rpc.send(gateway.request("DELETE", "/mcp")).await.status, 204);
    assert_eq!(rpc.post(&request(3, "tools/list", &json!({}))).await.status, 404);
    assert_eq!(rpc.send(gateway.request("DELETE", "/mcp")).await.status, 404);
}
