//! Streamable HTTP: one request of an MCP client, with its caller known and its body read.
//!
//! rmcp speaks the protocol; a service of its own is put together for every request, around the session it belongs to.
//! Requests outside of a session are answered too: those of the versions that have none, and plain JSON-RPC posts.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use rmcp::model::ErrorData;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde::Deserialize;
use serde_json::json;
use tracing::Span;

use super::McpServer;
use super::call::RequestStream;
use super::handler::{Callers, Handler, Setup};
use super::sessions::{Owner, SessionsOf};
use super::view::View;
use crate::access::{AccessError, AccessScope};

/// What is sent back.
pub type McpResponse = Response<BoxBody<Bytes, Infallible>>;

const SESSION_ID: &str = "mcp-session-id";

/// The scope for whatever is more than looking, and the requests that need it.
const CALL_SCOPE: &str = "tools:call";
const CALLS: [&str; 3] = ["tools/call", "resources/read", "prompts/get"];

/// What a client must accept to be answered by rmcp, and one that says nothing does.
const ACCEPTS_BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// The id of an error that belongs to no request.
const NONE: serde_json::Value = serde_json::Value::Null;

/// What can be told of a message before it is understood.
#[derive(Debug, Default, Deserialize)]
struct Glimpse {
    method: Option<String>,
    #[serde(default)]
    id: serde_json::Value,
}

impl McpServer {
    /// Answers `request` of the caller of `scope` at the endpoint of `server`, or of all of them.
    pub async fn answer(
        &self,
        scope: AccessScope,
        server: Option<&str>,
        mut request: Request<Bytes>,
    ) -> McpResponse {
        let owner = Owner { principal: scope.principal().id.clone(), server: server.map(str::to_owned) };
        let session = request.headers().get(SESSION_ID).map(|id| id.to_str().unwrap_or_default());
        if session.is_some_and(|id| !self.0.sessions.is_owned(id, &owner)) {
            return error(
                StatusCode::NOT_FOUND,
                -32001,
                "there is no such session; initialize a new one",
                &NONE,
            );
        }
        let has_session = session.is_some();
        let mut is_session = has_session || request.method() != Method::POST;
        if request.method() == Method::POST {
            match serde_json::from_slice::<Glimpse>(request.body()) {
                Ok(glimpse) => {
                    let method = glimpse.method.as_deref().unwrap_or_default();
                    is_session |= method == "initialize";
                    if CALLS.contains(&method) && !scope.grants().has(CALL_SCOPE) {
                        return missing_scope(&glimpse.id);
                    }
                }
                Err(problem) if problem.is_data() => {
                    let message = "the body is not one JSON-RPC message: an object (batches are not taken)";
                    return error(StatusCode::BAD_REQUEST, -32600, message, &NONE);
                }
                Err(problem) => {
                    let message = format!("the body is not JSON: {problem}");
                    return error(StatusCode::BAD_REQUEST, -32700, &message, &NONE);
                }
            }
            accept_both(&mut request);
        }
        let (stream, told) = RequestStream::new();
        if has_session {
            request.extensions_mut().insert(stream);
        }
        request.extensions_mut().insert(scope.clone());
        request.extensions_mut().insert(Span::current());
        let sessions = Arc::new(SessionsOf::new(Arc::clone(&self.0.sessions), owner, told));
        let service = self.service(server, scope, is_session, request.method(), Arc::clone(&sessions));
        let is_end = request.method() == Method::DELETE;
        let mut response = service.handle(request.map(Full::new)).await;
        if is_end && response.status() == StatusCode::ACCEPTED {
            // It is done, not merely accepted; the official Python client wants to be told.
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        if sessions.found_no_place() {
            let mut full = error(
                StatusCode::SERVICE_UNAVAILABLE,
                -32000,
                "too many clients have a session at the moment; try again later",
                &NONE,
            );
            full.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
            return full;
        }
        in_protocol(response).await
    }

    fn service(
        &self,
        server: Option<&str>,
        scope: AccessScope,
        is_session: bool,
        method: &Method,
        sessions: Arc<SessionsOf>,
    ) -> StreamableHttpService<Handler, SessionsOf> {
        let inner = &self.0;
        // What only waits for news ends when the gateway begins to stop; what works gets its time.
        let end = if method == Method::GET { &inner.draining } else { &inner.stopping };
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(is_session)
            .with_json_response(true)
            .with_sse_keep_alive(Some(inner.keep_alive))
            .with_max_request_body_bytes(usize::MAX)
            .with_cancellation_token(end.clone())
            // Whoever mounts the endpoint has looked at these before it asked who is calling.
            .disable_allowed_hosts()
            .disable_allowed_origins();
        let setup = Setup {
            view: View { toolbox: inner.toolbox.clone(), server: server.map(Arc::from) },
            callers: Callers::OfRequests(scope),
            is_session,
            draining: inner.draining.clone(),
            tools_settled: inner.tools_settled.clone(),
        };
        let make = move || Ok(Handler::new(setup.clone()));
        StreamableHttpService::new(make, sessions, config)
    }
}

/// Errors that rmcp tells in plain text, as errors of the protocol.
async fn in_protocol(response: McpResponse) -> McpResponse {
    let is_json = |value: &HeaderValue| value.as_bytes().starts_with(b"application/json");
    let status = response.status();
    let is_told = response.headers().get(header::CONTENT_TYPE).is_some_and(is_json);
    if is_told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = match body.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(never) => match never {},
    };
    // What is inside is for the log.
    let text = if status.is_server_error() { "the gateway failed to answer" } else { text.as_str() };
    let mut told = error(status, -32600, text, &NONE);
    for (name, value) in parts.headers {
        if let Some(name) = name.filter(|name| *name == header::ALLOW) {
            told.headers_mut().insert(name, value);
        }
    }
    told
}

/// For callers who may list and not call, in the way the protocol's authorization has it: the client may ask for more.
fn missing_scope(id: &serde_json::Value) -> McpResponse {
    const CHALLENGE: HeaderValue = HeaderValue::from_static(
        "Bearer realm=\"witgate\", error=\"insufficient_scope\", scope=\"tools:call\"",
    );
    let refusal = AccessError::MissingScope(CALL_SCOPE).to_string();
    let mut response = error(StatusCode::FORBIDDEN, -32600, &refusal, id);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    response
}

/// Programs that post JSON by hand say little about what they take.
fn accept_both(request: &mut Request<Bytes>) {
    let accepts = request.headers().get_all(header::ACCEPT);
    let takes_anything = accepts.iter().all(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').all(|entry| matches!(essence(entry), "*/*" | "application/*" | "application/json"))
    });
    if takes_anything {
        request.headers_mut().insert(header::ACCEPT, ACCEPTS_BOTH);
    }
}

fn essence(entry: &str) -> &str {
    entry.split(';').next().unwrap_or_default().trim()
}

/// An error of the protocol about the request `id`, or about none.
fn error(status: StatusCode, code: i32, message: &str, id: &serde_json::Value) -> McpResponse {
    let error = ErrorData::new(rmcp::model::ErrorCode(code), message.to_owned(), None);
    let body = json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
