//! `cargo xtask guests`: compiles the bundled Rust guests and writes their components.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use wasmparser::{ComponentExternalKind, Parser, Payload};

use crate::componentize::{componentize, with_custom_section};
use crate::guest_toolchain::{Job, Toolchain, modules};
use crate::sources::{self, Guest};

/// Builds the guests of these names, or those that are older than their sources where there are no names.
pub(crate) fn run(root: &Path, names: &[String], all: bool) -> Result<()> {
    sources::copy_wit(root)?;
    let guests = sources::guests(root)?;
    for name in names {
        ensure!(guests.iter().any(|guest| guest.name == *name), "plugins/Cargo.toml has no guest `{name}`");
    }
    let mut wanted = Vec::new();
    for guest in &guests {
        let stale =
            || Ok::<_, anyhow::Error>(sources::recorded(root, guest)? != Some(sources::digest(root, guest)?));
        if names.contains(&guest.name) || (names.is_empty() && (all || stale()?)) {
            wanted.push(guest);
        }
    }
    if wanted.is_empty() {
        println!("all {} components are as new as their sources", guests.len());
        return Ok(());
    }
    build(root, &wanted)
}

fn build(root: &Path, guests: &[&Guest]) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let target_folder = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Path::new(&folder).join("guests"),
        None => root.join("plugins/target"),
    };
    println!("compiling {} guests with {}", guests.len(), toolchain.version());
    // One run of cargo for each: the features of a dependency must not depend on what else is built.
    let folder = root.join("plugins");
    for guest in guests {
        let job = Job {
            folder: &folder,
            shown_as: "plugins",
            packages: &[&guest.name],
            target_folder: &target_folder,
            locked: false,
        };
        let status = toolchain.command(&job)?.status().context("cannot run cargo")?;
        ensure!(status.success(), "cargo could not compile the guest; its messages are above");
        let file = modules(&job).join(format!("{}.wasm", guest.name.replace('-', "_")));
        let module = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let component = componentize(&module).with_context(|| format!("guest {}", guest.name))?;
        // After the build, which may have brought Cargo.lock up to date.
        let record = format!("{}\n{}\n", sources::digest(root, guest)?, toolchain.version());
        let component = with_custom_section(component, sources::SECTION, record.as_bytes());
        let path = root.join(&guest.component);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, &component).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}: {} bytes\n{}", guest.component, component.len(), surface(&component)?);
    }
    Ok(())
}

/// What a component imports and exports, after it was validated.
fn surface(component: &[u8]) -> Result<String> {
    wasmparser::Validator::new().validate_all(component).context("the component is not valid")?;
    let mut lines = BTreeSet::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    lines.insert(format!("  import {}", import?.name.name));
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Instance {
                        lines.insert(format!("  export {}", export.name.name));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(lines.into_iter().collect::<Vec<_>>().join("\n"))
}
