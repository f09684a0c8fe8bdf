//! A request body, and what becomes of the part of it that nobody reads.
//!
//! A request may be answered before its body has arrived: a stranger's, or one that is too large. hyper closes such a
//! connection once the answer is out. A client that is still writing then meets a reset instead of the answer, and one
//! that keeps connections loses its next request to one that is about to close. So what is left is read and thrown
//! away, within a bound of time and of size; only beyond these the connection is closed as before. (RFC 9112, 9.6)

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::EXPECT;
use hyper::{Request, Version};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// How long a body is read that nobody wants.
const LINGER: Duration = Duration::from_secs(5);

/// How much of it is read: twice the largest body that is taken by default.
const LINGER_BYTES: usize = 64 << 20;

/// See the module's words.
pub(super) struct Upload {
    /// `None` once it has ended.
    body: Option<Incoming>,
    /// Where what is left is read; `None` where that is not for us to do.
    lingering: Option<TaskTracker>,
}

impl Upload {
    /// The request, with what is left of its body read by a task of `tasks`.
    pub(super) fn of(request: Request<Incoming>, tasks: &TaskTracker) -> Request<Self> {
        // HTTP/2 has a word for "send no more", and who asks before sending has not sent anything.
        let lingers = request.version() < Version::HTTP_2 && !request.headers().contains_key(EXPECT);
        let lingering = lingers.then(|| tasks.clone());
        request.map(|body| Self { body: Some(body), lingering })
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(body), Some(tasks)) = (self.body.take(), &self.lingering) else { return };
        if !body.is_end_stream()
            && let Ok(runtime) = Handle::try_current()
        {
            // It ends by itself, and with its connection.
            tasks.spawn_on(throw_away(body), &runtime);
        }
    }
}

/// Reads `body` to its end or to a bound.
async fn throw_away<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) {
    let reading = async {
        let mut left = LINGER_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Either way the body is dropped now, and with it the connection's reading side where it has not ended.
    let _ended = tokio::time::timeout(LINGER, reading).await;
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_body_is_read_for_ever() {
        let piece = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 65_536])));
        throw_away(StreamBody::new(futures_util::stream::repeat_with(piece))).await;
        throw_away(StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>()))
            .await;
    }
}
