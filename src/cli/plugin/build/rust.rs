//! Rust: cargo compiles for `wasm32-unknown-unknown`, and the module becomes a component here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::Builder;
use crate::cli::plugin::componentize::componentize;
use crate::cli::plugin::guest_toolchain::{Job, Toolchain, modules};
use crate::cli::plugin::toolchain::Tool;
use crate::cli::terminal::note;

/// The part of `Cargo.toml` that names the module.
#[derive(Deserialize)]
struct Manifest {
    package: Option<Named>,
    lib: Option<Library>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Library {
    name: Option<String>,
}

impl Builder<'_> {
    pub(super) async fn rust(&self) -> anyhow::Result<Vec<u8>> {
        let folder = &self.project.folder;
        let module = module_name(folder)?;
        let toolchain =
            tokio::task::spawn_blocking(Toolchain::find).await.context("the search ended early")??;
        let given = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
        let target_folder = given.map_or_else(|| folder.join("target"), PathBuf::from);
        let job = Job {
            folder,
            shown_as: &self.project.name,
            packages: &[],
            target_folder: &target_folder,
            locked: false,
        };
        note(&format!("compiling with {}\n", toolchain.version()));
        Tool::from(toolchain.command(&job)?).run(self.terminal).await?;
        let file = modules(&job).join(format!("{module}.wasm"));
        let module = fs::read(&file).with_context(|| {
            format!(
                "cargo left no {}; does Cargo.toml say crate-type = [\"cdylib\"] under [lib]?",
                file.display()
            )
        })?;
        componentize(&module)
    }
}

/// The module's name, which is the library's.
fn module_name(folder: &Path) -> anyhow::Result<String> {
    let file = folder.join("Cargo.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| format!("{} is wrong", file.display()))?;
    let library = manifest.lib.and_then(|library| library.name);
    let Some(name) = library.or(manifest.package.map(|package| package.name)) else {
        bail!("{} has no [package]: build the plugin's own folder, not its workspace", file.display());
    };
    Ok(name.replace('-', "_"))
}
