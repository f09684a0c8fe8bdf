//! Sessions in one SQLite file.
//!
//! Promises: a turn that was appended is on the disk (write-ahead log, `synchronous = FULL`), messages come back byte
//! for byte, and no async thread ever waits for the disk: one thread writes, two read, each with its own connection
//! and a bounded queue. Turns that wait at the same time are committed together, so one sync pays for all of them.
//! Dropping the store finishes what is queued and ends the threads.
//!
//! Does not promise anything on network file systems, where SQLite's write-ahead log does not work.

mod schema;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::value::RawValue;

use super::{
    Clock, Config, MAX_PAGE, Session, SessionError, SessionPage, SessionStore, SessionSummary, system_clock,
};
use crate::domain::{RawMessage, SessionId};

pub use crate::database::OpenError;
use worker::{Mode, Worker};

/// Reading threads: a long history being read must not hold up the next reader.
const READERS: usize = 2;

/// Expired sessions deleted in one transaction, so that a large sweep lets turns through in between.
const PURGE_BATCH: u64 = 200;

/// The store.
pub struct SqliteStore {
    path: PathBuf,
    config: Config,
    clock: Clock,
    // The readers go first, so that the writer's connection is the last to close and empties the write-ahead log.
    readers: Vec<Worker>,
    next_reader: AtomicUsize,
    writer: Worker,
}

impl SqliteStore {
    /// Opens the database file `path`; creates it and its folder where they are missing. Blocks while it does.
    ///
    /// # Errors
    /// When the folder cannot be created or written, or the file is damaged, is not ours, or is from a newer version.
    pub fn open(path: impl AsRef<Path>, config: Config) -> Result<Self, OpenError> {
        Self::open_with_clock(path.as_ref(), config, system_clock())
    }

    pub(super) fn open_with_clock(path: &Path, config: Config, clock: Clock) -> Result<Self, OpenError> {
        let timeout = Duration::from_millis(config.timeout_ms.max(1));
        // Half of the time for other processes' locks, so that SQLite's own error arrives before ours.
        let path = schema::DATABASE.prepare(path)?;
        let connection = schema::open(&path, timeout / 2)?;
        let start = |name: &str, connection, mode| {
            Worker::start(name, connection, mode, timeout)
                .map_err(|error| schema::DATABASE.thread_failed(Some(&path), &error))
        };
        let writer = start("sessions-write", connection, Mode::Write)?;
        let mut readers = Vec::with_capacity(READERS);
        for number in 1..=READERS {
            let connection = schema::open(&path, timeout / 2)?;
            readers.push(start(&format!("sessions-read-{number}"), connection, Mode::Read)?);
        }
        Ok(Self { path, config, clock, readers, next_reader: AtomicUsize::new(0), writer })
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn reader(&self) -> &Worker {
        let turn = self.next_reader.fetch_add(1, Ordering::Relaxed);
        self.readers.get(turn % READERS).unwrap_or(&self.writer)
    }

    fn expired_before(&self) -> i64 {
        integer(self.config.expired_before((self.clock)()))
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn load(&self, id: &SessionId, owner: &str) -> Result<Option<Session>, SessionError> {
        let (id, owner, expired_before) = (id.clone(), owner.to_owned(), self.expired_before());
        self.reader().call(move |connection| load(connection, &id, &owner, expired_before)).await
    }

    async fn append(
        &self,
        id: &SessionId,
        owner: &str,
        expected_version: u64,
        turn: &[RawMessage],
    ) -> Result<u64, SessionError> {
        let now_ms = (self.clock)();
        let append = Append {
            id: id.clone(),
            owner: owner.to_owned(),
            expected_version: integer(expected_version),
            messages: join(turn)?,
            now_ms: integer(now_ms),
            expired_before: integer(self.config.expired_before(now_ms)),
        };
        self.writer.call(move |connection| append.run(connection)).await
    }

    async fn delete(&self, id: &SessionId, owner: &str) -> Result<bool, SessionError> {
        let (id, owner, expired_before) = (id.clone(), owner.to_owned(), self.expired_before());
        let delete = move |connection: &Connection| {
            let sql = "DELETE FROM sessions WHERE id = ?1 AND owner = ?2 AND updated_ms >= ?3";
            Ok(connection.prepare_cached(sql)?.execute(params![id.as_str(), owner, expired_before])? > 0)
        };
        self.writer.call(delete).await
    }

    async fn list(&self, owner: &str, offset: u64, limit: u64) -> Result<SessionPage, SessionError> {
        let (owner, limit, expired_before) =
            (owner.to_owned(), limit.clamp(1, MAX_PAGE), self.expired_before());
        self.reader().call(move |connection| list(connection, &owner, expired_before, offset, limit)).await
    }

    async fn purge_expired(&self) -> Result<u64, SessionError> {
        let expired_before = self.expired_before();
        let mut total = 0;
        loop {
            let purge = move |connection: &Connection| {
                let sql = "DELETE FROM sessions WHERE key IN
                           (SELECT key FROM sessions WHERE updated_ms < ?1 ORDER BY updated_ms LIMIT ?2)";
                let deleted =
                    connection.prepare_cached(sql)?.execute(params![expired_before, integer(PURGE_BATCH)])?;
                Ok(deleted as u64)
            };
            let deleted = self.writer.call(purge).await?;
            total += deleted;
            if deleted < PURGE_BATCH {
                return Ok(total);
            }
        }
    }
}

impl From<rusqlite::Error> for SessionError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.to_string())
    }
}

