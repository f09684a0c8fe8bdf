//! Refuses work the gateway cannot or shall not take: 503 while it is stopping, 503 when too much is running.
//!
//! A request counts as running until the last byte of its response is handed over or its client is gone.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::http::error::ApiError;
use crate::http::state::App;

/// Lets `request` through when there is a place for it.
pub(in crate::http) async fn admit(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if app.is_draining() {
        return Err(ApiError::draining());
    }
    let Some(place) = app.try_enter() else {
        return Err(ApiError::overloaded());
    };
    let response = next.run(request).await;
    Ok(response.map(|inner| Body::new(RunningBody { inner, _place: place })))
}

/// A body that keeps its request's place while it is being sent.
struct RunningBody {
    inner: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for RunningBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
