//! The file that is written to, and those put aside.
//!
//! A file that has its full size is renamed after the moment (`audit-20261121T101500.123Z.jsonl`), and a new one is begun.
//! When somebody else moves the file, as logrotate does, the next line goes into a new one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::config::Config;
use crate::domain::time::rfc3339;

const MIB: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(86_400);

/// Files put aside within one millisecond.
const MAX_TWINS: u32 = 1000;

/// The log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {what} the audit log {}: {source}; make the folder writable for the gateway, name another one in audit.file, or \
     set audit.enabled = false",
    path.display()
)]
pub struct AuditError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl AuditError {
    pub(super) fn new(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self { what, path: path.to_owned(), source }
    }
}

/// The file of the moment.
pub(super) struct AuditFile {
    path: PathBuf,
    /// `None` while it cannot be opened.
    file: Option<File>,
    max_bytes: u64,
    max_files: usize,
    max_age: Option<Duration>,
    /// Putting it aside has failed, and that was told.
    is_stuck: bool,
}

impl AuditFile {
    pub(super) fn open(config: &Config, data_dir: &Path) -> Result<Self, AuditError> {
        let path = data_dir.join(&config.file);
        let file = open(&path).map_err(|error| AuditError::new("open", &path, error))?;
        let max_age = (config.max_age_days > 0)
            .then(|| DAY.saturating_mul(u32::try_from(config.max_age_days).unwrap_or(u32::MAX)));
        let max_bytes = config.max_file_mb.saturating_mul(MIB);
        let this =
            Self { path, file: Some(file), max_bytes, max_files: config.max_files, max_age, is_stuck: false };
        this.delete_old();
        Ok(this)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `self.file` the file at the path, with room for `bytes`; what is full or was moved is left behind.
    pub(super) fn prepare(&mut self, bytes: usize) -> io::Result<()> {
        let at_path = fs::metadata(&self.path).ok();
        let held = self.file.as_ref().and_then(|file| file.metadata().ok());
        let size = match (&at_path, &held) {
            (Some(at_path), Some(held)) if is_same(at_path, held) => at_path.len(),
            _ => {
                self.file = None;
                self.file = Some(open(&self.path)?);
                at_path.map_or(0, |found| found.len())
            }
        };
        let is_full = self.max_bytes > 0 && size.saturating_add(bytes as u64) > self.max_bytes;
        if is_full && size > 0 {
            self.put_aside()?;
        }
        Ok(())
    }

    /// Writes some of `bytes` to the end of the file and says how many.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::Error::other("it is not open")),
        }
    }

    /// Waits until all is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    fn put_aside(&mut self) -> io::Result<()> {
        self.sync()?;
        let moment: String = rfc3339(SystemTime::now()).chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let (stem, extension) = self.names();
        let free = (0..MAX_TWINS).map(|twin| {
            let twin = if twin == 0 { String::new() } else { format!("-{twin}") };
            self.path.with_file_name(format!("{stem}-{moment}{twin}{extension}"))
        });
        let Some(aside) = free.into_iter().find(|path| !path.exists()) else {
            return Err(io::Error::other("there are too many files put aside within one millisecond"));
        };
        if let Err(error) = fs::rename(&self.path, &aside) {
            // A file that is too large is better than none.
            if !std::mem::replace(&mut self.is_stuck, true) {
                tracing::error!(%error, "the audit log {} cannot be put aside: {error}", self.path.display());
            }
            return Ok(());
        }
        self.is_stuck = false;
        self.file = None;
        self.file = Some(open(&self.path)?);
        self.delete_old();
        Ok(())
    }

    /// `audit` and `.jsonl`.
    fn names(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = self.path.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
        (text(self.path.file_stem()), extension.unwrap_or_default())
    }

    /// Deletes the files put aside that are too many or too old. Failures cost nothing but space.
    fn delete_old(&self) {
        let (stem, extension) = self.names();
        let Some(entries) = self.path.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return };
        let mut aside: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let middle =
                    name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&extension));
                middle.is_some_and(is_moment)
            })
            .collect();
        // The moment in the name makes the oldest the first.
        aside.sort();
        let too_many = if self.max_files == 0 { 0 } else { aside.len().saturating_sub(self.max_files) };
        for (at, path) in aside.iter().enumerate() {
            let changed = fs::metadata(path).and_then(|found| found.modified());
            let age = changed.ok().and_then(|changed| changed.elapsed().ok());
            let is_old = self.max_age.is_some_and(|max| age.is_some_and(|age| age > max));
            if (at < too_many || is_old)
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(%error, "the old audit log {} could not be deleted: {error}", path.display());
            }
        }
    }
}

/// `20261121T101500.123Z`, perhaps with `-1`: nobody else's file is deleted.
fn is_moment(text: &str) -> bool {
    let (moment, twin) = text.split_once('-').unwrap_or((text, "0"));
    let shape = |c: char| if c.is_ascii_digit() { '0' } else { c };
    moment.chars().map(shape).eq("00000000T000000.000Z".chars())
        && !twin.is_empty()
        && twin.bytes().all(|byte| byte.is_ascii_digit())
}

/// The file at `path`, for adding to; its folder and itself are made where they are missing, for their owner only.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    let mut folders = fs::DirBuilder::new();
    folders.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        options.mode(0o600);
        folders.mode(0o700);
    }
    if let Some(folder) = path.parent() {
        folders.create(folder)?;
    }
    options.open(path)
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Elsewhere a file that is open cannot be moved away.
#[cfg(not(unix))]
fn is_same(_one: &Metadata, _other: &Metadata) -> bool {
    true
}
