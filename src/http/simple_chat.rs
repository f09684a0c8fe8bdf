//! The simple chat API: `POST /chat` with sessions kept by the gateway, and those sessions.

use std::borrow::Cow;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::caller::{Caller, is_anonymous};
use super::error::ApiError;
use super::extract::{JsonBody, Page, PathId, WantedTools};
use super::fields::{self, field};
use super::health::json_response;
use super::openapi::schemas;
use super::rebinding;
use super::sse::{self, Encoder};
use super::state::App;
use super::tool_events::{CallEvent, ResultEvent};
use crate::chat::{ChatMessage, ReplyEvent};
use crate::domain::SessionId;

/// Say something
///
/// With `stream: true` the answer is a stream of the events `delta`, `tool_call`, `tool_result` and `done` or `error`.
#[utoipa::path(
    post, path = "/chat", tag = "chat", operation_id = "chat", request_body = schemas::ChatRequest,
    params(
        ("x-gateway-tools" = Option<String>, Header, description = "the gateway's tools to use: `none`, `all` or names"),
    ),
    responses(
        (status = 200, description = "the answer", content(
            (schemas::ChatReply = "application/json"), ("text/event-stream"),
        )),
        (status = 409, description = "the session's previous message is still being answered", body = schemas::ErrorDetail),
        (status = 502, description = "the model failed", body = schemas::ErrorDetail),
        (status = 504, description = "the model, or the whole turn, took too long", body = schemas::ErrorDetail),
    )
)]
pub(super) async fn chat(
    State(app): State<App>,
    caller: Caller,
    WantedTools(tools): WantedTools,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let ChatRequest { message, stream } = ChatRequest::parse(&body)?;
    app.tools_settled(&tools).await;
    let context = caller.turn(tools);
    if stream {
        let place = context.access.open_stream()?;
        let events = Box::pin(app.engine().chat_stream(message, context)).await?;
        return Ok(sse::response(events, EventEncoder, app.server().keep_alive(), place));
    }
    let reply = Box::pin(app.engine().chat(message, context)).await?;
    Ok(json_response(&json!({"response": reply.response, "session_id": reply.session_id})))
}

/// Your sessions, latest first
#[utoipa::path(
    get, path = "/chat/sessions", tag = "chat", operation_id = "listSessions",
    params(
        ("limit" = Option<u64>, Query, description = "sessions in a page", minimum = 1, maximum = 200),
        ("offset" = Option<u64>, Query, description = "where the page begins"),
    ),
    responses((status = 200, description = "a page of them", body = schemas::SessionPage))
)]
pub(super) async fn list_sessions(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    page: Page,
) -> Result<Response, ApiError> {
    if is_anonymous(caller.scope()) && rebinding::is_of_nameless_page(&headers) {
        // All of them are one to us. Whoever began a conversation knows its id, and needs no list.
        return Ok(json_response(&json!({"sessions": [], "next_offset": null})));
    }
    let found = app.engine().sessions(caller.principal(), page.offset, page.limit).await?;
    Ok(json_response(&json!({"sessions": found.sessions, "next_offset": found.next_offset})))
}

/// A session with its messages
#[utoipa::path(
    get, path = "/chat/sessions/{id}", tag = "chat", operation_id = "getSession",
    params(("id" = String, Path, description = "the session's id")),
    responses((status = 200, description = "the session", body = schemas::SessionTranscript))
)]
pub(super) async fn get_session(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let transcript = app.engine().session(caller.principal(), &session_id(&id)?).await?;
    Ok(json_response(&transcript))
}

/// Forget a session
#[utoipa::path(
    delete, path = "/chat/sessions/{id}", tag = "chat", operation_id = "deleteSession",
    params(("id" = String, Path, description = "the session's id")),
    responses((status = 204, description = "it is forgotten"))
)]
pub(super) async fn delete_session(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<StatusCode, ApiError> {
    app.engine().delete_session(caller.principal(), &session_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An id that could not have been ours is simply not found.
fn session_id(text: &str) -> Result<SessionId, ApiError> {
    SessionId::parse(text).ok_or_else(ApiError::session_not_found)
}

struct ChatRequest {
    message: ChatMessage,
    stream: bool,
}

/// Unknown fields are ignored.
#[derive(Deserialize)]
struct WireRequest<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
}

impl ChatRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let wire: WireRequest<'_> = fields::object(body)?;
        let message: String = field("message", "a string", wire.message)?.unwrap_or_default();
        if message.trim().is_empty() {
            let words = "`message` must be a string that is not empty: {\"message\": \"Hello\"}";
            return Err(ApiError::bad_request(Some("message"), words));
        }
        let session: Option<Cow<'_, str>> = field("session_id", "a string", wire.session_id)?;
        let model = field("model", "a string", wire.model)?.unwrap_or_default();
        let stream = field("stream", "true or false", wire.stream)?.unwrap_or(false);
        // Clients that keep the id in a text field send an empty one at first.
        let session = session.filter(|id| !id.is_empty()).map(|id| session_id(&id)).transpose()?;
        Ok(Self { message: ChatMessage { message, session_id: session, model }, stream })
    }
}

