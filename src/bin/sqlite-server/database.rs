//! The database: a reading and a writing connection, each on a thread of its own behind a bounded queue.
//!
//! The reading connection is opened read-only, so that no mistake in `rules` lets it write. Every piece of work has a
//! time limit and ends early when its request is cancelled: SQLite asks every few thousand instructions.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::rules::Rules;
use crate::tables;

/// Statements that may wait for the one that runs.
const QUEUE: usize = 16;

/// How long SQLite waits for another program's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Virtual machine instructions between two looks at the clock; some tens of microseconds.
const PROGRESS_STEPS: i32 = 4000;

/// Memory SQLite may use, in bytes, the contents of a `:memory:` database included.
const HEAP_BYTES: i64 = 512 * 1024 * 1024;

/// The longest text, blob or row: what one SQLite function works on cannot be interrupted.
const VALUE_BYTES: i32 = 32 * 1024 * 1024;

/// The longest pattern of LIKE and GLOB, for the same reason: long ones take quadratic time.
const PATTERN_BYTES: i32 = 1000;

/// A failure in words for the model; the tool's result says it with `isError`.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Both connections.
pub(crate) struct Database {
    // The reader goes first: the last connection to close tidies up.
    reader: Worker,
    writer: Worker,
    closing: CancellationToken,
    timeout: Duration,
}

/// One connection and what watches over it.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) rules: Rules,
    clock: Clock,
}

impl Database {
    /// Opens the file `location`, or a database in memory for `:memory:`.
    pub(crate) fn open(location: &OsStr, timeout: Duration) -> Result<Self, String> {
        let fail = |error: &dyn std::fmt::Display| {
            format!("cannot open the database `{}`: {error}", location.to_string_lossy())
        };
        let closing = CancellationToken::new();
        let (writer, reader) = connect(location, &closing).map_err(|error| fail(&error))?;
        let writer = Worker::start("writer", writer).map_err(|error| fail(&error))?;
        let reader = Worker::start("reader", reader).map_err(|error| fail(&error))?;
        Ok(Self { reader, writer, closing, timeout })
    }

    /// Does `work` with the connection that cannot write.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        cancelled: CancellationToken,
        work: impl FnOnce(&Link) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.call(&self.reader, cancelled, work).await
    }

    /// Does `work` with the connection that can write.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        cancelled: CancellationToken,
        work: impl FnOnce(&Link) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.call(&self.writer, cancelled, work).await
    }

    async fn call<T: Send + 'static>(
        &self,
        worker: &Worker,
        cancelled: CancellationToken,
        work: impl FnOnce(&Link) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let limit = self.timeout;
        let job: Job = Box::new(move |link| {
            if answer.is_closed() || cancelled.is_cancelled() {
                return;
            }
            let result = watched(link, limit, cancelled, work);
            // Nobody waits any more when the request was cancelled.
            drop(answer.send(result));
        });
        // The statement's own limit, as long again for those before it, and a little for a lock and the way back.
        let patience = self.timeout.saturating_mul(2).saturating_add(BUSY_TIMEOUT);
        let exchange = async {
            let queue = worker.queue.as_ref().ok_or_else(ended)?;
            queue.send(job).await.map_err(|_| ended())?;
            answered.await.map_err(|_| ended())?
        };
        match tokio::time::timeout(patience, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new("the database is busy with other statements: try again later")),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Interrupts what still runs, so that the threads' ends do not take long; SQLite undoes it.
        self.closing.cancel();
    }
}

type Job = Box<dyn FnOnce(&Link) + Send>;

struct Worker {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(name: &str, link: Link) -> std::io::Result<Self> {
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(job) = jobs.blocking_recv() {
                job(&link);
            }
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a database thread had panicked");
        }
    }
}

fn ended() -> Failure {
    Failure::new("the server is ending")
}

/// When the running statement is to end; SQLite asks while it runs.
#[derive(Clone, Default)]
struct Clock(Arc<Mutex<Option<(Instant, CancellationToken)>>>);

