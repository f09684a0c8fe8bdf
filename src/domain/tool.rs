//! Tools: what they are called and take, one call of them, and what comes back.
//!
//! Shapes follow the Model Context Protocol (`Tool`, `CallToolResult`, `ContentBlock`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ids::{RequestId, SessionId};
use super::principal::Principal;

/// The longest message of an error, in bytes: enough for any explanation, and little for a conversation.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// A tool as its server describes it. `name` is the canonical name in the gateway's registry.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolDefinition {
    /// Name callers use; matches `^[a-zA-Z0-9_-]{1,64}$` once registered.
    pub name: String,
    /// Human-readable title, if the server gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What the tool does, for people and models.
    pub description: String,
    /// JSON Schema of the arguments object.
    pub input_schema: Value,
    /// JSON Schema of `structuredContent`, if the server gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// The server's hints about the tool's behaviour.
    #[serde(skip_serializing_if = "ToolAnnotations::is_empty")]
    pub annotations: ToolAnnotations,
    /// Name of the server (or plugin) that provides the tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// MCP tool annotations: hints, not guarantees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolAnnotations {
    /// The tool does not modify its environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_hint: Option<bool>,
    /// The tool may perform destructive updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destructive_hint: Option<bool>,
    /// Calling it again with the same arguments has no additional effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent_hint: Option<bool>,
    /// The tool talks to an open world of external entities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_world_hint: Option<bool>,
}

impl ToolAnnotations {
    /// True when the server gave no hint at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True when a second try cannot do harm: the tool says it is read-only or idempotent.
    #[must_use]
    pub fn safe_to_repeat(&self) -> bool {
        self.read_only_hint == Some(true) || self.idempotent_hint == Some(true)
    }
}

/// A model's wish to call a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolCall {
    /// The call's id, echoed in the tool message that answers it.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// Arguments as the model wrote them: JSON text, not yet checked.
    pub arguments: String,
}

/// On whose behalf and within what a tool call runs.
#[derive(Clone, Debug)]
pub struct ToolContext {
    /// Who is asking.
    pub principal: Principal,
    /// The request that caused the call.
    pub request_id: RequestId,
    /// The session the call belongs to, if any.
    pub session_id: Option<SessionId>,
    /// Id of this call, for logs.
    pub call_id: String,
    /// Who is told how the call gets on.
    pub progress: ProgressListener,
}

/// What a tool tells while a call of it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToolProgress {
    /// How far it is.
    Progress {
        /// Grows with every message; its unit is the tool's own.
        progress: f64,
        /// What `progress` will be at the end, where the tool knows.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<f64>,
        /// In words.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// A line of the tool's log.
    Log {
        /// One of the levels of RFC 5424 in lower case: `debug` to `emergency`.
        level: String,
        /// The part of the server that speaks, where it says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        logger: Option<String>,
        /// What it says: text or any other JSON.
        data: Value,
    },
}

/// Is told how a call gets on, in order; by default nobody listens.
#[derive(Clone, Default)]
pub struct ProgressListener(Option<Arc<dyn Fn(ToolProgress) + Send + Sync>>);

impl ProgressListener {
    /// A listener. `tell` is called on the way of the call's own messages, so it must not block.
    pub fn new(tell: impl Fn(ToolProgress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// True when somebody listens: only then a server is asked to tell.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.0.is_some()
    }

    /// Tells whoever listens.
    pub fn tell(&self, progress: ToolProgress) {
        if let Some(tell) = &self.0 {
            tell(progress);
        }
    }
}

impl fmt::Debug for ProgressListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProgressListener").field(&self.is_listening()).finish()
    }
}

/// One piece of a tool's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// An image, base64 encoded.
    Image {
        /// Base64 data.
        data: String,
        /// Media type, for example `image/png`.
        #[serde(rename = "mimeType")]
        mime_type: String,
    },
    /// A sound, base64 encoded.
    Audio {
        /// Base64 data.
        data: String,
        /// Media type, for example `audio/wav`.
        #[serde(rename = "mimeType")]
        mime_type: String,
    },
    /// An embedded resource: the MCP `resource` object (`uri`, `mimeType`, and `text` or `blob`).
    Resource {
        /// The resource's contents as the server sent them.
        resource: Value,
    },
    /// A link to a resource.
    ResourceLink {
        /// Where it is.
        uri: String,
        /// What it is called.
        name: String,
        /// What it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// Its media type.
        #[serde(rename = "mimeType", skip_serializing_if = "Option::is_none")]
        mime_type: Option<String>,
    },
}

impl ContentBlock {
    /// A text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// What a tool answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolResult {
    /// The content blocks in the tool's order.
    pub content: Vec<ContentBlock>,
    /// The structured result, if the tool gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    /// True when the tool itself says that it failed.
    pub is_error: bool,
}

impl ToolResult {
    /// A successful result of one text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: vec![ContentBlock::text(text)], ..Self::default() }
    }

    /// A failure told in one text.
    pub fn error(text: impl Into<String>) -> Self {
        Self { content: vec![ContentBlock::text(text)], structured_content: None, is_error: true }
    }

    /// The result as text for a model or a terminal: text blocks as they are, everything else named in brackets,
    /// the structured content only where there is no other content.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for block in &self.content {
            if !out.is_empty() {
                out.push('\n');
            }
            match block {
                ContentBlock::Text { text } => out.push_str(text),
                ContentBlock::Image { mime_type, .. } => out.push_str(&format!("[image {mime_type}]")),
                ContentBlock::Audio { mime_type, .. } => out.push_str(&format!("[audio {mime_type}]")),
                ContentBlock::Resource { resource } => match resource.get("text").and_then(Value::as_str) {
                    Some(text) => out.push_str(text),
                    None => out.push_str(&format!("[resource {}]", resource_label(resource))),
                },
                ContentBlock::ResourceLink { uri, name, .. } => {
                    out.push_str(&format!("[resource link {name}: {uri}]"));
                }
            }
        }
        if let (true, Some(structured)) = (out.is_empty(), &self.structured_content) {
            out = structured.to_string();
        }
        out
    }
}

fn resource_label(resource: &Value) -> String {
    let field = |name: &str| resource.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", field("uri"), field("mimeType")).trim().to_owned()
}

/// Why a tool call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// What kind of failure it was.
    pub kind: ToolErrorKind,
    /// What happened, in words for the model and the caller.
    pub message: String,
}

/// Failures by what a caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolErrorKind {
    /// No such tool (or not for this caller).
    NotFound,
    /// The arguments do not fit the tool's schema; nothing was sent.
    InvalidArguments,
    /// The server could not be reached; nothing was sent, so trying again is safe.
    NotSent,
    /// The server went away or answered with an error after the request was sent.
    Failed,
    /// No answer in time.
    Timeout,
}

impl ToolError {
    /// An error of `kind` with its words, the beginning of them where they are very many: they may be a server's own.
    pub fn new(kind: ToolErrorKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
            message.push_str("... (cut here)");
        }
        Self { kind, message }
    }

    /// No tool of that name.
    #[must_use]
    pub fn not_found(name: &str) -> Self {
        Self::new(ToolErrorKind::NotFound, format!("there is no tool named `{name}`"))
    }

    /// The tool did not answer within `limit`.
    #[must_use]
    pub fn timeout(name: &str, limit: Duration) -> Self {
        let message =
            format!("tool `{name}` gave no answer within {} ms and was cancelled", limit.as_millis());
        Self::new(ToolErrorKind::Timeout, message)
    }
}
