//! JavaScript: `componentize-qjs` puts the source and the QuickJS engine into one component.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::Builder;
use crate::cli::plugin::toolchain::{Tool, find};

/// The build tool, an npm package of the same name.
const TOOL: &str = "componentize-qjs";

impl Builder<'_> {
    pub(super) async fn javascript(&self) -> anyhow::Result<Vec<u8>> {
        let (world, source) = (self.project.world()?, self.project.source("plugin.js")?);
        let tool = self.javascript_tool().await?;
        let scratch = self.scratch()?;
        let component = scratch.path().join("plugin.wasm");
        // `--sync`: the interfaces are synchronous, and the component stays smaller.
        Tool::new(tool, &self.project.folder)
            .args(["--wit", "wit", "--world", world, "--js", source, "--sync", "--output"])
            .args([&component])
            .run(self.terminal)
            .await?;
        fs::read(&component).context("the build tool left no component")
    }

    /// The tool as npm installs it: beside the package or above it, or for the whole machine.
    async fn javascript_tool(&self) -> anyhow::Result<PathBuf> {
        let folder = &self.project.folder;
        if find("node", &[]).is_none() {
            bail!(
                "building JavaScript plugins needs Node.js 18 or later; install it, for example with `apt install nodejs npm`"
            );
        }
        let places: Vec<PathBuf> =
            folder.ancestors().map(|folder| folder.join("node_modules").join(".bin")).collect();
        if let Some(tool) = find(TOOL, &places) {
            return Ok(tool);
        }
        let Some(npm) = find("npm", &[]).filter(|_| self.install && folder.join("package.json").is_file())
        else {
            bail!(
                "the build tool {TOOL} is not installed; run `npm install` in {} where package.json names it, or \
                 `npm install {TOOL}`",
                folder.display()
            );
        };
        Tool::new(npm, folder)
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
            .run(self.terminal)
            .await
            .context("cannot install what package.json names")?;
        let tool = find(TOOL, &places);
        tool.with_context(|| {
            format!("package.json does not name {TOOL}; run `npm install --save-dev {TOOL}`")
        })
    }
}
