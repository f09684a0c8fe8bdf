//! The database file of users and keys: the tables in it.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::database::{Kind, OpenError};

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

/// The file.
pub(super) const DATABASE: Kind = Kind {
    name: "the users and keys in",
    // `witk`
    application_id: 0x7769_746b,
    migrations: MIGRATIONS,
    setting: "`data_dir` to another place",
    contents: "users and keys",
};

/// Opens the file, which is made where it is missing, and brings the tables up to date. `None`: a database in memory.
pub(super) fn open(path: Option<&Path>) -> Result<Connection, OpenError> {
    let path = path.map(|path| DATABASE.prepare(path)).transpose()?;
    DATABASE.open(path.as_deref(), BUSY)
}
