//! `witgate check`: would the gateway work with these files, this environment, on this machine?
//!
//! Every part is checked on its own as far as possible, so that one run names all faults: a wrong line in `gateway.toml`
//! does not hide a server that cannot start. Upstreams and servers are tried at the same time, each within a limit.
//! Nothing is changed on disk (but the cache of compiled plugins, where there is one), and nothing is left running.

mod host;
mod models;
mod plugins;
mod report;
mod servers;
mod settings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::report::{Area, Finding, Report};
use super::args::{CheckArgs, GlobalArgs};
use super::spinner::Spinner;
use super::terminal::{Terminal, clean, print};
use super::{Outcome, signals};
use crate::config::Settings;
use crate::{audit, gateway, http, tools};

/// Runs the command.
///
/// # Errors
/// When the report cannot be written. What is wrong with the gateway is in the report.
pub(super) async fn run(
    args: &CheckArgs,
    global: &GlobalArgs,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    let spinner = Spinner::start(terminal, "checking");
    let findings = tokio::select! {
        findings = Box::pin(all(args, global)) => findings,
        signal = signals::any() => return signal,
    };
    drop(spinner);
    let report = Report::new(findings);
    if args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        print(&if terminal.stdout { clean(&text) } else { text.as_str().into() })?;
    } else {
        print(&report.table(&terminal))?;
    }
    Ok(if report.ok { Outcome::Done } else { Outcome::Failed })
}

async fn all(args: &CheckArgs, global: &GlobalArgs) -> Vec<Finding> {
    let settings = match Settings::load(&global.load_options()) {
        Ok(settings) => settings,
        // Without the variables nothing else means anything.
        Err(error) => return vec![Finding::failure(Area::Settings, "settings", &error)],
    };
    let limit = Duration::from_secs(args.timeout);
    // What cannot be read has been reported with the files; defaults do for the rest.
    let servers = settings.mcp_servers(global.servers.as_deref()).unwrap_or_default();
    let mcp = settings.section::<tools::Config>("tools").map(|tools| tools.mcp).unwrap_or_default();
    let server = settings.section::<http::ServerConfig>("server").unwrap_or_default();
    let data_dir = data_dir(&settings);
    let (models, port, plugins, servers) = tokio::join!(
        models::check(&settings, args.offline, limit),
        host::port(&server),
        plugins::check(&settings, &data_dir, limit),
        servers::check(servers, mcp, limit),
    );
    let mut findings = settings::check(&settings, global);
    findings.extend(models);
    findings.push(host::folder("data folder", "data_dir", &data_dir));
    findings.extend(audit_log(&settings, &data_dir));
    findings.push(port);
    findings.extend(plugins);
    findings.extend(servers);
    findings
}

/// The folder of the audit log: without it the gateway does not start.
fn audit_log(settings: &Settings, data_dir: &Path) -> Option<Finding> {
    let config = settings.section::<audit::Config>("audit").ok().filter(|config| config.enabled)?;
    let file = data_dir.join(&config.file);
    Some(host::folder("audit log", "audit.file", file.parent().unwrap_or(data_dir)))
}

fn data_dir(settings: &Settings) -> PathBuf {
    let folder = settings.value::<PathBuf>("data_dir").ok().flatten();
    settings.resolve(folder.as_deref().unwrap_or(Path::new(gateway::DATA_DIR)))
}
