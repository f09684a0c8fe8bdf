//! One thread that owns the one connection and works off a bounded queue of jobs.
//!
//! A job is a whole transaction or several; the thread also publishes what the jobs changed, so that the order of the
//! snapshots is the order of the commits. Dropping the worker finishes what is queued.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::error::AccountError;

/// Jobs that may wait; beyond it callers wait for a place, within [`LIMIT`].
const QUEUE: usize = 128;

/// The longest a caller waits for its job.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

pub(super) type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// A thread with its `T`, and the way to it.
pub(super) struct Worker<T> {
    queue: Option<mpsc::Sender<Job<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the thread.
    pub(super) fn start(mut state: T) -> std::io::Result<Self> {
        let (queue, mut jobs) = mpsc::channel::<Job<T>>(QUEUE);
        let run = move || {
            while let Some(job) = jobs.blocking_recv() {
                job(&mut state);
            }
        };
        let thread = std::thread::Builder::new().name("accounts".to_owned()).spawn(run)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Has the thread do `work`. A job whose caller has gone before its turn came is not done.
    pub(super) async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> Result<R, AccountError> + Send + 'static,
    ) -> Result<R, AccountError> {
        let (answer, answered) = oneshot::channel();
        let job: Job<T> = Box::new(move |state| {
            if !answer.is_closed() {
                // A caller that went away meanwhile needs no answer.
                drop(answer.send(work(state)));
            }
        });
        let deadline = Instant::now() + LIMIT;
        self.place(deadline).await?.send(job);
        match timeout_at(deadline, answered).await {
            Ok(result) => result.map_err(|_| ended())?,
            Err(_) => Err(too_slow("it did not answer")),
        }
    }

    /// Waits for a place in the queue, for work that nobody waits for.
    pub(super) async fn place(&self, deadline: Instant) -> Result<mpsc::Permit<'_, Job<T>>, AccountError> {
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        match timeout_at(deadline, queue.reserve()).await {
            Ok(place) => place.map_err(|_| ended()),
            Err(_) => Err(too_slow("its queue was full")),
        }
    }
}

impl<T> Worker<T> {
    /// Waits for what is queued.
    fn end(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the database of users and keys had panicked");
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.end();
    }
}

fn ended() -> AccountError {
    AccountError::Store("its thread has ended".to_owned())
}

fn too_slow(what: &str) -> AccountError {
    let seconds = LIMIT.as_secs();
    AccountError::Store(format!("{what} within {seconds} s: is the disk slow or another process writing?"))
}
