//! The database file: where it comes from, how it is opened, and the tables in it.
//!
//! `user_version` counts the migrations that were applied; each of them runs once, in a transaction. A file that is
//! not ours is left alone.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// Marks the file as ours (`witg`), so that no other program's database is ever written to.
const APPLICATION_ID: i32 = 0x7769_7467;

/// Pages read into memory for each connection, in KiB (SQLite's own default is 2000).
const CACHE_KIB: i32 = 8000;

/// The write-ahead log is cut back to this size after a checkpoint; without it, it stays as long as it ever was.
const WAL_LIMIT_BYTES: i32 = 16 * 1024 * 1024;

/// Applied in order; entries are only ever added. A turn is a row of its own, because a conversation is appended to far
/// more often than read as a whole; the integer key keeps the long ids out of it.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE sessions (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        version INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sessions_by_owner ON sessions (owner, updated_ms DESC, id);
    CREATE INDEX sessions_by_age ON sessions (updated_ms);
    CREATE TABLE turns (
        session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        messages TEXT NOT NULL,
        PRIMARY KEY (session, number)
    ) STRICT;
"];

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the session database `{}`: {problem}; {advice}", path.display())]
pub struct OpenError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    pub problem: String,
    /// What to do about it.
    pub advice: &'static str,
}

const MAKE_WRITABLE: &str =
    "make its folder writable, or set `data_dir` (or `sessions.file`) to another place";
const RESTORE: &str = "restore a backup, or move the file and those beside it ending in `-wal` and `-shm` away to \
                       start without conversations";
const OTHER_FILE: &str = "set `sessions.file` to another name";

/// Makes the folder and the file where they are missing, readable by their owner only, and returns the absolute path.
/// SQLite gives its `-wal` and `-shm` files the permissions of the database.
pub(super) fn prepare_file(path: &Path) -> Result<PathBuf, OpenError> {
    let fail = |error: std::io::Error| failure(path, error.to_string(), MAKE_WRITABLE);
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

/// Opens the file, sets the connection up and brings the tables up to date.
pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let fail = |error: rusqlite::Error| sqlite_failure(path, &error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(busy_timeout).map_err(fail)?;
    // SQLite silently falls back to reading where it may not write.
    if connection.is_readonly("main").map_err(fail)? {
        return Err(failure(path, "the file is read-only".to_owned(), MAKE_WRITABLE));
    }
    check_owner(&connection, path)?;
    set_up(&connection, path)?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// The thread that is to own a connection could not be started.
pub(super) fn thread_failed(path: &Path, error: &std::io::Error) -> OpenError {
    failure(
        path,
        format!("no thread could be started for it: {error}"),
        "raise the limit on processes and threads",
    )
}

fn check_owner(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |pragma: &str| -> Result<i32, OpenError> {
        connection.pragma_query_value(None, pragma, |row| row.get(0)).map_err(|e| sqlite_failure(path, &e))
    };
    let known = MIGRATIONS.len();
    let version = number("user_version")?;
    let application = number("application_id")?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| sqlite_failure(path, &error))?;
    if application != APPLICATION_ID && (application != 0 || tables > 0) {
        return Err(failure(path, "it belongs to another program".to_owned(), OTHER_FILE));
    }
    if usize::try_from(version).is_ok_and(|version| version > known) {
        let problem = format!("a newer witgate wrote it (its schema is {version}, this one knows {known})");
        return Err(failure(path, problem, "run that version again, or set `sessions.file` to another name"));
    }
    Ok(())
}

fn set_up(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let fail = |error: rusqlite::Error| sqlite_failure(path, &error);
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(fail)?;
    if mode != "wal" {
        let problem = format!("its file system offers journal mode `{mode}` only, not a write-ahead log");
        return Err(failure(path, problem, "put `data_dir` on a local disk"));
    }
    // FULL rather than NORMAL: a reply the user has seen must survive a power cut as well as a killed process, and
    // with turns committed together the additional sync is one for all that wait.
    connection.pragma_update(None, "synchronous", "full").map_err(fail)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(fail)?;
    // A deleted conversation is overwritten, not just unlinked.
    connection.pragma_update(None, "secure_delete", true).map_err(fail)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(fail)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(fail)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT_BYTES).map_err(fail)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let fail = |error: rusqlite::Error| sqlite_failure(path, &error);
    let current = |connection: &Connection| -> rusqlite::Result<usize> {
        let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok(usize::try_from(version).unwrap_or_default())
    };
    if current(connection).map_err(fail)? >= MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    // Read again under the lock: another process may have been faster.
    let done = current(&transaction).map_err(fail)?;
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration).map_err(fail)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(fail)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len().max(done) as i64).map_err(fail)?;
    transaction.commit().map_err(fail)
}

fn sqlite_failure(path: &Path, error: &rusqlite::Error) -> OpenError {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => RESTORE,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "end the other process that holds it, or set `sessions.file` to another name"
        }
        Some(ErrorCode::DiskFull) => "make room on the disk",
        _ => MAKE_WRITABLE,
    };
    failure(path, error.to_string(), advice)
}

fn failure(path: &Path, problem: String, advice: &'static str) -> OpenError {
    OpenError { path: path.to_path_buf(), problem, advice }
}
