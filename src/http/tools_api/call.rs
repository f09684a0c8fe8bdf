//! Calls of tools and their answer: `{success, result, error, content?, structuredContent?}`.
//!
//! 200 tells that the call was decided on and made, or could not be made for a reason of the tool's; whether it went well
//! is `success`. What is wrong with the request itself, or not allowed, is a status.

use std::borrow::Cow;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{ToolName, not_found, stream};
use crate::access::{AccessError, AccessScope};
use crate::domain::ids::random_id;
use crate::domain::{ContentBlock, ProgressListener, SessionId, ToolResult};
use crate::http::caller::ToolCaller;
use crate::http::error::ApiError;
use crate::http::extract::JsonBody;
use crate::http::fields::{self, field, object_text};
use crate::http::health::json_response;
use crate::http::openapi::schemas;
use crate::http::state::App;
use crate::llm::ToolChoice;
use crate::toolbox::{CallError, CallSite};

/// How calls come in here, for the audit log.
const VIA: &str = "rest";

/// Call a tool
///
/// With `accept: text/event-stream` the answer is a stream of the events `progress` and `log`, and one `result`.
#[utoipa::path(
    post, path = "/api/v1/mcp/tools/call", tag = "tools", operation_id = "callTool",
    request_body = schemas::CallRequest,
    responses((status = 200, description = "the call was made, or failed for a reason of the tool's: `success` tells",
        body = schemas::CallAnswer))
)]
pub(in crate::http) async fn call(
    State(app): State<App>,
    ToolCaller(scope): ToolCaller,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let CallRequest { tool_name, arguments } = CallRequest::parse(&body)?;
    answer(&app, scope, &headers, &tool_name, arguments).await
}

/// Call the tool of this name with the body as its arguments
///
/// With a key there is an operation of its own for each tool, which knows the arguments.
#[utoipa::path(
    post, path = "/api/v1/tools/{tool_name}", tag = "tools", operation_id = "callToolByName",
    params(("tool_name" = String, Path, description = "the tool's canonical name, or `server__tool`")),
    request_body(content = Object, content_type = "application/json", description = "the arguments"),
    responses((status = 200, description = "the call was made, or failed for a reason of the tool's: `success` tells",
        body = schemas::CallAnswer))
)]
pub(in crate::http) async fn call_one(
    State(app): State<App>,
    ToolCaller(scope): ToolCaller,
    ToolName(name): ToolName,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    answer(&app, scope, &headers, &name, fields::whole_object(&body)?).await
}

async fn answer(
    app: &App,
    scope: AccessScope,
    headers: &HeaderMap,
    name: &str,
    arguments: &str,
) -> Result<Response, ApiError> {
    app.tools_settled(&ToolChoice::All).await;
    let tool = app.toolbox().wanted(&scope, name, VIA).map_err(|refusal| refused(refusal, name))?;
    if stream::is_wanted(headers) {
        let streamed = stream::begin(app, scope, tool, arguments.to_owned()).await;
        return streamed.map_err(|refusal| refused(refusal, name));
    }
    let site = call_site(ProgressListener::default());
    match app.toolbox().call(&scope, &tool, arguments, site).await {
        Ok(result) => Ok(json_response(&CallAnswer::of(&result))),
        Err(CallError::Tool(error)) => Ok(json_response(&CallAnswer::failed(error.message))),
        Err(CallError::Access(refusal)) => Err(refused(refusal, name)),
    }
}

/// Every call has a session of its own: nothing that a server keeps for one is seen by the next.
pub(super) fn call_site(progress: ProgressListener) -> CallSite {
    CallSite { via: VIA, call_id: random_id("call_"), session_id: Some(SessionId::generate()), progress }
}

/// A refusal; the one that must not be told from a tool that is not there is not.
fn refused(refusal: AccessError, name: &str) -> ApiError {
    match refusal {
        AccessError::ToolNotAllowed(_) => not_found(name),
        refusal => refusal.into(),
    }
}

/// `{"tool_name": "...", "arguments": {...}}`
struct CallRequest<'a> {
    tool_name: Cow<'a, str>,
    arguments: &'a str,
}

