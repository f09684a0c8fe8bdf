//! Errors become responses here and nowhere else.
//!
//! A handler returns an [`ApiError`]; `middleware/errors.rs` asks it for the body in the form its path speaks:
//! `{"error": {message, type, param, code}}` under `/v1` (all four keys always, after the OpenAI API), `{"detail"}`
//! everywhere else. Promises: an upstream's status is never flattened and its own error object is passed on; a 5xx
//! leaks no internals, since inner causes never get this far.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::middleware::digest::DigestError;
use crate::access::accounts::{AccountError, LoginError};
use crate::access::{AccessError, LimitKind};
use crate::chat::{ChatError, ChatErrorKind};
use crate::domain::RequestError;
use crate::llm::ModelError;
use crate::response::ProcessingError;

const INVALID_REQUEST: &str = "invalid_request_error";
const SERVER_ERROR: &str = "server_error";

/// A failed request, ready to be told.
#[derive(Clone, Debug)]
pub(super) struct ApiError(Box<Failure>);

#[derive(Clone, Debug)]
struct Failure {
    status: StatusCode,
    message: String,
    kind: Cow<'static, str>,
    param: Option<String>,
    code: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    upstream_error: Option<Bytes>,
    /// What a 401 says of the way to a token, for `WWW-Authenticate`.
    hint: Option<String>,
    /// Tools have run: the client must not send the request again by itself.
    do_not_retry: bool,
    /// The connection cannot or shall not be used again.
    close: bool,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Failure {
            status,
            message: message.into(),
            kind: Cow::Borrowed(kind),
            param: None,
            code: None,
            retry_after: None,
            upstream_error: None,
            hint: None,
            do_not_retry: false,
            close: false,
        }))
    }

    /// With the way to a token, should it be missing: parameters of `WWW-Authenticate`.
    pub(super) fn with_hint(mut self, hint: impl FnOnce() -> Option<String>) -> Self {
        if self.0.status == StatusCode::UNAUTHORIZED {
            self.0.hint = hint();
        }
        self
    }

    fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = Some(Cow::Borrowed(code));
        self
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    fn closing(mut self) -> Self {
        self.0.close = true;
        self
    }

    /// 400: the request is wrong; `param` names the field or header.
    pub(super) fn bad_request(param: Option<&str>, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, message);
        error.0.param = param.map(str::to_owned);
        error
    }

    /// 404.
    pub(super) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, message).with_code(code)
    }

    /// 404 for a session: unknown and someone else's look the same.
    pub(super) fn session_not_found() -> Self {
        Self::not_found("session_not_found", "there is no such session; leave session_id out to start one")
    }

    /// 404 for an MCP server: one that is not there and one that may not be seen look the same.
    pub(super) fn mcp_server_not_found() -> Self {
        Self::not_found(
            "server_not_found",
            "there is no MCP server or plugin of that name; /mcp has the tools of all",
        )
    }

    /// 403: a web page may have made its name point to this machine.
    pub(super) fn host_not_allowed() -> Self {
        let message = "requests to this host are not allowed here: use the gateway's address, or have the operator name the \
                       host in server.allowed_hosts";
        Self::new(StatusCode::FORBIDDEN, INVALID_REQUEST, message).with_code("host_not_allowed")
    }

    /// 403: the page of a stranger.
    pub(super) fn origin_not_allowed() -> Self {
        let message =
            "web pages of this origin are not allowed here; the operator may name it in cors.allow_origins";
        Self::new(StatusCode::FORBIDDEN, INVALID_REQUEST, message).with_code("origin_not_allowed")
    }

    /// 405; axum adds the `Allow` header.
    pub(super) fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID_REQUEST, message).with_code("method_not_allowed")
    }

    /// 408: the body did not arrive in time.
    pub(super) fn body_timeout(limit: Duration) -> Self {
        let message = format!("the request body did not arrive within {} ms", limit.as_millis());
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID_REQUEST, message).with_code("body_timeout").closing()
    }

    /// 413.
    pub(super) fn body_too_large(limit: usize) -> Self {
        let message = format!("the request body is larger than {limit} bytes (limits.max_body_bytes)");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, message)
            .with_code("request_too_large")
            .closing()
    }

    /// 413 for an endpoint with a limit of its own.
    pub(super) fn small_body_too_large(limit: usize) -> Self {
        let message = format!("the request body is larger than {limit} bytes, which is too large for this");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, message)
            .with_code("request_too_large")
            .closing()
    }

    /// 415: a login is a form, or JSON.
    pub(super) fn no_form() -> Self {
        let message = "the body must be a form with `username` and `password`: send the header `content-type: \
                       application/x-www-form-urlencoded`, or the same fields as JSON";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, message)
            .with_code("unsupported_media_type")
            .closing()
    }

    /// 401: a login that failed.
    pub(super) fn login_refused(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, INVALID_REQUEST, message).with_code("login_refused")
    }

    /// 403.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, INVALID_REQUEST, message).with_code("access_denied")
    }

    /// 403 for who is no admin.
    pub(super) fn missing_admin() -> Self {
        AccessError::MissingScope("admin").into()
    }

    /// 415: only JSON is taken, so that a form on a foreign web page cannot make a browser send one.
    pub(super) fn not_json() -> Self {
        let message = "the body must be JSON: send the header `content-type: application/json` \
                       (with curl: -H 'content-type: application/json')";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, message)
            .with_code("unsupported_media_type")
            .closing()
    }

    /// 500 that says nothing but that it is one; the cause is in the log.
    pub(super) fn internal() -> Self {
        let message =
            "the gateway failed to answer this request; its log has the cause under this x-request-id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER_ERROR, message)
    }

    /// 500: the users and keys cannot be read or written; the cause is in the log only.
    fn account_store(problem: &str) -> Self {
        tracing::error!("the database of users and keys failed: {problem}");
        Self::internal().with_code("account_store")
    }

    /// 503: too many requests are running.
    pub(super) fn overloaded() -> Self {
        let message = "the gateway is working on as many requests as it can; try again in a moment";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, message)
            .with_code("overloaded")
            .retry_after(Duration::from_secs(1))
    }

    /// 503: something the request needs is busy or not there for a moment.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, message)
            .with_code("unavailable")
            .retry_after(Duration::from_secs(5))
    }

    /// 503: the gateway is about to stop.
    pub(super) fn draining() -> Self {
        let message = "the gateway is stopping and takes no new requests; try again in a moment";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER_ERROR, message)
            .with_code("draining")
            .retry_after(Duration::from_secs(2))
            .closing()
    }

    /// 502: a reply ended before it was complete.
    pub(super) fn reply_cut() -> Self {
        Self::new(StatusCode::BAD_GATEWAY, SERVER_ERROR, "the reply ended before it was complete")
    }

    /// The status it is told with.
    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Whether the connection must end with this response.
    pub(super) fn closes(&self) -> bool {
        self.0.close
    }

    /// Writes the failure to the log: a server's fault as a warning, a client's only for those who look.
    pub(super) fn log(&self) {
        let Failure { status, message, code, .. } = &*self.0;
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), code = code.as_deref(), "request failed: {message}");
        } else {
            tracing::debug!(status = status.as_u16(), code = code.as_deref(), "request refused: {message}");
        }
    }

    /// `{"error": {message, type, param, code}}`
    pub(super) fn openai_body(&self) -> Bytes {
        let failure = &*self.0;
        let mut object = failure.upstream_error.as_deref().and_then(object_of).unwrap_or_default();
        if !object.get("message").is_some_and(Value::is_string) {
            object.insert("message".to_owned(), Value::from(failure.message.as_str()));
        }
        object.entry("type").or_insert_with(|| Value::from(failure.kind.as_ref()));
        object.entry("param").or_insert_with(|| Value::from(failure.param.as_deref()));
        object.entry("code").or_insert_with(|| Value::from(failure.code.as_deref()));
        Bytes::from(json!({ "error": object }).to_string())
    }

    /// `{"detail": message}`
    pub(super) fn detail_body(&self) -> Bytes {
        Bytes::from(json!({ "detail": self.0.message }).to_string())
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        let failure = &*self.0;
        if failure.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"witgate\"");
            let hinted = failure.hint.as_ref().and_then(|hint| {
                HeaderValue::try_from(format!("Bearer realm=\"witgate\"{}, {hint}", invalid(failure))).ok()
            });
            headers.insert(header::WWW_AUTHENTICATE, hinted.unwrap_or(challenge));
        }
        if let Some(wait) = failure.retry_after {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
            headers.insert("retry-after-ms", HeaderValue::from(ms));
        }
        if failure.do_not_retry {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
    }
}

