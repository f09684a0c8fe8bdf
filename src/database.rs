//! The `database` room: SQLite files of the gateway's own, how they are made, opened and brought up to date.
//!
//! `user_version` counts the migrations that were applied; each of them runs once, in a transaction. A file that is
//! not ours is left alone. What is in the tables is the business of the rooms above.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// One kind of file: what is in it, and what an operator can do when it cannot be opened.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What errors call it, such as `the session database`.
    pub name: &'static str,
    /// Marks the file as ours, so that no other program's database is ever written to.
    pub application_id: i32,
    /// SQL that makes and changes the tables; applied in order, entries are only ever added.
    pub migrations: &'static [&'static str],
    /// The settings that put the file elsewhere, such as "`data_dir` to another place".
    pub setting: &'static str,
    /// What is gone when the file is moved away.
    pub contents: &'static str,
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {name} `{}`: {problem}; {advice}", path.display())]
pub struct OpenError {
    /// What it is.
    pub name: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    pub problem: String,
    /// What to do about it.
    pub advice: String,
}

impl Kind {
    /// Makes the folder and the file where they are missing, readable by their owner only, and returns the absolute path.
    /// SQLite gives its `-wal` and `-shm` files the permissions of the database.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn prepare(&self, path: &Path) -> Result<PathBuf, OpenError> {
        let fail = |error: std::io::Error| self.failure(path, error.to_string(), self.make_writable());
        // Absolute, because SQLite reads a name that begins with `file:` or `:` as something else than a file.
        let path = std::path::absolute(path).map_err(fail)?;
        if let Some(folder) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(folder).map_err(fail)?;
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(fail(error)),
            _ => Ok(path),
        }
    }

    /// Opens a file that is [prepared](Self::prepare), or a database in memory where there is none, and brings the tables
    /// up to date. `busy_timeout` is how long to wait for other processes that write.
    ///
    /// # Errors
    /// When it cannot be read or written, is damaged, is not ours, or is from a newer version.
    pub fn open(&self, path: Option<&Path>, busy_timeout: Duration) -> Result<Connection, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let place = path.unwrap_or(Path::new(":memory:"));
        let fail = |error: rusqlite::Error| self.sqlite_failure(place, &error);
        let mut connection = Connection::open_with_flags(place, flags).map_err(fail)?;
        connection.busy_timeout(busy_timeout).map_err(fail)?;
        // SQLite silently falls back to reading where it may not write.
        if connection.is_readonly("main").map_err(fail)? {
            return Err(self.failure(place, "the file is read-only".to_owned(), self.make_writable()));
        }
        self.check_owner(&connection, place)?;
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
            .map_err(fail)?;
        if path.is_some() && mode != "wal" {
            let problem = format!("its file system offers journal mode `{mode}` only, not a write-ahead log");
            return Err(self.failure(place, problem, "put `data_dir` on a local disk".to_owned()));
        }
        // FULL rather than NORMAL: what was answered must survive a power cut as well as a killed process.
        connection.pragma_update(None, "synchronous", "full").map_err(fail)?;
        // What is deleted is overwritten, not just unlinked.
        connection.pragma_update(None, "secure_delete", true).map_err(fail)?;
        connection.pragma_update(None, "trusted_schema", false).map_err(fail)?;
        self.migrate(&mut connection, place)?;
        Ok(connection)
    }

    /// The thread that is to own a connection could not be started.
    #[must_use]
    pub fn thread_failed(&self, path: Option<&Path>, error: &std::io::Error) -> OpenError {
        let problem = format!("no thread could be started for it: {error}");
        let advice = "raise the limit on processes and threads".to_owned();
        self.failure(path.unwrap_or(Path::new(":memory:")), problem, advice)
    }

    /// What is in the file cannot be read.
    #[must_use]
    pub fn unreadable(&self, path: Option<&Path>, problem: String) -> OpenError {
        self.failure(path.unwrap_or(Path::new(":memory:")), problem, self.restore())
    }

    /// An operation on the connection failed while the file was being opened.
    #[must_use]
    pub fn sqlite_failure(&self, path: &Path, error: &rusqlite::Error) -> OpenError {
        let advice = match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => self.restore(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                format!("end the other process that holds it, or set {}", self.setting)
            }
            Some(ErrorCode::DiskFull) => "make room on the disk".to_owned(),
            _ => self.make_writable(),
        };
        self.failure(path, error.to_string(), advice)
    }

    fn check_owner(&self, connection: &Connection, path: &Path) -> Result<(), OpenError> {
        let number = |pragma: &str| -> Result<i32, OpenError> {
            let read = connection.pragma_query_value(None, pragma, |row| row.get(0));
            read.map_err(|error| self.sqlite_failure(path, &error))
        };
        let known = self.migrations.len();
        let version = number("user_version")?;
        let application = number("application_id")?;
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(|error| self.sqlite_failure(path, &error))?;
        if application != self.application_id && (application != 0 || tables > 0) {
            let problem = "it belongs to another program".to_owned();
            return Err(self.failure(path, problem, format!("set {}", self.setting)));
        }
        if usize::try_from(version).is_ok_and(|version| version > known) {
            let problem =
                format!("a newer witgate wrote it (its schema is {version}, this one knows {known})");
            let advice = format!("run that version again, or set {}", self.setting);
            return Err(self.failure(path, problem, advice));
        }
        Ok(())
    }

    fn migrate(&self, connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
        let fail = |error: rusqlite::Error| self.sqlite_failure(path, &error);
        let current = |connection: &Connection| -> rusqlite::Result<usize> {
            let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok(usize::try_from(version).unwrap_or_default())
        };
        if current(connection).map_err(fail)? >= self.migrations.len() {
            return Ok(());
        }
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        // Read again under the lock: another process may have been faster.
        let done = current(&transaction).map_err(fail)?;
        for migration in self.migrations.iter().skip(done) {
            transaction.execute_batch(migration).map_err(fail)?;
        }
        transaction.pragma_update(None, "application_id", self.application_id).map_err(fail)?;
        let version = self.migrations.len().max(done) as i64;
        transaction.pragma_update(None, "user_version", version).map_err(fail)?;
        transaction.commit().map_err(fail)
    }

    fn make_writable(&self) -> String {
        format!("make its folder writable, or set {}", self.setting)
    }

    fn restore(&self) -> String {
        format!(
            "restore a backup, or move the file and those beside it ending in `-wal` and `-shm` away to start without \
             {}",
            self.contents
        )
    }

    fn failure(&self, path: &Path, problem: String, advice: String) -> OpenError {
        OpenError { name: self.name, path: path.to_path_buf(), problem, advice }
    }
}