/// Writes a turn as named events: `delta`, `tool_call`, `tool_result`, `done`, `error`.
struct EventEncoder;

impl Encoder for EventEncoder {
    fn event(&mut self, event: ReplyEvent) -> Option<Bytes> {
        match event {
            ReplyEvent::Chunk(chunk) => {
                let text = chunk.text.filter(|text| !text.is_empty())?;
                named("delta", &json!({ "text": text }))
            }
            ReplyEvent::ToolStarted(call) => named("tool_call", &CallEvent::from(&call)),
            ReplyEvent::ToolFinished { call, result } => {
                named("tool_result", &ResultEvent::new(&call, &result))
            }
            ReplyEvent::Done(summary) => named(
                "done",
                &json!({
                    "response": summary.response,
                    "session_id": summary.session_id,
                    "usage": summary.usage,
                }),
            ),
        }
    }

    fn error(&mut self, error: &ApiError) -> Bytes {
        sse::frame(Some("error"), &error.detail_body())
    }
}

fn named(name: &str, value: &impl Serialize) -> Option<Bytes> {
    let json = serde_json::to_vec(value).ok()?;
    Some(sse::frame(Some(name), &json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ReplyChunk, TurnSummary};
    use crate::domain::{ToolCall, ToolResult, Usage};

    fn parse(body: &str) -> Result<ChatRequest, ApiError> {
        ChatRequest::parse(body.as_bytes())
    }

    #[test]
    fn reads_a_message_and_ignores_what_it_does_not_know() {
        let request = parse(r#"{"message":"h\u00e9","session_id":null,"stream":true,"x":1}"#).unwrap();
        assert_eq!((request.message.message.as_str(), request.stream), ("hé", true));
        assert!(request.message.session_id.is_none() && request.message.model.is_empty());
        assert!(parse(r#"{"message":"a","session_id":""}"#).unwrap().message.session_id.is_none());
        let request = parse(r#"{"message":"a","session_id":"ses_1","model":"m"}"#).unwrap();
        assert_eq!(
            (request.message.session_id.unwrap().as_str(), request.message.model.as_str()),
            ("ses_1", "m")
        );
    }

    #[test]
    fn a_bad_field_is_named() {
        let cases = [
            (r#"{}"#, "`message`"),
            (r#"{"message":" "}"#, "`message`"),
            (r#"{"message":3}"#, "`message` must be a string"),
            (r#"{"message":"a","stream":"yes"}"#, "`stream`"),
            (r#"{"message":"a","model":[]}"#, "`model`"),
            (r#"{"message":"a","session_id":7}"#, "`session_id`"),
            (r#"{"message":"a","message":"b"}"#, "duplicate field `message`"),
            (r#"{"message":"a","session_id":"../x"}"#, "no such session"),
            ("[]", "JSON object"),
            (r#"["a", null, null, null]"#, "JSON object"),
            ("{", "JSON object"),
        ];
        for (body, words) in cases {
            let detail = parse(body).err().unwrap().detail_body();
            let detail = std::str::from_utf8(&detail).unwrap();
            assert!(detail.contains(words), "{body}: {detail}");
        }
    }

    #[test]
    fn events_are_named() {
        let call = ToolCall { id: "c".into(), name: "t".into(), arguments: String::new() };
        let chunk = |text: Option<&str>| ReplyChunk { json: Bytes::new(), text: text.map(str::to_owned) };
        let session_id = SessionId::parse("ses_1");
        let usage = Some(Usage::of(1, 2));
        let events = [
            ReplyEvent::Chunk(chunk(None)),
            ReplyEvent::Chunk(chunk(Some("hi\n"))),
            ReplyEvent::ToolStarted(call.clone()),
            ReplyEvent::ToolFinished { call, result: ToolResult::error("bad") },
            ReplyEvent::Done(TurnSummary { response: "hi\n".into(), usage, session_id }),
        ];
        let frames: Vec<Bytes> = events.into_iter().filter_map(|event| EventEncoder.event(event)).collect();
        let expected = [
            "event: delta\ndata: {\"text\":\"hi\\n\"}\n\n",
            "event: tool_call\ndata: {\"id\":\"c\",\"name\":\"t\",\"arguments\":{}}\n\n",
            "event: tool_result\ndata: {\"id\":\"c\",\"name\":\"t\",\"is_error\":true,\"content\":\"bad\"}\n\n",
            "event: done\ndata: {\"response\":\"hi\\n\",\"session_id\":\"ses_1\",\"usage\":{\"prompt_tokens\":1,\
             \"completion_tokens\":2,\"total_tokens\":3}}\n\n",
        ];
        assert_eq!(frames, expected);
    }
}
