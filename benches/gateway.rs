//! Benchmarks of the hot paths: `cargo bench`. Each prints beside it what the work cannot be cheaper than (a copy, a
//! bare parse), so that a ratio can be read off one run.

#![expect(clippy::expect_used, reason = "a benchmark whose set-up fails has nothing to measure")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use tower::ServiceExt;
use witgate::access::{Access, AccessScope, FixedPolicies};
use witgate::audit::AuditLog;
use witgate::chat::{ChatEngine, Config, ReplyEvent, TurnContext};
use witgate::domain::{Chunk, Completion, CompletionRequest, Principal, RequestId};
use witgate::http::{App, Component, Parts, Readiness};
use witgate::llm::sse::Decoder;
use witgate::llm::{
    ChatModel, ChunkStream, ModelDirectory, ModelError, ModelInfo, ResolvedModel, ToolChoice, ToolMode,
};
use witgate::response::NoProcessors;
use witgate::sessions::memory::MemoryStore;
use witgate::toolbox::Toolbox;
use witgate::tools::ToolRegistry;

/// Chunks of one streamed reply.
const CHUNKS: usize = 1000;

const BODY: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there, how can I help?","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":8,"total_tokens":17}}"#;

fn main() {
    divan::main();
}

/// A model that answers at once: what is measured is the gateway's own work.
struct NoOp;

fn chunk(position: usize) -> Bytes {
    let choice = match position {
        0 => r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}"#,
        last if last == CHUNKS - 1 => r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}"#,
        _ => r#"{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}"#,
    };
    Bytes::from(format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp","choices":[{choice}]}}"#
    ))
}

#[async_trait]
impl ChatModel for NoOp {
    async fn complete(&self, request: &CompletionRequest, _: &RequestId) -> Result<Completion, ModelError> {
        // An upstream adapter encodes the request and parses the reply; both belong to the turn's cost.
        black_box(request.encode("m"));
        Completion::parse(Bytes::from_static(BODY.as_bytes()))
            .map_err(|e| ModelError::upstream(e.to_string()))
    }

    async fn stream(&self, request: &CompletionRequest, _: &RequestId) -> Result<ChunkStream, ModelError> {
        black_box(request.encode("m"));
        let parse = |position| Chunk::parse(chunk(position)).map_err(|e| ModelError::upstream(e.to_string()));
        Ok(Box::pin(stream::iter((0..CHUNKS).map(parse))))
    }
}

struct Directory(Arc<NoOp>);

#[async_trait]
impl ModelDirectory for Directory {
    async fn resolve(&self, _: &str) -> Result<ResolvedModel, ModelError> {
        let model: Arc<dyn ChatModel> = self.0.clone();
        Ok(ResolvedModel {
            id: "m".to_owned(),
            own_ids: Arc::from(["m".to_owned()]),
            tool_mode: ToolMode::Native,
            tools: ToolChoice::All,
            model,
        })
    }

    async fn list(&self) -> Vec<ModelInfo> {
        Vec::new()
    }
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    toolbox: Toolbox,
    engine: ChatEngine,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (engine, toolbox) = runtime.block_on(async {
            let tools = Arc::new(ToolRegistry::new(witgate::tools::Config::default(), Vec::new()));
            let toolbox = Toolbox::new(tools, AuditLog::none());
            let engine = ChatEngine::new(
                Config::default(),
                Arc::new(Directory(Arc::new(NoOp))),
                toolbox.clone(),
                Arc::new(MemoryStore::new(witgate::sessions::Config::default())),
                Arc::new(NoProcessors),
            );
            (engine, toolbox)
        });
        Self { runtime, toolbox, engine }
    }
}

fn context() -> TurnContext {
    let access = AccessScope::unrestricted(RequestId::generate(), Principal::anonymous());
    TurnContext::new(access, ToolChoice::All)
}

/// A request body with about `bytes` of prompt.
fn body(bytes: usize, stream: bool) -> Bytes {
    let text = "Tell me about the weather in Paris, please. ".repeat(bytes / 44 + 1);
    Bytes::from(format!(
        r#"{{"model":"m","messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{text}"}}],"temperature":0.7,"stream":{stream}}}"#
    ))
}

/// A whole turn: parse the request, run the loop, encode for the upstream, parse its reply.
#[divan::bench(args = [1_000, 100_000, 1_000_000])]
fn turn_whole(bencher: Bencher<'_, '_>, prompt_bytes: usize) {
    let bench = Bench::new();
    let body = body(prompt_bytes, false);
    bencher.counter(BytesCount::new(body.len())).bench_local(|| {
        let request = CompletionRequest::parse(&body).expect("a request");
        bench.runtime.block_on(bench.engine.complete(request, context())).expect("a reply")
    });
}

