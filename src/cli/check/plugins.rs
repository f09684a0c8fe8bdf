//! Plugins: is each of them loaded, what does it bring, what may it do, and is one missing that must be there?
//!
//! The gateway's own loader looks at the folder, once. Compiled code is taken from the cache and put there, where the
//! folder for it exists; nothing else is written.

use std::path::Path;
use std::time::Duration;

use super::host;
use super::report::{Area, Finding, State};
use crate::config::Settings;
use crate::plugin_host::{Config, Grants, PluginHost, PluginReport, PluginState};

/// Findings about the folder, the cache of compiled code and every plugin. A section that cannot be read is the files'
/// fault.
pub(super) async fn check(settings: &Settings, data_dir: &Path, limit: Duration) -> Vec<Finding> {
    let config = settings.section::<Config>("plugins").ok();
    let config = config.and_then(|config| config.resolved(settings.working_dir(), data_dir).ok());
    let Some(config) = config else { return Vec::new() };
    let cache = config.cache_dir.as_deref().map(|dir| host::folder("plugin cache", "plugins.cache_dir", dir));
    let mut findings: Vec<Finding> = cache.into_iter().collect();
    let cache_works = findings.iter().all(|finding| finding.state == State::Ok);
    let required = config.required.clone();
    let shown = config.dir.display().to_string();
    let once = Config {
        watch: false,
        // A cache that is not there yet is the gateway's to make.
        cache_dir: config.cache_dir.clone().filter(|dir| cache_works && dir.is_dir()),
        ..config
    };
    let loading = PluginHost::start(once, settings.variables(), data_dir.to_owned());
    match tokio::time::timeout(limit, Box::pin(loading)).await {
        Ok(Ok(host)) => {
            let reports = host.reports();
            findings.push(folder(&shown, &reports, &host.warnings()));
            findings.extend(reports.iter().map(|report| plugin(report, &required)));
            findings.extend(required.iter().filter_map(|name| absent(name, &reports, &shown)));
        }
        Ok(Err(error)) => findings.push(failed("folder", error.to_string())),
        Err(_) => {
            let words = format!(
                "{shown}: not all plugins were loaded within {} s (--timeout gives them longer)",
                limit.as_secs()
            );
            findings.push(failed("folder", words));
        }
    }
    findings
}

fn failed(name: &str, words: String) -> Finding {
    Finding::new(Area::Plugins, name, State::Failed, words)
}

fn folder(dir: &str, reports: &[PluginReport], warnings: &[String]) -> Finding {
    let count = match reports.len() {
        0 => format!("{dir}: no plugins"),
        1 => format!("{dir}: 1 plugin, bundled ones included"),
        many => format!("{dir}: {many} plugins, bundled ones included"),
    };
    let state = if warnings.is_empty() { State::Ok } else { State::Warning };
    Finding { details: warnings.to_vec(), ..Finding::new(Area::Plugins, "folder", state, count) }
}

fn plugin(report: &PluginReport, required: &[String]) -> Finding {
    let status = &report.status;
    let is_required = required.contains(&status.name);
    let mut error = status.error.iter().flat_map(|error| error.lines().map(str::to_owned));
    let (state, summary) = match status.state {
        PluginState::Serving => (State::Ok, brings(report)),
        PluginState::Disabled if is_required => {
            let words = format!("{}.toml says enabled = false, but plugins.required names it", status.name);
            (State::Failed, words)
        }
        PluginState::Disabled => (State::Skipped, format!("disabled by {}.toml", status.name)),
        PluginState::Failed | PluginState::Stale | PluginState::Broken => {
            (State::Failed, error.next().unwrap_or_else(|| status.state.as_str().to_owned()))
        }
    };
    let mut details: Vec<String> = error.collect();
    details.extend(grants(&report.grants));
    if state == State::Failed {
        details.extend(consequence(report, is_required));
    }
    Finding { details, ..Finding::new(Area::Plugins, &status.name, state, summary) }
}

/// What a plugin is: `response, tools; version 1.2.0`.
fn brings(report: &PluginReport) -> String {
    let exports = report.status.exports.join(", ");
    match &report.status.version {
        Some(version) => format!("{exports}; version {version}"),
        None => exports,
    }
}

fn grants(grants: &Grants) -> Vec<String> {
    let kinds = [
        ("network", &grants.network),
        ("files", &grants.files),
        ("env", &grants.env),
        ("secrets", &grants.secrets),
        ("headers", &grants.headers),
    ];
    let given = kinds.into_iter().filter(|(_, names)| !names.is_empty());
    given.map(|(kind, names)| format!("may use {kind}: {}", names.join(", "))).collect()
}

/// What the gateway does without it, where that is more than to go on.
fn consequence(report: &PluginReport, is_required: bool) -> Option<String> {
    if is_required {
        return Some("plugins.required names it: until it serves, requests get 503".to_owned());
    }
    let is_auth = report.status.exports.contains(&"auth");
    is_auth
        .then(|| "it is an auth policy: until it serves or is removed, nobody is allowed anything".to_owned())
}

/// A plugin that has to be there and has no file.
fn absent(name: &str, reports: &[PluginReport], dir: &str) -> Option<Finding> {
    if reports.iter().any(|report| report.status.name == name) {
        return None;
    }
    let words = format!(
        "plugins.required names it, but there is no {name}.wasm in {dir}, and no bundled plugin of that name is switched on"
    );
    Some(failed(name, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_host::{PluginStatus, StatsSnapshot};

    fn report(state: PluginState, error: Option<&str>) -> PluginReport {
        let status = PluginStatus {
            name: "a".to_owned(),
            state,
            error: error.map(str::to_owned),
            exports: vec!["auth"],
            version: Some("1.2.0".to_owned()),
            description: None,
            sha256: None,
            loaded_ms: None,
        };
        let grants = Grants { secrets: vec!["token".to_owned()], ..Grants::default() };
        PluginReport { status, grants, circuit_open: false, stats: StatsSnapshot::default() }
    }

    #[test]
    fn what_serves_tells_what_it_is_and_may() {
        let finding = plugin(&report(PluginState::Serving, None), &[]);
        assert_eq!((finding.state, finding.summary.as_str()), (State::Ok, "auth; version 1.2.0"));
        assert_eq!(finding.details, ["may use secrets: token"]);
    }

    #[test]
    fn what_fails_tells_why_and_what_follows() {
        let finding = plugin(&report(PluginState::Failed, Some("a.wasm: one\na.toml: two")), &[]);
        assert_eq!((finding.state, finding.summary.as_str()), (State::Failed, "a.wasm: one"));
        assert_eq!(finding.details[0], "a.toml: two");
        assert!(finding.details[2].contains("nobody is allowed anything"), "{:?}", finding.details);
    }

    #[test]
    fn a_required_plugin_must_be_there() {
        let required = ["a".to_owned(), "b".to_owned()];
        let reports = [report(PluginState::Disabled, None)];
        assert_eq!(plugin(&reports[0], &required).state, State::Failed);
        assert_eq!(plugin(&reports[0], &[]).state, State::Skipped);
        assert!(absent("a", &reports, "p").is_none());
        assert!(absent("b", &reports, "p").unwrap().summary.contains("there is no b.wasm in p"));
    }
}
