//! Bodies with bounds: how many bytes may pass, and how long the peer may be silent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

/// What a guest sends. Ends with an error where it is more than allowed, or not what its `Content-Length` says.
pub(super) struct RequestBody {
    inner: WasiBody,
    left: u64,
    declared: Option<u64>,
    sent: u64,
    too_large: Arc<AtomicBool>,
}

impl RequestBody {
    /// `too_large` is set when the guest sends more than `max` bytes: the HTTP library keeps errors of bodies to itself.
    pub(super) fn new(inner: WasiBody, max: u64, declared: Option<u64>, too_large: Arc<AtomicBool>) -> Self {
        Self { inner, left: max, declared, sent: 0, too_large }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()?;
        let Some(frame) = frame else {
            let complete = self.declared.is_none_or(|declared| declared == self.sent);
            return Poll::Ready((!complete).then_some(Err(Error::HttpRequestBodySize(Some(self.sent)))));
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.sent += length;
        if self.declared.is_some_and(|declared| self.sent > declared) {
            return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(self.sent)))));
        }
        let Some(left) = self.left.checked_sub(length) else {
            self.too_large.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(self.sent)))));
        };
        self.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.declared.map_or_else(|| self.inner.size_hint(), SizeHint::with_exact)
    }
}

/// What a peer answers. Holds the request's place among those of the call until the body has ended or is dropped.
pub(super) struct ResponseBody {
    inner: Incoming,
    max: u64,
    left: u64,
    between_bytes: Duration,
    deadline: Instant,
    silence: Pin<Box<Sleep>>,
    place: Option<OwnedSemaphorePermit>,
}

impl ResponseBody {
    pub(super) fn new(
        inner: Incoming,
        max: u64,
        between_bytes: Duration,
        deadline: Instant,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let silence = Box::pin(sleep_until(deadline.min(Instant::now() + between_bytes)));
        Self { inner, max, left: max, between_bytes, deadline, silence, place: Some(place) }
    }

    fn end(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.place = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => return self.end(received_error(&error)),
            Poll::Ready(None) => {
                self.place = None;
                return Poll::Ready(None);
            }
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(cx));
                return self.end(Error::ConnectionReadTimeout);
            }
        };
        let now = Instant::now();
        // A peer that drips would never be caught by its silence.
        if now >= self.deadline {
            return self.end(Error::HttpResponseTimeout);
        }
        let Some(left) = self.left.checked_sub(frame.data_ref().map_or(0, |data| data.len() as u64)) else {
            let max = self.max;
            return self.end(Error::HttpResponseBodySize(Some(max)));
        };
        self.left = left;
        let until = self.deadline.min(now + self.between_bytes);
        self.silence.as_mut().reset(until);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What an error of the HTTP library means for the reader of an answer.
pub(super) fn received_error(error: &hyper::Error) -> Error {
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_timeout() {
        Error::ConnectionReadTimeout
    } else if error.is_incomplete_message() {
        Error::HttpResponseIncomplete
    } else if error.is_closed() || error.is_canceled() {
        Error::ConnectionTerminated
    } else {
        Error::HttpProtocolError
    }
}
