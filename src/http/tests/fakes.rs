//! Scripted models, an empty session store, and an [`App`] made of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::sync::watch;

use crate::access::{Access, AuthPolicy, ChatAccess, FixedPolicies, PolicySet};
use crate::audit::AuditLog;
use crate::chat::ChatEngine;
use crate::config::secret::Secret;
use crate::domain::{Chunk, Completion, CompletionRequest, RawMessage, RequestId, SessionId};
use crate::http::{App, Component, CorsConfig, Health, LimitsConfig, Parts, Readiness, ServerConfig};
use crate::llm::{
    ChatModel, ChunkStream, ModelDirectory, ModelError, ModelInfo, ResolvedModel, ToolChoice, ToolMode,
};
use crate::sessions::{Session, SessionError, SessionPage, SessionStore};
use crate::toolbox::Toolbox;
use crate::tools::{ToolRegistry, ToolSource};

/// The key that `access.chat = "required"` asks for.
pub(super) const KEY: &str = "the-key";

/// What an [`App`] is made of; the defaults make one that answers.
pub(super) struct Setup {
    pub(super) access: ChatAccess,
    pub(super) has_key: bool,
    pub(super) policies: Vec<Arc<dyn AuthPolicy>>,
    pub(super) health: Health,
    pub(super) server: ServerConfig,
    pub(super) limits: LimitsConfig,
    pub(super) cors: CorsConfig,
    pub(super) tools_settled: watch::Receiver<bool>,
    pub(super) tools: Vec<Arc<dyn ToolSource>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            access: ChatAccess::Open,
            has_key: true,
            policies: Vec::new(),
            health: Health::Ready,
            server: ServerConfig { port: 0, ..ServerConfig::default() },
            limits: LimitsConfig::default(),
            cors: CorsConfig::default(),
            tools_settled: watch::channel(true).1,
            tools: Vec::new(),
        }
    }
}

impl Setup {
    /// The app, and a handle on its slow model.
    pub(super) fn build(self) -> (App, SlowModel) {
        let slow = SlowModel::default();
        let models = Arc::new(Models { slow: slow.clone() });
        let tools = Arc::new(ToolRegistry::new(crate::tools::Config::default(), self.tools));
        let toolbox = Toolbox::new(tools, AuditLog::none());
        let engine = ChatEngine::new(
            crate::chat::Config::default(),
            models,
            toolbox.clone(),
            Arc::new(NoSessions),
            Arc::new(crate::response::NoProcessors),
        );
        let access = crate::access::Config { chat: self.access, ..Default::default() };
        let key = self.has_key.then(|| Secret::new(KEY));
        let policies = PolicySet::new(self.policies, Vec::new());
        let app = App::new(Parts {
            engine,
            toolbox,
            accounts: None,
            audit: AuditLog::none(),
            mcp: crate::http::mcp::none(),
            access: Access::new(&access, key.as_ref(), Arc::new(FixedPolicies(Arc::new(policies)))),
            readiness: Arc::new(Ready(self.health)),
            plugins: crate::http::plugins::none(),
            tools_settled: self.tools_settled,
            server: self.server,
            limits: self.limits,
            cors: self.cors,
        });
        (app.unwrap(), slow)
    }
}

/// Models by id: `hello` (also the default) and `org/hello` answer, `limited` is rate limited, `cut` breaks off after
/// its first chunk, `panics` panics, `slow` waits until it is released, `flood` streams for ever.
struct Models {
    slow: SlowModel,
}

#[async_trait]
impl ModelDirectory for Models {
    async fn resolve(&self, requested: &str) -> Result<ResolvedModel, ModelError> {
        let model: Arc<dyn ChatModel> = match requested {
            "" | "hello" | "org/hello" => Arc::new(Hello),
            "limited" => Arc::new(Limited),
            "cut" => Arc::new(Cut),
            "panics" => panic!("a secret thought"),
            "flood" => Arc::new(Flood(self.slow.clone())),
            "slow" => Arc::new(self.slow.clone()),
            other => return Err(ModelError::model_not_found(other)),
        };
        let id = if requested.is_empty() { "hello" } else { requested };
        let (tool_mode, tools) = (ToolMode::Native, ToolChoice::All);
        Ok(ResolvedModel { id: id.to_owned(), own_ids: Arc::from([id.to_owned()]), tool_mode, tools, model })
    }

    async fn list(&self) -> Vec<ModelInfo> {
        let info = |id: &str| ModelInfo {
            id: id.to_owned(),
            object: "model",
            created: 1,
            owned_by: "me".into(),
            own_ids: Arc::default(),
        };
        vec![info("hello"), info("org/hello")]
    }
}

fn completion(text: &str) -> Completion {
    let message = json!({"role": "assistant", "content": text, "refusal": null});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop", "logprobs": null});
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "hello", "choices": [choice],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    });
    Completion::parse(Bytes::from(body.to_string())).unwrap()
}

fn chunk(delta: &serde_json::Value, finish_reason: Option<&str>) -> Chunk {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "hello", "choices": [choice],
    });
    Chunk::parse(Bytes::from(body.to_string())).unwrap()
}

/// The chunks of an answer that is `text`.
fn chunks(text: &str) -> Vec<Chunk> {
    vec![
        chunk(&json!({"role": "assistant", "content": ""}), None),
        chunk(&json!({ "content": text }), None),
        chunk(&json!({}), Some("stop")),
    ]
}

struct Hello;

