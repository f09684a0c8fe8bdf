//! The composition root: builds a gateway from its configuration, runs it and drains it.
//!
//! The only place that names concrete adapters. [`build`] makes a gateway without a port, for the command line, tests
//! and benchmarks; [`listen`] takes the port first and then builds; [`Listening::run`] serves until it is told to stop.
//! Nothing here waits for MCP servers: requests do, for a bounded time (`server.tools_wait_ms`).

mod config;
mod files;
mod mcp;
mod readiness;
mod shutdown;
mod stdio;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub use self::config::{Config, DATA_DIR, MCP_KEY};
use self::readiness::Components;
pub use self::shutdown::{Ended, serve};
pub use self::stdio::serve_stdio;
use crate::access::accounts::{Accounts, FIRST_ADMIN};
use crate::access::{Access, USAGE_FILE, UsageBook, WasmPolicies};
use crate::audit::AuditLog;
use crate::chat::ChatEngine;
use crate::config::secret::Secret;
use crate::http::{App, Parts, Server};
use crate::llm::{ModelDirectory, Models};
use crate::mcp_server::{self, McpServer};
use crate::plugin_host::PluginHost;
use crate::response::wasm::PluginProcessors;
use crate::sessions::memory::MemoryStore;
use crate::sessions::sqlite::SqliteStore;
use crate::sessions::{self, SessionStore, StoreKind};
use crate::toolbox::Toolbox;
use crate::tools::ToolRegistry;
use crate::tools::mcp::{McpServers, ServerState};
use crate::tools::wasm::WasmTools;

/// The longest that the end waits for the audit log.
const AUDIT_FLUSH: Duration = Duration::from_secs(5);

/// The database of users and keys, within `data_dir`.
pub const ACCOUNTS_FILE: &str = "access.db";

/// Everything but a port. Dropping it stops the MCP servers without waiting; [`Self::close`] waits.
pub struct Gateway {
    app: App,
    audit: AuditLog,
    models: Arc<Models>,
    tools: Arc<ToolRegistry>,
    mcp: Arc<McpServers>,
    mcp_server: McpServer,
    plugins: Arc<PluginHost>,
    accounts: Accounts,
    /// `WITGATE_ADMIN_PASSWORD`, until it is put into force.
    admin_password: Option<Secret>,
    chat_is_open: bool,
    /// What works in the background as long as the gateway lives.
    tasks: Vec<AbortOnDropHandle<()>>,
}

