//! A server over streamable HTTP made here: what it tells on which stream, and when, is up to the test.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// Protocol versions with `initialize`, or without.
#[derive(Clone, Copy, PartialEq)]
enum Era {
    Old,
    New,
}

struct Fake {
    era: Era,
    asked: Mutex<Vec<Value>>,
    /// Where calls meet before they answer.
    meeting: Barrier,
    /// Streams of `subscriptions/listen` that are open, with the id of each.
    listening: Mutex<Vec<(Value, mpsc::Sender<String>)>>,
}

impl Fake {
    async fn start(era: Era, callers: usize) -> (Arc<Self>, McpServers, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (asked, listening) = (Mutex::default(), Mutex::default());
        let fake = Arc::new(Self { era, asked, meeting: Barrier::new(callers), listening });
        let router = Router::new().route("/mcp", post(answer)).with_state(fake.clone());
        let serve = async move { axum::serve(listener, router).await.expect("serves") };
        let task = AbortOnDropHandle::new(tokio::spawn(serve));
        let servers =
            start(McpTransport::StreamableHttp { url: format!("http://{address}/mcp"), headers: Vec::new() });
        assert!(servers.settled(LONG).await);
        (fake, servers, task)
    }

    fn asked(&self, method: &str) -> Vec<Value> {
        self.asked.lock().unwrap().iter().filter(|message| message["method"] == method).cloned().collect()
    }

    /// Tells everybody who listens.
    async fn tell(&self, method: &str, params: Value) {
        let listening = self.listening.lock().unwrap().clone();
        for (id, stream) in listening {
            let mut params = params.clone();
            params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": id});
            // A stream that is gone has nobody to be told.
            let _ = stream.send(event(&json!({"jsonrpc": "2.0", "method": method, "params": params}))).await;
        }
    }
}

fn event(message: &Value) -> String {
    format!("data: {message}\n\n")
}

