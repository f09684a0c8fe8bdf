//! The files and variables: which there are, and what is wrong in them.

use std::path::Path;

use super::report::{Area, Finding, State};
use crate::access::ChatAccess;
use crate::cli::args::GlobalArgs;
use crate::cli::client::is_loopback;
use crate::config::Settings;
use crate::gateway::Config;
use crate::telemetry;

/// One finding for every file, and one for every fault that lies in none of them.
pub(super) fn check(settings: &Settings, global: &GlobalArgs) -> Vec<Finding> {
    let known = [
        ("gateway.toml", &global.config),
        (".env", &global.env_file),
        ("servers_config.json", &global.servers),
    ];
    let files = known.into_iter().map(|(default, named)| {
        let file = named.as_deref().unwrap_or(Path::new(default));
        let summary =
            if settings.resolve(file).exists() { "read" } else { "not there, so defaults are used" };
        Finding::new(Area::Settings, file.to_string_lossy(), State::Ok, summary)
    });
    let mut findings: Vec<Finding> = files.collect();
    match Config::load(settings, global.servers.as_deref()) {
        Ok(config) => findings.extend(faults_of(&config)),
        Err(faults) => blame(&mut findings, &format!("{faults:#}")),
    }
    findings
}

/// Lays every line of `faults` at the file it names; what names none is a finding of its own.
fn blame(findings: &mut Vec<Finding>, faults: &str) {
    for fault in faults.lines().filter(|line| !line.trim().is_empty()) {
        let names_it = |finding: &&mut Finding| {
            fault.strip_prefix(finding.name.as_str()).is_some_and(|rest| rest.starts_with(':'))
        };
        match findings.iter_mut().find(names_it) {
            Some(file) if file.state == State::Ok => {
                file.state = State::Failed;
                fault.clone_into(&mut file.summary);
            }
            Some(file) => file.details.push(fault.to_owned()),
            None => findings.push(Finding::new(Area::Settings, "settings", State::Failed, fault)),
        }
    }
}

/// What can be read and is wrong all the same.
fn faults_of(config: &Config) -> Vec<Finding> {
    let failed = |name: &str, words: String| Finding::new(Area::Settings, name, State::Failed, words);
    let mut findings = Vec::new();
    if config.access.chat == ChatAccess::Open && !is_loopback(&config.server.host) {
        let words = format!(
            "everyone who can reach {} can use the models and tools: set access.chat = \"required\", or \
             server.host = \"127.0.0.1\"",
            config.server.host
        );
        findings.push(Finding::new(Area::Settings, "access", State::Warning, words));
    }
    if let Err(error) = config.access.tokens(config.token_secret.clone()).check() {
        findings.push(failed("access tokens", error.to_string()));
    }
    if let Err(error) = telemetry::check(&config.log) {
        findings.push(failed("log", error.to_string()));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_laid_at_their_files() {
        let file = |name: &str| Finding::new(Area::Settings, name, State::Ok, "read");
        let mut findings = vec![file("gateway.toml"), file(".env")];
        blame(
            &mut findings,
            "gateway.toml:3:1: one\ngateway.toml:4:1: two\nenvironment variable PORT: three",
        );
        let shown: Vec<(&str, State, &str)> =
            findings.iter().map(|f| (f.name.as_str(), f.state, f.summary.as_str())).collect();
        let wanted = [
            ("gateway.toml", State::Failed, "gateway.toml:3:1: one"),
            (".env", State::Ok, "read"),
            ("settings", State::Failed, "environment variable PORT: three"),
        ];
        assert_eq!(shown, wanted);
        assert_eq!(findings[0].details, ["gateway.toml:4:1: two"]);
    }
}
