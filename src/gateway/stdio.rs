//! The tools without a port: an MCP server over standard input and output, for the client that started this process.
//!
//! The same MCP servers and plugins as a gateway has, under the same rules and in the same audit log, and nothing else of
//! it: no models, no sessions of chats. The caller is the holder of the key in [`MCP_KEY`], or else the operator of this
//! machine. Users and keys are read where there are any; none are made here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::sync::watch;

use super::shutdown::Signals;
use super::{
    ACCOUNTS_FILE, Config, Ended, MCP_KEY, files, flush_audit, follow_start, install_tls_provider, open_audit,
};
use crate::access::accounts::Accounts;
use crate::access::{Access, AccessScope, WasmPolicies};
use crate::config::secret::Secret;
use crate::mcp_server::{self, McpServer, StdioCaller};
use crate::plugin_host::PluginHost;
use crate::toolbox::Toolbox;
use crate::tools::ToolRegistry;
use crate::tools::mcp::McpServers;
use crate::tools::wasm::WasmTools;

/// Serves the tools of `config`, or those of `server` under its own names, until standard input ends or a signal comes.
/// Standard output is the protocol's alone. No child is left behind.
///
/// # Errors
/// When there is no such server, the audit log or the plugins cannot be loaded, the caller may not come in, or the client
/// does not speak MCP.
pub async fn serve_stdio(config: Config, server: Option<&str>) -> anyhow::Result<Ended> {
    let mut signals = Signals::watch()?;
    install_tls_provider();
    files::raise_open_files_limit();
    let audit = open_audit(&config)?;
    let accounts_file = config.data_dir.join(ACCOUNTS_FILE);
    let accounts = match config.mcp_key {
        Some(_) if accounts_file.exists() => Some(Accounts::open(&accounts_file).await?),
        _ => None,
    };
    let plugins = PluginHost::start(config.plugins, config.variables, config.data_dir).await?;
    let names: Vec<String> = config.mcp_servers.iter().map(|server| server.name.clone()).collect();
    let plugin_tools = Arc::new(WasmTools::new(plugins.folder()));
    let has_plugin = |name: &str| plugins.reports().iter().any(|plugin| plugin.status.name == name);
    if let Some(server) =
        server.filter(|server| !names.iter().any(|name| name == server) && !has_plugin(server))
    {
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        bail!("there is no MCP server or plugin `{server}`; the servers in servers_config.json: {known}");
    }
    let policies = Arc::new(WasmPolicies::new(plugins.folder()));
    let access = Access::new(&config.access, config.api_key.as_ref(), policies).with_audit(audit.clone());
    let access = match &accounts {
        Some(accounts) => access.with_accounts(accounts.clone()),
        None => access,
    };
    // Before any server is started: whoever may not come in costs nothing.
    let (caller, scope) = let_in(access, config.mcp_key, &accounts_file).await?;
    let servers = Arc::new(McpServers::start(config.mcp_servers, config.tools.mcp.clone()));
    let contexts = servers.context_sources(&config.tools);
    let tools = Arc::new(ToolRegistry::with_newcomers(config.tools, servers.sources(), Some(plugin_tools)));
    let (settled, tools_settled) = watch::channel(false);
    let wait = Duration::from_millis(config.server.tools_wait_ms);
    let _start = follow_start(&servers, &tools, wait, settled);
    let mcp_server = McpServer::new(
        &config.mcp_server,
        mcp_server::Parts {
            toolbox: Toolbox::new(tools, audit.clone()).with_contexts(contexts),
            servers: names,
            tools_settled,
            keep_alive: Duration::from_millis(config.server.keep_alive_ms.max(1)),
        },
    );
    let outcome = tokio::select! {
        served = Box::pin(mcp_server.serve_stdio(server, caller, scope)) => served.map(|()| Ended::Drained),
        name = signals.next() => {
            tracing::info!("{name}: stopping");
            Ok(Ended::Forced)
        }
    };
    mcp_server.stop();
    servers.shutdown().await;
    if let Some(accounts) = accounts
        && let Err(error) = accounts.flush().await
    {
        tracing::warn!(%error, "the last use of the key could not be written down: {error}");
    }
    flush_audit(&audit).await;
    Ok(outcome?)
}

/// The client, once the access chain lets it in.
async fn let_in(
    access: Access,
    key: Option<Secret>,
    accounts: &Path,
) -> anyhow::Result<(StdioCaller, AccessScope)> {
    let has_key = key.is_some();
    let caller = StdioCaller::new(access, key);
    let entered = caller.enter().await;
    let scope = entered.map_err(|refusal| match has_key {
        true => {
            let state = if accounts.exists() { "" } else { ", which is not there" };
            anyhow!(
                "the key in {MCP_KEY} is refused: {refusal}. Users' keys are looked up in {}{state} (data_dir)",
                accounts.display()
            )
        }
        false => anyhow!("the operator of this machine is refused: {refusal}"),
    })?;
    Ok((caller, scope))
}
