//! `witgate serve`: the gateway until a signal ends it.

use super::Outcome;
use super::args::GlobalArgs;
use super::loading::Loaded;
use crate::gateway::{self, Ended};

/// Runs the command.
///
/// # Errors
/// When the settings are wrong, the port is taken, or the gateway cannot be built.
pub(super) async fn run(global: &GlobalArgs) -> anyhow::Result<Outcome> {
    let loaded = Loaded::read(global)?;
    loaded.log()?;
    let read = loaded.settings.provenance().join("; ");
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(
        version,
        mcp_servers = loaded.config.mcp_servers.len(),
        "witgate {version} starts with {read}"
    );
    match Box::pin(gateway::serve(loaded.config)).await? {
        Ended::Drained => Ok(Outcome::Done),
        Ended::Forced => Ok(Outcome::Interrupted),
    }
}
