//! `GET /docs`: the document as a page, Swagger UI, from the binary itself: nothing is fetched from elsewhere.
//!
//! A key entered under "Authorize" is used for the calls made from the page and to ask for the document again, so that
//! the tools of that key appear. It stays in the page and is gone with it.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa_swagger_ui::Config;

use crate::http::error::ApiError;
use crate::http::extract::PathId;

/// No script, style or connection but those of the gateway itself, and no page around this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("docs/page.html");
const SCRIPT: &str = include_str!("docs/page.js");

/// The files of Swagger UI that the page uses.
const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];

/// This API as a page to read and try
#[utoipa::path(
    get, path = "/docs", tag = "about", operation_id = "docs",
    responses((status = 200, description = "a page", body = String, content_type = "text/html"))
)]
pub(in crate::http) async fn page() -> Response {
    with_headers("text/html; charset=utf-8", PAGE.as_bytes())
}

/// A file of that page
#[utoipa::path(
    get, path = "/docs/{file}", tag = "about", operation_id = "docsFile",
    params(("file" = String, Path, description = "its name", example = "page.js")),
    responses(
        (status = 200, description = "a script, style or picture", content(
            (String = "text/javascript"), (String = "text/css"), (String = "image/png"),
        )),
        (status = 400, description = "The name is not UTF-8 text", body = super::schemas::ErrorDetail),
        (status = 404, description = "There is no such file", body = super::schemas::ErrorDetail),
    )
)]
pub(in crate::http) async fn file(PathId(name): PathId) -> Result<Response, ApiError> {
    if name == "page.js" {
        return Ok(with_headers("text/javascript; charset=utf-8", SCRIPT.as_bytes()));
    }
    let known = FILES.contains(&name.as_str());
    let found = known.then(|| utoipa_swagger_ui::serve(&name, Arc::new(Config::from("openapi.json"))));
    let found = found.and_then(|served| served.ok().flatten());
    let found = found.ok_or_else(|| {
        ApiError::not_found("unknown_url", "there is no such file; the page is at GET /docs")
    })?;
    Ok(with_headers(&found.content_type, &found.bytes))
}

fn with_headers(content_type: &str, body: &[u8]) -> Response {
    let mut response = body.to_vec().into_response();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, content_type);
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CACHE_CONTROL, "no-cache");
    response
}
