//! The OpenAI-compatible API: `/v1/models` and `/v1/chat/completions`.
//!
//! Streams are `data:` lines and comments only: `event`, `id` and `retry` lines make SDKs fail.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::extract::{JsonBody, PathId, WantedTools, wants_events};
use super::health::{json_bytes, json_response};
use super::openapi::schemas;
use super::sse::{self, Encoder};
use super::state::App;
use super::tool_events::{CallEvent, ResultEvent};
use crate::chat::{ReplyEvent, TurnContext};
use crate::domain::{Chunk, CompletionRequest};
use crate::llm::ModelError;

const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// The models of all upstreams
#[utoipa::path(
    get, path = "/v1/models", tag = "openai", operation_id = "listModels",
    responses((status = 200, description = "the models", body = schemas::ModelList))
)]
pub(super) async fn list_models(State(app): State<App>, caller: Caller) -> Response {
    let models = app.engine().models(caller.scope()).await;
    json_response(&json!({"object": "list", "data": models}))
}

/// One model
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "openai", operation_id = "getModel",
    params(("id" = String, Path, description = "the model's id; it may contain slashes")),
    responses((status = 200, description = "the model", body = schemas::Model))
)]
pub(super) async fn get_model(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let model = app.engine().model(caller.scope(), &id).await;
    model.map(|model| json_response(&model)).ok_or_else(|| ModelError::model_not_found(&id).into())
}

/// Create a chat completion
///
/// As in the OpenAI API; fields that are not listed go to the model. With `stream: true` the reply is a stream of chunks
/// that ends with `data: [DONE]`.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai", operation_id = "createChatCompletion",
    request_body = schemas::CompletionRequest,
    params(
        ("x-gateway-tools" = Option<String>, Header, description = "the gateway's tools to use: `none`, `all` or names"),
        ("x-gateway-events" = Option<String>, Header, description = "`1` shows tool calls as chunks of their own"),
    ),
    responses(
        (status = 200, description = "the reply", content(
            (schemas::Completion = "application/json"), ("text/event-stream"),
        )),
        (status = "4XX", description = "what the upstream refuses", body = schemas::OpenAiError),
        (status = 502, description = "the upstream failed, or the model gave nothing usable", body = schemas::OpenAiError),
        (status = 504, description = "the upstream, or the whole turn, took too long", body = schemas::OpenAiError),
    )
)]
pub(super) async fn completions(
    State(app): State<App>,
    caller: Caller,
    WantedTools(tools): WantedTools,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = CompletionRequest::parse(&body)?;
    app.tools_settled(&tools).await;
    let context = caller.turn(tools);
    if request.stream {
        return stream(&app, request, context, wants_events(&headers)).await;
    }
    let reply = Box::pin(app.engine().complete(request, context)).await?;
    Ok(json_bytes(reply.body))
}

async fn stream(
    app: &App,
    request: CompletionRequest,
    context: TurnContext,
    tool_chunks: bool,
) -> Result<Response, ApiError> {
    let encoder = ChunkEncoder { tool_chunks, envelope: None };
    let place = context.access.open_stream()?;
    let events = Box::pin(app.engine().stream(request, context)).await?;
    Ok(sse::response(events, encoder, app.server().keep_alive(), place))
}

/// Writes a turn as `chat.completion.chunk` events.
struct ChunkEncoder {
    /// Whether tool progress is shown as chunks of its own (`x-gateway-events: 1`) instead of as comments.
    tool_chunks: bool,
    /// `id`, `created` and `model` of the stream, learnt from its first chunk where they are needed.
    envelope: Option<[Value; 3]>,
}

impl ChunkEncoder {
    fn learn_envelope(&mut self, json: &Bytes) {
        let Ok(chunk) = Chunk::parse(json.clone()) else { return };
        let value = |raw: Option<Bytes>| raw.and_then(|raw| serde_json::from_slice(&raw).ok());
        self.envelope = Some(chunk.envelope().map(|raw| value(raw).unwrap_or_default()));
    }

    /// A chunk without choices that carries `progress` as `gateway`.
    fn tool_chunk(&self, kind: &str, progress: Value) -> Bytes {
        let [id, created, model] = self.envelope.clone().unwrap_or_default();
        let mut gateway = json!({"type": kind});
        if let (Some(object), Value::Object(progress)) = (gateway.as_object_mut(), progress) {
            object.extend(progress);
        }
        let chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": model,
            "choices": [], "gateway": gateway,
        });
        sse::frame(None, chunk.to_string().as_bytes())
    }
}

impl Encoder for ChunkEncoder {
    fn event(&mut self, event: ReplyEvent) -> Option<Bytes> {
        match event {
            ReplyEvent::Chunk(chunk) => {
                if self.tool_chunks && self.envelope.is_none() {
                    self.learn_envelope(&chunk.json);
                }
                Some(sse::frame(None, &chunk.json))
            }
            ReplyEvent::ToolStarted(call) if self.tool_chunks => {
                Some(self.tool_chunk("tool_call", json!(CallEvent::from(&call))))
            }
            ReplyEvent::ToolStarted(call) => Some(sse::comment(&format!("tool {} started", call.name))),
            ReplyEvent::ToolFinished { call, result } if self.tool_chunks => {
                Some(self.tool_chunk("tool_result", json!(ResultEvent::new(&call, &result))))
            }
            ReplyEvent::ToolFinished { .. } => None,
            ReplyEvent::Done(_) => Some(DONE),
        }
    }

    fn error(&mut self, error: &ApiError) -> Bytes {
        sse::frame(None, &error.openai_body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::ReplyChunk;
    use crate::domain::{ToolCall, ToolResult};

    const CHUNK: &[u8] =
        br#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[]}"#;

    fn turn() -> Vec<ReplyEvent> {
        let call = ToolCall { id: "c1".into(), name: "add".into(), arguments: "{\"a\": 1}".into() };
        vec![
            ReplyEvent::Chunk(ReplyChunk { json: Bytes::from_static(CHUNK), text: None }),
            ReplyEvent::ToolStarted(call.clone()),
            ReplyEvent::ToolFinished { call, result: ToolResult::text("2") },
        ]
    }

    fn encoded(tool_chunks: bool) -> Vec<String> {
        let mut encoder = ChunkEncoder { tool_chunks, envelope: None };
        let frames = turn().into_iter().filter_map(|event| encoder.event(event));
        frames.map(|frame| String::from_utf8(frame.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_tool_is_a_comment_to_those_who_did_not_ask() {
        let chunk = format!("data: {}\n\n", std::str::from_utf8(CHUNK).unwrap());
        assert_eq!(encoded(false), [chunk.as_str(), ": tool add started\n\n"]);
    }

    #[test]
    fn tool_chunks_have_the_streams_envelope_and_no_choices() {
        let frames = encoded(true);
        assert_eq!(frames.len(), 3);
        let kinds = [("tool_call", "arguments", json!({"a": 1})), ("tool_result", "content", json!("2"))];
        for (frame, (kind, key, value)) in frames[1..].iter().zip(kinds) {
            let chunk: Value = serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(
                (&chunk["id"], &chunk["created"], &chunk["model"]),
                (&json!("chatcmpl-1"), &json!(7), &json!("m"))
            );
            assert_eq!((&chunk["choices"], &chunk["gateway"]["type"]), (&json!([]), &json!(kind)));
            assert_eq!((&chunk["gateway"]["id"], &chunk["gateway"][key]), (&json!("c1"), &value));
        }
    }
}
