//! `/api/v1/plugins`: what is loaded, what it may do and how it does, and a look at the folder on request.
//!
//! For operators only: what plugins there are says much about how a gateway is guarded.

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::caller::Operator;
use super::error::ApiError;
use super::extract::PathId;
use super::health::json_response;
use super::openapi::schemas;
use super::state::App;
use crate::plugin_host::{PluginHost, PluginReport, ReloadError, ReloadReport};

/// The plugins as their operator sees them.
#[async_trait]
pub trait PluginAdmin: Send + Sync {
    /// The generation that serves, and every plugin by name.
    fn reports(&self) -> (u64, Vec<PluginReport>);

    /// What else there is to know of the folder.
    fn warnings(&self) -> Vec<String>;

    /// Looks at the folder now.
    ///
    /// # Errors
    /// When the look does not happen in time.
    async fn reload(&self) -> Result<ReloadReport, ReloadError>;
}

#[async_trait]
impl PluginAdmin for PluginHost {
    fn reports(&self) -> (u64, Vec<PluginReport>) {
        (self.catalog().generation, PluginHost::reports(self))
    }

    fn warnings(&self) -> Vec<String> {
        PluginHost::warnings(self).to_vec()
    }

    async fn reload(&self) -> Result<ReloadReport, ReloadError> {
        PluginHost::reload(self).await
    }
}

/// No plugins at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPlugins;

#[async_trait]
impl PluginAdmin for NoPlugins {
    fn reports(&self) -> (u64, Vec<PluginReport>) {
        (0, Vec::new())
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    async fn reload(&self) -> Result<ReloadReport, ReloadError> {
        Err(ReloadError::Stopped)
    }
}

/// The plugins: state, errors, grants, calls, times, memory
#[utoipa::path(
    get, path = "/api/v1/plugins", tag = "operations", operation_id = "listPlugins",
    responses((status = 200, description = "the plugins", body = schemas::PluginList))
)]
pub(super) async fn list(State(app): State<App>, _operator: Operator) -> Response {
    let (generation, plugins) = app.plugins().reports();
    let warnings = app.plugins().warnings();
    json_response(&json!({"generation": generation, "plugins": plugins, "warnings": warnings}))
}

/// One plugin
#[utoipa::path(
    get, path = "/api/v1/plugins/{name}", tag = "operations", operation_id = "getPlugin",
    params(("name" = String, Path, description = "the plugin's name")),
    responses((status = 200, description = "the plugin", body = schemas::Plugin))
)]
pub(super) async fn get(
    State(app): State<App>,
    _operator: Operator,
    PathId(name): PathId,
) -> Result<Response, ApiError> {
    let (_, plugins) = app.plugins().reports();
    let plugin = plugins.into_iter().find(|plugin| plugin.status.name == name);
    plugin.map(|plugin| json_response(&plugin)).ok_or_else(|| {
        ApiError::not_found(
            "plugin_not_found",
            format!("there is no plugin `{name}`; GET /api/v1/plugins lists them"),
        )
    })
}

/// Look at the plugins folder now
#[utoipa::path(
    post, path = "/api/v1/plugins/reload", tag = "operations", operation_id = "reloadPlugins",
    responses((status = 200, description = "what it came to", body = schemas::ReloadReport))
)]
pub(super) async fn reload(State(app): State<App>, operator: Operator) -> Result<Response, ApiError> {
    tracing::info!(principal = %operator.0.principal().id, "the plugins folder is looked at on request");
    // The look goes on to its end, also where the client does not wait for it.
    let report = app.plugins().reload().await.map_err(|error| ApiError::unavailable(error.to_string()))?;
    Ok(json_response(&report))
}

/// [`NoPlugins`] where a gateway's parts are made by hand.
#[must_use]
pub fn none() -> Arc<dyn PluginAdmin> {
    Arc::new(NoPlugins)
}
