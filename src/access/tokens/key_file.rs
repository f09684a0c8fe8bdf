//! The file with the keys that access tokens are signed with: `access-keys.json`, readable by its owner only.
//!
//! Written as a whole beside and moved into place, so that a reader never sees half of it. Several processes may share
//! it: the first one makes it, the others take what is there, and a change by one is taken in by all. Who changes it holds
//! the lock of a file beside it (`access-keys.lock`), so that no two changes undo each other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::KID_PREFIX;
use crate::config::secret::Secret;
use crate::domain::ids::random_secret;

/// Letters and digits of a secret: 381 bits.
const SECRET_LENGTH: usize = 64;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The secret from the environment would be too easy to guess.
    #[error(
        "WITGATE_TOKEN_SECRET has {length} bytes and needs {needed} at least; `openssl rand -base64 48` makes a good one"
    )]
    ShortSecret {
        /// Bytes that it has.
        length: usize,
        /// Bytes that it needs.
        needed: usize,
    },
    /// A life that no token can have.
    #[error("access.token_ttl_s is {0} and has to be 60 (a minute) to 604800 (a week)")]
    Ttl(u64),
    /// The file cannot be read or written.
    #[error("the keys of access tokens in `{}`: {problem}; {advice}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        advice: &'static str,
    },
    /// The operating system has none to give.
    #[error("there is no randomness for the keys of access tokens")]
    NoRandomness,
}

/// One key.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StoredKey {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) created_ms: u64,
}

impl StoredKey {
    pub(super) fn generate(now_ms: u64) -> Result<Self, KeyFileError> {
        let random = |length| random_secret(length).ok_or(KeyFileError::NoRandomness);
        let id = format!("{KID_PREFIX}{}", random(8)?);
        Ok(Self { id, secret: random(SECRET_LENGTH)?.into(), created_ms: now_ms })
    }

    /// The key from the environment. Its id changes with it, and tells nothing about it.
    pub(super) fn of_secret(secret: &Secret) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"witgate key id\0");
        hash.update(secret.expose().as_bytes());
        let tag: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { id: format!("{KID_PREFIX}env-{tag}"), secret: secret.clone(), created_ms: 0 }
    }
}

#[derive(Deserialize)]
struct Content {
    keys: Vec<StoredKey>,
}

/// A key as it is written: the one place where it leaves the process.
#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    secret: &'a str,
    created_ms: u64,
}

impl<'a> Written<'a> {
    fn of(key: &'a StoredKey) -> Self {
        Self { id: &key.id, secret: key.secret.expose(), created_ms: key.created_ms }
    }
}

#[derive(Serialize)]
struct WrittenContent<'a> {
    keys: Vec<Written<'a>>,
}

/// What tells that a file was changed: when, and how long it is.
type Look = Option<(SystemTime, u64)>;

/// The file, and what it looked like when the keys in force were read.
pub(super) struct KeyFile {
    path: PathBuf,
    seen: Mutex<Look>,
}

