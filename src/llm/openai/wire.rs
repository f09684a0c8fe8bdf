//! What an upstream's failures mean: for the client, and for a further try.
//!
//! An upstream's status is never flattened: what is the client's to mend stays as it is, with the upstream's own error
//! object; what is ours to mend (credentials, addresses) or the upstream's own becomes 502, 503 or 504 in our words.
//! Bodies that are no JSON errors are logged, shortened, and shown to nobody.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use serde_json::{Value, json};
use tracing::warn;

use crate::domain::RequestId;
use crate::llm::ModelError;
use crate::llm::retry::{Failure, Next};

/// So much of an unreadable body goes to the log.
const LOGGED_BYTES: usize = 300;

/// An error as an upstream words it.
#[derive(Debug)]
pub(super) struct ErrorObject {
    /// The object itself, JSON text.
    raw: Bytes,
    message: Option<String>,
    kind: Option<String>,
    param: Option<String>,
    code: Option<String>,
    /// An HTTP status within the object, where the response had none to give.
    status: Option<u16>,
}

/// The error in a JSON body or event: `{"error": {..}}`, `{"error": ".."}`, `{"message": ".."}` or `{"detail": ".."}`.
pub(super) fn error_in(body: &[u8]) -> Option<ErrorObject> {
    let Value::Object(mut top) = serde_json::from_slice(body).ok()? else { return None };
    let object = match top.remove("error") {
        Some(Value::Object(object)) => Value::Object(object),
        Some(Value::String(message)) => json!({ "message": message }),
        _ if top.get("message").is_some_and(Value::is_string) => Value::Object(top),
        _ => match top.remove("detail")? {
            Value::String(detail) => json!({ "message": detail }),
            detail @ Value::Array(_) => json!({ "message": detail.to_string() }),
            _ => return None,
        },
    };
    let text = |name: &str| match object.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let status = ["status", "code"].iter().find_map(|name| {
        let status = object.get(*name)?;
        let status = status.as_u64().or_else(|| status.as_str()?.parse().ok())?;
        u16::try_from(status).ok().filter(|status| (400..600).contains(status))
    });
    Some(ErrorObject {
        message: text("message").filter(|message| !message.trim().is_empty()),
        kind: text("type"),
        param: text("param"),
        code: text("code"),
        status,
        raw: Bytes::from(object.to_string()),
    })
}

/// What an answer with a status other than success means.
pub(super) fn failure(upstream: &str, status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    let mut failure = classify(upstream, status, headers.get(LOCATION).is_some(), error_in(body));
    failure.wait = asked_wait(headers, SystemTime::now());
    failure.error.retry_after = failure.wait;
    match headers.get("x-should-retry").map(reqwest::header::HeaderValue::as_bytes) {
        Some(b"true") => failure.next = Next::Again,
        Some(b"false") => failure.next = Next::GiveUp,
        _ => {}
    }
    failure
}

/// What an error means that came with a success status: within a stream, or instead of a completion.
pub(super) fn reported(upstream: &str, error: &ErrorObject) -> Failure {
    let words =
        [&error.kind, &error.code].map(|word| word.as_deref().unwrap_or_default().to_ascii_lowercase());
    let says = |what: &str| words.iter().any(|word| word.contains(what));
    let status = match error.status {
        Some(status) => status,
        None if says("rate_limit") || says("quota") => 429,
        None if says("invalid_request") || says("context_length") => 400,
        None if says("overloaded") || says("unavailable") => 503,
        None => 500,
    };
    let copy = ErrorObject {
        raw: error.raw.clone(),
        message: error.message.clone(),
        kind: error.kind.clone(),
        param: error.param.clone(),
        code: error.code.clone(),
        status: error.status,
    };
    classify(upstream, status, false, Some(copy))
}

fn classify(upstream: &str, status: u16, redirects: bool, object: Option<ErrorObject>) -> Failure {
    let has_code = |code: &str| object.as_ref().is_some_and(|o| o.code.as_deref() == Some(code));
    let (next, unwell) = match status {
        429 if has_code("insufficient_quota") => (Next::OtherUpstream, true),
        408 | 409 => (Next::Again, false),
        429 | 500 | 502..=599 => (Next::Again, true),
        404 if names_the_model(object.as_ref()) => (Next::OtherGuess, false),
        401..=405 | 407 | 501 => (Next::OtherUpstream, true),
        400..=499 => (Next::GiveUp, false),
        _ => (Next::OtherUpstream, true),
    };
    let ours = |message: String| ModelError::upstream(message);
    let error = match status {
        401 | 403 => ModelError {
            code: Some("upstream_credentials".to_owned()),
            ..ours(format!("the upstream `{upstream}` refused the gateway's own credentials (HTTP {status})"))
        },
        402 => ours(format!("the upstream `{upstream}` wants to be paid before it answers (HTTP 402)")),
        407 => ours(format!("the proxy before the upstream `{upstream}` refused the gateway (HTTP 407)")),
        404 if names_the_model(object.as_ref()) => ModelError {
            code: Some("model_not_found".to_owned()),
            param: Some("model".to_owned()),
            ..passed_on(upstream, 404, object)
        },
        404 | 405 => ours(format!(
            "the upstream `{upstream}` has no chat completions at its address (HTTP {status}); its `base_url` should \
             probably end in /v1"
        )),
        400..=499 => passed_on(upstream, status, object),
        503 | 529 => {
            ModelError::new(503, "upstream_error", format!("the upstream `{upstream}` is overloaded"))
        }
        504 | 522 | 524 => {
            ModelError::timeout(format!("the upstream `{upstream}` ran into a timeout of its own"))
        }
        300..=399 if redirects => ours(format!(
            "the upstream `{upstream}` redirects to another address (HTTP {status}), which is not followed; set its \
             `base_url` to that address"
        )),
        _ => ours(format!("the upstream `{upstream}` failed (HTTP {status})")),
    };
    Failure { error: Box::new(error), next, wait: None, unwell }
}

