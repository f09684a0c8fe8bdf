//! Folders of this machine that a plugin may use: the `files` grants, checked at load and opened for each call.
//!
//! A grant is a folder. It is canonicalised and opened when the plugin is loaded, and what was opened then is what every
//! call gets: a folder that is moved or replaced by a link later leads nowhere else, also where another plugin may write
//! beside it. Within a folder the WASI implementation resolves paths itself, so that neither `..` nor a symbolic link
//! leaves it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// A grant as the operator wrote it.
#[derive(Clone, Copy, Debug)]
pub struct FolderGrant<'a> {
    /// The folder on this machine.
    pub host: &'a Path,
    /// What the guest calls it.
    pub guest: &'a str,
    /// Whether the guest may change anything.
    pub writable: bool,
}

/// A place that no plugin may have, and what it is in words: "the plugins folder".
#[derive(Clone, Copy, Debug)]
pub struct Protected<'a> {
    /// What it is.
    pub what: &'a str,
    /// Where it is. It need not exist.
    pub path: &'a Path,
}

/// Granted folders, checked and open.
#[derive(Debug, Default)]
pub struct Folders(Vec<Folder>);

#[derive(Debug)]
struct Folder {
    host: PathBuf,
    /// Keeps the folder that was checked, whatever its path leads to later.
    opened: File,
    guest: String,
    perms: FsPerms,
}

/// Why a grant cannot be given.
#[derive(Debug, thiserror::Error)]
#[error("files[{index}].host: {path}: {problem}", path = path.display())]
pub struct FilesError {
    index: usize,
    path: PathBuf,
    problem: String,
}

impl Folders {
    /// Checks and opens `grants`. None of them may be, hold or lie in one of `protected`.
    ///
    /// # Errors
    /// With the first grant that cannot be given, by its place in the operator's file.
    pub fn open<'a>(
        grants: impl IntoIterator<Item = FolderGrant<'a>>,
        protected: &[Protected<'_>],
    ) -> Result<Self, FilesError> {
        let protected: Vec<_> = protected.iter().map(|place| (place.what, canonical(place.path))).collect();
        let open = |(index, grant): (usize, FolderGrant<'a>)| {
            folder(&grant, &protected).map_err(|problem| FilesError {
                index,
                path: grant.host.to_owned(),
                problem,
            })
        };
        grants.into_iter().enumerate().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the folders to a guest.
    ///
    /// # Errors
    /// When a folder cannot be opened once more, with its path.
    pub fn add_to(&self, builder: &mut WasiCtxBuilder) -> io::Result<()> {
        for folder in &self.0 {
            builder.preopened_dir(folder.path(), &folder.guest, folder.perms).map_err(|error| {
                io::Error::other(format!("{} cannot be opened: {error:#}", folder.host.display()))
            })?;
        }
        Ok(())
    }
}

impl Folder {
    /// A path to the folder that was opened.
    #[cfg(target_os = "linux")]
    fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        let opened = PathBuf::from(format!("/proc/self/fd/{}", self.opened.as_raw_fd()));
        // Without /proc (a bare chroot) the checked path has to do.
        if opened.exists() { opened } else { self.host.clone() }
    }

    /// The path that was checked. (Elsewhere there is no way to an open folder's path.)
    #[cfg(not(target_os = "linux"))]
    fn path(&self) -> PathBuf {
        let _ = &self.opened;
        self.host.clone()
    }
}

fn folder(grant: &FolderGrant<'_>, protected: &[(&str, PathBuf)]) -> Result<Folder, String> {
    let host = grant.host.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such folder; make it, or correct the path".to_owned(),
        _ => format!("it cannot be opened: {error}"),
    })?;
    if !host.is_dir() {
        return Err("it is not a folder; grant the folder that holds the file".to_owned());
    }
    if host.parent().is_none() {
        return Err("the whole file system is not granted; name a folder".to_owned());
    }
    for (what, path) in protected {
        if *path == host {
            return Err(format!("this is {what}, which no plugin may have"));
        }
        if path.starts_with(&host) {
            return Err(format!("it holds {what}, which no plugin may have; name a folder further down"));
        }
        if host.starts_with(path) {
            return Err(format!("it lies in {what}, which no plugin may have; name another folder"));
        }
    }
    let opened = File::open(&host).map_err(|error| format!("it cannot be opened: {error}"))?;
    let perms = if grant.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
    Ok(Folder { host, opened, guest: grant.guest.to_owned(), perms })
}

/// The real path of a place, as far as it exists.
fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match existing {
        Some((above, real)) => match absolute.strip_prefix(above) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => absolute,
    }
}

#[cfg(test)]
#[path = "files/tests.rs"]
mod tests;
