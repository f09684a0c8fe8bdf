//! `witgate mcp`: the tools as an MCP server on standard input and output.

use anyhow::bail;

use super::Outcome;
use super::args::{GlobalArgs, McpArgs};
use super::loading::Loaded;
use crate::gateway::{self, Ended, MCP_KEY};

/// Runs the command. Log lines go to standard error, warnings and worse unless a flag or `RUST_LOG` asks for more.
///
/// # Errors
/// When the settings are wrong, there is no such server, or whoever is at the other end may not come in or does not speak
/// MCP.
pub(super) async fn run(args: &McpArgs, global: &GlobalArgs) -> anyhow::Result<Outcome> {
    let loaded = Loaded::read(global)?;
    // Elsewhere an empty variable counts as none; here that would make its holder the operator.
    if loaded.settings.is_empty_env(MCP_KEY) {
        bail!("{MCP_KEY} is set and holds no key: give it one, or remove it to come in as the operator");
    }
    loaded.log_only("warn", global)?;
    match Box::pin(gateway::serve_stdio(loaded.config, args.server.as_deref())).await? {
        Ended::Drained => Ok(Outcome::Done),
        Ended::Forced => Ok(Outcome::Interrupted),
    }
}
