//! `witgate plugin build`: runs a language's toolchain and makes a component of what it leaves.

mod c;
mod javascript;
mod python;
mod rust;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::args::BuildArgs;
use super::componentize::with_custom_section;
use super::project::{Language, Project};
use super::report;
use crate::cli::terminal::Terminal;
use crate::cli::{Outcome, signals};

/// What the single toolchains need to know.
struct Builder<'p> {
    project: &'p Project,
    /// Whether tools may be installed into the folder.
    install: bool,
    terminal: Terminal,
}

/// Builds the plugin and shows what came of it.
///
/// # Errors
/// When a tool is missing or fails, or what it made is no plugin.
pub(super) async fn run(args: &BuildArgs, terminal: Terminal) -> anyhow::Result<Outcome> {
    let project = Project::open(&args.folder)?;
    let here = args.folder.strip_prefix(".").unwrap_or(&args.folder);
    let output = args.output.clone().unwrap_or_else(|| here.join(format!("{}.wasm", project.name)));
    let builder = Builder { project: &project, install: !args.offline, terminal };
    let component = tokio::select! {
        component = Box::pin(builder.component()) => component?,
        signal = signals::any() => return signal,
    };
    let component = described(component, &project);
    write(&output, &component)?;
    report::built(&output, &component, args.json, terminal)
}

impl Builder<'_> {
    async fn component(&self) -> anyhow::Result<Vec<u8>> {
        match self.project.language {
            Language::Rust => self.rust().await,
            Language::JavaScript => self.javascript().await,
            Language::Python => self.python().await,
            Language::C => self.c().await,
        }
    }

    /// A folder within the plugin's for what a toolchain leaves on its way.
    fn scratch(&self) -> anyhow::Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix(".witgate-build-")
            .tempdir_in(&self.project.folder)
            .with_context(|| format!("cannot write into `{}`", self.project.folder.display()))
    }
}

/// The component with what `plugin.toml` says of it, where a gateway looks for that.
fn described(mut component: Vec<u8>, project: &Project) -> Vec<u8> {
    for (section, text) in [("version", &project.version), ("description", &project.description)] {
        if let Some(text) = text {
            component = with_custom_section(component, section, text.as_bytes());
        }
    }
    component
}

/// Puts the file in its place as a whole: a gateway may be watching the folder.
fn write(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let shown = file.display();
    let name = file.file_name().with_context(|| format!("`{shown}` is not a file's name"))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unfinished: PathBuf = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = fs::write(&unfinished, content).and_then(|()| fs::rename(&unfinished, file));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written.with_context(|| format!("cannot write `{shown}`"))
}
