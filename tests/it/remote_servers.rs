//! MCP servers over HTTP, both transports: sessions that expire, streams that break, calls that are given up, and
//! credentials that must not travel.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use witgate::config::mcp_servers::{McpServerConfig, McpTransport};
use witgate::domain::{Principal, RequestId, ToolContext, ToolError, ToolErrorKind, ToolResult};
use witgate::tools::Tool;
use witgate::tools::mcp::{McpConfig, McpServers, ServerState};

/// An upper bound that only guards against hanging.
const LONG: Duration = Duration::from_secs(60);

/// A server of both transports, and all it was asked.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<(Value, HeaderMap)>>,
    session: Mutex<u32>,
    /// Where the stream of the legacy transport goes; dropping it ends the stream.
    stream: Mutex<Option<mpsc::Sender<String>>>,
    /// What the legacy transport says its endpoint is.
    endpoint: Mutex<Option<String>>,
    /// Where every request is sent on to instead of an answer.
    elsewhere: Mutex<Option<String>>,
    /// The answer to a session that is not known, where it is not a 404: an error without an id, and a 400.
    refusal: Mutex<Option<&'static str>>,
    /// A tool that only a later version of it has.
    added: Mutex<Option<&'static str>>,
}

impl Fake {
    async fn start() -> (Arc<Self>, SocketAddr, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (fake, task) = Self::serve(listener);
        (fake, address, task)
    }

    fn serve(listener: TcpListener) -> (Arc<Self>, AbortOnDropHandle<()>) {
        let fake = Arc::new(Self::default());
        let router = Router::new()
            .route("/mcp", any(streamable))
            .route("/sse", get(legacy_stream))
            .route("/messages", post(legacy_message))
            .with_state(fake.clone());
        let serve = async move { axum::serve(listener, router).await.expect("serves") };
        (fake, AbortOnDropHandle::new(tokio::spawn(serve)))
    }

    fn note(&self, headers: HeaderMap, body: &[u8]) -> Value {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        self.asked.lock().unwrap().push((message.clone(), headers));
        message
    }

    fn times(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(message, _)| message["method"] == method).count()
    }

    /// The answer to a message; `None` for one that gets none.
    fn answer(&self, message: &Value) -> Option<Value> {
        let result = match message["method"].as_str()? {
            "initialize" => json!({
                "protocolVersion": "2025-03-26", "capabilities": {"tools": {}},
                "serverInfo": {"name": "fake", "version": "1"},
            }),
            "tools/list" => {
                let names = ["echo", "hang"].into_iter().chain(*self.added.lock().unwrap());
                let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
                json!({"tools": names.map(tool).collect::<Vec<_>>()})
            }
            "tools/call" if message["params"]["name"] == "echo" => json!({
                "content": [{"type": "text", "text": message["params"]["arguments"]["text"]}],
            }),
            "ping" => json!({}),
            _ => return None,
        };
        Some(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
    }
}

async fn streamable(
    State(fake): State<Arc<Fake>>,
    method: http::Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let session = headers.get("mcp-session-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let message = fake.note(headers, &body);
    if let Some(address) = fake.elsewhere.lock().unwrap().clone() {
        return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, address)]).into_response();
    }
    match method.as_str() {
        "POST" => {}
        "DELETE" => return StatusCode::OK.into_response(),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
    let current = *fake.session.lock().unwrap();
    if message["method"] != "initialize" && session != Some(current) {
        if let Some(reason) = *fake.refusal.lock().unwrap() {
            let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": reason}});
            let json = [(header::CONTENT_TYPE, "application/json")];
            return (StatusCode::BAD_REQUEST, json, error.to_string()).into_response();
        }
        return StatusCode::NOT_FOUND.into_response();
    }
    match fake.answer(&message) {
        Some(answer) => {
            let headers =
                [("content-type", "application/json".to_owned()), ("mcp-session-id", current.to_string())];
            (headers, answer.to_string()).into_response()
        }
        None if message["id"].is_null() => StatusCode::ACCEPTED.into_response(),
        None => std::future::pending().await,
    }
}

