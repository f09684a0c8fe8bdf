//! Server-sent events: the events of a turn, or whatever else comes as frames, as a response body.
//!
//! Promises: every event is one frame, so that it reaches the client whole; silence is broken by comments; a failure
//! after the first byte is one event and the end; the body ends at once after the last event. Dropping the body (the
//! client went away) drops the turn.
//! Source: WHATWG HTML, "Server-sent events".

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use tokio::time::{Instant, Sleep};

use super::error::ApiError;
use crate::access::StreamPermit;
use crate::chat::{ReplyEvent, ReplyStream};

const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// How an API writes the events of a turn.
pub(super) trait Encoder: Send + Unpin + 'static {
    /// The event as the client shall see it, framed; `None` when it is not shown at all.
    fn event(&mut self, event: ReplyEvent) -> Option<Bytes>;

    /// A failure, framed; nothing comes after it.
    fn error(&mut self, error: &ApiError) -> Bytes;
}

/// What a stream of events is made of: frames that are ready to be sent.
pub(super) trait Frames: Send + Unpin + 'static {
    /// The next frame; `None` after the last.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// True once there will be none any more.
    fn is_over(&self) -> bool;
}

/// A response that streams `events` through `encoder`, and keeps its `place` among the caller's streams until it ends.
pub(super) fn response<E: Encoder>(
    events: ReplyStream,
    encoder: E,
    keep_alive: Duration,
    place: StreamPermit,
) -> Response {
    of_frames(Turn { events: Some(events), encoder }, keep_alive, place)
}

/// A response that streams `frames`, with its `place` as above.
pub(super) fn of_frames<F: Frames>(frames: F, keep_alive: Duration, place: StreamPermit) -> Response {
    let silence = Box::pin(tokio::time::sleep(keep_alive));
    let body = SseBody { frames, silence, keep_alive, _place: place };
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would otherwise collect the stream before it passes it on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// `data: {json}` as one event, preceded by `event: {name}` if there is one. One allocation.
pub(super) fn frame(name: Option<&str>, json: &[u8]) -> Bytes {
    // Exactly as long as the frame: with a byte to spare, `freeze` would allocate once more.
    let mut out = BytesMut::with_capacity(json.len() + name.map_or(0, |name| name.len() + 8) + 8);
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"data: ");
    let start = out.len();
    out.extend_from_slice(json);
    // A line break would end the field. In JSON it can only be white space between tokens.
    if memchr::memchr2(b'\n', b'\r', json).is_some() {
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    out.extend_from_slice(b"\n\n");
    out.freeze()
}

/// A comment that clients skip. `text` must not hold line breaks; control characters are dropped.
pub(super) fn comment(text: &str) -> Bytes {
    let safe: String = text.chars().filter(|c| !c.is_control()).collect();
    Bytes::from(format!(": {safe}\n\n"))
}

struct SseBody<F> {
    frames: F,
    silence: Pin<Box<Sleep>>,
    keep_alive: Duration,
    _place: StreamPermit,
}

impl<F: Frames> HttpBody for SseBody<F> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = match this.frames.poll_frame(cx) {
            Poll::Ready(Some(frame)) => frame,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if this.silence.as_mut().poll(cx).is_pending() => return Poll::Pending,
            Poll::Pending => KEEP_ALIVE,
        };
        this.silence.as_mut().reset(Instant::now() + this.keep_alive);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_over()
    }
}

/// The events of a turn as frames.
struct Turn<E> {
    /// `None` once the last event is out.
    events: Option<ReplyStream>,
    encoder: E,
}

impl<E: Encoder> Frames for Turn<E> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(events) = self.events.as_mut() else { return Poll::Ready(None) };
            let framed = match ready!(events.as_mut().poll_next(cx)) {
                Some(Ok(event)) => {
                    if matches!(event, ReplyEvent::Done(_)) {
                        self.events = None;
                    }
                    self.encoder.event(event)
                }
                Some(Err(error)) => Some(self.fail(&error.into())),
                None => Some(self.fail(&ApiError::reply_cut())),
            };
            if framed.is_some() {
                return Poll::Ready(framed);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.events.is_none()
    }
}

impl<E: Encoder> Turn<E> {
    fn fail(&mut self, error: &ApiError) -> Bytes {
        error.log();
        self.events = None;
        self.encoder.error(error)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use futures_util::stream;
    use http_body_util::BodyExt;

    use super::*;
    use crate::chat::{ChatError, ChatErrorKind, TurnSummary};
    use crate::domain::ToolCall;

    /// Shows the kind of each event; tool starts are not shown.
    struct Kinds;

    impl Encoder for Kinds {
        fn event(&mut self, event: ReplyEvent) -> Option<Bytes> {
            match event {
                ReplyEvent::ToolStarted(_) => None,
                ReplyEvent::Done(_) => Some(Bytes::from_static(b"done")),
                _ => Some(Bytes::from_static(b"event")),
            }
        }

        fn error(&mut self, _: &ApiError) -> Bytes {
            Bytes::from_static(b"error")
        }
    }

    fn started() -> Result<ReplyEvent, ChatError> {
        Ok(ReplyEvent::ToolStarted(ToolCall { id: "c".into(), name: "t".into(), arguments: "{}".into() }))
    }

    async fn frames(events: ReplyStream) -> Vec<Bytes> {
        let mut body = response(events, Kinds, Duration::from_secs(10), StreamPermit::default()).into_body();
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        frames
    }

    #[tokio::test]
    async fn ends_at_once_after_the_last_event() {
        // Whatever an engine may do after `Done`, the client is not kept waiting for it.
        let events = stream::iter([started(), Ok(ReplyEvent::Done(TurnSummary::default()))]);
        assert_eq!(frames(Box::pin(events.chain(stream::pending()))).await, ["done"]);
    }

    #[tokio::test]
    async fn a_failure_and_a_missing_end_are_told() {
        let failed = Err(ChatError::from(ChatErrorKind::SessionStore));
        assert_eq!(frames(Box::pin(stream::iter([failed]).chain(stream::pending()))).await, ["error"]);
        assert_eq!(frames(Box::pin(stream::iter([started()]))).await, ["error"]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken() {
        let later = stream::once(async {
            tokio::time::sleep(Duration::from_secs(25)).await;
            Ok(ReplyEvent::Done(TurnSummary::default()))
        });
        assert_eq!(frames(Box::pin(later)).await, [KEEP_ALIVE, KEEP_ALIVE, Bytes::from_static(b"done")]);
    }

    #[test]
    fn a_frame_is_one_event_whatever_the_json_looks_like() {
        assert_eq!(frame(None, b"{\n\"a\":\r\n1}"), &b"data: { \"a\":  1}\n\n"[..]);
        assert_eq!(frame(Some("delta"), b"{}"), &b"event: delta\ndata: {}\n\n"[..]);
        assert_eq!(comment("tool a\n\ndata: x\r started"), &b": tool adata: x started\n\n"[..]);
    }
}
