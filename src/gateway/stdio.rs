//! The tools without a port: an MCP server over standard input and output, for the client that started this process.
//!
//! The same MCP servers and plugins as a gateway has, and nothing else of it: no models, no sessions of chats. The caller
//! is whoever started the process, so no policy is asked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::watch;

use super::shutdown::Signals;
use super::{Config, Ended, files, follow_start, install_tls_provider};
use crate::audit::AuditLog;
use crate::domain::{Principal, PrincipalKind};
use crate::mcp_server::{self, McpServer};
use crate::plugin_host::PluginHost;
use crate::toolbox::Toolbox;
use crate::tools::ToolRegistry;
use crate::tools::mcp::McpServers;
use crate::tools::wasm::WasmTools;

/// Serves the tools of `config`, or those of `server` under its own names, until standard input ends or a signal comes.
/// Standard output is the protocol's alone. No child is left behind.
///
/// # Errors
/// When there is no such server, the plugins cannot be loaded, or the client does not speak MCP.
pub async fn serve_stdio(config: Config, server: Option<&str>) -> anyhow::Result<Ended> {
    let mut signals = Signals::watch()?;
    install_tls_provider();
    files::raise_open_files_limit();
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
    let servers = Arc::new(McpServers::start(config.mcp_servers, config.tools.mcp.clone()));
    let contexts = servers.context_sources(&config.tools);
    let tools = Arc::new(ToolRegistry::with_newcomers(config.tools, servers.sources(), Some(plugin_tools)));
    let (settled, tools_settled) = watch::channel(false);
    let wait = Duration::from_millis(config.server.tools_wait_ms);
    let _start = follow_start(&servers, &tools, wait, settled);
    let mcp_server = McpServer::new(
        &config.mcp_server,
        mcp_server::Parts {
            toolbox: Toolbox::new(tools, AuditLog::none()).with_contexts(contexts),
            servers: names,
            tools_settled,
            keep_alive: Duration::from_millis(config.server.keep_alive_ms.max(1)),
        },
    );
    let operator = Principal::new("cli", PrincipalKind::User);
    let outcome = tokio::select! {
        served = Box::pin(mcp_server.serve_stdio(server, operator)) => served.map(|()| Ended::Drained),
        name = signals.next() => {
            tracing::info!("{name}: stopping");
            Ok(Ended::Forced)
        }
    };
    mcp_server.stop();
    servers.shutdown().await;
    Ok(outcome?)
}