async fn legacy_stream(State(fake): State<Arc<Fake>>, headers: HeaderMap) -> Response {
    fake.note(headers, br#"{"method":"GET"}"#);
    let (sender, receiver) = mpsc::channel::<String>(16);
    let endpoint = fake.endpoint.lock().unwrap().clone().unwrap_or_else(|| "/messages?session=1".to_owned());
    sender.try_send(format!(": hello\n\nevent: endpoint\r\ndata: {endpoint}\r\n\r\n")).expect("empty");
    *fake.stream.lock().unwrap() = Some(sender);
    let events =
        unfold(receiver, |mut receiver| async { receiver.recv().await.map(|event| (event, receiver)) });
    let body = Body::from_stream(events.map(Ok::<_, std::convert::Infallible>));
    ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], body).into_response()
}

async fn legacy_message(State(fake): State<Arc<Fake>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let message = fake.note(headers, &body);
    let stream = fake.stream.lock().unwrap().clone();
    if let (Some(answer), Some(stream)) = (fake.answer(&message), stream) {
        // Cut in the middle, as a network may do it.
        let event = format!("event: message\ndata: {answer}\n\n");
        let (start, rest) = event.split_at(event.len() / 2);
        for part in [start, rest] {
            stream.send(part.to_owned()).await.expect("somebody reads");
        }
    }
    StatusCode::ACCEPTED
}

fn remote(transport: McpTransport) -> McpServers {
    let config = McpServerConfig {
        name: "fake".to_owned(),
        transport,
        disabled: false,
        timeout_ms: None,
        tool_timeouts_ms: BTreeMap::new(),
        disabled_tools: Vec::new(),
        problem: None,
    };
    let settings = McpConfig {
        restart_min_ms: 20,
        ping_timeout_ms: 5_000,
        call_wait_ms: 60_000,
        ..McpConfig::default()
    };
    McpServers::start(vec![config], settings)
}

fn token() -> Vec<(String, witgate::config::secret::Secret)> {
    vec![("Authorization".to_owned(), "Bearer sesame".into())]
}

fn http_at(address: SocketAddr) -> McpServers {
    remote(McpTransport::StreamableHttp { url: format!("http://{address}/mcp"), headers: token() })
}

fn sse_at(address: SocketAddr) -> McpServers {
    remote(McpTransport::LegacySse { url: format!("http://{address}/sse"), headers: token() })
}

fn tool(servers: &McpServers, name: &str) -> Option<Arc<dyn Tool>> {
    servers.sources()[0].tools().into_iter().find(|tool| tool.definition().name == name)
}

