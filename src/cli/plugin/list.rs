//! `witgate plugin list`: the plugins in the plugins folder, or those of a running gateway.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::args::ListArgs;
use super::candidate::Candidate;
use super::report::size;
use crate::cli::args::{GlobalArgs, KEY_VARIABLE};
use crate::cli::client::Client;
use crate::cli::loading::Loaded;
use crate::cli::terminal::{Style, Terminal, clean, one_line, print};
use crate::cli::{Outcome, signals};
use crate::config::secret::Secret;

/// Longest name in the table, in characters.
const MAX_NAME: usize = 64;

/// Longest line about a fault, in characters.
const MAX_FAULT: usize = 400;

/// Lists them.
///
/// # Errors
/// When the settings are wrong, the folder cannot be read, or the gateway does not answer.
pub(super) async fn run(args: &ListArgs, global: &GlobalArgs, terminal: Terminal) -> anyhow::Result<Outcome> {
    let (plugins, place) = match &args.url {
        Some(url) => {
            let plugins = tokio::select! {
                plugins = of_gateway(url, args.key_env.as_deref()) => plugins?,
                signal = signals::any() => return signal,
            };
            (plugins, url.clone())
        }
        None => {
            let loaded = Loaded::read(global)?;
            // What goes wrong is told in plain words.
            loaded.log_only("off", global)?;
            let folder = loaded.config.plugins.dir.clone();
            (of_folder(&folder, &loaded)?, folder.display().to_string())
        }
    };
    let text = if args.json {
        serde_json::to_string_pretty(&plugins)? + "\n"
    } else {
        table(&plugins, &place, terminal)
    };
    print(&text)?;
    Ok(Outcome::Done)
}

/// What a running gateway tells about its plugins.
async fn of_gateway(url: &str, key_env: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let variable = key_env.unwrap_or(KEY_VARIABLE);
    let key = std::env::var(variable).ok().filter(|key| !key.is_empty()).map(Secret::from);
    if key_env.is_some() && key.is_none() {
        return Err(anyhow!("--key-env {}: there is no such variable, or it is empty", clean(variable)));
    }
    Client::new(url, key)?.plugins().await
}

/// What lies in a folder. Nothing is compiled: a component that is refused only then is listed as `ok`.
fn of_folder(folder: &Path, loaded: &Loaded) -> anyhow::Result<Vec<Value>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // A gateway takes that for an empty folder.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read the plugins folder {}", folder.display()));
        }
    };
    let is_component = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.extension().is_some_and(|extension| extension == "wasm")
    };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_component).collect();
    files.sort();
    Ok(files.iter().map(|file| in_folder(file, loaded)).collect())
}

fn in_folder(file: &Path, loaded: &Loaded) -> Value {
    let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let candidate = match Candidate::read(file, None, loaded) {
        Ok(candidate) => candidate,
        Err(error) => return json!({"name": name, "state": "failed", "error": format!("{error:#}")}),
    };
    let state = if candidate.manifest.enabled { "ok" } else { "disabled" };
    let size_bytes = candidate.bytes.len();
    match candidate.inspect() {
        Ok(found) => json!({
            "name": name, "state": state, "exports": found.exports.names(), "version": found.version,
            "size_bytes": size_bytes, "operators_file": candidate.operators_file,
        }),
        Err(error) => json!({
            "name": name, "state": "failed", "error": format!("{error:#}"), "size_bytes": size_bytes,
        }),
    }
}

/// One line a plugin: name, state, version, what it exports; faults below it.
fn table(plugins: &[Value], place: &str, terminal: Terminal) -> String {
    if plugins.is_empty() {
        return format!("There are no plugins in {}; `witgate plugin new` makes one.\n", clean(place));
    }
    let name = |plugin: &Value| one_line(plugin["name"].as_str().unwrap_or("?"), MAX_NAME);
    let width = plugins.iter().map(|plugin| name(plugin).chars().count()).max().unwrap_or(0).max(6);
    let heading = format!("{:width$}  STATE     VERSION   EXPORTS", "PLUGIN");
    let mut table = format!("{}\n", terminal.out(Style::Bold, &heading));
    for plugin in plugins {
        let state = plugin["state"].as_str().unwrap_or("?");
        let style = match state {
            "ok" | "serving" => Style::Good,
            "disabled" => Style::Dim,
            "stale" => Style::Warning,
            _ => Style::Bad,
        };
        let state = format!("{:8}", one_line(state, 8));
        let version = one_line(plugin["version"].as_str().unwrap_or("-"), 20);
        let exports = plugin["exports"].as_array().map(Vec::as_slice).unwrap_or_default();
        let exports: Vec<&str> = exports.iter().filter_map(Value::as_str).collect();
        let weight = plugin["size_bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
        let weight = weight.map(|bytes| format!(" ({})", size(bytes))).unwrap_or_default();
        let line = format!(
            "{:width$}  {}  {version:8}  {}{weight}",
            name(plugin),
            terminal.out(style, &state),
            one_line(&exports.join(", "), MAX_NAME),
        );
        table.push_str(line.trim_end());
        table.push('\n');
        for fault in plugin["error"].as_str().unwrap_or_default().lines() {
            table.push_str(&format!("  {}\n", one_line(fault, MAX_FAULT)));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up_and_tells_faults() {
        let plugins = [
            json!({"name": "hide", "state": "serving", "version": "0.1.0", "exports": ["response"]}),
            json!({"name": "broken-one", "state": "failed", "error": "hide.wasm: bad\n\u{1b}[2Jtwo"}),
        ];
        let wanted = "PLUGIN      STATE     VERSION   EXPORTS\nhide        serving   0.1.0     response\n\
                      broken-one  failed    -\n  hide.wasm: bad\n  ␛[2Jtwo\n";
        assert_eq!(table(&plugins, "plugins", Terminal::none()), wanted);
        assert!(table(&[], "plugins", Terminal::none()).contains("witgate plugin new"));
    }
}