fn load(
    connection: &Connection,
    id: &SessionId,
    owner: &str,
    expired_before: i64,
) -> Result<Option<Session>, SessionError> {
    let sql = "SELECT key, version, created_ms, updated_ms FROM sessions
               WHERE id = ?1 AND owner = ?2 AND updated_ms >= ?3";
    let head = connection
        .prepare_cached(sql)?
        .query_row(params![id.as_str(), owner, expired_before], |row| {
            let key: i64 = row.get(0)?;
            let session = Session {
                id: id.clone(),
                version: unsigned(row, 1)?,
                created_ms: unsigned(row, 2)?,
                updated_ms: unsigned(row, 3)?,
                turns: Vec::new(),
            };
            Ok((key, session))
        })
        .optional()?;
    let Some((key, mut session)) = head else { return Ok(None) };
    let mut statement =
        connection.prepare_cached("SELECT messages FROM turns WHERE session = ?1 ORDER BY number")?;
    let mut rows = statement.query([key])?;
    while let Some(row) = rows.next()? {
        session.turns.push(split(row.get(0)?)?);
    }
    Ok(Some(session))
}

struct Append {
    id: SessionId,
    owner: String,
    expected_version: i64,
    messages: String,
    now_ms: i64,
    expired_before: i64,
}

impl Append {
    fn run(&self, connection: &Connection) -> Result<u64, SessionError> {
        let key = match self.current(connection)? {
            Some((_, owner, _)) if owner != self.owner => return Err(SessionError::NotFound),
            Some((_, _, version)) if version != self.expected_version => return Err(SessionError::Conflict),
            Some((key, ..)) => {
                let sql = "UPDATE sessions SET version = version + 1, updated_ms = ?2 WHERE key = ?1";
                connection.prepare_cached(sql)?.execute(params![key, self.now_ms])?;
                key
            }
            None if self.expected_version != 0 => return Err(SessionError::NotFound),
            None => {
                let sql = "INSERT INTO sessions (id, owner, version, created_ms, updated_ms)
                           VALUES (?1, ?2, 1, ?3, ?3)";
                let mut insert = connection.prepare_cached(sql)?;
                insert.insert(params![self.id.as_str(), self.owner, self.now_ms])?
            }
        };
        let version = self.expected_version + 1;
        let sql = "INSERT INTO turns (session, number, messages) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute(params![key, version, self.messages])?;
        Ok(u64::try_from(version).unwrap_or_default())
    }

    /// Key, owner and version of the session that has the id now; one that has expired makes room for a new one.
    fn current(&self, connection: &Connection) -> Result<Option<(i64, String, i64)>, SessionError> {
        let sql = "DELETE FROM sessions WHERE id = ?1 AND updated_ms < ?2";
        connection.prepare_cached(sql)?.execute(params![self.id.as_str(), self.expired_before])?;
        let sql = "SELECT key, owner, version FROM sessions WHERE id = ?1";
        let mut select = connection.prepare_cached(sql)?;
        let found = select.query_row([self.id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        Ok(found.optional()?)
    }
}

fn list(
    connection: &Connection,
    owner: &str,
    expired_before: i64,
    offset: u64,
    limit: u64,
) -> Result<SessionPage, SessionError> {
    let sql = "SELECT id, created_ms, updated_ms, version FROM sessions WHERE owner = ?1 AND updated_ms >= ?2
               ORDER BY updated_ms DESC, id LIMIT ?3 OFFSET ?4";
    let mut statement = connection.prepare_cached(sql)?;
    // One more than asked for tells whether there is a next page.
    let mut rows = statement.query(params![owner, expired_before, integer(limit + 1), integer(offset)])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        if sessions.len() as u64 == limit {
            return Ok(SessionPage { sessions, next_offset: Some(offset + limit) });
        }
        let id: String = row.get(0)?;
        let session_id = SessionId::parse(&id)
            .ok_or_else(|| SessionError::Store(format!("the database holds an impossible id {id:?}")))?;
        let (created_ms, updated_ms, turns) = (unsigned(row, 1)?, unsigned(row, 2)?, unsigned(row, 3)?);
        sessions.push(SessionSummary { session_id, created_ms, updated_ms, turns });
    }
    Ok(SessionPage { sessions, next_offset: None })
}

/// A turn as one JSON array around the messages' own text.
fn join(turn: &[RawMessage]) -> Result<String, SessionError> {
    let length = turn.iter().map(|message| message.as_bytes().len() + 1).sum::<usize>();
    let mut text = String::with_capacity(length + 1);
    text.push('[');
    for (position, message) in turn.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        // Checked, because one message that is not JSON would make the whole session unreadable.
        let message: &RawValue = serde_json::from_slice(message.as_bytes())
            .map_err(|error| SessionError::Store(format!("a message is not JSON: {error}")))?;
        text.push_str(message.get());
    }
    text.push(']');
    Ok(text)
}

/// The inverse of [`join`]: the messages are slices of the one text.
fn split(text: String) -> Result<Vec<RawMessage>, SessionError> {
    let text = Bytes::from(text);
    let messages: Vec<&RawValue> = serde_json::from_slice(&text)
        .map_err(|error| SessionError::Store(format!("a stored turn is not a JSON array: {error}")))?;
    let slices = messages.iter().map(|message| text.slice_ref(message.get().as_bytes()));
    Ok(slices.map(RawMessage::from_json).collect())
}

/// SQLite's integers end at `i64::MAX`; no version, time or page of ours gets there.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

#[cfg(test)]
mod tests;
