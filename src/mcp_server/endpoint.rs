//! Streamable HTTP: one request of an MCP client, with its caller known and its body read.
//!
//! rmcp speaks the protocol; a service of its own is put together for every request, around the session it belongs to.
//! Requests outside of a session are answered too: those of the versions that have none, and plain JSON-RPC posts.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use rmcp::model::ErrorData;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde::Deserialize;
use serde_json::json;
use tracing::Span;

use super::call::RequestStream;
use super::handler::{Handler, Setup};
use super::sessions::{Owner, SessionsOf};
use super::view::{VIA, View};
use super::{McpServer, batch, places};
use crate::access::{AccessError, AccessScope, LimitReached};

/// What is sent back.
pub type McpResponse = Response<BoxBody<Bytes, Infallible>>;

pub(super) const SESSION_ID: &str = "mcp-session-id";

/// The scope for whatever is more than looking, and the requests that need it.
const CALL_SCOPE: &str = "tools:call";
pub(super) const CALLS: [&str; 3] = ["tools/call", "resources/read", "prompts/get"];

/// What a client must accept to be answered by rmcp, and one that says nothing does.
const ACCEPTS_BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// The id of an error that belongs to no request.
const NONE: serde_json::Value = serde_json::Value::Null;

/// What can be told of a message before it is understood.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Glimpse {
    /// Empty where there is none, as in answers of clients.
    pub(super) method: String,
    pub(super) id: serde_json::Value,
}

impl McpServer {
    /// Answers `request` of the caller of `scope` at the endpoint of `server`, or of all of them.
    pub async fn answer(
        &self,
        scope: AccessScope,
        server: Option<&str>,
        request: Request<Bytes>,
    ) -> McpResponse {
        if batch::is_one(&request) {
            return Box::pin(batch::answer(self, scope, server, request)).await;
        }
        self.answer_one(scope, server, request).await
    }

    /// [`Self::answer`] for what is one message at most.
    pub(super) async fn answer_one(
        &self,
        scope: AccessScope,
        server: Option<&str>,
        mut request: Request<Bytes>,
    ) -> McpResponse {
        let owner = Owner::new(&scope, server);
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
        let mut glimpse = Glimpse::default();
        if request.method() == Method::POST {
            glimpse = match glimpse_of(request.body()) {
                Ok(glimpse) => glimpse,
                Err(refusal) => return refusal,
            };
            is_session |= glimpse.method == "initialize";
            if CALLS.contains(&&*glimpse.method) && !scope.has(CALL_SCOPE) {
                return missing_scope(&scope, &glimpse);
            }
            accept_both(&mut request);
        }
        let place = match places::take(&scope, &request, &glimpse.method) {
            Ok(place) => place,
            Err(refusal) => return limit_reached(&refusal, &glimpse.id),
        };
        let (body, is_json) = (request.body().clone(), is_json(request.headers()));
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
        if is_json && response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return no_message(&body, &glimpse.id);
        }
        places::keep(place, in_protocol(response).await)
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
            scope,
            is_session,
            draining: inner.draining.clone(),
            tools_settled: inner.tools_settled.clone(),
        };
        let make = move || Ok(Handler::new(setup.clone()));
        StreamableHttpService::new(make, sessions, config)
    }
}

/// What can be told of the message in `body`, or the refusal of what is none.
pub(super) fn glimpse_of(body: &[u8]) -> Result<Glimpse, McpResponse> {
    serde_json::from_slice(body).map_err(|problem| {
        if problem.is_data() {
            let message = "the body is not one JSON-RPC message: an object (versions up to 2025-03-26 may send batches)";
            return error(StatusCode::BAD_REQUEST, -32600, message, &NONE);
        }
        let message = format!("the body is not JSON: {problem}");
        error(StatusCode::BAD_REQUEST, -32700, &message, &NONE)
    })
}

/// The refusal of JSON that rmcp could not make a message of, and about which it has nothing better to say than that.
fn no_message(body: &[u8], id: &serde_json::Value) -> McpResponse {
    let (code, message) = match serde_json::from_slice::<serde_json::Value>(body) {
        Err(problem) => (-32700, format!("the body cannot be read, it may be nested too deeply: {problem}")),
        Ok(_) => {
            let shape = "`jsonrpc` with \"2.0\", and `method`, `result` or `error` as the protocol has them";
            (-32600, format!("the body is no message of JSON-RPC: it needs {shape}"))
        }
    };
    error(StatusCode::BAD_REQUEST, code, &message, id)
}

/// Whether something says of itself that it is JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| essence(kind).eq_ignore_ascii_case("application/json"))
}

/// Errors that rmcp tells in plain text, as errors of the protocol.
async fn in_protocol(response: McpResponse) -> McpResponse {
    let status = response.status();
    if is_json(response.headers()) || !(status.is_client_error() || status.is_server_error()) {
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
fn missing_scope(scope: &AccessScope, message: &Glimpse) -> McpResponse {
    const CHALLENGE: HeaderValue = HeaderValue::from_static(
        "Bearer realm=\"witgate\", error=\"insufficient_scope\", scope=\"tools:call\"",
    );
    // Asked once more so that it is written down.
    let refusal = scope.check_call(VIA, &message.method, &message.method).err();
    let refusal = refusal.unwrap_or(AccessError::MissingScope(CALL_SCOPE)).to_string();
    let mut response = error(StatusCode::FORBIDDEN, -32600, &refusal, &message.id);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    response
}

/// For callers who have as many open streams as they may.
pub(super) fn limit_reached(refusal: &AccessError, id: &serde_json::Value) -> McpResponse {
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, -32000, &refusal.to_string(), id);
    if let AccessError::LimitReached(LimitReached { retry_after: Some(wait), .. }) = refusal {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        response.headers_mut().insert("retry-after-ms", HeaderValue::from(ms));
    }
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
pub(super) fn error(status: StatusCode, code: i32, message: &str, id: &serde_json::Value) -> McpResponse {
    let error = ErrorData::new(rmcp::model::ErrorCode(code), message.to_owned(), None);
    let mut response = answered(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
    *response.status_mut() = status;
    response
}

/// 200 with JSON.
pub(super) fn answered(answer: &serde_json::Value) -> McpResponse {
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 202: there is nothing to answer.
pub(super) fn accepted() -> McpResponse {
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