impl KeyFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: Mutex::new(None) }
    }

    /// The keys of the file, the newest last; makes the file where there is none.
    pub(super) fn load_or_create(&self, now_ms: u64) -> Result<Vec<StoredKey>, KeyFileError> {
        if let Some(keys) = self.take()? {
            return Ok(keys);
        }
        let keys = vec![StoredKey::generate(now_ms)?];
        if self.write(&keys, false)? {
            return Ok(keys);
        }
        // Another process was faster.
        self.take()?.ok_or_else(|| self.failure("it was there and is gone".to_owned()))
    }

    /// The keys, to be in force from now on, where somebody changed the file since the last ones were read.
    pub(super) fn changed(&self) -> Result<Option<Vec<StoredKey>>, KeyFileError> {
        match std::fs::metadata(&self.path).and_then(|about| look(&about)) {
            Ok(now) if *self.seen() != now => self.take(),
            Ok(_) => Ok(None),
            // What is in memory goes on; a start makes new ones.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failure(error.to_string())),
        }
    }

    /// Adds a key where the newest is older than `max_age_ms` (0: never), and forgets those that were replaced longer than
    /// `keep_ms` ago. `None` where there is nothing to do, or another process is doing it: [`Self::changed`] tells of that.
    pub(super) fn rotate(
        &self,
        now_ms: u64,
        max_age_ms: u64,
        keep_ms: u64,
    ) -> Result<Option<Vec<StoredKey>>, KeyFileError> {
        let due = || -> Result<Option<Vec<StoredKey>>, KeyFileError> {
            let Some((text, _)) = self.read()? else { return Ok(None) };
            let keys = self.parse(&text)?;
            let newest = keys.last().map_or(0, |key| key.created_ms);
            Ok((max_age_ms != 0 && now_ms.saturating_sub(newest) >= max_age_ms).then_some(keys))
        };
        if due()?.is_none() {
            return Ok(None);
        }
        let Some(_lock) = self.lock()? else { return Ok(None) };
        // Whoever had the lock before may have done it.
        let Some(mut keys) = due()? else { return Ok(None) };
        keys.push(StoredKey::generate(now_ms)?);
        let replaced: Vec<u64> = keys.iter().skip(1).map(|key| key.created_ms).chain([u64::MAX]).collect();
        let mut replaced = replaced.into_iter();
        keys.retain(|_| replaced.next().is_none_or(|time| now_ms.saturating_sub(time) < keep_ms));
        self.write(&keys, true)?;
        Ok(Some(keys))
    }

    /// The right to change the file, until it is dropped; `None` as long as somebody else has it.
    pub(super) fn lock(&self) -> Result<Option<File>, KeyFileError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.path.with_extension("lock"));
        let file = file.map_err(|error| self.failure(error.to_string()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.failure(format!("it cannot be locked: {error}"))),
        }
    }

    /// The keys of the file, which the caller puts into force.
    fn take(&self) -> Result<Option<Vec<StoredKey>>, KeyFileError> {
        let Some((text, look)) = self.read()? else { return Ok(None) };
        // Also where it is damaged: that is told once.
        *self.seen() = look;
        self.parse(&text).map(Some)
    }

    /// The text of the file and what it looked like; `None` where there is no file.
    fn read(&self) -> Result<Option<(String, Look)>, KeyFileError> {
        // The look of the very file that is read, whatever is moved into its place meanwhile.
        let read = File::open(&self.path).and_then(|mut file| {
            let look = look(&file.metadata()?)?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok((text, look))
        });
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failure(error.to_string())),
        }
    }

    fn parse(&self, text: &str) -> Result<Vec<StoredKey>, KeyFileError> {
        let content: Content = serde_json::from_str(text).map_err(|error| self.failure(place_of(&error)))?;
        let is_ours = |key: &StoredKey| {
            key.id.starts_with(KID_PREFIX) && key.secret.expose().len() >= super::MIN_SECRET_BYTES
        };
        if content.keys.is_empty() || !content.keys.iter().all(is_ours) {
            return Err(self.failure("there is no key in it, or one that is none".to_owned()));
        }
        Ok(content.keys)
    }

    /// False where the file is there already and must not be replaced.
    fn write(&self, keys: &[StoredKey], may_replace: bool) -> Result<bool, KeyFileError> {
        let fail = |error: std::io::Error| self.failure(error.to_string());
        let content = WrittenContent { keys: keys.iter().map(Written::of).collect() };
        let text = serde_json::to_string_pretty(&content).map_err(|error| self.failure(error.to_string()))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        // Readable by its owner only, from the beginning.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
        file.write_all(text.as_bytes()).map_err(fail)?;
        file.as_file().sync_all().map_err(fail)?;
        if may_replace {
            file.persist(&self.path).map_err(|error| fail(error.error))?;
            return Ok(true);
        }
        match file.persist_noclobber(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(fail(error.error)),
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Look> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn failure(&self, problem: String) -> KeyFileError {
        KeyFileError::File {
            path: self.path.clone(),
            problem,
            advice: "make its folder writable; if the file is damaged, remove it: everybody then logs in anew",
        }
    }
}

fn look(about: &std::fs::Metadata) -> std::io::Result<Look> {
    Ok(Some((about.modified()?, about.len())))
}

/// Where JSON is wrong, without a word of what is there.
fn place_of(error: &serde_json::Error) -> String {
    format!("line {}, column {} is not what was expected there", error.line(), error.column())
}
