//! `witgate access explain`: asks the gateway's own access chain, and tells what it says.

use std::sync::Arc;

use anyhow::Context;

use super::args::ExplainArgs;
use crate::access::{Access, AccessError, Credential, Door, Entry, WasmPolicies};
use crate::cli::Outcome;
use crate::cli::args::GlobalArgs;
use crate::cli::loading::Loaded;
use crate::cli::terminal::{Style, Terminal, clean, print};
use crate::domain::{HttpFacts, RequestId};
use crate::plugin_host::PluginHost;

/// Runs the command.
///
/// # Errors
/// When the settings are wrong. A denial is [`Outcome::Failed`].
pub(super) async fn run(
    args: &ExplainArgs,
    global: &GlobalArgs,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    let loaded = Loaded::read(global)?;
    loaded.log_only("off", global)?;
    let config = loaded.config;
    let plugins = PluginHost::start(config.plugins, config.variables, config.data_dir).await?;
    let policies = Arc::new(WasmPolicies::new(plugins.folder()));
    let access = Access::new(&config.access, config.api_key.as_ref(), policies)?;
    let credential = match &config.api_key {
        Some(key) if args.who.static_key => Credential::Key(key.expose()),
        None if args.who.static_key => {
            return Err(anyhow::anyhow!("there is no static key"))
                .context("set WITGATE_API_KEY in the environment or in .env");
        }
        _ => Credential::None,
    };
    let decision = decide(&access, credential, args.model.as_deref()).await;
    let (style, word) = match decision {
        Ok(()) => (Style::Good, "allowed".to_owned()),
        Err(ref error) => (Style::Bad, format!("denied: {error}")),
    };
    print(&format!("{}\n", terminal.out(style, &clean(&word))))?;
    Ok(if decision.is_ok() { Outcome::Done } else { Outcome::Failed })
}

async fn decide(access: &Access, credential: Credential<'_>, model: Option<&str>) -> Result<(), AccessError> {
    let entry = Entry {
        request_id: RequestId::generate(),
        door: Door::Chat,
        credential,
        peer: None,
        trace_id: None,
        rate_slot: None,
    };
    let facts = || HttpFacts {
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        query: None,
        authority: None,
        headers: Vec::new(),
        peer: None,
    };
    let scope = access.enter(entry, facts).await?;
    match model {
        Some(model) => scope.model(model, &[model]).await,
        None => Ok(()),
    }
}
