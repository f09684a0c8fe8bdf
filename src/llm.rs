//! The `llm` room: the port to language models, and what a failure of one means to the client.
//!
//! Adapters: OpenAI-compatible upstreams over HTTP and the built-in demo model. Streaming is the primitive; `complete`
//! exists because an upstream's whole body can be passed through untouched.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::domain::{Chunk, Completion, CompletionRequest, RequestId};

pub use self::config::{Config, ConfigError, ModelConfig, UnknownModel, UpstreamConfig};
pub use self::registry::{Models, UpstreamState};

mod config;
mod demo;
mod openai;
mod registry;
mod retry;
pub mod sse;
#[cfg(test)]
mod testing;

/// The chunks of one reply. Dropping it cancels the upstream request. It ends after the last chunk; an upstream that
/// ends without saying why it stopped yields an error instead.
pub type ChunkStream = Pin<Box<dyn Stream<Item = Result<Chunk, ModelError>> + Send>>;

/// A model that can be talked to: one model id, behind one or several upstreams.
#[async_trait]
pub trait ChatModel: Send + Sync {
    /// The whole reply to `request` (whose `stream` must be false).
    ///
    /// # Errors
    /// See [`ModelError`]; retries and failover have been tried.
    async fn complete(
        &self,
        request: &CompletionRequest,
        request_id: &RequestId,
    ) -> Result<Completion, ModelError>;

    /// The reply to `request` (whose `stream` must be true), chunk by chunk. Returns once the first chunk is here, so
    /// that a failure before it can still be a proper status; that first chunk is also the stream's first item.
    ///
    /// # Errors
    /// See [`ModelError`]; retries and failover have been tried.
    async fn stream(
        &self,
        request: &CompletionRequest,
        request_id: &RequestId,
    ) -> Result<ChunkStream, ModelError>;
}

/// Finds models by id.
#[async_trait]
pub trait ModelDirectory: Send + Sync {
    /// The model for what a client asked for; an empty `requested` means the default model.
    ///
    /// # Errors
    /// `model_not_found` (404) when there is none.
    async fn resolve(&self, requested: &str) -> Result<ResolvedModel, ModelError>;

    /// Every model that can be asked for, in configuration order, without duplicates.
    async fn list(&self) -> Vec<ModelInfo>;
}

/// A model and how the gateway talks to it.
#[derive(Clone)]
pub struct ResolvedModel {
    /// The id clients know it by.
    pub id: String,
    /// The ids it has at its upstreams: others than `id` where that is an alias. Access is decided on these.
    pub own_ids: Arc<[String]>,
    /// How tools are offered to it.
    pub tool_mode: ToolMode,
    /// Which gateway tools it is offered.
    pub tools: ToolChoice,
    /// The model itself.
    pub model: Arc<dyn ChatModel>,
}

/// How a model is told about tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolMode {
    /// By the API's own `tools` field.
    #[default]
    Native,
    /// By a description in the system prompt; calls are found in the reply's text.
    Text,
}

/// Which of the gateway's tools are offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// All of them.
    #[default]
    All,
    /// None.
    None,
    /// Those named.
    Only(Vec<String>),
}

/// One entry of `/v1/models`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// The model id.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// Seconds since the epoch; 0 where the upstream gives none.
    pub created: u64,
    /// Owner as the upstream names it, else the upstream's configured name.
    pub owned_by: String,
    /// The ids it has at its upstreams, see [`ResolvedModel::own_ids`]; empty: its id.
    #[serde(skip)]
    pub own_ids: Arc<[String]>,
}

/// A failure of a model, already in the terms the client is told: never a flattened status, never an internal detail.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// The HTTP status for the client, for example 400, 404, 429, 502, 503, 504.
    pub status: u16,
    /// Words for the client.
    pub message: String,
    /// OpenAI error `type`, for example `invalid_request_error` or `upstream_error`.
    pub kind: String,
    /// OpenAI error `param`, if one field is at fault.
    pub param: Option<String>,
    /// OpenAI error `code`, for example `model_not_found`.
    pub code: Option<String>,
    /// How long the client should wait before it tries again.
    pub retry_after: Option<Duration>,
    /// The upstream's own error object (the value of `error`), JSON text, where it may be passed on.
    pub upstream_error: Option<Bytes>,
}

impl ModelError {
    /// An error with a status, an OpenAI error type and words.
    pub fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            kind: kind.to_owned(),
            param: None,
            code: None,
            retry_after: None,
            upstream_error: None,
        }
    }

    /// No model of that id: 404 `model_not_found`.
    #[must_use]
    pub fn model_not_found(model: &str) -> Self {
        let message =
            format!("the model `{model}` does not exist; GET /v1/models lists the models there are");
        Self {
            param: Some("model".to_owned()),
            code: Some("model_not_found".to_owned()),
            ..Self::new(404, "invalid_request_error", message)
        }
    }

    /// The upstream misbehaved: 502.
    pub fn upstream(message: impl Into<String>) -> Self {
        Self::new(502, "upstream_error", message)
    }

    /// The upstream did not answer in time: 504.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "upstream_timeout", message)
    }
}
