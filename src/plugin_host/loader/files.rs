//! The drop folder as files: which of them mean a plugin, whether they are complete, and what is in them.
//!
//! Everything here blocks and belongs on a blocking thread, but nothing waits: pipes and devices are not read. Links are
//! followed wherever they lead, since whoever can make one could have copied the file as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Most plugins in one folder.
const MAX_PLUGINS: usize = 256;

/// Most names in the folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Largest operator's file, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1024 * 1024;

/// A file that nobody wrote to for this long is complete; a younger one is looked at twice.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What lies in the folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Plugins by name.
    pub(super) plugins: BTreeMap<String, Candidate>,
    /// Files that mean nothing although somebody may think they do.
    pub(super) warnings: Vec<String>,
}

/// The files of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// `name.wasm`.
    pub(super) component: Mark,
    /// `name.toml`, where there is one.
    pub(super) manifest: Option<Mark>,
}

/// What tells two states of a file apart without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A file that can be read.
    File {
        /// Device and number, where the system has them: a file put in the place of another is another one.
        id: (u64, u64),
        /// Length in bytes.
        len: u64,
        /// Last change of the content.
        modified: Option<SystemTime>,
        /// Last change of anything, in seconds and nanoseconds, where the system has it. It cannot be set back.
        changed: (i64, i64),
    },
    /// Part of the gateway's binary.
    Bundled,
    /// Something else under the name of a file; in words that follow the name.
    Problem(String),
}

/// What reading a file came to.
pub(super) enum Content {
    /// All of it.
    Bytes(Vec<u8>),
    /// It changed under the eyes of the reader.
    Changed,
}

impl Candidate {
    /// Whether nobody has written to the files for a while.
    pub(super) fn is_settled(&self) -> bool {
        self.component.is_settled() && self.manifest.as_ref().is_none_or(Mark::is_settled)
    }
}

impl Mark {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Self::of_file(&metadata),
            Ok(metadata) if metadata.is_dir() => Self::Problem("a folder, not a file".to_owned()),
            Ok(_) => Self::Problem("a pipe, socket or device, not a file".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Self::Problem("a link to a file that does not exist".to_owned())
            }
            Err(error) => Self::Problem(format!("cannot be read: {error}")),
        }
    }

    #[cfg(unix)]
    fn of_file(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self::File {
            id: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    #[cfg(not(unix))]
    fn of_file(metadata: &Metadata) -> Self {
        Self::File { id: (0, 0), len: metadata.len(), modified: metadata.modified().ok(), changed: (0, 0) }
    }

    fn is_settled(&self) -> bool {
        let Self::File { modified, changed, .. } = self else { return true };
        let seconds = u64::try_from(changed.0).unwrap_or_default();
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        // A moment in the future says nothing.
        let is_old = |moment: SystemTime| moment.elapsed().is_ok_and(|age| age >= SETTLED_AFTER);
        is_old(changed) && modified.is_none_or(is_old)
    }
}

/// Whether a file called `name.wasm` can be a plugin: names go into logs, addresses and other files.
pub(super) fn is_plugin_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 64 && name.starts_with(plain) && name.chars().all(|c| plain(c) || c == '_' || c == '-')
}

