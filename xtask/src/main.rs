//! Work on the repository itself, run as `cargo xtask COMMAND`.
//!
//! `guests [--all] [NAME...]` builds the components of the bundled Rust plugins that are older than their sources, all of
//! them, or those named. `wit-docs` writes `docs/plugins/wit.md` from the WIT package.

#[path = "../../src/cli/plugin/componentize.rs"]
mod componentize;
#[path = "../../src/cli/plugin/guest_toolchain.rs"]
mod guest_toolchain;
mod guests;
mod sources;
mod wit_docs;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: cargo xtask guests [--all] [NAME...] | cargo xtask wit-docs";

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no folder above it")?;
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("guests") => {
            let (flags, names): (Vec<_>, Vec<_>) = arguments.partition(|argument| argument.starts_with('-'));
            if let Some(unknown) = flags.iter().find(|flag| *flag != "--all") {
                bail!("unknown flag {unknown}\n{USAGE}");
            }
            guests::run(root, &names, !flags.is_empty())
        }
        Some("wit-docs") => {
            let page = root.join(wit_docs::PAGE);
            fs::create_dir_all(page.parent().unwrap_or(root))?;
            fs::write(&page, wit_docs::page(root)?)
                .with_context(|| format!("cannot write {}", page.display()))
        }
        _ => bail!("{USAGE}"),
    }
}