/// The floor under `turn_whole`: one copy of the body.
#[divan::bench(args = [1_000, 100_000, 1_000_000])]
fn copy_of_the_body(bencher: Bencher<'_, '_>, prompt_bytes: usize) {
    let body = body(prompt_bytes, false);
    bencher.counter(BytesCount::new(body.len())).bench_local(|| black_box(body.to_vec()));
}

/// A streamed turn of 1000 chunks; time per item is time per chunk, the upstream chunk's own parse included.
#[divan::bench]
fn turn_streamed(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    let body = body(1_000, true);
    bencher.counter(ItemsCount::new(CHUNKS)).bench_local(|| {
        let request = CompletionRequest::parse(&body).expect("a request");
        bench.runtime.block_on(async {
            let mut stream = bench.engine.stream(request, context()).await.expect("a stream");
            let mut bytes = 0;
            while let Some(event) = stream.next().await {
                if let ReplyEvent::Chunk(chunk) = event.expect("an event") {
                    bytes += chunk.json.len();
                }
            }
            bytes
        })
    });
}

/// The floor under `turn_streamed`: making and parsing the same chunks.
#[divan::bench]
fn parse_of_the_chunks(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(CHUNKS)).bench_local(|| {
        (0..CHUNKS)
            .map(|position| Chunk::parse(chunk(position)).expect("a chunk").choices.len())
            .sum::<usize>()
    });
}

struct NoComponents;

#[async_trait]
impl Readiness for NoComponents {
    async fn components(&self) -> BTreeMap<&'static str, Component> {
        BTreeMap::new()
    }
}

impl Bench {
    /// Sends a body through the router with all its layers and reads the reply to its end; returns its length.
    fn post(&self, router: &axum::Router, body: Bytes) -> usize {
        let request = http::Request::post("/v1/chat/completions")
            .header("content-type", "application/json")
            .body(axum::body::Body::from(body))
            .expect("a request");
        self.runtime.block_on(async {
            let reply = router.clone().oneshot(request).await.expect("a reply");
            assert!(reply.status().is_success(), "{}", reply.status());
            reply.into_body().collect().await.expect("a body").to_bytes().len()
        })
    }

    fn router(&self) -> axum::Router {
        let parts = Parts {
            engine: self.engine.clone(),
            toolbox: self.toolbox.clone(),
            mcp: witgate::http::mcp::none(),
            access: Access::new(
                &witgate::access::Config::default(),
                None,
                Arc::new(FixedPolicies::default()),
            ),
            accounts: None,
            audit: AuditLog::none(),
            readiness: Arc::new(NoComponents),
            plugins: witgate::http::plugins::none(),
            tools_settled: tokio::sync::watch::channel(true).1,
            server: witgate::http::ServerConfig::default(),
            limits: witgate::http::LimitsConfig::default(),
            cors: witgate::http::CorsConfig::default(),
        };
        witgate::http::router(&App::new(parts).expect("an app"))
    }
}

/// A whole request through every layer of the HTTP edge.
#[divan::bench]
fn http_whole(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    let (router, body) = (bench.router(), body(1_000, false));
    bencher.bench_local(|| bench.post(&router, body.clone()));
}

/// A streamed request of 1000 chunks through every layer, SSE encoding included; time per item is time per chunk.
#[divan::bench]
fn http_streamed(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    let (router, body) = (bench.router(), body(1_000, true));
    bencher.counter(ItemsCount::new(CHUNKS)).bench_local(|| bench.post(&router, body.clone()));
}

/// SSE decoding of the same 1000 chunks, in network buffers of this many bytes.
#[divan::bench(args = [64, 1_400, 16_384])]
fn sse_decode(bencher: Bencher<'_, '_>, buffer: usize) {
    let mut text = Vec::new();
    for position in 0..CHUNKS {
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(&chunk(position));
        text.extend_from_slice(b"\n\n");
    }
    let text = Bytes::from(text);
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        let mut decoder = Decoder::new(1 << 20);
        let mut events = 0;
        for start in (0..text.len()).step_by(buffer) {
            decoder.push(text.slice(start..text.len().min(start + buffer)));
            while decoder.next_event().expect("small events").is_some() {
                events += 1;
            }
        }
        assert_eq!(events, CHUNKS);
    });
}