/// Looks at the folder; one that does not exist is empty. Bundled plugins are there whatever the folder holds, and give
/// way to a component of the same name.
pub(super) fn list(dir: &Path, bundled: &[String]) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let entries = entries.into_iter().flatten();
    let (mut components, mut manifests) = (BTreeSet::new(), BTreeSet::new());
    for (count, entry) in entries.enumerate() {
        if count == MAX_ENTRIES {
            listing
                .warnings
                .push(format!("more than {MAX_ENTRIES} files in {}: the rest is ignored", dir.display()));
            break;
        }
        let file_name = entry?.file_name();
        let file_name = file_name.to_string_lossy();
        // Editors and copying programs write to such names first.
        if file_name.starts_with('.') {
            continue;
        }
        match file_name.rsplit_once('.') {
            Some((name, "wasm")) => {
                components.insert(name.to_owned());
            }
            Some((name, "toml")) => {
                manifests.insert(name.to_owned());
            }
            Some((_, "cwasm")) => listing.warnings.push(format!(
                "{file_name}: precompiled code is never loaded from this folder; put the component itself here"
            )),
            Some((_, "wat")) => listing.warnings.push(format!(
                "{file_name}: text form is not loaded; turn it into a component with `wasm-tools parse`"
            )),
            Some((_, ending)) if ending.eq_ignore_ascii_case("wasm") || ending.eq_ignore_ascii_case("toml") => {
                listing.warnings.push(format!("{file_name}: the ending has to be in small letters"));
            }
            _ => {}
        }
    }
    for name in components.iter().skip(MAX_PLUGINS) {
        listing.warnings.push(format!("{name}.wasm: ignored; a folder holds {MAX_PLUGINS} plugins at most"));
    }
    for name in
        manifests.difference(&components).filter(|name| is_plugin_name(name) && !bundled.contains(name))
    {
        listing.warnings.push(format!("{name}.toml: there is no {name}.wasm beside it"));
    }
    let manifest = |name: &str| manifests.contains(name).then(|| Mark::of(&manifest_path(dir, name)));
    for name in bundled {
        let candidate = Candidate { component: Mark::Bundled, manifest: manifest(name) };
        listing.plugins.insert(name.clone(), candidate);
    }
    for name in components.into_iter().take(MAX_PLUGINS) {
        let component = Mark::of(&component_path(dir, &name));
        let candidate = Candidate { component, manifest: manifest(&name) };
        listing.plugins.insert(name, candidate);
    }
    listing.warnings.sort();
    Ok(listing)
}

/// Where the component of a plugin lies.
pub(super) fn component_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.wasm"))
}

/// Where the operator's file of a plugin lies.
pub(super) fn manifest_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.toml"))
}

/// Reads a component of at most `max_mb` mebibytes that should still look like `mark`.
pub(super) fn read_component(path: &Path, mark: &Mark, max_mb: u64) -> Result<Content, String> {
    read(path, mark, max_mb << 20, || {
        format!("larger than {max_mb} MiB, the limit plugins.max_component_mb in gateway.toml")
    })
}

/// Reads an operator's file that should still look like `mark`.
pub(super) fn read_manifest(path: &Path, mark: &Mark) -> Result<Content, String> {
    read(path, mark, MAX_MANIFEST_BYTES, || "larger than 1 MiB: this is not a plugin's file".to_owned())
}

fn read(path: &Path, mark: &Mark, max_bytes: u64, too_large: impl Fn() -> String) -> Result<Content, String> {
    let expected = match mark {
        Mark::Problem(problem) => return Err(problem.clone()),
        Mark::Bundled => return Err("is part of the gateway's binary, not a file".to_owned()),
        Mark::File { len, .. } => *len,
    };
    if expected > max_bytes {
        return Err(too_large());
    }
    let (file, opened) = match open(path).and_then(|file| Ok((file.metadata()?, file))) {
        Ok((metadata, file)) if metadata.is_file() => (file, Mark::of_file(&metadata)),
        Ok(_) => return Ok(Content::Changed),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Content::Changed),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(format!("cannot be read: {error}; the gateway's user must be able to read it"));
        }
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    if opened != *mark {
        return Ok(Content::Changed);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    (&file)
        .take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let after = file.metadata().map(|metadata| Mark::of_file(&metadata));
    if bytes.len() as u64 != expected || after.ok().as_ref() != Some(mark) {
        return Ok(Content::Changed);
    }
    Ok(Content::Bytes(bytes))
}

/// Opens without waiting, whatever was put there since it was looked at: a pipe would wait for its other end.
#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

#[cfg(test)]
mod tests;
