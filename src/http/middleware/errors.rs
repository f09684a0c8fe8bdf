//! Gives every error its body, in the form that clients of its path understand.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::http::error::ApiError;

/// Renders the [`ApiError`] of a response, if it has one.
pub(in crate::http) async fn render(request: Request, next: Next) -> Response {
    let speaks_openai = request.uri().path().strip_prefix("/v1").is_some_and(|rest| {
        // `/v1x` is not ours to speak OpenAI on.
        rest.is_empty() || rest.starts_with('/')
    });
    let may_close = request.version() < Version::HTTP_2;
    let response = next.run(request).await;
    let (mut parts, body) = response.into_parts();
    let Some(error) = parts.extensions.remove::<ApiError>() else {
        return Response::from_parts(parts, body);
    };
    error.log();
    let text = if speaks_openai { error.openai_body() } else { error.detail_body() };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(header::CONTENT_LENGTH);
    if may_close && error.closes() {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Response::from_parts(parts, Body::from(text))
}