/// Unknown fields are ignored.
#[derive(Deserialize)]
struct WireCall<'a> {
    #[serde(borrow)]
    tool_name: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl<'a> CallRequest<'a> {
    fn parse(body: &'a Bytes) -> Result<Self, ApiError> {
        const WANTED: &str = "the name of a tool, a string that is not empty";
        let WireCall { tool_name, arguments } = fields::object(body)?;
        let tool_name: Option<Text<'_>> = field("tool_name", WANTED, tool_name)?;
        let Some(Text(tool_name)) = tool_name.filter(|name| !name.0.is_empty()) else {
            return Err(ApiError::bad_request(Some("tool_name"), format!("`tool_name` must be {WANTED}")));
        };
        Ok(Self { tool_name, arguments: object_text("arguments", arguments)?.unwrap_or("{}") })
    }
}

/// Text that is borrowed where it can be.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What every call is answered with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallAnswer<'a> {
    success: bool,
    /// The result as text; null where the call failed.
    result: Option<String>,
    /// Why it failed; null where it did not.
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a [ContentBlock]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_content: Option<&'a Value>,
}

impl<'a> CallAnswer<'a> {
    pub(super) fn of(result: &'a ToolResult) -> Self {
        let text = result.to_text();
        let (result_text, error) = match result.is_error {
            false => (Some(text), None),
            true if text.is_empty() => {
                (None, Some("the tool reports a failure and does not say why".to_owned()))
            }
            true => (None, Some(text)),
        };
        Self {
            success: !result.is_error,
            result: result_text,
            error,
            content: Some(&result.content),
            structured_content: result.structured_content.as_ref(),
        }
    }

    pub(super) fn failed(message: String) -> Self {
        Self { success: false, result: None, error: Some(message), content: None, structured_content: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_call() {
        let read = |body: &'static str| {
            let body = Bytes::from_static(body.as_bytes());
            CallRequest::parse(&body).map(|call| (call.tool_name.into_owned(), call.arguments.to_owned()))
        };
        let wanted = |name: &str, arguments: &str| (name.to_owned(), arguments.to_owned());
        assert_eq!(read(r#"{"tool_name":"a","arguments":{"x": 1}}"#).unwrap(), wanted("a", r#"{"x": 1}"#));
        assert_eq!(read(r#"{"tool_name":"\u0061","x":[]}"#).unwrap(), wanted("a", "{}"));
        assert_eq!(read(r#"{"arguments":null,"tool_name":"a"}"#).unwrap(), wanted("a", "{}"));
        for (body, words) in [
            ("{}", "`tool_name`"),
            (r#"{"tool_name":null}"#, "`tool_name`"),
            (r#"{"tool_name":""}"#, "`tool_name`"),
            (r#"{"tool_name":7}"#, "`tool_name`"),
            (r#"{"tool_name":"a","arguments":[]}"#, "`arguments` must be an object"),
            (r#"{"tool_name":"a","arguments":"{}"}"#, "`arguments` must be an object"),
            (r#"{"tool_name":"a","tool_name":"b"}"#, "duplicate field `tool_name`"),
            (r#"["a",{}]"#, "JSON object"),
            (r#"{"tool_name":"a""#, "line 1 column"),
            ("", "JSON object"),
        ] {
            let detail = read(body).unwrap_err().detail_body();
            let detail = std::str::from_utf8(&detail).unwrap();
            assert!(detail.contains(words), "{body}: {detail}");
        }
    }

    #[test]
    fn a_failure_has_a_reason_even_where_the_tool_gives_none() {
        let silent = ToolResult { is_error: true, ..ToolResult::default() };
        let answer = CallAnswer::of(&silent);
        assert!(!answer.success && answer.result.is_none() && answer.error.is_some());
        let answer = serde_json::to_value(CallAnswer::of(&ToolResult::text("流浪地球"))).unwrap();
        let content = serde_json::json!([{"type": "text", "text": "流浪地球"}]);
        assert_eq!(
            answer,
            serde_json::json!({"success": true, "result": "流浪地球", "error": null, "content": content})
        );
    }
}
