//! `witgate plugin check`: would this gateway take these components?
//!
//! Everything a gateway does when it loads a plugin is done: the file is read as a whole, its imports are compared with the
//! grants of the operator's file, it is compiled, linked and started once.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::args::CheckArgs;
use super::candidate::{Candidate, Counting};
use super::report::{grouped, size};
use crate::cli::args::GlobalArgs;
use crate::cli::loading::Loaded;
use crate::cli::terminal::{Style, Terminal, clean, print};
use crate::cli::{Outcome, signals};
use crate::plugin_host::{Inspection, Manifest};

/// What was found out about one file.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    /// The gateway would take it.
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    exports: Vec<&'static str>,
    imports: Vec<String>,
    made_with: Vec<String>,
    operators_file: Option<PathBuf>,
    /// What it would need beyond the operator's file it has, or beyond none.
    grants_needed: Vec<String>,
    tools: Vec<String>,
    /// Why it would not be taken.
    problems: Vec<String>,
}

/// Checks every file.
///
/// # Errors
/// When the gateway's own settings are wrong. A plugin that would not be taken is [`Outcome::Failed`].
pub(super) async fn run(
    args: &CheckArgs,
    global: &GlobalArgs,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    let loaded = Loaded::read(global)?;
    // What goes wrong is told in plain words.
    loaded.log_only("off", global)?;
    let work = async {
        let mut all = Vec::new();
        for file in &args.files {
            all.push(Checked::of(file, args.manifest.as_deref(), &loaded).await);
        }
        all
    };
    let all = tokio::select! {
        all = work => all,
        signal = signals::any() => return signal,
    };
    let text = if args.json {
        serde_json::to_string_pretty(&all)? + "\n"
    } else {
        all.iter().map(|checked| checked.words(terminal)).collect()
    };
    print(&text)?;
    Ok(if all.iter().all(|checked| checked.ok) { Outcome::Done } else { Outcome::Failed })
}

impl Checked {
    async fn of(file: &Path, operators_file: Option<&Path>, loaded: &Loaded) -> Self {
        let mut checked = Self::nothing_known(file);
        let candidate = match Candidate::read(file, operators_file, loaded) {
            Ok(candidate) => candidate,
            Err(error) => {
                checked.problems = lines(&format!("{error:#}"));
                return checked;
            }
        };
        checked.size_bytes = Some(candidate.bytes.len());
        checked.sha256 = Some(sha256(&candidate.bytes));
        checked.operators_file.clone_from(&candidate.operators_file);
        match Inspection::read(&candidate.bytes) {
            Ok(inspection) => checked.add(inspection),
            Err(error) => checked.problems = lines(&error.message),
        }
        if checked.problems.is_empty() {
            match candidate.load(loaded, Counting::Nothing).await {
                Ok(plugin) => checked.tools = plugin.tools().iter().map(|tool| tool.name.clone()).collect(),
                Err(error) => checked.problems = lines(&format!("{error:#}")),
            }
        }
        checked.ok = checked.problems.is_empty();
        checked
    }

    fn nothing_known(file: &Path) -> Self {
        Self {
            file: file.display().to_string(),
            ok: false,
            size_bytes: None,
            sha256: None,
            version: None,
            exports: Vec::new(),
            imports: Vec::new(),
            made_with: Vec::new(),
            operators_file: None,
            grants_needed: Vec::new(),
            tools: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn add(&mut self, inspection: Inspection) {
        // What an empty operator's file would leave wanting.
        if let Err(error) = inspection.check(&Manifest::default()) {
            self.grants_needed = lines(&error.message);
        }
        self.exports = inspection.exports.names();
        self.imports = inspection.imports;
        self.version = inspection.version;
        self.made_with = inspection.producers;
    }

    fn words(&self, terminal: Terminal) -> String {
        let (style, verdict) =
            if self.ok { (Style::Good, "ok") } else { (Style::Bad, "the gateway would not take it") };
        let mut text = format!("{}: {}\n", clean(&self.file), terminal.out(style, verdict));
        let mut row = |name: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("  {name:9} {}\n", clean(value)));
            }
        };
        for problem in &self.problems {
            row("problem", problem);
        }
        row("size", &self.size_bytes.map(size).unwrap_or_default());
        row("sha256", self.sha256.as_deref().unwrap_or_default());
        row("version", self.version.as_deref().unwrap_or_default());
        row("exports", &self.exports.join(", "));
        row("imports", &grouped(&self.imports));
        row("made with", &self.made_with.join(", "));
        row("tools", &self.tools.join(", "));
        let file = self.operators_file.as_ref().map(|file| file.display().to_string());
        if self.size_bytes.is_some() {
            row(
                "settings",
                &file.unwrap_or_else(|| "no operator's file: default limits, no grants".to_owned()),
            );
        }
        if self.grants_needed.is_empty() && self.ok {
            row("grants", "it needs none");
        }
        for needed in self.grants_needed.iter().filter(|needed| !self.problems.contains(needed)) {
            row("needs", needed);
        }
        text
    }
}

fn lines(message: &str) -> Vec<String> {
    message.lines().map(str::to_owned).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
