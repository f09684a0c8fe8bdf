//! `/mcp`, `/mcp/{server}` and `/api/v1/mcp`: where the MCP server is mounted.
//!
//! This side knows the caller, the limits and the way of errors; the protocol is spoken on the other side of
//! [`McpEndpoint`].

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;

use super::error::ApiError;
use super::extract::{self, PathId};
use super::rebinding;
use super::state::App;
use super::{caller, discovery};
use crate::access::{AccessScope, Door};

/// An MCP server that speaks streamable HTTP.
#[async_trait]
pub trait McpEndpoint: Send + Sync {
    /// Whether there is an MCP server or plugin called `server` of which `scope` may see anything.
    fn shows(&self, scope: &AccessScope, server: &str) -> bool;

    /// Answers a request of the caller of `scope`, about one server or about all of them.
    async fn answer(
        &self,
        scope: AccessScope,
        server: Option<&str>,
        request: axum::http::Request<Bytes>,
    ) -> axum::http::Response<BoxBody<Bytes, Infallible>>;

    /// Ends what only waits for news: the gateway takes no new work.
    fn drain(&self);
}

/// No MCP server at all: whatever is asked for is not there.
#[must_use]
pub fn none() -> Arc<dyn McpEndpoint> {
    Arc::new(Nowhere)
}

/// No MCP server.
struct Nowhere;

#[async_trait]
impl McpEndpoint for Nowhere {
    fn shows(&self, _scope: &AccessScope, _server: &str) -> bool {
        false
    }

    async fn answer(
        &self,
        _scope: AccessScope,
        _server: Option<&str>,
        _request: axum::http::Request<Bytes>,
    ) -> axum::http::Response<BoxBody<Bytes, Infallible>> {
        let mut response = axum::http::Response::default();
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    }

    fn drain(&self) {}
}

/// Somebody who may use tools over MCP: always authenticated, with the scope `tools:list`, and no stranger's web page.
pub(super) struct McpCaller(AccessScope);

impl FromRequestParts<App> for McpCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        rebinding::check(parts, app.server(), app.cors_config()).map_err(|refusal| {
            if let Some(rule) = refusal.rule() {
                caller::note_refused_page(parts, app, rule);
            }
            ApiError::from(refusal)
        })?;
        let entered = Box::pin(caller::enter(parts, app, Door::Mcp)).await;
        entered.map(Self).map_err(|refusal| refusal.with_hint(|| discovery::hint(parts, app)))
    }
}

/// All tools.
pub(super) async fn all(
    State(app): State<App>,
    McpCaller(scope): McpCaller,
    request: Request,
) -> Result<Response, ApiError> {
    answer(&app, scope, None, request).await
}

/// What one MCP server or plugin has, under its own names.
pub(super) async fn one(
    State(app): State<App>,
    McpCaller(scope): McpCaller,
    PathId(server): PathId,
    request: Request,
) -> Result<Response, ApiError> {
    if !app.mcp().shows(&scope, &server) {
        return Err(ApiError::mcp_server_not_found());
    }
    answer(&app, scope, Some(&server), request).await
}

async fn answer(
    app: &App,
    scope: AccessScope,
    server: Option<&str>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = match parts.method {
        Method::POST => extract::read_whole(app, &parts.headers, body).await?,
        _ => Bytes::new(),
    };
    let response = app.mcp().answer(scope, server, Request::from_parts(parts, body)).await;
    Ok(response.map(Body::new))
}
