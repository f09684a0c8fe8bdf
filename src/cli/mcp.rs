//! `witgate mcp`: the tools as an MCP server on standard input and output.

use super::Outcome;
use super::args::{GlobalArgs, McpArgs};
use super::loading::Loaded;
use crate::gateway::{self, Ended};

/// Runs the command. Log lines go to standard error, warnings and worse unless a flag or `RUST_LOG` asks for more.
///
/// # Errors
/// When the settings are wrong, there is no such server, or whoever is at the other end does not speak MCP.
pub(super) async fn run(args: &McpArgs, global: &GlobalArgs) -> anyhow::Result<Outcome> {
    let loaded = Loaded::read(global)?;
    loaded.log_only("warn", global)?;
    match Box::pin(gateway::serve_stdio(loaded.config, args.server.as_deref())).await? {
        Ended::Drained => Ok(Outcome::Done),
        Ended::Forced => Ok(Outcome::Interrupted),
    }
}
