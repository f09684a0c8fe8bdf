//! Which sources a committed component was built from, as one hash.
//!
//! The hash covers what decides the component's bytes, and nothing else, so that work on one guest never makes another's
//! component stale: the guest's own files, those of the SDK with its WIT, the compiler's flags and profile, and the
//! locked versions of the crates that this guest needs. `tests/guests_fresh.rs` includes this file by path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use crate::guest_toolchain::FLAGS;

/// Name of the custom section that holds the hash in its first line, and the compiler's version in its second.
pub(crate) const SECTION: &str = "witgate:sources";

const SDK: &str = "sdk";

/// A crate that becomes a component.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Name of the crate and of its component.
    pub(crate) name: String,
    /// Its folder, from the repository's root.
    pub(crate) folder: String,
    /// Its component, from the repository's root.
    pub(crate) component: String,
}

/// All guests of the workspace, in its order.
pub(crate) fn guests(root: &Path) -> Result<Vec<Guest>> {
    let manifest = table(&root.join("plugins/Cargo.toml"))?;
    let members =
        manifest["workspace"]["members"].as_array().context("plugins/Cargo.toml has no workspace.members")?;
    let folders = members.iter().filter_map(Value::as_str).filter(|folder| *folder != SDK);
    folders
        .map(|folder| {
            let manifest = table(&root.join("plugins").join(folder).join("Cargo.toml"))?;
            let name = manifest["package"]["name"].as_str().context("a package without a name")?.to_owned();
            let place = if folder.starts_with("examples/") { "dist/examples" } else { "dist" };
            Ok(Guest {
                folder: format!("plugins/{folder}"),
                component: format!("plugins/{place}/{name}.wasm"),
                name,
            })
        })
        .collect()
}

/// The hash of the sources as they are now, in hexadecimal.
pub(crate) fn digest(root: &Path, guest: &Guest) -> Result<String> {
    let mut parts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for folder in ["plugins/sdk", &guest.folder] {
        for file in files(&root.join(folder))? {
            let name = file.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            // A checkout may have other line ends than the one the component was built in.
            parts.insert(name, without_carriage_returns(fs::read(&file)?));
        }
    }
    let mut manifest = table(&root.join("plugins/Cargo.toml"))?;
    if let Some(workspace) = manifest.get_mut("workspace").and_then(Value::as_table_mut) {
        workspace.remove("members");
        workspace.remove("lints");
    }
    parts.insert("workspace".into(), toml::to_string(&manifest)?.into_bytes());
    parts.insert("crates".into(), locked_crates(root, &guest.name)?.join("\n").into_bytes());
    parts.insert("flags".into(), FLAGS.join("\n").into_bytes());

    let mut hash = Sha256::new();
    for (name, content) in parts {
        hash.update(format!("{name}\0{}\0", content.len()));
        hash.update(content);
    }
    Ok(hex(&hash.finalize()))
}

/// The hash that a component carries; none where there is no component, or one without a hash.
pub(crate) fn recorded(root: &Path, guest: &Guest) -> Result<Option<String>> {
    let path = root.join(&guest.component);
    if !path.exists() {
        return Ok(None);
    }
    let component = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let content = custom_section(&component, SECTION);
    Ok(content.and_then(|content| std::str::from_utf8(content).ok()?.lines().next().map(str::to_owned)))
}

/// Brings the SDK's copy of the WIT package up to date: the SDK stands alone in a plugin's folder.
pub(crate) fn copy_wit(root: &Path) -> Result<()> {
    for file in files(&root.join("wit"))? {
        let copy = root.join("plugins/sdk").join(file.strip_prefix(root)?);
        let text = fs::read(&file)?;
        if fs::read(&copy).ok().as_ref() != Some(&text) {
            fs::write(&copy, text).with_context(|| format!("cannot write {}", copy.display()))?;
        }
    }
    Ok(())
}

/// Files below a folder that decide what is compiled, in order: not documentation, tests, components and operators' files.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let kind = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | "tests") {
                    pending.push(path);
                }
            } else if name == "Cargo.toml"
                || !(name.starts_with('.') || matches!(kind.as_str(), "md" | "wasm" | "toml"))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Name, version and checksum of every crate that a guest needs, by `Cargo.lock`.
fn locked_crates(root: &Path, guest: &str) -> Result<Vec<String>> {
    let lock = table(&root.join("plugins/Cargo.lock"))?;
    let packages =
        lock.get("package").and_then(Value::as_array).context("plugins/Cargo.lock has no packages")?;
    let text =
        |package: &Value, key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut found = BTreeSet::new();
    let mut pending = vec![guest.to_owned()];
    while let Some(wanted) = pending.pop() {
        // `name`, or `name version` where the lock has several.
        let (name, version) =
            wanted.split_once(' ').map_or((wanted.as_str(), None), |(name, rest)| (name, Some(rest)));
        let package = packages.iter().find(|package| {
            text(package, "name") == name && version.is_none_or(|version| text(package, "version") == version)
        });
        let package = package.with_context(|| format!("plugins/Cargo.lock does not have {wanted}"))?;
        if found.insert(format!("{name} {} {}", text(package, "version"), text(package, "checksum"))) {
            let dependencies = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
            pending.extend(dependencies.filter_map(Value::as_str).map(str::to_owned));
        }
    }
    ensure!(!found.is_empty(), "plugins/Cargo.lock does not have {guest}");
    Ok(found.into_iter().collect())
}

fn table(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not TOML", path.display()))
}

fn without_carriage_returns(mut text: Vec<u8>) -> Vec<u8> {
    text.retain(|byte| *byte != b'\r');
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The content of a custom section on a component's outermost level.
fn custom_section<'a>(component: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut rest = component.get(8..)?;
    let mut found = None;
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = read_length(after)?;
        let body = after.get(..length)?;
        rest = &after[length..];
        if id == 0 {
            let (length, after) = read_length(body)?;
            if after.get(..length)? == wanted.as_bytes() {
                found = Some(&after[length..]);
            }
        }
    }
    found
}

/// Unsigned LEB128, as everywhere in WebAssembly.
fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, &bytes[index + 1..]));
        }
    }
    None
}
