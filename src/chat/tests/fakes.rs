//! A scripted model, two tools and an engine around them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::access::AccessScope;
use crate::audit::AuditLog;
use crate::chat::{ChatEngine, Config, TurnContext};
use crate::domain::{
    Chunk, Completion, CompletionRequest, Principal, RequestId, ToolContext, ToolDefinition, ToolError,
    ToolResult,
};
use crate::llm::{
    ChatModel, ChunkStream, ModelDirectory, ModelError, ModelInfo, ResolvedModel, ToolChoice, ToolMode,
};
use crate::response::{ProcessorSource, ResponseProcessor};
use crate::sessions::memory::MemoryStore;
use crate::toolbox::Toolbox;
use crate::tools::{Tool, ToolRegistry, ToolSource};

/// One scripted reply.
pub(super) enum Reply {
    /// A body.
    Whole(String),
    /// The chunks' JSON texts.
    Stream(Vec<String>),
}

impl Reply {
    pub(super) fn whole(message: &Value, finish_reason: &str) -> Self {
        let choice =
            json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason});
        let body = json!({"id": "x", "object": "chat.completion", "created": 1, "model": "up", "choices": [choice],
            "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}});
        Self::Whole(body.to_string())
    }

    /// A stream of these choices, one a chunk, and a usage chunk.
    pub(super) fn stream(choices: &[Value]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = format!("up-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let chunk = |choices: Value, usage: Value| {
            json!({"id": id, "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": choices, "usage": usage})
                .to_string()
        };
        let mut chunks: Vec<String> = choices
            .iter()
            .map(|choice| {
                let mut choice = choice.clone();
                let fields = choice.as_object_mut().unwrap();
                fields.entry("index").or_insert(json!(0));
                fields.entry("finish_reason").or_insert(Value::Null);
                chunk(json!([choice]), Value::Null)
            })
            .collect();
        chunks.push(chunk(json!([]), json!({"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3})));
        Self::Stream(chunks)
    }

    /// A streamed text with a role of its own.
    pub(super) fn text(text: &str) -> Self {
        Self::stream(&[
            json!({"delta": {"role": "assistant", "content": ""}}),
            json!({"delta": {"content": text}}),
            json!({"delta": {}, "finish_reason": "stop"}),
        ])
    }
}

#[derive(Default)]
struct ScriptedModel {
    replies: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<Value>>,
    unread_chunks: Arc<AtomicUsize>,
}

impl ScriptedModel {
    fn next(&self, request: &CompletionRequest) -> Reply {
        let body = serde_json::from_slice(&request.encode("up")).unwrap();
        self.requests.lock().unwrap().push(body);
        self.replies.lock().unwrap().pop_front().expect("a scripted reply")
    }
}

#[async_trait]
impl ChatModel for ScriptedModel {
    async fn complete(&self, request: &CompletionRequest, _: &RequestId) -> Result<Completion, ModelError> {
        let Reply::Whole(body) = self.next(request) else { panic!("a whole reply was asked for") };
        // Lets concurrent turns interleave, if nothing keeps them apart.
        tokio::task::yield_now().await;
        Ok(Completion::parse(Bytes::from(body)).unwrap())
    }

    async fn stream(&self, request: &CompletionRequest, _: &RequestId) -> Result<ChunkStream, ModelError> {
        let Reply::Stream(chunks) = self.next(request) else { panic!("a stream was asked for") };
        let unread = Arc::clone(&self.unread_chunks);
        unread.store(chunks.len(), Ordering::SeqCst);
        Ok(Box::pin(stream::iter(chunks.into_iter().map(move |json| {
            unread.fetch_sub(1, Ordering::SeqCst);
            Ok(Chunk::parse(Bytes::from(json)).unwrap())
        }))))
    }
}

struct Directory {
    model: Arc<ScriptedModel>,
    tool_mode: ToolMode,
}

#[async_trait]
impl ModelDirectory for Directory {
    async fn resolve(&self, _: &str) -> Result<ResolvedModel, ModelError> {
        let model: Arc<dyn ChatModel> = self.model.clone();
        Ok(ResolvedModel {
            id: "m".to_owned(),
            own_ids: Arc::from(["m".to_owned()]),
            tool_mode: self.tool_mode,
            tools: ToolChoice::All,
            model,
        })
    }

    async fn list(&self) -> Vec<ModelInfo> {
        Vec::new()
    }
}

struct FakeTool {
    definition: ToolDefinition,
    running: Arc<AtomicUsize>,
}

/// Counts a running call, also when the call is dropped.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Tool for FakeTool {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    async fn call(&self, arguments: Map<String, Value>, _: &ToolContext) -> Result<ToolResult, ToolError> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(Arc::clone(&self.running));
        if self.definition.name == "hang" {
            std::future::pending::<()>().await;
        }
        Ok(ToolResult::text(arguments.get("text").and_then(Value::as_str).unwrap_or_default()))
    }
}

struct FakeSource {
    tools: Vec<Arc<dyn Tool>>,
    changes: watch::Sender<u64>,
}

impl ToolSource for FakeSource {
    fn name(&self) -> &str {
        "fake"
    }

    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        self.tools.clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct Processors(Arc<[Arc<dyn ResponseProcessor>]>);

impl ProcessorSource for Processors {
    fn snapshot(&self) -> Arc<[Arc<dyn ResponseProcessor>]> {
        Arc::clone(&self.0)
    }
}

/// An engine on a scripted model with the tools `echo` and `hang`.
pub(super) struct Stage {
    pub(super) engine: ChatEngine,
    model: Arc<ScriptedModel>,
    tool_mode: ToolMode,
    running: Arc<AtomicUsize>,
}

impl Stage {
    pub(super) fn new(replies: Vec<Reply>) -> Self {
        let model =
            Arc::new(ScriptedModel { replies: Mutex::new(replies.into()), ..ScriptedModel::default() });
        Self::on(model, ToolMode::Native, Vec::new())
    }

    pub(super) fn with_tool_mode(self, tool_mode: ToolMode) -> Self {
        Self::on(self.model, tool_mode, Vec::new())
    }

    /// The same with processors of replies.
    pub(super) fn with_processors(self, processors: Vec<Arc<dyn ResponseProcessor>>) -> Self {
        Self::on(self.model, self.tool_mode, processors)
    }

    fn on(
        model: Arc<ScriptedModel>,
        tool_mode: ToolMode,
        processors: Vec<Arc<dyn ResponseProcessor>>,
    ) -> Self {
        let running = Arc::new(AtomicUsize::new(0));
        let tool = |name: &str| -> Arc<dyn Tool> {
            let definition = ToolDefinition {
                name: name.to_owned(),
                title: None,
                description: format!("does {name}"),
                input_schema: json!({"type": "object", "properties": {"text": {"type": "string"}}}),
                output_schema: None,
                annotations: crate::domain::ToolAnnotations::default(),
                server: Some("fake".to_owned()),
            };
            Arc::new(FakeTool { definition, running: Arc::clone(&running) })
        };
        let source = FakeSource { tools: vec![tool("echo"), tool("hang")], changes: watch::channel(0).0 };
        let registry = ToolRegistry::new(crate::tools::Config::default(), vec![Arc::new(source)]);
        let directory = Directory { model: Arc::clone(&model), tool_mode };
        let sessions = MemoryStore::new(crate::sessions::Config::default());
        let engine = ChatEngine::new(
            Config::default(),
            Arc::new(directory),
            Toolbox::new(Arc::new(registry), AuditLog::none()),
            Arc::new(sessions),
            Arc::new(Processors(processors.into())),
        );
        Self { engine, model, tool_mode, running }
    }

    pub(super) fn context() -> TurnContext {
        let access = AccessScope::unrestricted(RequestId::generate(), Principal::anonymous());
        TurnContext::new(access, ToolChoice::All).at("/v1/chat/completions")
    }

    /// The body of the nth request the model got.
    pub(super) fn request(&self, position: usize) -> Value {
        self.model.requests.lock().unwrap()[position].clone()
    }

    /// Chunks of the latest stream that nobody has read.
    pub(super) fn unread_chunks(&self) -> usize {
        self.model.unread_chunks.load(Ordering::SeqCst)
    }

    pub(super) fn running_tools(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}
