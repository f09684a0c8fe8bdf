//! What every handler shares: the engine, who may use it, the limits, and whether the gateway is stopping.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use tower_http::cors::CorsLayer;

use super::changes;
use super::config::{CorsConfig, LimitsConfig, ServerConfig};
use super::error::ApiError;
use super::health::Readiness;
use super::mcp::McpEndpoint;
use super::metrics::RequestMetrics;
use super::middleware::cors::{self, CorsError};
use super::openapi::Documents;
use super::plugins::PluginAdmin;
use crate::access::Access;
use crate::access::accounts::{Accounts, Login, LoginError};
use crate::audit::{AuditEvent, AuditLog};
use crate::chat::ChatEngine;
use crate::config::secret::Secret;
use crate::llm::ToolChoice;
use crate::toolbox::Toolbox;

/// What the composition root gives the room.
pub struct Parts {
    /// Runs the turns.
    pub engine: ChatEngine,
    /// Tells who is asking.
    pub access: Access,
    /// The plugins, for those who look after them.
    pub plugins: Arc<dyn PluginAdmin>,
    /// Users and keys; without, nobody can log in.
    pub accounts: Option<Accounts>,
    /// What is written down.
    pub audit: AuditLog,
    /// The tools.
    pub toolbox: Toolbox,
    /// The tools as an MCP server.
    pub mcp: Arc<dyn McpEndpoint>,
    /// Answers `/readyz`.
    pub readiness: Arc<dyn Readiness>,
    /// Becomes true once requests need not wait for tools any longer; a dropped sender counts as true.
    pub tools_settled: watch::Receiver<bool>,
    /// `[server]`.
    pub server: ServerConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[cors]`.
    pub cors: CorsConfig,
}

/// The state shared by all handlers; a cheap handle.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    parts: Parts,
    cors: CorsLayer,
    requests: RequestMetrics,
    documents: Documents,
    draining: AtomicBool,
    in_flight: Arc<Semaphore>,
    max_in_flight: u32,
    changes: Arc<Semaphore>,
}

impl App {
    /// The state made of `parts`.
    ///
    /// # Errors
    /// When `[cors]` cannot be put into force.
    pub fn new(parts: Parts) -> Result<Self, CorsError> {
        let cors = cors::layer(&parts.cors)?;
        let max_in_flight = u32::try_from(parts.limits.max_in_flight.max(1)).unwrap_or(u32::MAX);
        let max_in_flight = max_in_flight.min(Semaphore::MAX_PERMITS.try_into().unwrap_or(u32::MAX));
        let in_flight = Arc::new(Semaphore::new(max_in_flight as usize));
        let draining = AtomicBool::new(false);
        let (requests, documents) = (RequestMetrics::default(), Documents::default());
        let changes = Arc::new(Semaphore::new(changes::AT_ONCE as usize));
        Ok(Self(Arc::new(Inner {
            parts,
            cors,
            requests,
            documents,
            draining,
            in_flight,
            max_in_flight,
            changes,
        })))
    }

    /// Runs the turns.
    #[must_use]
    pub fn engine(&self) -> &ChatEngine {
        &self.0.parts.engine
    }

    pub(super) fn access(&self) -> &Access {
        &self.0.parts.access
    }

    /// Writes down what callers have spent, before the end. Waits for the disk.
    pub fn flush_usage(&self) {
        self.0.parts.access.flush();
    }

    pub(super) fn plugins(&self) -> &dyn PluginAdmin {
        self.0.parts.plugins.as_ref()
    }

    /// The tools as callers may use them.
    pub(super) fn toolbox(&self) -> &Toolbox {
        &self.0.parts.toolbox
    }

    /// The tools as an MCP server.
    pub(super) fn mcp(&self) -> &dyn McpEndpoint {
        self.0.parts.mcp.as_ref()
    }

    /// Users and keys.
    ///
    /// # Errors
    /// 503 where there are none.
    pub(super) fn accounts(&self) -> Result<&Accounts, ApiError> {
        let accounts = self.0.parts.accounts.as_ref();
        accounts.ok_or_else(|| ApiError::unavailable("this gateway has no users"))
    }

    /// A token for who knows the password of `name`.
    pub(super) async fn login(
        &self,
        name: &str,
        password: Secret,
        peer: Option<IpAddr>,
    ) -> Result<Login, LoginError> {
        match &self.0.parts.accounts {
            Some(accounts) => Box::pin(accounts.login(name, password, peer)).await,
            None => Err(LoginError::Refused),
        }
    }

    /// What is written down of who did what.
    pub(super) fn audit(&self) -> &AuditLog {
        &self.0.parts.audit
    }

    /// Writes `event` down, with what it was about.
    pub(super) fn tell(&self, mut event: AuditEvent, details: &Value) {
        event.arguments = self.audit().keeps_arguments().then(|| details.to_string());
        self.audit().record(event);
    }

    /// Counts requests.
    pub(super) fn requests(&self) -> &RequestMetrics {
        &self.0.requests
    }

    /// The OpenAPI documents made so far.
    pub(super) fn documents(&self) -> &Documents {
        &self.0.documents
    }

    pub(super) fn readiness(&self) -> &dyn Readiness {
        self.0.parts.readiness.as_ref()
    }

    pub(super) fn server(&self) -> &ServerConfig {
        &self.0.parts.server
    }

    pub(super) fn limits(&self) -> &LimitsConfig {
        &self.0.parts.limits
    }

    pub(super) fn cors_config(&self) -> &CorsConfig {
        &self.0.parts.cors
    }

    pub(super) fn cors(&self) -> CorsLayer {
        self.0.cors.clone()
    }

    /// True once the gateway takes no new work.
    pub(super) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// From now on new work is refused; what runs goes on.
    pub(super) fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Release);
        self.mcp().drain();
    }

    /// A place among the running requests, `None` when all are taken.
    pub(super) fn try_enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.in_flight).try_acquire_owned().ok()
    }

    /// The turns of changes.
    pub(super) fn changes(&self) -> &Arc<Semaphore> {
        &self.0.changes
    }

    /// Waits until no request is running, and no change that outlives its request; false when `limit` passed first.
    pub(super) async fn idle(&self, limit: Duration) -> bool {
        // Holding every place at once means that nobody else holds one.
        let all = async {
            let _requests = self.0.in_flight.acquire_many(self.0.max_in_flight).await;
            let _changes = self.0.changes.acquire_many(changes::AT_ONCE).await;
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }

    /// Requests being worked on, streams included.
    pub(super) fn running(&self) -> usize {
        (self.0.max_in_flight as usize).saturating_sub(self.0.in_flight.available_permits())
    }

    /// Waits until the MCP servers have come up (or have had their time); at once for a turn without tools.
    pub(super) async fn tools_settled(&self, wanted: &ToolChoice) {
        if *wanted == ToolChoice::None {
            return;
        }
        let mut settled = self.0.parts.tools_settled.clone();
        // The composition root bounds this wait and drops the sender when it stops; either ends it.
        if settled.wait_for(|settled| *settled).await.is_err() {
            tracing::trace!("nobody tells when tools have settled; going on");
        }
    }
}
