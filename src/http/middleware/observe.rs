//! Gives every request its id, its log span, its line in the access log and its place in the metrics.
//!
//! The id is the client's `x-request-id` if that is sane, else a fresh one; the response carries it. The span also
//! covers the time the body is being sent, so that a streamed turn's log lines have the id too. Queries and headers
//! are never logged: they may hold keys.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::access::{RateLine, RateReport, RateSlot};
use crate::domain::RequestId;
use crate::http::state::App;

/// The access log's own name, so that a log filter can leave it out: `info,witgate::access_log=off`.
const ACCESS_LOG: &str = "witgate::access_log";

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs `request` within its span and logs how it ended.
pub(in crate::http) async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = id_of(request.headers());
    // The highest level, so that no log filter can take the id off a line that is shown.
    let span = tracing::error_span!("request", request_id = %id, principal = Empty);
    let line = AccessLine {
        started: Instant::now(),
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        route: request.extensions().get().cloned(),
        status: None,
        complete: false,
        span: span.clone(),
        app,
    };
    let header = HeaderValue::from_str(id.as_str()).ok();
    request.extensions_mut().insert(id);
    let rate_slot = RateSlot::default();
    request.extensions_mut().insert(rate_slot.clone());
    let mut response = next.run(request).instrument(span).await;
    if let Some(header) = header {
        response.headers_mut().insert(X_REQUEST_ID, header);
    }
    if let Some(rates) = rate_slot.get() {
        tell_limits(rates.report(), response.headers_mut());
    }
    let status = response.status();
    response.map(|inner| Body::new(ObservedBody::new(inner, line, status)))
}

/// The headers of OpenAI's API for callers with limits.
fn tell_limits(report: RateReport, headers: &mut HeaderMap) {
    let mut tell = |names: [HeaderName; 3], line: Option<RateLine>| {
        let Some(line) = line else { return };
        let [limit, remaining, reset] = names;
        headers.insert(limit, HeaderValue::from(line.limit));
        headers.insert(remaining, HeaderValue::from(line.remaining));
        if let Ok(text) = HeaderValue::try_from(line.reset_text()) {
            headers.insert(reset, text);
        }
    };
    tell(
        [
            HeaderName::from_static("x-ratelimit-limit-requests"),
            HeaderName::from_static("x-ratelimit-remaining-requests"),
            HeaderName::from_static("x-ratelimit-reset-requests"),
        ],
        report.requests,
    );
    tell(
        [
            HeaderName::from_static("x-ratelimit-limit-tokens"),
            HeaderName::from_static("x-ratelimit-remaining-tokens"),
            HeaderName::from_static("x-ratelimit-reset-tokens"),
        ],
        report.tokens,
    );
}

fn id_of(headers: &HeaderMap) -> RequestId {
    let sent = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    sent.and_then(RequestId::parse).unwrap_or_else(RequestId::generate)
}

/// Writes its line when the request is over, however it ended.
struct AccessLine {
    started: Instant,
    method: Method,
    path: String,
    /// `None` where nothing is at the path.
    route: Option<MatchedPath>,
    /// `None` until there is a response.
    status: Option<StatusCode>,
    complete: bool,
    span: Span,
    app: App,
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let Self { method, path, status, .. } = self;
        let took = self.started.elapsed();
        let route = self.route.as_ref().map(MatchedPath::as_str);
        self.app.requests().record(route, method, *status, took);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let status = status.map(|status| status.as_u16());
        self.span.in_scope(|| match (status, self.complete) {
            (Some(status), true) => {
                tracing::info!(
                    target: ACCESS_LOG, %method, path, status, duration_ms,
                    "{method} {path} {status} in {duration_ms} ms"
                );
            }
            _ => tracing::info!(
                target: ACCESS_LOG, %method, path, status, duration_ms,
                "{method} {path} left by its client after {duration_ms} ms"
            ),
        });
    }
}

/// A body that is polled within its request's span and completes its access line.
struct ObservedBody {
    inner: Body,
    line: AccessLine,
}

impl Drop for ObservedBody {
    fn drop(&mut self) {
        // Within the span, since dropping a stream cancels its turn, which may have something to say.
        let _entered = self.line.span.enter();
        self.inner = Body::empty();
    }
}

impl ObservedBody {
    fn new(inner: Body, mut line: AccessLine, status: StatusCode) -> Self {
        line.status = Some(status);
        line.complete = inner.is_end_stream();
        Self { inner, line }
    }
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let _entered = this.line.span.enter();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || this.inner.is_end_stream() {
            this.line.complete = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
