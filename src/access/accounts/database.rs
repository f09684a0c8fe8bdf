//! The database file of users and keys: how it is made and opened, and the tables in it.
//!
//! `user_version` counts the migrations that were applied; each of them runs once, in a transaction. A file that is
//! not ours is left alone.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::error::OpenError;

/// Marks the file as ours (`witk`), so that no other program's database is ever written to.
const APPLICATION_ID: i32 = 0x7769_746b;

/// How long to wait for another process that writes; well within a caller's own limit.
const BUSY: Duration = Duration::from_secs(5);

/// Applied in order; entries are only ever added. Keys outlive their users, so that a revoked key is told from one that
/// never was; therefore `owner` is no foreign key. `token_generation` is a random number: tokens of another one are not
/// taken, also where a new database gives an old number to somebody else.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE users (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        password TEXT,
        role TEXT NOT NULL CHECK (role IN ('admin', 'user', 'service')),
        grants TEXT NOT NULL,
        disabled INTEGER NOT NULL DEFAULT 0,
        token_generation INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        last_login_ms INTEGER
    ) STRICT;
    CREATE TABLE api_keys (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        hash BLOB NOT NULL,
        name TEXT NOT NULL,
        owner INTEGER NOT NULL,
        grants TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER,
        last_used_ms INTEGER,
        revoked_ms INTEGER
    ) STRICT;
    CREATE INDEX api_keys_by_owner ON api_keys (owner);
"];

const MAKE_WRITABLE: &str = "make its folder writable, or set `data_dir` to another place";
const RESTORE: &str = "restore a backup, or move the file and those beside it ending in `-wal` and `-shm` away to start \
                       without users and keys";
const OTHER_FILE: &str = "move it away, or set `data_dir` to another place";

/// Opens the file and brings the tables up to date; makes it, and its folder, where they are missing, readable by their
/// owner only. `None`: a database in memory.
pub(super) fn open(path: Option<&Path>) -> Result<Connection, OpenError> {
    let place = path.unwrap_or(Path::new(":memory:"));
    let fail = |error: rusqlite::Error| sqlite_failure(place, &error);
    let mut connection = match path {
        None => Connection::open_in_memory().map_err(fail)?,
        Some(path) => {
            let path = prepare_file(path)?;
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(path, flags).map_err(fail)?
        }
    };
    connection.busy_timeout(BUSY).map_err(fail)?;
    // SQLite silently falls back to reading where it may not write.
    if connection.is_readonly("main").map_err(fail)? {
        return Err(failure(place, "the file is read-only".to_owned(), MAKE_WRITABLE));
    }
    check_owner(&connection, place)?;
    if path.is_some() {
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
            .map_err(fail)?;
        if mode != "wal" {
            let problem = format!("its file system offers journal mode `{mode}` only, not a write-ahead log");
            return Err(failure(place, problem, "put `data_dir` on a local disk"));
        }
    }
    // A revocation that was answered must survive a power cut.
    connection.pragma_update(None, "synchronous", "full").map_err(fail)?;
    connection.pragma_update(None, "secure_delete", true).map_err(fail)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(fail)?;
    migrate(&mut connection, place)?;
    Ok(connection)
}

/// The thread that is to own the connection could not be started.
pub(super) fn thread_failed(path: Option<&Path>, error: &std::io::Error) -> OpenError {
    let problem = format!("no thread could be started for it: {error}");
    failure(path.unwrap_or(Path::new(":memory:")), problem, "raise the limit on processes and threads")
}

/// What is in the file cannot be read.
pub(super) fn unreadable(path: Option<&Path>, problem: String) -> OpenError {
    failure(path.unwrap_or(Path::new(":memory:")), problem, RESTORE)
}

/// SQLite gives its `-wal` and `-shm` files the permissions of the database.
fn prepare_file(path: &Path) -> Result<PathBuf, OpenError> {
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
        return Err(failure(path, problem, "run that version again, or set `data_dir` to another place"));
    }
    Ok(())
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
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "end the other process that holds it",
        Some(ErrorCode::DiskFull) => "make room on the disk",
        _ => MAKE_WRITABLE,
    };
    failure(path, error.to_string(), advice)
}

fn failure(path: &Path, problem: String, advice: &'static str) -> OpenError {
    OpenError::Database { path: path.to_path_buf(), problem, advice }
}
