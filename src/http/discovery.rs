//! `/.well-known/oauth-protected-resource`: where clients of the MCP server get tokens, where outside issuers give them out.
//!
//! RFC 9728, as the authorization chapter of the Model Context Protocol wants it. A client finds the document by the
//! `resource_metadata` of a 401 at `/mcp`, or by its place. It says nothing that a caller could not ask the issuer.
//!
//! The gateway's own address is `server.public_url`; without, what the request says it was sent to, if that is a host under
//! which MCP clients may come. Whoever makes up a host is told of it and nobody else: nothing here may be cached.

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use super::error::ApiError;
use super::health::json_bytes;
use super::rebinding;
use super::state::App;

/// Where the documents are; the path of the resource follows.
pub(super) const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The document (RFC 9728, section 2).
#[derive(Serialize)]
struct Metadata<'a> {
    resource: String,
    resource_name: &'static str,
    authorization_servers: Vec<&'a str>,
    /// In the issuers' own words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
    bearer_methods_supported: [&'static str; 1],
}

/// Where tokens for a resource come from.
pub(super) async fn metadata(State(app): State<App>, parts: Parts) -> Result<Response, ApiError> {
    let issuers = app.access().issuers();
    if issuers.is_empty() {
        let message = "no outside issuer gives out tokens for this gateway: use an API key, or log in";
        return Err(ApiError::not_found("no_issuer", message));
    }
    let path = parts.uri.path().strip_prefix(WELL_KNOWN).unwrap_or_default();
    let metadata = Metadata {
        resource: format!("{}{path}", base(&parts, &app)?),
        resource_name: "witgate",
        authorization_servers: issuers.iter().map(|issuer| &*issuer.issuer).collect(),
        scopes_supported: app.access().scopes_for_tools(),
        bearer_methods_supported: ["header"],
    };
    let json = serde_json::to_vec(&metadata).map_err(|error| {
        tracing::error!(%error, "the metadata could not be written as JSON, which is a bug in the gateway");
        ApiError::internal()
    })?;
    let mut response = json_bytes(Bytes::from(json));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What `WWW-Authenticate` says more about the resource of this request: where its metadata are, and which scopes to ask an
/// issuer for. `None` where there is no issuer, or nothing that can be said in a header.
pub(super) fn hint(parts: &Parts, app: &App) -> Option<String> {
    if app.access().issuers().is_empty() {
        return None;
    }
    let (base, path) = (base(parts, app).ok()?, quotable(parts.uri.path()));
    let mut hint = format!("resource_metadata=\"{base}{WELL_KNOWN}{path}\"");
    let scopes = app.access().scopes_for_tools();
    // RFC 6749, section 3.3: a scope has no spaces, quotes and backslashes.
    let is_scope = |scope: &&str| scope.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    let scopes: Vec<&str> = scopes.into_iter().filter(is_scope).collect();
    if !scopes.is_empty() {
        hint.push_str(&format!(", scope=\"{}\"", scopes.join(" ")));
    }
    Some(hint)
}

/// The gateway's own address, without a slash at its end.
fn base(parts: &Parts, app: &App) -> Result<String, ApiError> {
    match app.server().public_url.get() {
        Some(url) => Ok(url.to_owned()),
        None => Ok(format!("http://{}", rebinding::host(parts, app.server())?)),
    }
}

/// A path within quotes: what ends them is written as its number.
fn quotable(path: &str) -> String {
    path.replace('"', "%22").replace('\\', "%5C")
}