/// The upstream's own words, where it has any that can be read.
fn passed_on(upstream: &str, status: u16, object: Option<ErrorObject>) -> ModelError {
    let kind = if status == 429 { "rate_limit_error" } else { "invalid_request_error" };
    let message = format!("the upstream `{upstream}` refused the request (HTTP {status})");
    let Some(object) = object else { return ModelError::new(status, kind, message) };
    ModelError {
        param: object.param,
        code: object.code,
        upstream_error: Some(object.raw),
        ..ModelError::new(status, object.kind.as_deref().unwrap_or(kind), object.message.unwrap_or(message))
    }
}

/// Tells "no such model" from "no such address", which have the same status.
fn names_the_model(object: Option<&ErrorObject>) -> bool {
    object.is_some_and(|object| {
        let texts = [&object.code, &object.message];
        texts.into_iter().flatten().any(|text| text.to_ascii_lowercase().contains("model"))
    })
}

/// The pause an upstream asks for: `retry-after-ms`, or `Retry-After` in seconds or as a date.
fn asked_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    if let Some(wait) = text("retry-after-ms").and_then(number) {
        return duration(wait / 1000.0);
    }
    let after = text(RETRY_AFTER.as_str())?;
    match number(after) {
        Some(seconds) => duration(seconds),
        None => Some(httpdate::parse_http_date(after).ok()?.duration_since(now).unwrap_or_default()),
    }
}

fn unwell(error: ModelError, next: Next) -> Failure {
    Failure { error: Box::new(error), next, wait: None, unwell: true }
}

/// No connection could be made, so nothing was sent.
pub(super) fn unreachable(upstream: &str, address: &str, cause: &str, timed_out: bool) -> Failure {
    warn!(upstream, address, cause, "an upstream cannot be reached");
    let message = format!("the upstream `{upstream}` cannot be reached");
    let error = if timed_out { ModelError::timeout(message) } else { ModelError::upstream(message) };
    unwell(error, Next::Again)
}

/// The connection broke.
pub(super) fn broken(upstream: &str, cause: &str) -> Failure {
    warn!(upstream, cause, "the connection to an upstream broke");
    unwell(ModelError::upstream(format!("the connection to the upstream `{upstream}` broke")), Next::Again)
}

/// Nothing came in time. The upstream may still be at work on the request, so it is not sent there again.
pub(super) fn timed_out(upstream: &str, awaited: &str, limit: Duration) -> Failure {
    let message = format!("the upstream `{upstream}` did not send {awaited} within {} ms", limit.as_millis());
    unwell(ModelError::timeout(message), Next::OtherUpstream)
}

/// A body or event above the configured bound.
pub(super) fn too_large(upstream: &str, limit: usize) -> Failure {
    let message = format!(
        "the upstream `{upstream}` sent more than the {limit} bytes that `llm.max_response_bytes` allows"
    );
    Failure { error: Box::new(ModelError::upstream(message)), next: Next::GiveUp, wait: None, unwell: false }
}

/// Something that is no completion.
pub(super) fn garbage(upstream: &str, media_type: &str, body: &[u8]) -> Failure {
    warn!(
        upstream,
        media_type,
        body = shorten(body),
        "an upstream answered with something else than a chat completion"
    );
    let what = match media_type {
        "" | "application/json" | "text/event-stream" => "something that is no chat completion".to_owned(),
        other => format!("{other} instead of a chat completion"),
    };
    unwell(ModelError::upstream(format!("the upstream `{upstream}` answered with {what}")), Next::Again)
}

/// Something that is no list of models.
pub(super) fn no_model_list(upstream: &str, body: &[u8]) -> Failure {
    warn!(upstream, body = shorten(body), "an upstream answered with something else than its list of models");
    let message = format!("the upstream `{upstream}` answered with something that is no list of models");
    unwell(ModelError::upstream(message), Next::OtherUpstream)
}