/// Builds a gateway and starts its MCP servers. Must be called within a tokio runtime.
///
/// # Errors
/// When the configuration cannot be put into force or the session store cannot be opened.
pub async fn build(config: Config) -> anyhow::Result<Gateway> {
    install_tls_provider();
    files::raise_open_files_limit();
    // Whatever can fail comes before the MCP servers, so that no child is started for nothing.
    let audit = open_audit(&config)?;
    let store = open_store(config.sessions.clone(), &config.data_dir).await?;
    let usage = open_usage(&config.data_dir).await?;
    let models = Arc::new(Models::new(config.llm, |name| config.llm_env.get(name).cloned())?);
    let admin_password = config.admin_password;
    let tokens = config.access.tokens(config.token_secret);
    let accounts = Accounts::open_with_tokens(&config.data_dir.join(ACCOUNTS_FILE), tokens).await?;
    let plugins = PluginHost::start(config.plugins, config.variables, config.data_dir.clone()).await?;
    let plugins = Arc::new(plugins);
    // The plugins are there before the port is served, so that no request gets past a policy that is still being loaded.
    let policies = Arc::new(WasmPolicies::new(plugins.folder()));
    let access =
        Access::new(&config.access, config.api_key.as_ref(), policies).with_accounts(accounts.clone());
    let access = access.with_usage(usage).with_audit(audit.clone());
    let chat_is_open = access.chat_is_open();
    let mcp = Arc::new(McpServers::start(config.mcp_servers, config.tools.mcp.clone()));
    let contexts = mcp.context_sources(&config.tools);
    let wasm_tools = Arc::new(WasmTools::new(plugins.folder()));
    let tools = Arc::new(ToolRegistry::with_newcomers(config.tools, mcp.sources(), Some(wasm_tools)));
    let directory: Arc<dyn ModelDirectory> = models.clone();
    let toolbox = Toolbox::new(Arc::clone(&tools), audit.clone()).with_contexts(contexts);
    let engine = ChatEngine::new(
        config.chat,
        directory,
        toolbox.clone(),
        Arc::clone(&store),
        Arc::new(PluginProcessors::new(Arc::clone(&plugins))),
    );
    let (settled, tools_settled) = watch::channel(false);
    let mcp_server = McpServer::new(
        &config.mcp_server,
        mcp_server::Parts {
            toolbox: toolbox.clone(),
            servers: mcp.states().into_iter().map(|server| server.name).collect(),
            tools_settled: tools_settled.clone(),
            keep_alive: Duration::from_millis(config.server.keep_alive_ms.max(1)),
        },
    );
    let mut tasks =
        vec![follow_start(&mcp, &tools, Duration::from_millis(config.server.tools_wait_ms), settled)];
    if let Some(interval) = config.sessions.purge_interval() {
        let purge = sessions::purge_regularly(Arc::clone(&store), interval);
        tasks.push(AbortOnDropHandle::new(tokio::spawn(purge)));
    }
    let readiness = Arc::new(Components {
        models: models.clone(),
        mcp: Arc::clone(&mcp),
        plugins: Arc::clone(&plugins),
        sessions: store,
    });
    let app = App::new(Parts {
        engine,
        access,
        accounts: Some(accounts.clone()),
        audit: audit.clone(),
        toolbox,
        mcp: Arc::new(mcp_server.clone()),
        readiness,
        plugins: plugins.clone(),
        tools_settled,
        server: config.server,
        limits: config.limits,
        cors: config.cors,
    })?;
    Ok(Gateway {
        app,
        audit,
        models,
        tools,
        mcp,
        mcp_server,
        plugins,
        accounts,
        admin_password,
        chat_is_open,
        tasks,
    })
}

impl Gateway {
    /// The gateway as the HTTP room serves it, for [`crate::http::router`].
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Runs turns.
    #[must_use]
    pub fn engine(&self) -> &ChatEngine {
        self.app.engine()
    }

    /// The models behind it.
    #[must_use]
    pub fn models(&self) -> &Arc<Models> {
        &self.models
    }

    /// The tools of all MCP servers.
    #[must_use]
    pub fn tools(&self) -> &Arc<ToolRegistry> {
        &self.tools
    }

    /// The MCP servers.
    #[must_use]
    pub fn mcp(&self) -> &McpServers {
        &self.mcp
    }

    /// The plugins.
    #[must_use]
    pub fn plugins(&self) -> &Arc<PluginHost> {
        &self.plugins
    }

    /// The users and keys.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Sees to it that somebody can log in as admin, beside everything else: see [`Accounts::prepare_admin`].
    fn prepare_admin(&mut self) {
        let announce = |password: &Secret| {
            // Not a line of the log: those are collected and kept.
            let words = format!(
                "\n  The first admin was made. It is shown this once:\n\n      user      {FIRST_ADMIN}\n      \
                 password  {}\n\n  WITGATE_ADMIN_PASSWORD sets another one.\n\n",
                password.expose()
            );
            if std::io::stderr().write_all(words.as_bytes()).is_err() {
                tracing::error!("the first admin's password could not be shown; set WITGATE_ADMIN_PASSWORD");
            }
        };
        self.tasks.push(self.accounts.prepare_admin(self.admin_password.take(), announce));
    }

    /// Stops the MCP servers and waits until none of their processes is left, and until the audit log is written.
    pub async fn close(self) {
        self.mcp_server.stop();
        self.mcp.shutdown().await;
        let app = self.app.clone();
        if tokio::task::spawn_blocking(move || app.flush_usage()).await.is_err() {
            tracing::error!("what was spent of token budgets could not be written to its end");
        }
        if let Err(error) = self.accounts.flush().await {
            tracing::warn!(%error, "the last uses of keys could not be written down: {error}");
        }
        flush_audit(&self.audit).await;
    }
}

