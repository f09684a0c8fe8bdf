//! One thread that owns one connection and works off a bounded queue of jobs.
//!
//! A writing worker commits the jobs that wait together in one transaction, each behind its own savepoint: a job that
//! fails takes nothing of the others with it, and no caller hears of success before the commit is on the disk. A job
//! whose caller has gone away before its turn came is not done.

use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::SessionError;

/// Jobs that may wait; beyond it callers wait for a place, within their timeout.
const QUEUE: usize = 256;

/// Jobs committed together, so that the first of them does not wait for long.
const BATCH: usize = 64;

/// What a worker's transactions are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Many jobs to a transaction, which takes the write lock at once.
    Write,
    /// One job to a transaction: each sees one state of the database, as new as can be.
    Read,
}

/// Runs within the transaction and returns what is to happen when that has ended.
type Job = Box<dyn FnOnce(Result<&Connection, String>) -> Done + Send>;

struct Done {
    /// False when the job's changes are to be undone.
    keep: bool,
    /// Tells the caller.
    reply: Reply,
}

/// Takes why the transaction failed, if it did.
type Reply = Box<dyn FnOnce(Option<&str>)>;

/// A thread, its queue, and how long callers wait.
pub(super) struct Worker {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    timeout: Duration,
}

impl Worker {
    /// Starts the thread `name`.
    pub(super) fn start(
        name: &str,
        connection: Connection,
        mode: Mode,
        timeout: Duration,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread =
            std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&connection, mode, jobs))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), timeout })
    }

    /// Has the thread do `work` and waits for the commit.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = match connection {
                Ok(_) if answer.is_closed() => return Done { keep: false, reply: Box::new(|_| ()) },
                Ok(connection) => work(connection),
                Err(problem) => Err(SessionError::Store(problem)),
            };
            let keep = result.is_ok();
            let reply = Box::new(move |failure: Option<&str>| {
                let result = match failure {
                    Some(problem) if keep => Err(SessionError::Store(problem.to_owned())),
                    _ => result,
                };
                // A caller that has gone away needs no answer.
                drop(answer.send(result));
            });
            Done { keep, reply }
        });
        let deadline = tokio::time::Instant::now() + self.timeout;
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        match timeout_at(deadline, queue.send(job)).await {
            Ok(sent) => sent.map_err(|_| ended())?,
            Err(_) => return Err(self.too_slow("its queue was full")),
        }
        match timeout_at(deadline, answered).await {
            Ok(result) => result.map_err(|_| ended())?,
            Err(_) => Err(self.too_slow("it did not answer")),
        }
    }

    fn too_slow(&self, what: &str) -> SessionError {
        let limit = self.timeout.as_millis();
        SessionError::Store(format!(
            "{what} within {limit} ms (`sessions.timeout_ms`): is the disk slow or another process writing?"
        ))
    }
}

impl Drop for Worker {
    /// Waits for the queued jobs: a store is dropped once, when the process is about to end.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of the session store had panicked");
        }
    }
}

fn ended() -> SessionError {
    SessionError::Store("its thread has ended".to_owned())
}

fn run(connection: &Connection, mode: Mode, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        match mode {
            Mode::Write => batch(connection, "BEGIN IMMEDIATE", first, BATCH, &mut jobs),
            Mode::Read => batch(connection, "BEGIN DEFERRED", first, 1, &mut jobs),
        }
    }
}

fn batch(connection: &Connection, begin: &str, first: Job, size: usize, jobs: &mut mpsc::Receiver<Job>) {
    if let Err(error) = connection.execute_batch(begin) {
        (first(Err(error.to_string())).reply)(None);
        return;
    }
    let mut done = Vec::new();
    let mut next = Some(first);
    while let Some(job) = next {
        done.push(attempt(connection, job));
        // A full disk or a broken one makes SQLite roll back everything on its own.
        let lost = connection.is_autocommit();
        next = if lost || done.len() >= size { None } else { jobs.try_recv().ok() };
    }
    let failure = commit(connection).err();
    for Done { reply, .. } in done {
        reply(failure.as_deref());
    }
}

fn attempt(connection: &Connection, job: Job) -> Done {
    if let Err(error) = connection.execute_batch("SAVEPOINT job") {
        return job(Err(error.to_string()));
    }
    let done = job(Ok(connection));
    let end = if done.keep { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch(end)
    {
        tracing::error!(%error, "the session database could not end a savepoint: {error}");
        // Nothing is known about the jobs so far: none of them may count as done.
        drop(connection.execute_batch("ROLLBACK"));
    }
    done
}

fn commit(connection: &Connection) -> Result<(), String> {
    if connection.is_autocommit() {
        return Err("the database rolled the turn back; the error before this one says why".to_owned());
    }
    connection.execute_batch("COMMIT").map_err(|error| {
        if !connection.is_autocommit() {
            drop(connection.execute_batch("ROLLBACK"));
        }
        error.to_string()
    })
}