async fn call(tool: &Arc<dyn Tool>, text: &str) -> Result<ToolResult, ToolError> {
    let context = ToolContext {
        principal: Principal::anonymous(),
        request_id: RequestId::generate(),
        session_id: None,
        call_id: "call_1".to_owned(),
        progress: Default::default(),
    };
    let arguments = Map::from_iter([("text".to_owned(), text.into())]);
    tokio::time::timeout(LONG, tool.call(arguments, &context)).await.expect("a call ends")
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LONG, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn is_cancelled_when_dropped(servers: &McpServers, fake: &Fake) {
    let hang = tool(servers, "hang").expect("listed");
    let before = fake.times("tools/call");
    tokio::select! {
        answer = call(&hang, "") => panic!("no answer can come: {answer:?}"),
        () = eventually("the call arrives", || fake.times("tools/call") > before) => {}
    }
    eventually("the server is told", || fake.times("notifications/cancelled") == 1).await;
    let asked = fake.asked.lock().unwrap();
    let id = |method: &str, of: &str| {
        let (message, _) = asked.iter().rfind(|(message, _)| message["method"] == method).expect("asked");
        message.pointer(of).cloned()
    };
    assert_eq!(id("notifications/cancelled", "/params/requestId"), id("tools/call", "/id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn streamable_http_calls_and_cancels_with_the_configured_headers() {
    let (fake, address, _task) = Fake::start().await;
    let servers = http_at(address);
    assert!(servers.settled(LONG).await);
    let echo = tool(&servers, "echo").expect("listed");
    assert_eq!(call(&echo, "hello").await.expect("answers").to_text(), "hello");
    is_cancelled_when_dropped(&servers, &fake).await;
    servers.shutdown().await;
    let asked = fake.asked.lock().unwrap();
    assert!(asked.iter().all(|(_, headers)| headers["authorization"] == "Bearer sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session_is_opened_anew_and_the_call_made_once() {
    let (fake, address, _task) = Fake::start().await;
    let servers = http_at(address);
    assert!(servers.settled(LONG).await);
    let echo = tool(&servers, "echo").expect("listed");
    *fake.added.lock().unwrap() = Some("another");
    *fake.session.lock().unwrap() += 1;
    assert_eq!(call(&echo, "still here").await.expect("answers").to_text(), "still here");
    assert_eq!(fake.times("initialize"), 2);
    eventually("the tools of the new version are seen", || tool(&servers, "another").is_some()).await;
    assert_eq!(servers.states()[0].state, ServerState::Ready);
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_unknown_with_a_400_is_opened_anew_too() {
    let (fake, address, _task) = Fake::start().await;
    let servers = http_at(address);
    assert!(servers.settled(LONG).await);
    let echo = tool(&servers, "echo").expect("listed");
    *fake.refusal.lock().unwrap() = Some("Bad Request: No valid session ID provided");
    *fake.session.lock().unwrap() += 1;
    assert_eq!(call(&echo, "found").await.expect("answers").to_text(), "found");
    assert_eq!((fake.times("initialize"), fake.times("tools/call")), (2, 2));

    *fake.refusal.lock().unwrap() = Some("Too many requests of your kind");
    *fake.session.lock().unwrap() += 1;
    let error = call(&echo, "refused").await.expect_err("the server turns it down");
    assert_eq!(error.kind, ToolErrorKind::Failed);
    assert!(error.message.contains("Too many requests of your kind"), "{error:?}");
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_takes_no_credentials_to_another_origin() {
    let (fake, address, _task) = Fake::start().await;
    let (thief, elsewhere, _thief_task) = Fake::start().await;
    *fake.elsewhere.lock().unwrap() = Some(format!("http://{elsewhere}/mcp"));
    let servers = http_at(address);
    assert!(servers.settled(LONG).await);
    let now = servers.states().remove(0);
    assert_eq!(now.state, ServerState::Failed);
    assert!(now.last_error.unwrap_or_default().contains("307"));
    assert!(thief.asked.lock().unwrap().is_empty());
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_later_is_found() {
    // A port that is taken and refuses connections: nobody else can have it meanwhile.
    let place = TcpSocket::new_v4().expect("a socket");
    place.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = place.local_addr().expect("bound");
    let servers = http_at(address);
    assert!(servers.settled(LONG).await);
    let now = servers.states().remove(0);
    assert_eq!(now.state, ServerState::Failed);
    assert!(now.last_error.unwrap_or_default().starts_with("cannot connect"));
    let (_fake, _task) = Fake::serve(place.listen(16).expect("the same port"));
    eventually("it is found", || servers.states()[0].state == ServerState::Ready).await;

    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_sse_calls_cancels_and_survives_the_end_of_its_stream() {
    let (fake, address, _task) = Fake::start().await;
    let servers = sse_at(address);
    assert!(servers.settled(LONG).await);
    let echo = tool(&servers, "echo").expect("listed");
    assert_eq!(call(&echo, "grüße").await.expect("answers").to_text(), "grüße");
    is_cancelled_when_dropped(&servers, &fake).await;

    let hanging = {
        let hang = tool(&servers, "hang").expect("listed");
        tokio::spawn(async move { call(&hang, "").await })
    };
    eventually("the call arrives", || fake.times("tools/call") == 3).await;
    *fake.stream.lock().unwrap() = None;
    let error = hanging.await.expect("no panic").expect_err("the stream ended");
    assert_eq!(error.kind, ToolErrorKind::Failed);
    assert_eq!(error.message, "server `fake` closed the connection during the call");
    assert_eq!(call(&echo, "back").await.expect("waits for the new stream").to_text(), "back");
    assert_eq!(servers.states()[0].restarts, 1);
    servers.shutdown().await;
    let asked = fake.asked.lock().unwrap();
    assert!(asked.iter().all(|(_, headers)| headers["authorization"] == "Bearer sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_sse_refuses_an_endpoint_of_another_origin() {
    let (fake, address, _task) = Fake::start().await;
    let (thief, elsewhere, _thief_task) = Fake::start().await;
    *fake.endpoint.lock().unwrap() = Some(format!("http://{elsewhere}/messages"));
    let servers = sse_at(address);
    assert!(servers.settled(LONG).await);
    let now = servers.states().remove(0);
    assert_eq!(now.state, ServerState::Failed);
    assert!(now.last_error.unwrap_or_default().contains("another origin"));
    assert!(thief.asked.lock().unwrap().is_empty());
    servers.shutdown().await;
}
