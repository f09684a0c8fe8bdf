//! What callers with a budget have spent, over restarts: a small SQLite file that is read once and written behind.
//!
//! A change is on the disk a few seconds later, and at the end; a crash loses those seconds and nothing else. The file is
//! made when there is something to write. Several processes may share it: each adds what was spent through it, so the
//! sums are those of all, and each has read them when it started.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, TransactionBehavior, params};

use super::budget::Spent;
use crate::database::{Kind, OpenError};

/// How long a change may wait for the disk.
const WRITE_EVERY: Duration = Duration::from_secs(3);

/// How long a write may wait for another process that has the file open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Principals that are remembered; what further ones spend is forgotten when the gateway stops.
const MAX_ROWS: usize = 1_000_000;

/// The file.
const DATABASE: Kind = Kind {
    name: "the token usage in",
    // `witu`
    application_id: 0x7769_7475,
    migrations: &["
        CREATE TABLE IF NOT EXISTS usage (
            principal TEXT PRIMARY KEY,
            day INTEGER NOT NULL,
            day_tokens INTEGER NOT NULL,
            month INTEGER NOT NULL,
            month_tokens INTEGER NOT NULL,
            ever_tokens INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
    "],
    setting: "`data_dir` to another place",
    contents: "what was spent so far",
};

/// The sums of all principals with a budget. Dropping it writes what has not been written.
#[derive(Debug)]
pub struct UsageBook {
    shared: Arc<Shared>,
    /// Taken away at the end, which tells the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    rows: Mutex<HashMap<String, Row>>,
    /// Held while the file is written.
    file: Mutex<Option<Connection>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    spent: Spent,
    /// How much of it the file knows of.
    written: Spent,
}

impl UsageBook {
    /// The book in the file at `path`; empty where there is none. Reads the disk, and starts a thread.
    ///
    /// # Errors
    /// When there is a file and it cannot be read, or the thread cannot be started.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let rows = read(path)?;
        let shared =
            Arc::new(Shared { path: path.to_owned(), rows: Mutex::new(rows), file: Mutex::default() });
        let (stop, stopped) = channel();
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("usage".to_owned())
            .spawn(move || writer.keep_writing(&stopped))
            .map_err(|error| DATABASE.thread_failed(Some(path), &error))?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Writes what has not been written. Waits for the disk.
    pub fn flush(&self) {
        self.shared.write();
    }

    /// What `principal` has spent.
    pub(super) fn spent(&self, principal: &str) -> Spent {
        self.shared.rows().get(principal).map(|row| row.spent).unwrap_or_default()
    }

    /// Takes down what `principal` has spent by now.
    pub(super) fn note(&self, principal: &str, spent: Spent) {
        let mut rows = self.shared.rows();
        if let Some(known) = rows.get_mut(principal) {
            known.spent = spent;
        } else if rows.len() < MAX_ROWS {
            rows.insert(principal.to_owned(), Row { spent, written: Spent::default() });
        }
    }
}

impl Drop for UsageBook {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(
                "the thread that writes token usage has panicked; the last seconds may be missing"
            );
        }
    }
}

impl Shared {
    fn rows(&self) -> std::sync::MutexGuard<'_, HashMap<String, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_writing(&self, stopped: &Receiver<()>) {
        loop {
            let is_end = stopped.recv_timeout(WRITE_EVERY) == Err(RecvTimeoutError::Disconnected);
            self.write();
            if is_end {
                return;
            }
        }
    }

    fn write(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let changed: Vec<(String, Row)> = self
            .rows()
            .iter()
            .filter(|(_, row)| row.spent != row.written)
            .map(|(principal, row)| (principal.clone(), *row))
            .collect();
        if changed.is_empty() {
            return;
        }
        let failed = |error: rusqlite::Error| DATABASE.sqlite_failure(&self.path, &error);
        let written = match &mut *file {
            Some(connection) => write(connection, &changed).map_err(failed),
            none => create(&self.path)
                .and_then(|connection| write(none.insert(connection), &changed).map_err(failed)),
        };
        if let Err(error) = written {
            tracing::warn!(
                path = %self.path.display(),
                "token usage could not be written and is kept for the next try: {error}"
            );
            *file = None;
            return;
        }
        let mut rows = self.rows();
        for (principal, now) in changed {
            if let Some(row) = rows.get_mut(&principal) {
                row.written = now.spent;
            }
        }
    }
}

