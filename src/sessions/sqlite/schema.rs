//! The database file of sessions: the tables in it, and how its connections are set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::database::{Kind, OpenError};

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

/// The file.
pub(super) const DATABASE: Kind = Kind {
    name: "the session database",
    // `witg`
    application_id: 0x7769_7467,
    migrations: MIGRATIONS,
    setting: "`data_dir` or `sessions.file` to another place",
    contents: "conversations",
};

/// Opens the file, sets the connection up and brings the tables up to date.
pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, OpenError> {
    let connection = DATABASE.open(Some(path), busy_timeout)?;
    let set_up = || {
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "journal_size_limit", WAL_LIMIT_BYTES)
    };
    match set_up() {
        Ok(()) => Ok(connection),
        Err(error) => Err(DATABASE.sqlite_failure(path, &error)),
    }
}
