//! The tools API over tools that the test leads by the hand: streams of progress, refusals, callers that go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::access::Obedient;
use super::api::{read, request, send};
use super::fakes::{KEY, Setup};
use crate::access::AuthPolicy;
use crate::domain::{ToolAnnotations, ToolContext, ToolDefinition, ToolError, ToolProgress, ToolResult};
use crate::http::{App, ServerConfig};
use crate::tools::{Tool, ToolSource};

const CALL: &str = "/api/v1/mcp/tools/call";

/// A call that has begun: what the test may do with it.
struct Running {
    context: ToolContext,
    end: oneshot::Sender<ToolResult>,
}

impl Running {
    fn progress(&self, progress: f64) {
        self.context.progress.tell(ToolProgress::Progress { progress, total: None, message: None });
    }

    fn log(&self, data: &str) {
        let data = Value::from(data);
        self.context.progress.tell(ToolProgress::Log { level: "info".to_owned(), logger: None, data });
    }
}

/// The tool `led`, which does what the test tells it.
struct Led {
    definition: ToolDefinition,
    calls: mpsc::Sender<Running>,
    cancelled: Arc<AtomicUsize>,
}

struct Uncancelled(Option<Arc<AtomicUsize>>);

impl Drop for Uncancelled {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Tool for Led {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    async fn call(&self, _: Map<String, Value>, context: &ToolContext) -> Result<ToolResult, ToolError> {
        let mut uncancelled = Uncancelled(Some(Arc::clone(&self.cancelled)));
        let (end, ended) = oneshot::channel();
        self.calls.send(Running { context: context.clone(), end }).await.unwrap();
        let result = ended.await.expect("the test ends its calls");
        uncancelled.0 = None;
        Ok(result)
    }
}

struct Source(Arc<Led>);

impl ToolSource for Source {
    fn name(&self) -> &str {
        "fakes"
    }

    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        vec![Arc::clone(&self.0) as Arc<dyn Tool>]
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

struct Scene {
    app: App,
    calls: mpsc::Receiver<Running>,
    cancelled: Arc<AtomicUsize>,
}

fn scene(setup: Setup) -> Scene {
    let (sender, calls) = mpsc::channel(8);
    let cancelled = Arc::new(AtomicUsize::new(0));
    let definition = ToolDefinition {
        name: "led".to_owned(),
        title: None,
        description: "Does as it is told".to_owned(),
        input_schema: json!({"type": "object"}),
        output_schema: None,
        annotations: ToolAnnotations::default(),
        server: None,
    };
    let led = Led { definition, calls: sender, cancelled: Arc::clone(&cancelled) };
    let tools: Vec<Arc<dyn ToolSource>> = vec![Arc::new(Source(Arc::new(led)))];
    Scene { app: Setup { tools, ..setup }.build().0, calls, cancelled }
}

impl Scene {
    async fn stream(&self, headers: &[(&str, &str)]) -> Response {
        let body = json!({"tool_name": "led"}).to_string();
        let json = ("content-type", "application/json");
        let mut all = vec![("x-api-key", KEY), json, ("accept", "text/event-stream")];
        all.extend_from_slice(headers);
        send(&self.app, request("POST", CALL, &all, body)).await
    }