fn stream(receiver: mpsc::Receiver<String>) -> Response {
    let events =
        unfold(receiver, |mut receiver| async { receiver.recv().await.map(|event| (event, receiver)) });
    let body = Body::from_stream(events.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

async fn answer(State(fake): State<Arc<Fake>>, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    fake.asked.lock().unwrap().push(message.clone());
    let id = message["id"].clone();
    let json = |field: &str, value: Value| {
        let text = json!({"jsonrpc": "2.0", "id": id, field: value}).to_string();
        ([(header::CONTENT_TYPE, "application/json")], text).into_response()
    };
    let capabilities = json!({"tools": {"listChanged": true}, "logging": {}, "resources": {"listChanged": true, "subscribe": true}});
    let list = |entries: Value, next: Option<&str>| {
        let mut page =
            json!({"resources": entries, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"});
        if let Some(next) = next {
            page["nextCursor"] = next.into();
        }
        page
    };
    match (message["method"].as_str().unwrap_or_default(), fake.era) {
        ("initialize", Era::Old) => json(
            "result",
            json!({
                "protocolVersion": "2025-06-18", "capabilities": capabilities,
                "serverInfo": {"name": "fake", "version": "1"},
            }),
        ),
        ("server/discover", Era::New) => json(
            "result",
            json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities,
                "ttlMs": 0, "cacheScope": "private",
            }),
        ),
        ("tools/list", _) => {
            let tools = json!([{"name": "say", "inputSchema": {"type": "object"}}]);
            json(
                "result",
                json!({"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}),
            )
        }
        ("resources/list", _) => match message["params"]["cursor"].as_str() {
            None => json("result", list(json!([{"uri": "a:1", "name": "one"}]), Some("more"))),
            Some(_) => json("result", list(json!([{"uri": "a:2", "name": "two"}, {"uri": "odd"}]), None)),
        },
        ("resources/read", _) => {
            let text = "x".repeat(9 * 1024 * 1024);
            json("result", json!({"contents": [{"uri": "a:1", "text": text}], "resultType": "complete"}))
        }
        ("subscriptions/listen", Era::New) => {
            let (sender, receiver) = mpsc::channel(16);
            let params = json!({
                "notifications": message["params"]["notifications"],
                "_meta": {"io.modelcontextprotocol/subscriptionId": id},
            });
            let method = "notifications/subscriptions/acknowledged";
            sender.try_send(event(&json!({"jsonrpc": "2.0", "method": method, "params": params}))).unwrap();
            fake.listening.lock().unwrap().push((id, sender));
            stream(receiver)
        }
        ("resources/subscribe", Era::Old) => {
            json("error", json!({"code": -32602, "message": "not that one"}))
        }
        ("tools/call", _) => say(fake, id, message).await,
        _ if message["id"].is_null() => StatusCode::ACCEPTED.into_response(),
        _ => json("error", json!({"code": -32601, "message": "no such method"})),
    }
}

/// Logs what it is to say on the stream of its answer, meets the other callers, and answers.
async fn say(fake: Arc<Fake>, id: Value, message: Value) -> Response {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let text = &message["params"]["arguments"]["text"];
        let told = json!({"level": "notice", "data": {"said": text}});
        let line = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": told});
        let _ = sender.send(event(&line)).await;
        fake.meeting.wait().await;
        let _ = sender.send(event(&line)).await;
        let result = json!({"content": [{"type": "text", "text": text}], "resultType": "complete"});
        let _ = sender.send(event(&json!({"jsonrpc": "2.0", "id": id, "result": result}))).await;
    });
    stream(receiver)
}

async fn log_lines_of_calls_at_the_same_time(era: Era) {
    let (fake, servers, _task) = Fake::start(era, 3).await;
    let ears = [Ear::default(), Ear::default()];
    let (one, other, unheard) = (ears[0].context(), ears[1].context(), quiet());
    tokio::join!(
        call(&servers, "say", json!({"text": "one's own"}), &one),
        call(&servers, "say", json!({"text": "the other's"}), &other),
        call(&servers, "say", json!({"text": "nobody's"}), &unheard),
    );
    for (ear, text) in ears.iter().zip(["one's own", "the other's"]) {
        let line = json!({"type": "log", "level": "notice", "data": {"said": text}});
        assert_eq!(ear.heard(), [line.clone(), line]);
    }
    for asked in fake.asked("tools/call") {
        let listens = asked["params"]["arguments"]["text"] != "nobody's";
        let meta = &asked["params"]["_meta"];
        assert_eq!(meta.get("progressToken").is_some(), listens, "{asked}");
        let level = meta.get("io.modelcontextprotocol/logLevel").and_then(Value::as_str);
        assert_eq!(level, (listens && era == Era::New).then_some("info"), "{asked}");
    }
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_line_is_told_to_the_call_on_whose_stream_it_came() {
    log_lines_of_calls_at_the_same_time(Era::Old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_asks_for_log_lines_in_the_newest_protocol_version() {
    log_lines_of_calls_at_the_same_time(Era::New).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_asked_for_once_and_only_where_the_server_has_them() {
    let (fake, servers, _task) = Fake::start(Era::New, 1).await;
    let source = source(&servers);
    // Once it listens, the tools are listed again: they may have changed meanwhile.
    eventually("it listens", || fake.asked("tools/list").len() == 2).await;
    assert!(fake.asked("resources/list").is_empty(), "nobody wanted them yet");
    let listed = tokio::join!(source.resources(), source.resources(), source.prompts());
    let names = |list: &[Value]| list.iter().map(|entry| entry["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&listed.0.unwrap()), ["one", "two"]);
    assert_eq!(names(&listed.1.unwrap()), ["one", "two"]);
    assert_eq!(listed.2.unwrap().len(), 0);
    assert_eq!(source.resource_templates().await.expect("none is no error").len(), 0);
    assert_eq!((fake.asked("resources/list").len(), fake.asked("prompts/list").len()), (2, 0));

    let mut changes = source.changes();
    changes.mark_unchanged();
    fake.tell("notifications/resources/list_changed", json!({})).await;
    tokio::time::timeout(LONG, changes.changed()).await.expect("told").expect("lives");
    source.resources().await.expect("listed again");
    assert_eq!(fake.asked("resources/list").len(), 4);

    let error = source.read_resource("a:1", &quiet()).await.expect_err("too large");
    assert!(error.message.contains("tools.max_resource_bytes"), "{error}");
    let error = source.get_prompt("p", Map::new(), &quiet()).await.expect_err("no prompts");
    assert_eq!(error.kind, ToolErrorKind::NotFound);
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_followed_on_one_stream_in_the_newest_protocol_version() {
    let (fake, servers, _task) = Fake::start(Era::New, 1).await;
    let source = source(&servers);
    let mut one = source.subscribe("a:1").await.expect("taken");
    let two = source.subscribe("a:2").await.expect("taken");
    fake.tell("notifications/resources/updated", json!({"uri": "a:1"})).await;
    assert!(tokio::time::timeout(LONG, one.updated()).await.expect("told"));
    let last = || {
        let asked = fake.asked("subscriptions/listen");
        let uris = asked.last()?.pointer("/params/notifications/resourceSubscriptions")?.as_array()?.clone();
        Some(uris.len())
    };
    assert_eq!(last(), Some(2));
    drop(two);
    eventually("the other one is given up", || last() == Some(1)).await;
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_subscription_says_why() {
    let (_fake, servers, _task) = Fake::start(Era::Old, 1).await;
    let error = source(&servers).subscribe("a:1").await.expect_err("refused");
    assert!(error.message.contains("`a:1`") && error.message.contains("not that one"), "{error}");
    servers.shutdown().await;
}
