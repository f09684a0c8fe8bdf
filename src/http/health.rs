//! `GET /`, `GET /healthz` and `GET /readyz`: hello, alive, ready.
//!
//! `/healthz` is 200 as long as the process answers. `/readyz` is 503 while the gateway is stopping or something it
//! cannot do without is gone; a degraded component (one MCP server of several is down) keeps 200 and says so.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::openapi::schemas;
use super::state::App;

/// Longest time the components get to report; one that hangs is not ready.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Reports the state of what the gateway is made of.
#[async_trait]
pub trait Readiness: Send + Sync {
    /// Every component with its state, by name. Public: no secrets, no addresses, no inner error texts.
    async fn components(&self) -> BTreeMap<&'static str, Component>;
}

/// The state of one component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Component {
    /// How it is.
    pub status: Health,
    /// Numbers and names that explain it.
    #[serde(flatten)]
    pub detail: Value,
}

/// How a component is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Ready,
    /// Working in part.
    Degraded,
    /// Not working: the gateway is not ready.
    Unavailable,
}

/// Name, version, links
#[utoipa::path(
    get, path = "/", tag = "about", operation_id = "welcome",
    responses((status = 200, description = "hello", body = schemas::Welcome))
)]
pub(super) async fn welcome() -> Response {
    let links = json!({
        "chat": "/chat",
        "sessions": "/chat/sessions",
        "models": "/v1/models",
        "chat_completions": "/v1/chat/completions",
        "health": "/healthz",
        "readiness": "/readyz",
        "metrics": "/metrics",
        "plugins": "/api/v1/plugins",
        "tools": "/api/v1/mcp/tools",
        "mcp": "/mcp",
        "login": "/api/v1/login/access-token",
        "keys": "/api/v1/keys",
        "users": "/api/v1/users",
        "openapi": "/openapi.json",
        "docs": "/docs",
    });
    json_response(&json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "message": "Welcome to witgate: chat with language models that use MCP tools.",
        "links": links,
    }))
}

/// Whether the process answers
#[utoipa::path(
    get, path = "/healthz", tag = "about", operation_id = "alive",
    responses((status = 200, description = "it does", body = schemas::Alive))
)]
pub(super) async fn alive() -> Response {
    json_response(&json!({"status": "ok"}))
}

/// Whether the gateway is ready, and how its parts are
#[utoipa::path(
    get, path = "/readyz", tag = "about", operation_id = "ready",
    responses(
        (status = 200, description = "ready, or degraded", body = schemas::ReadinessReport),
        (status = 503, description = "not ready, or stopping", body = schemas::ReadinessReport),
    )
)]
pub(super) async fn ready(State(app): State<App>) -> Response {
    let report = tokio::time::timeout(REPORT_TIMEOUT, app.readiness().components()).await;
    let (mut status, worst) = match &report {
        Ok(components) => {
            let worst = components.values().map(|c| c.status).max().unwrap_or(Health::Ready);
            (json!(worst), worst)
        }
        Err(_) => (json!(Health::Unavailable), Health::Unavailable),
    };
    if app.is_draining() {
        status = json!("draining");
    }
    let body =
        json!({"status": status, "in_flight": app.running(), "components": report.unwrap_or_default()});
    let mut response = json_response(&body);
    if app.is_draining() || worst == Health::Unavailable {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// A 200 with `value` as JSON.
pub(super) fn json_response(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json_bytes(body.into()),
        Err(error) => {
            tracing::error!(%error, "a response could not be written as JSON, which is a bug in the gateway");
            ApiError::internal().into_response()
        }
    }
}

/// A 200 whose body is JSON text already.
pub(super) fn json_bytes(body: bytes::Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