/// What RFC 6750 says of a credential that was presented and is not good.
fn invalid(failure: &Failure) -> &'static str {
    let is_of_credential =
        failure.code.as_deref().is_some_and(|code| code != "missing_api_key" && code != "access_denied");
    if is_of_credential { ", error=\"invalid_token\"" } else { "" }
}

fn object_of(json: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(json).ok()
}

/// Status and headers at once; the body follows in `middleware/errors.rs`, which knows the path.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.status;
        self.write_headers(response.headers_mut());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        Self::bad_request(error.param.as_deref(), error.message)
    }
}

impl From<DigestError> for ApiError {
    fn from(error: DigestError) -> Self {
        Self::bad_request(Some("content-digest"), error.to_string()).with_code("content_digest")
    }
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::FORBIDDEN);
        let kind = if status.is_server_error() { SERVER_ERROR } else { INVALID_REQUEST };
        let mut api = Self::new(status, kind, error.to_string()).with_code(error.code());
        match error {
            AccessError::LimitReached(reached) => {
                api.0.kind = Cow::Borrowed(match reached.kind {
                    LimitKind::Requests | LimitKind::Streams => "requests",
                    LimitKind::Tokens => "tokens",
                    LimitKind::Budget(_) => "insufficient_quota",
                });
                // A budget does not come back within a client's patience.
                api.0.do_not_retry = matches!(reached.kind, LimitKind::Budget(_));
                api.0.retry_after = reached.retry_after;
                api
            }
            AccessError::ModelNotAllowed(_) => {
                api.0.param = Some("model".to_owned());
                api
            }
            AccessError::PolicyFailed { retry_after: Some(wait), .. } => api.retry_after(wait),
            _ if matches!(status.as_u16(), 429 | 503) => api.retry_after(Duration::from_secs(1)),
            _ => api,
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        let message = error.to_string();
        match error {
            LoginError::Refused => Self::login_refused(message),
            LoginError::TooManyAttempts(wait) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, INVALID_REQUEST, message)
                    .with_code("too_many_logins")
                    .retry_after(wait)
            }
            LoginError::Busy(wait) => Self::unavailable(message).retry_after(wait),
            LoginError::Store(problem) => Self::account_store(&problem),
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        let message = error.to_string();
        let conflict =
            |code, message| Self::new(StatusCode::CONFLICT, INVALID_REQUEST, message).with_code(code);
        match error {
            AccountError::NoUser(_) | AccountError::NoUserNamed(_) => {
                Self::not_found("user_not_found", message)
            }
            AccountError::NoKey(_) => Self::not_found("key_not_found", message),
            AccountError::NameTaken(_) => conflict("name_taken", message),
            AccountError::LastAdmin => conflict("last_admin", message),
            AccountError::TokensEnded => AccessError::TokenEnded.into(),
            AccountError::TooManyKeys { .. } => conflict("too_many_keys", message),
            AccountError::Invalid { field, problem } => {
                Self::bad_request(Some(field), format!("`{field}`: {problem}"))
            }
            AccountError::ScopeNotHeld(_) => Self::bad_request(Some("scopes"), message),
            AccountError::Busy(wait) => Self::unavailable(message).retry_after(wait),
            AccountError::Store(problem) => Self::account_store(&problem),
        }
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        let status = StatusCode::from_u16(error.status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(StatusCode::BAD_GATEWAY);
        Self(Box::new(Failure {
            status,
            message: error.message,
            kind: Cow::Owned(error.kind),
            param: error.param,
            code: error.code.map(Cow::Owned),
            retry_after: error.retry_after,
            upstream_error: error.upstream_error,
            hint: None,
            do_not_retry: false,
            close: false,
        }))
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        let text = error.kind.to_string();
        let gateway = |status, code| Self::new(status, SERVER_ERROR, text.as_str()).with_code(code);
        let mut api = match error.kind {
            ChatErrorKind::Request(error) => error.into(),
            ChatErrorKind::Model(error) => error.into(),
            ChatErrorKind::Access(error) => error.into(),
            ChatErrorKind::SessionNotFound(_) => Self::session_not_found(),
            ChatErrorKind::SessionBusy => {
                Self::new(StatusCode::CONFLICT, INVALID_REQUEST, text.as_str()).with_code("session_busy")
            }
            ChatErrorKind::SessionStore => gateway(StatusCode::INTERNAL_SERVER_ERROR, "session_store"),
            ChatErrorKind::EmptyReply(_) => gateway(StatusCode::BAD_GATEWAY, "empty_reply"),
            ChatErrorKind::RoundLimit(_) => gateway(StatusCode::BAD_GATEWAY, "max_tool_rounds"),
            ChatErrorKind::AskAgainLimit { .. } => gateway(StatusCode::BAD_GATEWAY, "max_ask_again"),
            ChatErrorKind::Plugin(ProcessingError::Denied { .. }) => {
                Self::new(StatusCode::FORBIDDEN, INVALID_REQUEST, text.as_str()).with_code("plugin_denied")
            }
            ChatErrorKind::Plugin(ProcessingError::Busy { retry_after, .. }) => {
                let wait = retry_after.unwrap_or(Duration::from_secs(1));
                gateway(StatusCode::SERVICE_UNAVAILABLE, "plugin_busy").retry_after(wait)
            }
            ChatErrorKind::Plugin(ProcessingError::Failed { .. }) => {
                gateway(StatusCode::INTERNAL_SERVER_ERROR, "plugin_failed")
            }
            ChatErrorKind::TurnTimeout(_) => gateway(StatusCode::GATEWAY_TIMEOUT, "turn_timeout"),
        };
        api.0.do_not_retry |= error.tools_ran;
        api
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(body: &Bytes) -> Value {
        let value: Value = serde_json::from_slice(body).unwrap();
        for key in ["message", "type", "param", "code"] {
            assert!(value["error"].get(key).is_some(), "{key} is missing in {value}");
        }
        value["error"].clone()
    }

    #[test]
    fn openai_errors_always_have_four_keys() {
        let error = keys(&ApiError::internal().openai_body());
        assert_eq!((&error["type"], &error["param"]), (&json!("server_error"), &Value::Null));
        let error = keys(&ApiError::bad_request(Some("messages[0]"), "no").openai_body());
        assert_eq!((&error["message"], &error["param"]), (&json!("no"), &json!("messages[0]")));
    }

    #[test]
    fn an_upstream_error_is_passed_on_and_completed() {
        let mut model = ModelError::new(429, "requests", "slow down");
        model.retry_after = Some(Duration::from_millis(1500));
        model.upstream_error =
            Some(Bytes::from_static(br#"{"message":"theirs","type":"tokens","inner":{"a":1}}"#));
        let error = ApiError::from(ChatError { kind: model.into(), tools_ran: true });
        let object = keys(&error.openai_body());
        assert_eq!(object["message"], "theirs");
        assert_eq!(object["inner"]["a"], 1);
        let response = error.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["retry-after-ms"], "1500");
        assert_eq!(response.headers()["x-should-retry"], "false");
    }

    #[test]
    fn an_upstream_error_that_is_no_object_is_replaced() {
        let mut model = ModelError::new(200, "x", "words");
        model.upstream_error = Some(Bytes::from_static(b"\"text\""));
        let error = ApiError::from(model);
        assert_eq!(keys(&error.openai_body())["message"], "words");
        assert_eq!(error.into_response().status(), 502, "a success status cannot be an error's");
    }

    #[test]
    fn turn_failures_have_their_status() {
        let status = |kind: ChatErrorKind| ApiError::from(ChatError::from(kind)).into_response().status();
        assert_eq!(status(ChatErrorKind::SessionBusy), 409);
        assert_eq!(status(ChatErrorKind::SessionStore), 500);
        assert_eq!(status(ChatErrorKind::EmptyReply(2)), 502);
        assert_eq!(status(ChatErrorKind::RoundLimit(10)), 502);
        assert_eq!(status(ChatErrorKind::TurnTimeout(1)), 504);
    }
}
