//! What callers with a budget have spent, over restarts: a small SQLite file that is read once and written behind.
//!
//! A change is on the disk a few seconds later, and at the end; a crash loses those seconds and nothing else. The file is
//! made when there is something to write.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, params};

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

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the token usage in `{}` cannot be read: {problem}; restore a backup, or move the file and those beside it ending in \
     `-wal` and `-shm` away to begin all token budgets anew",
    path.display()
)]
pub struct UsageError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    pub problem: String,
}

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
    is_written: bool,
}

impl UsageBook {
    /// The book in the file at `path`; empty where there is none. Reads the disk, and starts a thread.
    ///
    /// # Errors
    /// When there is a file and it cannot be read, or the thread cannot be started.
    pub fn open(path: &Path) -> Result<Self, UsageError> {
        let failed = |problem: String| UsageError { path: path.to_owned(), problem };
        let rows = read(path).map_err(|error| failed(error.problem))?;
        let shared =
            Arc::new(Shared { path: path.to_owned(), rows: Mutex::new(rows), file: Mutex::default() });
        let (stop, stopped) = channel();
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("usage".to_owned())
            .spawn(move || writer.keep_writing(&stopped))
            .map_err(|error| failed(error.to_string()))?;
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
        let row = Row { spent, is_written: false };
        if let Some(known) = rows.get_mut(principal) {
            *known = row;
        } else if rows.len() < MAX_ROWS {
            rows.insert(principal.to_owned(), row);
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
        let changed: Vec<(String, Spent)> = self
            .rows()
            .iter_mut()
            .filter(|(_, row)| !row.is_written)
            .map(|(principal, row)| {
                row.is_written = true;
                (principal.clone(), row.spent)
            })
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
            let mut rows = self.rows();
            for (principal, _) in changed {
                if let Some(row) = rows.get_mut(&principal) {
                    row.is_written = false;
                }
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
        let number = |at: usize| row.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or_default());
        let spent = Spent {
            day: number(1)?,
            day_tokens: number(2)?,
            month: number(3)?,
            month_tokens: number(4)?,
            ever_tokens: number(5)?,
        };
        Ok((row.get(0)?, Row { spent, is_written: true }))
    })?;
    rows.collect()
}

fn create(path: &Path) -> Result<Connection, OpenError> {
    let path = DATABASE.prepare(path)?;
    let connection = DATABASE.open(Some(&path), BUSY_TIMEOUT)?;
    // A power cut may cost what a crash may cost, too: the last seconds.
    let relaxed = connection.pragma_update(None, "synchronous", "normal");
    relaxed.map_err(|error| DATABASE.sqlite_failure(&path, &error))?;
    Ok(connection)
}

fn write(connection: &mut Connection, changed: &[(String, Spent)]) -> rusqlite::Result<()> {
    // SQLite knows no larger numbers.
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let transaction = connection.transaction()?;
    {
        let mut insert =
            transaction.prepare_cached("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?)")?;
        for (principal, spent) in changed {
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
    fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        fs::write(&path, "not a database, and long enough to be seen as none by anybody who looks").unwrap();
        let error = UsageBook::open(&path).unwrap_err().to_string();
        assert!(error.contains("usage.db") && error.contains("begin all token budgets anew"), "{error}");
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
