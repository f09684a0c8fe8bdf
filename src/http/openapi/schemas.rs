//! The shapes of bodies as the document shows them.
//!
//! Types of other rooms have their shape told a second time here, since only this room knows OpenAPI; the tests of the API
//! compare what is sent with it. Objects that clients or upstreams may extend are open.

#![allow(dead_code, reason = "these types are read by the derive and never made")]

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Every error outside of `/v1`.
#[derive(ToSchema)]
#[schema(example = json!({"detail": "the API key or access token is not valid"}))]
pub(in crate::http) struct ErrorDetail {
    /// What is wrong, and what to do.
    detail: String,
}

/// Every error under `/v1`, in the form of the OpenAI API.
#[derive(ToSchema)]
pub(in crate::http) struct OpenAiError {
    error: OpenAiErrorObject,
}

#[derive(ToSchema)]
pub(in crate::http) struct OpenAiErrorObject {
    /// What is wrong, and what to do.
    message: String,
    #[schema(required)]
    r#type: Option<String>,
    /// The field or header at fault.
    #[schema(required)]
    param: Option<String>,
    /// A short name for programs; an upstream may send a number.
    #[schema(required)]
    code: Value,
}

/// A tool.
#[derive(ToSchema)]
#[schema(example = json!({
    "name": "read_query", "description": "Execute a SELECT query", "server": "sqlite",
    "inputSchema": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}))]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct ToolDefinition {
    /// Its canonical name.
    name: String,
    title: Option<String>,
    description: String,
    /// JSON Schema of the arguments.
    #[schema(value_type = Object)]
    input_schema: Map<String, Value>,
    /// JSON Schema of `structuredContent`.
    output_schema: Option<Value>,
    annotations: Option<ToolAnnotations>,
    /// The MCP server or plugin it comes from.
    server: Option<String>,
}

/// What a tool says of itself: hints, not guarantees.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct ToolAnnotations {
    read_only_hint: Option<bool>,
    destructive_hint: Option<bool>,
    idempotent_hint: Option<bool>,
    open_world_hint: Option<bool>,
}

/// A call.
#[derive(ToSchema)]
#[schema(example = json!({"tool_name": "read_query", "arguments": {"query": "SELECT 1"}}))]
pub(in crate::http) struct CallRequest {
    /// The tool's canonical name, or `server__tool`.
    #[schema(min_length = 1)]
    tool_name: String,
    /// `{}` where it is not there.
    #[schema(value_type = Option<Object>)]
    arguments: Option<Map<String, Value>>,
}

/// How a call went.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[schema(example = json!({
    "success": true, "result": "[{\"1\": 1}]", "error": null, "content": [{"type": "text", "text": "[{\"1\": 1}]"}],
}))]
pub(in crate::http) struct CallAnswer {
    /// Whether the tool did what it was asked.
    success: bool,
    /// The result as text; null where the call failed.
    #[schema(required)]
    result: Option<String>,
    /// Why it failed; null where it did not.
    #[schema(required)]
    error: Option<String>,
    /// The result's blocks as in MCP, whenever the tool answered.
    content: Option<Vec<ContentBlock>>,
    /// The structured result, where the tool gives one.
    structured_content: Option<Value>,
}

/// One piece of a result: `text`, `image`, `audio`, `resource` or `resource_link`, with the fields of that kind.
#[derive(ToSchema)]
pub(in crate::http) struct ContentBlock {
    r#type: String,
    text: Option<String>,
    data: Option<String>,
    #[schema(rename = "mimeType")]
    mime_type: Option<String>,
    resource: Option<Value>,
    uri: Option<String>,
    name: Option<String>,
}

/// A message to the simple chat API.
#[derive(ToSchema)]
#[schema(example = json!({"message": "Which tables are there?"}))]
pub(in crate::http) struct ChatRequest {
    #[schema(min_length = 1, pattern = "\\S")]
    message: String,
    /// The session to go on with; a new one where it is not there.
    session_id: Option<String>,
    /// The default model where it is not there.
    model: Option<String>,
    /// Whether to stream the answer.
    stream: Option<bool>,
}

/// An answer of the simple chat API.
#[derive(ToSchema)]
pub(in crate::http) struct ChatReply {
    response: String,
    session_id: String,
}

