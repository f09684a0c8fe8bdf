//! Logging: one subscriber for the whole process, written to stderr (or a file) so that stdout stays the program's own.
//!
//! Only `main`, `cli` and `gateway` set it up; every other room just uses `tracing`'s macros.

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Arc;

use serde::Deserialize;
use tracing::subscriber::set_global_default;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The `[log]` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`, also per module: `info,witgate::llm=debug`. Default `info`.
    /// `RUST_LOG` wins over it.
    pub level: String,
    /// How lines look. Default `human`.
    pub format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Human }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text for people, in colour on a terminal unless `NO_COLOR` is set.
    #[default]
    Human,
    /// One JSON object a line, for log collectors.
    Json,
}

/// Libraries that are silent unless the filter names them; what matters of them is told by the rooms that use them. The
/// MCP library logs whole messages, and addresses with a query that may hold a key. With the WASI library a plugin could
/// fill the log, one line for each request that it gets wrong.
const QUIET: [&str; 2] = ["rmcp", "wasmtime_wasi_http"];

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("{place}: {filter:?} is not a log filter: {problem}; an example is \"info,witgate::llm=debug\"")]
    Filter {
        /// `log.level` or `RUST_LOG`.
        place: &'static str,
        /// What was given.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A subscriber was installed before.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sets up logging for the process. `rust_log` is the value of `RUST_LOG`, if it is set.
///
/// # Errors
/// When the filter is invalid or logging was set up before.
pub fn init(config: &Config, rust_log: Option<&str>) -> Result<(), TelemetryError> {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    install(config, rust_log, !plain && std::io::stderr().is_terminal(), std::io::stderr)
}

/// As [`init`], into `file`: for programs whose terminal belongs to a conversation.
///
/// # Errors
/// As [`init`].
pub fn init_to_file(config: &Config, rust_log: Option<&str>, file: File) -> Result<(), TelemetryError> {
    install(config, rust_log, false, Arc::new(file))
}

/// Whether [`init`] would take `config`.
///
/// # Errors
/// When the filter is invalid.
pub fn check(config: &Config) -> Result<(), TelemetryError> {
    filter(config, None).map(|_| ())
}

fn install<W>(config: &Config, rust_log: Option<&str>, colour: bool, writer: W) -> Result<(), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(config, rust_log)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let installed = match config.format {
        Format::Human => set_global_default(lines.with_ansi(colour).finish()),
        // The list of spans carries the request's fields also where a narrower span is current.
        Format::Json => {
            set_global_default(lines.json().flatten_event(true).with_current_span(false).finish())
        }
    };
    installed.map_err(|_| TelemetryError::AlreadySet)
}

/// The filter that counts.
fn filter(config: &Config, rust_log: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let (place, text) = match rust_log.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => ("RUST_LOG", text),
        None => ("log.level", config.level.trim()),
    };
    let wrong = |problem: String| TelemetryError::Filter { place, filter: text.to_owned(), problem };
    if place == "log.level" {
        check_level_names(text).map_err(wrong)?;
    }
    let quiet = QUIET.iter().filter(|library| !text.contains(**library));
    let quiet: String = quiet.map(|library| format!("{library}=off,")).collect();
    EnvFilter::builder().parse(format!("{quiet}{text}")).map_err(|error| wrong(error.to_string()))
}

/// A word that is no level would count as a module's name and silence everything else: a typo must not do that.
fn check_level_names(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let words = text.split(',').map(str::trim).filter(|word| !word.contains(['=', '[']));
    for word in words {
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(format!("{word:?} is not one of {}", LEVELS.join(", ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(level: &str, rust_log: Option<&str>) -> Result<String, String> {
        let config = Config { level: level.to_owned(), ..Config::default() };
        filter(&config, rust_log).map(|filter| filter.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn rust_log_wins_unless_empty() {
        assert_eq!(level("info", None).unwrap(), "wasmtime_wasi_http=off,rmcp=off,info");
        assert_eq!(level("info", Some("")).unwrap(), "wasmtime_wasi_http=off,rmcp=off,info");
        assert_eq!(
            level("info", Some("witgate=debug")).unwrap(),
            "wasmtime_wasi_http=off,witgate=debug,rmcp=off"
        );
        let wanted = "wasmtime_wasi_http=off,witgate::llm=trace,rmcp=off,warn";
        assert_eq!(level("WARN,witgate::llm=trace", None).unwrap(), wanted);
    }

    #[test]
    fn libraries_are_silent_unless_they_are_asked_for() {
        let wanted = "wasmtime_wasi_http=off,rmcp=info,debug";
        assert_eq!(level("debug", Some("debug,rmcp=info")).unwrap(), wanted);
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let wanted = "log.level: \"inf\" is not a log filter: \"inf\" is not one of off, error, warn, info, debug, \
                      trace; an example is \"info,witgate::llm=debug\"";
        assert_eq!(level("inf", None).unwrap_err(), wanted);
        let error = level("info", Some("witgate=loud")).unwrap_err();
        assert!(error.starts_with("RUST_LOG: \"witgate=loud\" is not a log filter: "), "{error}");
        assert!(level("", None).unwrap_err().starts_with("log.level: \"\" is not a log filter"));
    }
}