impl Clock {
    fn install(connection: &mut Connection, closing: CancellationToken) -> rusqlite::Result<Self> {
        let clock = Self::default();
        let asked = clock.clone();
        let stop = move || closing.is_cancelled() || asked.is_over();
        connection.progress_handler(PROGRESS_STEPS, Some(stop))?;
        Ok(clock)
    }

    fn set(&self, end: Option<(Instant, CancellationToken)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    fn is_over(&self) -> bool {
        let end = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        end.as_ref().is_some_and(|(end, cancelled)| cancelled.is_cancelled() || Instant::now() >= *end)
    }
}

/// Runs `work` under the clock.
fn watched<T>(
    link: &Link,
    limit: Duration,
    cancelled: CancellationToken,
    work: impl FnOnce(&Link) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let end = Instant::now().checked_add(limit);
    link.clock.set(end.map(|end| (end, cancelled)));
    let result = work(link);
    link.clock.set(None);
    let in_time = end.is_none_or(|end| Instant::now() < end);
    result.map_err(|failure| {
        if in_time || failure.0 != INTERRUPTED {
            return failure;
        }
        let limit = limit.as_millis();
        Failure::new(format!(
            "the statement took longer than {limit} ms and was interrupted; nothing was changed. Narrow it down, \
             look at its EXPLAIN QUERY PLAN, or aggregate less at once"
        ))
    })
}

/// What [`explain`] says of an interrupted statement; [`watched`] knows why it was.
const INTERRUPTED: &str = "the statement was interrupted; nothing was changed";

/// An error of SQLite in words that help to do better.
pub(crate) fn explain(connection: &Connection, error: &rusqlite::Error) -> Failure {
    let mut text = match error {
        rusqlite::Error::MultipleStatement => {
            "this is more than one statement: send one statement to a call".to_owned()
        }
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => return Failure::new(INTERRUPTED),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            text.push_str(". Another program or a long statement holds the database: try again");
        }
        Some(ErrorCode::ReadOnly) => text.push_str(". This server may not write to the database's file"),
        Some(ErrorCode::OutOfMemory) => {
            text.push_str(". The statement needs more memory than this server allows");
        }
        _ => {}
    }
    if text.contains("no such table") {
        text.push_str(". ");
        text.push_str(&tables::what_there_is(connection));
    } else if text.contains("no such column") || text.contains("has no column named") {
        text.push_str(". describe_table lists the columns of a table");
    }
    Failure::new(text)
}

/// The writing and the reading connection.
fn connect(location: &OsStr, closing: &CancellationToken) -> Result<(Link, Link), String> {
    // Two connections to one database in memory; the name is known within this process only.
    const IN_MEMORY: &str = "file:/sqlite-server?vfs=memdb";
    let (path, uri) = if location == ":memory:" {
        (Path::new(IN_MEMORY).to_path_buf(), OpenFlags::SQLITE_OPEN_URI)
    } else {
        // Absolute, so that SQLite does not take a name that begins with `file:` for a URI.
        let path = std::path::absolute(location).map_err(|error| error.to_string())?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("its folder `{}` cannot be created: {error}", folder.display()))?;
        }
        (path, OpenFlags::empty())
    };
    let open = |flags: OpenFlags| {
        let flags = flags | uri | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags)?;
        set_up(&connection)?;
        // Touches the file, so that one that is no database is refused now and a new one exists.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let rules = Rules::install(&mut connection)?;
        let clock = Clock::install(&mut connection, closing.clone())?;
        Ok(Link { connection, rules, clock })
    };
    let words = |error: rusqlite::Error| error.to_string();
    let writer = open(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).map_err(words)?;
    let reader = open(OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(words)?;
    reader.connection.pragma_update(None, "query_only", true).map_err(words)?;
    Ok((writer, reader))
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Nothing can be attached, whatever statement asks for it.
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES)?;
    connection.query_row(&format!("PRAGMA hard_heap_limit = {HEAP_BYTES}"), [], |_| Ok(()))
}