/// A page of sessions.
#[derive(ToSchema)]
pub(in crate::http) struct SessionPage {
    sessions: Vec<SessionSummary>,
    /// Where the next page begins; null on the last one.
    #[schema(required)]
    next_offset: Option<u64>,
}

/// A session.
#[derive(ToSchema)]
pub(in crate::http) struct SessionSummary {
    session_id: String,
    /// Start, in milliseconds since the epoch.
    created_ms: u64,
    /// Last turn, in milliseconds since the epoch.
    updated_ms: u64,
    turns: u64,
}

/// A session with its messages.
#[derive(ToSchema)]
pub(in crate::http) struct SessionTranscript {
    session_id: String,
    created_ms: u64,
    updated_ms: u64,
    turns: u64,
    /// As the model was sent them.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
}

/// The models.
#[derive(ToSchema)]
pub(in crate::http) struct ModelList {
    object: String,
    data: Vec<Model>,
}

/// A model.
#[derive(ToSchema)]
pub(in crate::http) struct Model {
    id: String,
    object: String,
    created: u64,
    owned_by: String,
}

/// A request for a chat completion as in the OpenAI API. Whatever else is in it goes to the model.
#[derive(ToSchema)]
#[schema(example = json!({"model": "", "messages": [{"role": "user", "content": "Hello"}]}))]
pub(in crate::http) struct CompletionRequest {
    /// The default model where it is empty or not there.
    model: Option<String>,
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    /// Whether to stream the reply.
    stream: Option<bool>,
}

/// A message as in the OpenAI API.
#[derive(ToSchema)]
pub(in crate::http) struct Message {
    /// `system`, `developer`, `user`, `assistant`, `tool`, or what else the model knows.
    role: String,
    /// Text, or a list of parts.
    content: Option<Value>,
}

/// A chat completion as in the OpenAI API.
#[derive(ToSchema)]
pub(in crate::http) struct Completion {
    id: String,
    object: String,
    created: u64,
    model: String,
    #[schema(value_type = Vec<Object>)]
    choices: Vec<Value>,
    usage: Option<Value>,
}

/// The plugins as their operator sees them.
#[derive(ToSchema)]
pub(in crate::http) struct PluginList {
    /// The generation that serves.
    generation: u64,
    plugins: Vec<Plugin>,
    /// What else there is to know of the folder.
    warnings: Vec<String>,
}

/// A plugin: state, grants, calls, times, memory.
#[derive(ToSchema)]
pub(in crate::http) struct Plugin {
    name: String,
    state: String,
    /// What is wrong, one fault a line.
    error: Option<String>,
    exports: Vec<String>,
    version: Option<String>,
    description: Option<String>,
    sha256: Option<String>,
    loaded_ms: Option<u64>,
    grants: PluginGrants,
    circuit_open: bool,
    calls: u64,
    running: u64,
    errors: BTreeMap<String, u64>,
    p50_us: u64,
    p99_us: u64,
    memory_high_water_bytes: u64,
}

/// What the operator grants a plugin; names of secrets, never values.
#[derive(ToSchema)]
pub(in crate::http) struct PluginGrants {
    network: Vec<String>,
    files: Vec<String>,
    env: Vec<String>,
    secrets: Vec<String>,
    headers: Vec<String>,
}

/// What a look at the folder came to.
#[derive(ToSchema)]
pub(in crate::http) struct ReloadReport {
    generation: u64,
    #[schema(value_type = Vec<Object>)]
    plugins: Vec<Value>,
    warnings: Vec<String>,
}

/// Name, version, links.
#[derive(ToSchema)]
pub(in crate::http) struct Welcome {
    name: String,
    version: String,
    message: String,
    links: BTreeMap<String, String>,
}

/// The process answers.
#[derive(ToSchema)]
pub(in crate::http) struct Alive {
    status: String,
}

/// How the gateway and its parts are.
#[derive(ToSchema)]
pub(in crate::http) struct ReadinessReport {
    /// `ready`, `degraded`, `unavailable` or `draining`.
    status: String,
    /// Requests being worked on.
    in_flight: u64,
    /// Each part with its `status` and what explains it.
    #[schema(value_type = Object)]
    components: Map<String, Value>,
}
