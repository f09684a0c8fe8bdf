//! The `audit` room: who did what, as one JSON line per event in files of their own.
//!
//! Every tool call, every refusal and every change of users and keys becomes an event. Rooms above tell what happened;
//! this room redacts and writes it. [`AuditLog::record`] never waits for a disk: one thread writes, from a bounded queue.
//! Events that find no place in it are counted, and the count is written as an event of its own.

mod config;
mod event;
mod files;
mod line;
mod redact;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

pub use config::{ArgumentMode, Config};
pub use event::{AuditEvent, AuditOutcome, AuditSubject};
pub use files::AuditError;

use self::files::AuditFile;
use self::redact::{KEPT_TEXT_BYTES, Redactor};
use self::writer::{Queued, Writer};
use crate::config::secret::Secret;

/// Events that may wait for the disk.
const QUEUE: usize = 8192;

/// Bytes of events that may wait for the disk; beyond it they are kept without arguments, and only the queue bounds them.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// The longest that the last handle's end waits for the thread.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two tries to get a word in when the queue is full.
const FLUSH_PAUSE: Duration = Duration::from_millis(10);

/// Takes events; a clone is another handle to the same log.
#[derive(Clone, Default)]
pub struct AuditLog(Option<Arc<Inner>>);

struct Inner {
    /// `None` once the log ends.
    queue: Option<SyncSender<Queued>>,
    counts: Arc<Counts>,
    keeps_arguments: bool,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

/// What the handles and the thread share.
#[derive(Debug, Default)]
pub(in crate::audit) struct Counts {
    /// Events that found no place since the last line that said so.
    lost: AtomicU64,
    /// Bytes of texts and arguments in the queue.
    waiting_bytes: AtomicUsize,
    /// Set when the last handle is gone.
    is_ending: AtomicBool,
}

impl AuditLog {
    /// A log that nobody reads: for the command line and for tests.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The log that `config` speaks of, below `data_dir`; none when it is switched off. `secrets` are texts that must not
    /// appear in it wherever they come from.
    ///
    /// # Errors
    /// When the file cannot be opened for writing: what is not written down must not happen.
    pub fn open(config: &Config, data_dir: &Path, secrets: Vec<Secret>) -> Result<Self, AuditError> {
        if !config.enabled {
            return Ok(Self::none());
        }
        let file = AuditFile::open(config, data_dir)?;
        let (queue, queued) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let (end, ended) = sync_channel(0);
        let writer = Writer::new(file, Redactor::new(config, secrets), Arc::clone(&counts));
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let path = config.file.clone();
        thread
            .spawn(move || {
                writer.run(&queued);
                drop(end);
            })
            .map_err(|error| AuditError::new("start the thread that writes", &path, error))?;
        let keeps_arguments = config.arguments != ArgumentMode::None;
        let ended = Mutex::new(ended);
        Ok(Self(Some(Arc::new(Inner { queue: Some(queue), counts, keeps_arguments, ended }))))
    }

    /// True when somebody reads it: events for nobody need not be made.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// True when arguments of tool calls are written, in whatever form.
    #[must_use]
    pub fn keeps_arguments(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.keeps_arguments)
    }

    /// Takes an event. Never waits; an event that finds the queue full is counted as lost, and the log says so.
    pub fn record(&self, mut event: AuditEvent) {
        let Some(inner) = &self.0 else { return };
        let Some(queue) = &inner.queue else { return };
        let arguments = event.arguments.as_ref().map_or(0, String::len);
        let mut bytes = event.cut_texts(KEPT_TEXT_BYTES).saturating_add(arguments);
        let waiting = inner.counts.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_cut = arguments > 0 && waiting.saturating_add(bytes) > MAX_WAITING_BYTES;
        if is_cut {
            inner.counts.waiting_bytes.fetch_sub(arguments, Ordering::Relaxed);
            event.arguments = None;
            bytes -= arguments;
        }
        let queued = Queued::Event { event: Box::new(event), time: SystemTime::now(), bytes, is_cut };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(queued) {
            inner.counts.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            inner.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything recorded so far is on the disk; false when that took longer than `limit`.
    pub async fn flush(&self, limit: Duration) -> bool {
        let Some(queue) = self.0.as_ref().and_then(|inner| inner.queue.as_ref()) else { return true };
        let deadline = Instant::now() + limit;
        let (tell, told) = oneshot::channel();
        let mut word = Queued::Flush(tell);
        loop {
            word = match queue.try_send(word) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(word)) => word,
            };
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(FLUSH_PAUSE).await;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        matches!(tokio::time::timeout(left, told).await, Ok(Ok(())))
    }
}

impl Drop for Inner {
    /// Has the thread write what is left.
    fn drop(&mut self) {
        self.counts.is_ending.store(true, Ordering::Relaxed);
        self.queue = None;
        let Ok(ended) = self.ended.get_mut() else { return };
        if ended.recv_timeout(END_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the audit log could not be written to its end: is the disk slow or full?");
        }
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuditLog").field(&self.is_on()).finish()
    }
}

#[cfg(test)]
mod tests;