#[async_trait]
impl ChatModel for Hello {
    async fn complete(&self, _: &CompletionRequest, _: &RequestId) -> Result<Completion, ModelError> {
        Ok(completion("hello"))
    }

    async fn stream(&self, _: &CompletionRequest, _: &RequestId) -> Result<ChunkStream, ModelError> {
        Ok(Box::pin(stream::iter(chunks("hello").into_iter().map(Ok))))
    }
}

struct Limited;

impl Limited {
    fn error() -> ModelError {
        let mut error = ModelError::new(429, "tokens", "slow down");
        error.retry_after = Some(Duration::from_secs(7));
        error.upstream_error = Some(Bytes::from_static(br#"{"message":"slow down","type":"tokens"}"#));
        error
    }
}

#[async_trait]
impl ChatModel for Limited {
    async fn complete(&self, _: &CompletionRequest, _: &RequestId) -> Result<Completion, ModelError> {
        Err(Self::error())
    }

    async fn stream(&self, _: &CompletionRequest, _: &RequestId) -> Result<ChunkStream, ModelError> {
        Err(Self::error())
    }
}

struct Cut;

#[async_trait]
impl ChatModel for Cut {
    async fn complete(&self, _: &CompletionRequest, _: &RequestId) -> Result<Completion, ModelError> {
        Err(ModelError::upstream("the upstream broke off"))
    }

    async fn stream(&self, _: &CompletionRequest, _: &RequestId) -> Result<ChunkStream, ModelError> {
        let first = chunks("hello").into_iter().take(2).map(Ok);
        let broken = stream::iter([Err(ModelError::upstream("the upstream broke off"))]);
        Ok(Box::pin(stream::iter(first).chain(broken)))
    }
}

/// Answers once it is released, and tells when a turn with it begins and ends.
#[derive(Clone)]
pub(super) struct SlowModel {
    released: watch::Sender<bool>,
    running: watch::Sender<usize>,
}

impl Default for SlowModel {
    fn default() -> Self {
        Self { released: watch::channel(false).0, running: watch::channel(0).0 }
    }
}

impl SlowModel {
    /// Lets every turn finish.
    pub(super) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Waits until `count` turns are running.
    pub(super) async fn wait_running(&self, count: usize) {
        let mut running = self.running.subscribe();
        let wait = running.wait_for(|running| *running == count);
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("in time").unwrap();
    }

    fn enter(&self) -> Running {
        self.running.send_modify(|running| *running += 1);
        Running(self.running.clone())
    }
}

/// Counts a turn as long as it lives.
struct Running(watch::Sender<usize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

#[async_trait]
impl ChatModel for SlowModel {
    async fn complete(&self, _: &CompletionRequest, _: &RequestId) -> Result<Completion, ModelError> {
        let _running = self.enter();
        self.released.subscribe().wait_for(|released| *released).await.unwrap();
        Ok(completion("at last"))
    }

    async fn stream(&self, _: &CompletionRequest, _: &RequestId) -> Result<ChunkStream, ModelError> {
        let (running, mut released) = (self.enter(), self.released.subscribe());
        let [first, rest @ ..] = &chunks("at last")[..] else { unreachable!() };
        let (first, rest) = (first.clone(), rest.to_vec());
        let later = stream::once(async move {
            let _running = running;
            released.wait_for(|released| *released).await.unwrap();
            stream::iter(rest.into_iter().map(Ok))
        });
        Ok(Box::pin(stream::iter([Ok(first)]).chain(later.flatten())))
    }
}

/// Never stops talking; counts among the slow model's turns.
struct Flood(SlowModel);

#[async_trait]
impl ChatModel for Flood {
    async fn complete(&self, _: &CompletionRequest, _: &RequestId) -> Result<Completion, ModelError> {
        Ok(completion(&"flood ".repeat(1_000_000)))
    }

    async fn stream(&self, _: &CompletionRequest, _: &RequestId) -> Result<ChunkStream, ModelError> {
        let running = self.0.enter();
        let text = "flood ".repeat(10_000);
        let chunks = stream::repeat_with(move || {
            let _ = &running;
            Ok(chunk(&json!({ "content": text }), None))
        });
        Ok(Box::pin(stream::iter(chunks_of_hello()).chain(chunks)))
    }
}

fn chunks_of_hello() -> Vec<Result<Chunk, ModelError>> {
    chunks("hello").into_iter().take(2).map(Ok).collect()
}

/// Keeps nothing.
struct NoSessions;

#[async_trait]
impl SessionStore for NoSessions {
    async fn load(&self, _: &SessionId, _: &str) -> Result<Option<Session>, SessionError> {
        Ok(None)
    }

    async fn append(
        &self,
        _: &SessionId,
        _: &str,
        version: u64,
        _: &[RawMessage],
    ) -> Result<u64, SessionError> {
        Ok(version + 1)
    }

    async fn delete(&self, _: &SessionId, _: &str) -> Result<bool, SessionError> {
        Ok(false)
    }

    async fn list(&self, _: &str, offset: u64, limit: u64) -> Result<SessionPage, SessionError> {
        // Shows what was asked for.
        Ok(SessionPage { sessions: Vec::new(), next_offset: Some(offset + limit) })
    }

    async fn purge_expired(&self) -> Result<u64, SessionError> {
        Ok(0)
    }
}

struct Ready(Health);

#[async_trait]
impl Readiness for Ready {
    async fn components(&self) -> BTreeMap<&'static str, Component> {
        let component = Component { status: self.0, detail: json!({"count": 1}) };
        BTreeMap::from([("models", component)])
    }
}
