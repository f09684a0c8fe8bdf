//! A call told while it runs: `progress` and `log` events, then one `result` event with the answer.
//!
//! Promises: a refusal is a status, as it is without a stream; the call goes on at its own pace, however slowly its client
//! reads; the result always comes, and last. Dropping the body (the client went away) cancels the call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span};

use super::call::{CallAnswer, call_site};
use super::progress::ProgressQueue;
use crate::access::{AccessError, AccessScope};
use crate::domain::{ProgressListener, ToolError, ToolResult};
use crate::http::error::ApiError;
use crate::http::sse::{self, Frames};
use crate::http::state::App;
use crate::tools::RegisteredTool;

const STREAM: &str = "text/event-stream";
const JSON: &str = "application/json";

/// How a call ended; `None` where it was not allowed, which its stream never sees.
type Outcome = Option<Result<ToolResult, ToolError>>;

/// Whether `Accept` puts a stream before JSON: by its `q`, and among equals by what stands first.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut best = ("", 0.0);
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let Some(kind) = [STREAM, JSON].into_iter().find(|kind| name.eq_ignore_ascii_case(kind)) else {
            continue;
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        if quality > best.1 {
            best = (kind, quality);
        }
    }
    best.0 == STREAM
}

/// Begins a call of `tool` whose response is a stream.
///
/// # Errors
/// The refusal of the access chain.
pub(super) async fn begin(
    app: &App,
    scope: AccessScope,
    tool: Arc<RegisteredTool>,
    arguments: String,
) -> Result<Response, AccessError> {
    let place = scope.open_stream()?;
    let queue = Arc::new(ProgressQueue::default());
    let told = Arc::clone(&queue);
    let site = call_site(ProgressListener::new(move |progress| told.push(&progress)));
    let toolbox = app.toolbox().clone();
    let (decide, decided) = oneshot::channel();
    // A task of its own: a client that does not read would otherwise hold up the call itself.
    let call = async move {
        match toolbox.permit(&scope, &tool, &arguments, site).await {
            Ok(call) => {
                // Whoever waits for this owns the task, so it is there.
                let _ = decide.send(Ok(()));
                Some(call.run().await)
            }
            Err(refusal) => {
                let _ = decide.send(Err(refusal));
                None
            }
        }
    };
    let call = AbortOnDropHandle::new(tokio::spawn(call.instrument(Span::current())));
    // Without a word the task has failed, which the stream tells.
    decided.await.unwrap_or(Ok(()))?;
    let frames = CallFrames { queue, call: Some(call), end: None };
    Ok(sse::of_frames(frames, app.server().keep_alive(), place))
}

struct CallFrames {
    queue: Arc<ProgressQueue>,
    /// `None` once it has ended.
    call: Option<AbortOnDropHandle<Outcome>>,
    /// The last frame, once it is known and until it is sent.
    end: Option<Bytes>,
}

impl Frames for CallFrames {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        // A tool may go on telling after its answer; nobody wants to know.
        if self.is_over() {
            return Poll::Ready(None);
        }
        if let Some(call) = &mut self.call
            && let Poll::Ready(ended) = Pin::new(call).poll(cx)
        {
            self.call = None;
            self.end = Some(last_frame(&ended));
        }
        match self.queue.poll_next(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending if self.call.is_some() => Poll::Pending,
            Poll::Pending => Poll::Ready(self.end.take()),
        }
    }

    fn is_over(&self) -> bool {
        self.call.is_none() && self.end.is_none()
    }
}

fn last_frame(ended: &Result<Outcome, JoinError>) -> Bytes {
    let answer = match ended {
        Ok(Some(Ok(result))) => serde_json::to_vec(&CallAnswer::of(result)),
        Ok(Some(Err(error))) => serde_json::to_vec(&CallAnswer::failed(error.message.clone())),
        Ok(None) | Err(_) => {
            tracing::error!(?ended, "a streamed tool call broke off, which is a bug in the gateway");
            return sse::frame(Some("error"), &ApiError::internal().detail_body());
        }
    };
    match answer {
        Ok(json) => sse::frame(Some("result"), &json),
        Err(error) => {
            tracing::error!(%error, "a result could not be written as JSON, which is a bug in the gateway");
            sse::frame(Some("error"), &ApiError::internal().detail_body())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_stands_first_or_weighs_more_is_wanted() {
        for (accept, wanted) in [
            ("text/event-stream", true),
            ("*/*", false),
            ("", false),
            ("text/*", false),
            ("application/json, text/event-stream", false),
            ("text/event-stream, application/json", true),
            ("application/json;q=0.9, Text/Event-Stream", true),
            ("text/event-stream; q=0.1, application/json", false),
            ("text/event-stream;q=0", false),
            ("text/html, text/event-stream; charset=utf-8; q=0.2", true),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(is_wanted(&headers), wanted, "{accept}");
        }
    }
}