/// An event of a stream that is no chunk.
pub(super) fn garbage_event(upstream: &str, data: &[u8]) -> Failure {
    warn!(upstream, data = shorten(data), "an upstream sent an event that is no chunk of a chat completion");
    let message = format!("the upstream `{upstream}` sent an event that is no chunk of a chat completion");
    unwell(ModelError::upstream(message), Next::Again)
}

/// A stream that stopped without saying why.
pub(super) fn ended_early(upstream: &str) -> Failure {
    unwell(ModelError::upstream(format!("the upstream `{upstream}` ended the stream early")), Next::Again)
}

/// Keeps what an upstream said when it refused a request.
pub(super) fn log_refusal(upstream: &str, request_id: &RequestId, status: u16, body: &[u8]) {
    warn!(%request_id, upstream, status, body = shorten(body), "an upstream refused a request");
}

fn shorten(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(LOGGED_BYTES)]);
    let more = if body.len() > LOGGED_BYTES { "..." } else { "" };
    format!("{}{more}", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Failure {
        failure("up", status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn no_status_is_flattened() {
        let object = r#"{"error":{"message":"m","type":"t","param":"p","code":"c"}}"#;
        for (status, told, next) in [
            (400, 400, Next::GiveUp),
            (401, 502, Next::OtherUpstream),
            (403, 502, Next::OtherUpstream),
            (408, 408, Next::Again),
            (409, 409, Next::Again),
            (413, 413, Next::GiveUp),
            (422, 422, Next::GiveUp),
            (429, 429, Next::Again),
            (500, 502, Next::Again),
            (503, 503, Next::Again),
            (504, 504, Next::Again),
            (529, 503, Next::Again),
            (302, 502, Next::OtherUpstream),
        ] {
            let failure = of(status, object);
            assert_eq!((failure.error.status, failure.next), (told, next), "{status}");
            assert_eq!(failure.error.upstream_error.is_some(), (400..500).contains(&told), "{status}");
        }
        let error = of(400, object).error;
        assert_eq!((error.message.as_str(), error.kind.as_str()), ("m", "t"));
        assert_eq!((error.param.as_deref(), error.code.as_deref()), (Some("p"), Some("c")));
        assert_eq!(error.upstream_error.unwrap(), r#"{"message":"m","type":"t","param":"p","code":"c"}"#);
    }

    #[test]
    fn our_credentials_are_our_business() {
        let error = of(401, r#"{"error":{"message":"Incorrect API key provided: sk-abc"}}"#).error;
        assert!(error.message.contains("`up`") && error.message.contains("own credentials"), "{error}");
        assert!(!error.message.contains("sk-abc") && error.upstream_error.is_none());
    }

    #[test]
    fn a_missing_model_is_told_from_a_wrong_address() {
        let missing = of(404, r#"{"error":{"message":"model 'x' not found","type":"api_error"}}"#);
        assert_eq!((missing.error.status, missing.error.code.as_deref()), (404, Some("model_not_found")));
        for body in [r#"{"detail":"Not Found"}"#, "<html>404</html>", ""] {
            let error = of(404, body).error;
            assert!(error.status == 502 && error.message.contains("base_url"), "{body}: {error}");
        }
    }

    #[test]
    fn errors_are_read_in_every_dialect() {
        let message = |body: &str| of(400, body).error.message;
        assert_eq!(message(r#"{"error":"plain"}"#), "plain");
        assert_eq!(message(r#"{"object":"error","message":"flat","code":40303}"#), "flat");
        assert_eq!(message(r#"{"detail":"fastapi"}"#), "fastapi");
        for garbage in ["<html><body>secret</body></html>", "", "[1]", "{}", r#"{"error":null}"#] {
            assert_eq!(message(garbage), "the upstream `up` refused the request (HTTP 400)", "{garbage}");
        }
    }

    #[test]
    fn an_error_with_a_success_status_gets_one() {
        let status = |body: &str| reported("up", &error_in(body.as_bytes()).unwrap()).error.status;
        assert_eq!(status(r#"{"error":{"message":"slow down","code":429}}"#), 429);
        assert_eq!(status(r#"{"error":{"message":"x","type":"rate_limit_error"}}"#), 429);
        assert_eq!(status(r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#), 400);
        assert_eq!(status(r#"{"error":{"message":"boom"}}"#), 502);
    }

    #[test]
    fn pauses_are_read_in_every_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            asked_wait(&headers, now)
        };
        assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(wait("retry-after", "Sun, 06 Nov 1994 08:49:57 GMT"), Some(Duration::from_secs(20)));
        assert_eq!(wait("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT"), Some(Duration::ZERO));
        for bad in ["-1", "soon", "inf", "1e300"] {
            assert_eq!(wait("retry-after", bad), None, "{bad}");
        }
    }

    #[test]
    fn the_upstream_may_decide_about_retries() {
        let mut headers = HeaderMap::new();
        headers.insert("x-should-retry", "false".parse().unwrap());
        assert_eq!(failure("up", 500, &headers, b"").next, Next::GiveUp);
        headers.insert("x-should-retry", "true".parse().unwrap());
        assert_eq!(failure("up", 400, &headers, b"").next, Next::Again);
    }
}