fn read(path: &Path) -> Result<HashMap<String, Row>, OpenError> {
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let connection = DATABASE.open(Some(path), BUSY_TIMEOUT)?;
    rows(&connection).map_err(|error| DATABASE.sqlite_failure(path, &error))
}

fn rows(connection: &Connection) -> rusqlite::Result<HashMap<String, Row>> {
    let mut query = connection
        .prepare("SELECT principal, day, day_tokens, month, month_tokens, ever_tokens FROM usage")?;
    let rows = query.query_map([], |row| {
        let spent = spent_of(row)?;
        Ok((row.get(0)?, Row { spent, written: spent }))
    })?;
    rows.collect()
}

fn spent_of(row: &SqlRow<'_>) -> rusqlite::Result<Spent> {
    let number = |name: &str| row.get::<_, i64>(name).map(|n| u64::try_from(n).unwrap_or_default());
    Ok(Spent {
        day: number("day")?,
        day_tokens: number("day_tokens")?,
        month: number("month")?,
        month_tokens: number("month_tokens")?,
        ever_tokens: number("ever_tokens")?,
    })
}

fn create(path: &Path) -> Result<Connection, OpenError> {
    let path = DATABASE.prepare(path)?;
    let connection = DATABASE.open(Some(&path), BUSY_TIMEOUT)?;
    // A power cut may cost what a crash may cost, too: the last seconds.
    let relaxed = connection.pragma_update(None, "synchronous", "normal");
    relaxed.map_err(|error| DATABASE.sqlite_failure(&path, &error))?;
    Ok(connection)
}

/// Adds what is new to what the file has by now: another process may have written meanwhile.
fn write(connection: &mut Connection, changed: &[(String, Row)]) -> rusqlite::Result<()> {
    // SQLite knows no larger numbers.
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut select = transaction.prepare_cached("SELECT * FROM usage WHERE principal = ?")?;
        let mut insert =
            transaction.prepare_cached("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?)")?;
        for (principal, row) in changed {
            let known = select.query_row([principal], spent_of).optional()?.unwrap_or_default();
            let spent = known.plus(&row.spent.since(&row.written));
            insert.execute(params![
                principal,
                number(spent.day),
                number(spent.day_tokens),
                number(spent.month),
                number(spent.month_tokens),
                number(spent.ever_tokens),
            ])?;
        }
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOW: u64 = 1_769_814_000;

    fn spent(tokens: u64) -> Spent {
        let mut spent = Spent::default();
        spent.add(tokens, NOW);
        spent
    }

    #[test]
    fn what_was_spent_outlives_the_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/usage.db");
        let book = UsageBook::open(&path).unwrap();
        assert_eq!(book.spent("key:a"), Spent::default());
        book.flush();
        assert!(!path.exists(), "there is nothing to write");
        book.note("key:a", spent(5));
        book.note("user:b", spent(u64::MAX));
        book.note("key:a", spent(7));
        drop(book);
        let book = UsageBook::open(&path).unwrap();
        assert_eq!(book.spent("key:a"), spent(7));
        assert_eq!(book.spent("user:b").ever_tokens, i64::MAX.unsigned_abs());
        book.note("key:a", spent(9));
        book.flush();
        // As another process, such as the command line, sees it meanwhile.
        assert_eq!(UsageBook::open(&path).unwrap().spent("key:a"), spent(9));
    }

    #[test]
    fn what_is_spent_through_two_processes_adds_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let one = UsageBook::open(&path).unwrap();
        one.note("key:a", spent(100));
        one.flush();
        let other = UsageBook::open(&path).unwrap();
        // Each goes on from what it knows.
        one.note("key:a", spent(110));
        other.note("key:a", spent(102));
        other.note("key:b", spent(1));
        one.flush();
        other.flush();
        one.note("key:a", spent(111));
        drop((one, other));
        let book = UsageBook::open(&path).unwrap();
        assert_eq!((book.spent("key:a"), book.spent("key:b")), (spent(113), spent(1)));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        fs::write(&path, "not a database, and long enough to be seen as none by anybody who looks").unwrap();
        let error = UsageBook::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("usage.db") && error.contains("start without what was spent so far"),
            "{error}"
        );
    }

    #[test]
    fn what_could_not_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let book = UsageBook::open(&path).unwrap();
        fs::create_dir(&path).unwrap();
        book.note("key:a", spent(5));
        book.flush();
        fs::remove_dir(&path).unwrap();
        book.flush();
        assert_eq!(UsageBook::open(&path).unwrap().spent("key:a"), spent(5));
    }
}
