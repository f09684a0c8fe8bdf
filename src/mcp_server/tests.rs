//! Sessions: whose they are, how many there are, when they end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::view::View;
use super::{Config, McpResponse, McpServer, Parts};
use crate::access::AccessScope;
use crate::audit::AuditLog;
use crate::domain::{Principal, PrincipalKind, RequestId};
use crate::toolbox::Toolbox;
use crate::tools::fake::{FakeSource, FakeTool};
use crate::tools::{ToolRegistry, ToolSource};

fn server(config: &Config) -> McpServer {
    let registry = Arc::new(ToolRegistry::new(crate::tools::Config::default(), Vec::new()));
    let (settled, tools_settled) = watch::channel(true);
    drop(settled);
    let toolbox = Toolbox::new(registry, AuditLog::none());
    let servers = vec!["files".to_owned()];
    McpServer::new(config, Parts { toolbox, servers, tools_settled, keep_alive: Duration::from_secs(10) })
}

fn scope(principal: &str) -> AccessScope {
    AccessScope::unrestricted(RequestId::generate(), Principal::new(principal, PrincipalKind::Service))
}

async fn send(
    server: &McpServer,
    who: &str,
    method: &str,
    session: Option<&str>,
    body: &Value,
) -> McpResponse {
    let mut request = Request::builder().method(method).uri("/mcp").header("host", "localhost");
    request = request
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    server.answer(scope(who), None, request.body(Bytes::from(body.to_string())).unwrap()).await
}

/// A new session, and its initialization read to the end.
async fn open(server: &McpServer, who: &str) -> Result<String, u16> {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let response = send(server, who, "POST", None, &message).await;
    let Some(id) = response.headers().get("mcp-session-id").cloned() else {
        return Err(response.status().as_u16());
    };
    response.into_body().collect().await.unwrap();
    Ok(id.to_str().unwrap().to_owned())
}

async fn list(server: &McpServer, who: &str, session: &str) -> u16 {
    let message = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    let response: Response<_> = send(server, who, "POST", Some(session), &message).await;
    let status = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    status
}

#[tokio::test]
async fn a_session_is_nobody_elses() {
    let server = server(&Config::default());
    let session = open(&server, "key:alice").await.unwrap();
    assert_eq!(list(&server, "key:alice", &session).await, 200);
    assert_eq!(list(&server, "key:mallory", &session).await, 404);
    for method in ["GET", "DELETE"] {
        let answer = send(&server, "key:mallory", method, Some(&session), &Value::Null).await;
        assert_eq!(answer.status(), 404, "{method}");
    }
    assert_eq!(list(&server, "key:alice", &session).await, 200, "it is still there");
    server.stop();
}

#[tokio::test]
async fn there_are_only_so_many_sessions() {
    let server = server(&Config { max_sessions: 2, ..Config::default() });
    let first = open(&server, "a").await.unwrap();
    let second = open(&server, "a").await.unwrap();
    assert_eq!(list(&server, "a", &first).await, 200);
    // The second one was idle for longer.
    let third = open(&server, "a").await.unwrap();
    assert_eq!(list(&server, "a", &second).await, 404);
    let mut streams = Vec::new();
    for session in [&first, &third] {
        assert_eq!(list(&server, "a", session).await, 200);
        let stream = send(&server, "a", "GET", Some(session), &Value::Null).await;
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    // Sessions that somebody listens to are not idle.
    assert_eq!(open(&server, "a").await, Err(503));
    drop(streams);
    open(&server, "a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_opened_at_the_same_time_share_the_places() {
    let server = Arc::new(server(&Config { max_sessions: 2, ..Config::default() }));
    let opened = (0..32).map(|_| {
        let server = server.clone();
        tokio::spawn(async move { open(&server, "a").await })
    });
    let mut left = 0;
    for session in join_all(opened).await {
        // One that gave way before it was initialized has no answer.
        if let Ok(session) = session.unwrap() {
            left += usize::from(list(&server, "a", &session).await == 200);
        }
    }
    assert!(left <= 2, "{left} sessions");
    server.stop();
}

#[test]
fn settings_that_leave_no_room_are_refused() {
    for bad in ["max_sessions", "session_idle_ms"] {
        let error = toml::from_str::<Config>(&format!("{bad} = 0")).unwrap_err();
        assert!(error.to_string().contains("must be at least 1"), "{error}");
    }
}

#[tokio::test]
async fn idle_sessions_end() {
    let server = server(&Config { session_idle_ms: 1, ..Config::default() });
    let session = open(&server, "a").await.unwrap();
    while list(&server, "a", &session).await == 200 {
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

#[tokio::test]
async fn servers_that_are_down_are_there() {
    let server = server(&Config::default());
    assert!(server.shows(&scope("a"), "files"));
    assert!(!server.shows(&scope("a"), "others"));
}

#[tokio::test]
async fn a_servers_endpoint_calls_its_own_tools_whatever_others_are_called() {
    let sources: Vec<Arc<dyn ToolSource>> = vec![
        FakeSource::new("a", vec![FakeTool::named("b__c")]),
        FakeSource::new("a__b", vec![FakeTool::named("c")]),
    ];
    let registry = Arc::new(ToolRegistry::new(crate::tools::Config::default(), sources));
    for (server, name) in [("a", "b__c"), ("a__b", "c")] {
        let toolbox = Toolbox::new(Arc::clone(&registry), AuditLog::none());
        let view = View { toolbox, server: Some(server.into()) };
        let tool = view.wanted(&scope("ann"), name).unwrap();
        assert_eq!((tool.definition.server.as_deref(), tool.original_name()), (Some(server), name));
        assert!(view.wanted(&scope("ann"), "other").is_err());
    }
}