/// A gateway with its port, not serving yet.
pub struct Listening {
    gateway: Gateway,
    server: Server,
}

/// Takes the address of `config.server` and builds the gateway.
///
/// # Errors
/// As [`build`], and when the address cannot be taken (see [`crate::http::BindError`]).
pub async fn listen(config: Config) -> anyhow::Result<Listening> {
    let server = Server::bind(&config.server).await?;
    let gateway = build(config).await?;
    Ok(Listening { gateway, server })
}

impl Listening {
    /// The real address, also for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The gateway behind it.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Serves until `shutdown` is ready, lets running requests finish for `server.drain_timeout_ms`, and stops the MCP
    /// servers.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let address = self.address();
        if self.gateway.chat_is_open && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "ANYONE who can reach {address} can use the models and tools of this gateway: set \
                 access.chat = \"required\", or listen on 127.0.0.1 only"
            );
        }
        tracing::info!(%address, "listening on http://{address}");
        Box::pin(self.server.serve(self.gateway.app.clone(), shutdown)).await;
        self.gateway.close().await;
        tracing::info!("stopped");
    }
}

/// The TLS of outgoing connections; whoever embeds the gateway may have chosen one before.
fn install_tls_provider() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::trace!("a TLS provider is installed already");
    }
}

/// The audit log; the secrets that the gateway itself was given appear nowhere in it.
///
/// # Errors
/// When it cannot be opened for writing.
pub fn open_audit(config: &Config) -> anyhow::Result<AuditLog> {
    let upstream_keys = config.llm_env.iter().filter(|(name, _)| !name.ends_with("_URL"));
    let secrets = upstream_keys.map(|(_, secret)| secret).chain(&config.api_key);
    let secrets =
        secrets.chain(&config.admin_password).chain(&config.token_secret).chain(&config.mcp_key).cloned();
    Ok(AuditLog::open(&config.audit, &config.data_dir, secrets.collect())?)
}

/// Waits until the audit log is written.
pub async fn flush_audit(audit: &AuditLog) {
    if !audit.flush(AUDIT_FLUSH).await {
        tracing::error!("the audit log could not be written to its end: is the disk slow or full?");
    }
}

/// What callers have spent of their token budgets.
async fn open_usage(data_dir: &Path) -> anyhow::Result<UsageBook> {
    let path = data_dir.join(USAGE_FILE);
    Ok(tokio::task::spawn_blocking(move || UsageBook::open(&path)).await??)
}

async fn open_store(sessions: sessions::Config, data_dir: &Path) -> anyhow::Result<Arc<dyn SessionStore>> {
    match sessions.store {
        StoreKind::Memory => Ok(Arc::new(MemoryStore::new(sessions))),
        StoreKind::Sqlite => {
            let path = data_dir.join(&sessions.file);
            let opened = tokio::task::spawn_blocking(move || SqliteStore::open(path, sessions)).await?;
            Ok(Arc::new(opened.context("the session store cannot be opened")?))
        }
    }
}

/// Tells when requests need not wait for tools any longer: every server is up (or has failed once), or `limit` passed.
fn follow_start(
    mcp: &Arc<McpServers>,
    tools: &Arc<ToolRegistry>,
    limit: Duration,
    settled: watch::Sender<bool>,
) -> AbortOnDropHandle<()> {
    let (mcp, tools) = (Arc::clone(mcp), Arc::clone(tools));
    AbortOnDropHandle::new(tokio::spawn(async move {
        if !mcp.settled(limit).await {
            let states = mcp.states();
            let late = states.iter().filter(|server| server.state == ServerState::Starting);
            let late: Vec<&str> = late.map(|server| server.name.as_str()).collect();
            let (late, ms) = (late.join(", "), limit.as_millis());
            tracing::warn!("not up after {ms} ms: {late}; requests go on without their tools until they are");
        }
        // The servers are up before the registry has taken in their tools.
        if tokio::time::timeout(limit, tools.refresh()).await.is_err() {
            tracing::warn!("the tools are not taken in yet; requests go on without the latest of them");
        }
        settled.send_replace(true);
    }))
}
