//! The file that is written to, and those put aside.
//!
//! A file that has its full size is renamed after the moment (`audit-20261121T101500.123Z.jsonl`), and a new one is begun.
//! When somebody else moves the file, as logrotate does, the next line goes into a new one.
//!
//! Several processes may write to one file: who writes or renames it holds its lock, and looks whether the locked file is
//! still the one at the path. Nothing but whole lines is left behind.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::config::Config;
use crate::domain::time::rfc3339;

const MIB: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(86_400);

/// Files put aside within one millisecond.
const MAX_TWINS: u32 = 1000;

/// The longest wait for another process that writes, and the pause between two looks whether it has ended.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(1);

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
    /// Whether its file system has locks.
    has_locks: bool,
}

impl AuditFile {
    pub(super) fn open(config: &Config, data_dir: &Path) -> Result<Self, AuditError> {
        let path = data_dir.join(&config.file);
        let file = open(&path).map_err(|error| AuditError::new("open", &path, error))?;
        // Some file systems of networks have none, and no common word for it.
        let has_locks = match file.try_lock() {
            Ok(()) | Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => {
                tracing::warn!(
                    %error, "the audit log {} cannot be locked: only one process may write to it ({error})", path.display()
                );
                false
            }
        };
        // Nobody holds the lock while there is nothing to write.
        drop(file);
        let max_age = (config.max_age_days > 0)
            .then(|| DAY.saturating_mul(u32::try_from(config.max_age_days).unwrap_or(u32::MAX)));
        let max_bytes = config.max_file_mb.saturating_mul(MIB);
        let (max_files, is_stuck) = (config.max_files, false);
        let this = Self { path, file: None, max_bytes, max_files, max_age, is_stuck, has_locks };
        this.delete_old();
        Ok(this)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds `lines` to the file at the path, and takes those off that are there: all of them, unless it fails.
    pub(super) fn append(&mut self, lines: &mut Vec<u8>) -> io::Result<()> {
        let (mut file, held) = self.locked(lines.len())?;
        // A pipe or a terminal has no end to go back to.
        let mut end = held.is_file().then_some(held.len());
        if let Some(end) = &mut end
            && is_torn(&mut file, *end)?
        {
            // Somebody died over a line. It is lost; those after it are not.
            file.write_all(b"\n")?;
            *end += 1;
        }
        let (written, result) = write(&mut file, lines);
        if result.is_err() {
            let whole = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if let Some(Err(error)) = end.map(|end| file.set_len(end + whole as u64)) {
                tracing::warn!(%error, "a line of the audit log may be there in half: {error}");
            }
            lines.drain(..whole);
            return result;
        }
        lines.clear();
        if !self.has_locks || file.unlock().is_ok() {
            self.file = Some(file);
        } else {
            // Closing it lets go of it as well.
            sync(&file)?;
        }
        Ok(())
    }

    /// Waits until all is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), sync)
    }

    /// The file at the path, with room for `bytes`, and nobody else writing to it, and what it is now; what is full or was
    /// moved is left behind.
    fn locked(&mut self, bytes: usize) -> io::Result<(File, Metadata)> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let file = match self.file.take() {
                Some(file) => file,
                None => open(&self.path)?,
            };
            if self.has_locks {
                lock(&file, deadline)?;
            }
            let held = file.metadata()?;
            // Whoever had the lock before may have put the file aside.
            let is_here = fs::metadata(&self.path).is_ok_and(|at_path| is_same(&at_path, &held));
            if !is_here {
                continue;
            }
            let is_full = self.max_bytes > 0 && held.len().saturating_add(bytes as u64) > self.max_bytes;
            if !is_full || held.len() == 0 || !self.put_aside(&file)? {
                return Ok((file, held));
            }
        }
    }

    /// Renames `file`, which is the one at the path; false where that cannot be done.
    fn put_aside(&mut self, file: &File) -> io::Result<bool> {
        file.sync_data()?;
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
            return Ok(false);
        }
        self.is_stuck = false;
        self.delete_old();
        Ok(true)
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
            // Another process may have been faster.
            if (at < too_many || is_old)
                && let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "the old audit log {} could not be deleted: {error}", path.display());
            }
        }
    }
}

/// Waits until all of `file` is on the disk, where it is on one.
fn sync(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.sync_data() } else { Ok(()) }
}

/// Waits until no other process writes to `file`; closing it ends the lock.
fn lock(file: &File, deadline: Instant) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                let words = "another process holds its lock, and does not let go of it";
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether the file of `length` bytes ends within a line.
fn is_torn(file: &mut File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Adds `bytes`, at once where the system lets it; says how many of them there are now.
fn write(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
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
    options.read(true).append(true).create(true);
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

/// Elsewhere files have no number to know them by. Nobody writes meanwhile, so a file that was begun anew differs.
#[cfg(not(unix))]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.len(), one.created().ok()) == (other.len(), other.created().ok())
}