    async fn begun(&mut self) -> Running {
        tokio::time::timeout(Duration::from_secs(10), self.calls.recv()).await.unwrap().unwrap()
    }
}

async fn next(response: &mut Response) -> String {
    let frame = tokio::time::timeout(Duration::from_secs(100), response.body_mut().frame()).await.unwrap();
    String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn progress_is_told_while_the_tool_runs_and_the_result_comes_last() {
    let mut scene = scene(Setup::default());
    let mut response = scene.stream(&[]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let running = scene.begun().await;
    assert!(running.context.progress.is_listening());
    running.progress(1.0);
    let wanted = "event: progress\ndata: {\"progress\":1.0,\"total\":null,\"message\":null}\n\n";
    assert_eq!(next(&mut response).await, wanted);
    running.log("第二\n行");
    let wanted = "event: log\ndata: {\"level\":\"info\",\"logger\":null,\"data\":\"第二\\n行\"}\n\n";
    assert_eq!(next(&mut response).await, wanted);
    running.end.send(ToolResult::text("流浪地球")).unwrap();
    let last = next(&mut response).await;
    let data = last.strip_prefix("event: result\ndata: ").unwrap();
    let content = json!([{"type": "text", "text": "流浪地球"}]);
    let wanted = json!({"success": true, "result": "流浪地球", "error": null, "content": content});
    assert_eq!(serde_json::from_str::<Value>(data).unwrap(), wanted);
    assert!(response.body_mut().frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_does_not_read_neither_stops_the_call_nor_loses_its_result() {
    let mut scene = scene(Setup::default());
    let mut response = scene.stream(&[]).await;
    let running = scene.begun().await;
    for step in 0..100_000 {
        running.progress(f64::from(step));
    }
    for line in 0..1000 {
        running.log(&format!("line {line}"));
    }
    running.end.send(ToolResult::error("out of paper")).unwrap();
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &String| !frame.starts_with("event: result")) {
        frames.push(next(&mut response).await);
    }
    assert!(frames[0].contains("744 log messages are left out"), "{}", frames[0]);
    assert_eq!(frames.len(), 1 + 256 + 1);
    assert!(frames[256].contains("line 999"));
    assert!(frames[257].contains("\"error\":\"out of paper\""), "{}", frames[257]);
    assert!(response.body_mut().frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_a_streamed_call() {
    let mut scene = scene(Setup::default());
    let response = scene.stream(&[]).await;
    let running = scene.begun().await;
    drop(response);
    let start = std::time::Instant::now();
    while scene.cancelled.load(Ordering::SeqCst) == 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "the call goes on");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(running.end.is_closed());
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken() {
    let server = ServerConfig { port: 0, keep_alive_ms: 1000, ..ServerConfig::default() };
    let mut scene = scene(Setup { server, ..Setup::default() });
    let mut response = scene.stream(&[]).await;
    let running = scene.begun().await;
    assert_eq!(next(&mut response).await, ": keep-alive\n\n");
    running.end.send(ToolResult::text("")).unwrap();
    assert!(next(&mut response).await.starts_with("event: result"));
}

#[tokio::test]
async fn a_refusal_is_a_status_with_a_stream_and_without() {
    let policies: Vec<Arc<dyn AuthPolicy>> = vec![Arc::new(Obedient::default())];
    let mut scene = scene(Setup { policies, ..Setup::default() });
    for (wish, status, words) in [
        ("tool 403", 403, "not today"),
        ("tool 404", 404, "not today"),
        ("tool 429", 429, "not today"),
        ("tool fail", 503, "the access policy `obedient` failed"),
        // Bob has the scope `plugins` and no other.
        ("endpoint operator", 403, "`tools:call`"),
    ] {
        for accept in ["application/json", "text/event-stream"] {
            let headers = [("x-test", wish), ("accept", accept)];
            let json = [("x-api-key", KEY), ("content-type", "application/json"), headers[0], headers[1]];
            let sent = request("POST", CALL, &json, r#"{"tool_name":"led"}"#);
            let (got, _, body) = read(send(&scene.app, sent).await).await;
            assert_eq!(got, status, "{wish} {accept}: {body}");
            assert!(body["detail"].as_str().unwrap().contains(words), "{wish} {accept}: {body}");
        }
    }
    assert!(scene.calls.try_recv().is_err(), "a refused call was made");
}

#[tokio::test]
async fn every_call_has_a_session_and_the_caller_of_its_own() {
    let mut scene = scene(Setup::default());
    let mut seen = Vec::new();
    for _ in 0..2 {
        let response = scene.stream(&[("x-request-id", "r-1")]).await;
        let Running { context, end } = scene.begun().await;
        assert_eq!((context.principal.id.as_str(), context.request_id.as_str()), ("key:static", "r-1"));
        seen.push((context.session_id.unwrap(), context.call_id));
        end.send(ToolResult::text("")).unwrap();
        drop(response);
    }
    assert!(seen[0].0 != seen[1].0 && seen[0].1 != seen[1].1, "{seen:?}");
}
