//! Python: `componentize-py` puts the source, what it imports, and CPython into one component.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::Builder;
use crate::cli::plugin::toolchain::{Tool, find};

/// The build tool, a PyPI package of the same name.
const TOOL: &str = "componentize-py";

/// The folder's own Python packages.
const VENV: &str = ".venv";

/// The types of the interfaces, for editors.
const BINDINGS: &str = "bindings";

impl Builder<'_> {
    pub(super) async fn python(&self) -> anyhow::Result<Vec<u8>> {
        let (world, source) = (self.project.world()?, self.project.source("plugin.py")?);
        let Some(module) =
            source.strip_suffix(".py").filter(|module| !module.contains(['/', '\\', '-', '.']))
        else {
            bail!(
                "the source `{source}` cannot be imported; call it something like plugin.py, in the plugin's folder"
            );
        };
        let tool = self.python_tool().await?;
        if !self.project.folder.join(BINDINGS).exists() {
            self.python_step(&tool).args(["-w", world, "bindings", BINDINGS]).run(self.terminal).await?;
        }
        let scratch = self.scratch()?;
        let component = scratch.path().join("plugin.wasm");
        self.python_step(&tool)
            .args(["-w", world, "componentize", "-p", ".", module, "-o"])
            .args([&component])
            .run(self.terminal)
            .await?;
        fs::read(&component).context("the build tool left no component")
    }

    /// The tool with what every step of it needs. Packages are looked for where the tool itself is.
    fn python_step(&self, tool: &Path) -> Tool {
        let step = Tool::new(tool, &self.project.folder).args(["-q", "-d", "wit"]);
        match tool.parent().and_then(Path::parent) {
            Some(environment) if environment.join("pyvenv.cfg").is_file() => {
                step.env("VIRTUAL_ENV", environment)
            }
            _ => step,
        }
    }

    async fn python_tool(&self) -> anyhow::Result<PathBuf> {
        let folder = &self.project.folder;
        let programs = folder.join(VENV).join(if cfg!(windows) { "Scripts" } else { "bin" });
        let places = [programs];
        if let Some(tool) = find(TOOL, &places) {
            return Ok(tool);
        }
        let requirements = folder.join("requirements.txt");
        let python = find("python3", &[]).or_else(|| find("python", &[]));
        let Some(python) = python else {
            bail!(
                "building Python plugins needs Python 3.10 or later; install it, for example with `apt install python3 python3-venv`"
            );
        };
        if !self.install || !requirements.is_file() {
            bail!(
                "the build tool {TOOL} is not installed; run `python3 -m venv {VENV} && {VENV}/bin/pip install {TOOL}` in {}",
                folder.display()
            );
        }
        Tool::new(&python, folder).args(["-m", "venv", VENV]).run(self.terminal).await.context(
            "cannot make a place for Python packages (on Debian and Ubuntu: `apt install python3-venv`)",
        )?;
        let [programs] = &places;
        let own_python = find("python3", std::slice::from_ref(programs)).unwrap_or(python);
        Tool::new(own_python, folder)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                "requirements.txt",
            ])
            .run(self.terminal)
            .await
            .context("cannot install what requirements.txt names")?;
        find(TOOL, &places).with_context(|| format!("requirements.txt does not name {TOOL}; add it"))
    }
}
