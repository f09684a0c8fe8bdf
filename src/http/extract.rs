//! What handlers take out of a request beside the caller: which tools they want, a JSON body, a page of a list.

use std::error::Error;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;

use super::error::ApiError;
use super::middleware::digest::DigestError;
use super::state::App;
use crate::llm::ToolChoice;

/// Sessions in a page when the client does not say, and the most it can ask for.
const DEFAULT_PAGE: u64 = 50;
const LARGEST_PAGE: u64 = 200;

/// Which of the gateway's tools the client wants: the `x-gateway-tools` header, `none` or a list of names.
#[derive(Debug)]
pub(super) struct WantedTools(pub(super) ToolChoice);

impl FromRequestParts<App> for WantedTools {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("x-gateway-tools") else {
            return Ok(Self(ToolChoice::All));
        };
        let text = value.to_str().map_err(|_| {
            let message =
                "the header x-gateway-tools must be `none`, `all` or a comma-separated list of tool names";
            ApiError::bad_request(Some("x-gateway-tools"), message)
        })?;
        Ok(Self(tool_choice(text)))
    }
}

fn tool_choice(text: &str) -> ToolChoice {
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    match names.as_slice() {
        // An empty list asks for no tools: a client that joins its list of names may well have none.
        [] => ToolChoice::None,
        [only] if only.eq_ignore_ascii_case("none") => ToolChoice::None,
        [only] if *only == "*" || only.eq_ignore_ascii_case("all") => ToolChoice::All,
        names => ToolChoice::Only(names.iter().map(|&name| name.to_owned()).collect()),
    }
}

/// True when the client wants to see tool progress as extra chunks: `x-gateway-events: 1`.
pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    headers.get("x-gateway-events").is_some_and(|value| value == "1" || value == "true")
}

/// The bytes of a body that claims to be JSON, within the limits of size and time. Not parsed yet.
#[derive(Debug)]
pub(super) struct JsonBody(pub(super) Bytes);

impl FromRequest<App> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::not_json());
        }
        let (parts, body) = request.into_parts();
        read_whole(app, &parts.headers, body).await.map(Self)
    }
}

/// The whole of a body, within the limits of size and time.
pub(super) async fn read_whole(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    read_within(app, headers, body, app.limits().max_body_bytes, ApiError::body_too_large).await
}

/// The whole of a body that claims to be JSON and has to be small, within the limits of size and time.
pub(super) async fn read_json_at_most(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Bytes, ApiError> {
    if !is_json(headers) {
        return Err(ApiError::not_json());
    }
    read_at_most(app, headers, body, limit).await
}

/// The whole of a body that has to be small, within the limits of size and time.
pub(super) async fn read_at_most(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Bytes, ApiError> {
    read_within(app, headers, body, limit, ApiError::small_body_too_large).await
}

async fn read_within(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    too_large: fn(usize) -> ApiError,
) -> Result<Bytes, ApiError> {
    if content_length(headers).is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let timeout = app.limits().body_timeout();
    match tokio::time::timeout(timeout, read(body, limit, too_large)).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::body_timeout(timeout)),
    }
}

async fn read(body: Body, limit: usize, too_large: fn(usize) -> ApiError) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Err(error) => match cause::<DigestError>(&*error) {
            Some(digest) => Err(digest.clone().into()),
            None => {
                tracing::debug!(%error, "the request body broke off");
                Err(ApiError::bad_request(None, "the request body could not be read to its end"))
            }
        },
    }
}

/// The error of type `T` behind `error`, if that is why.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The `{id}` of a path, decoded.
#[derive(Debug)]
pub(super) struct PathId(pub(super) String);

impl FromRequestParts<App> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(id) = path.map_err(|_| {
            ApiError::bad_request(Some("id"), "the id in the path is not UTF-8 text in percent-encoding")
        })?;
        Ok(Self(id))
    }
}

/// `?limit=&offset=` of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) offset: u64,
    pub(super) limit: u64,
}

impl FromRequestParts<App> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Wanted {
            limit: Option<u64>,
            offset: Option<u64>,
        }
        let wanted = Query::<Wanted>::from_request_parts(parts, app).await;
        let Query(Wanted { limit, offset }) = wanted.map_err(|_| {
            ApiError::bad_request(
                None,
                "`limit` and `offset` in the query must be whole numbers, each given once",
            )
        })?;
        let limit = limit.unwrap_or(DEFAULT_PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            let message = format!("`limit` must be between 1 and {LARGEST_PAGE}, got {limit}");
            return Err(ApiError::bad_request(Some("limit"), message));
        }
        Ok(Self { offset: offset.unwrap_or(0), limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn tools_are_named_or_none() {
        assert_eq!(tool_choice(" None "), ToolChoice::None);
        assert_eq!(tool_choice(""), ToolChoice::None);
        assert_eq!(tool_choice("all"), ToolChoice::All);
        assert_eq!(tool_choice("a, b,,"), ToolChoice::Only(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn json_has_many_spellings_and_forms_have_none() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
            assert!(is_json(&headers(&[("content-type", good)])), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
            assert!(!is_json(&headers(&[("content-type", bad)])), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
