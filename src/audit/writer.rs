//! The thread that writes: takes what waits together, makes lines of it and adds them to the file.
//!
//! A disk that fails is told of once, in the program's log, and tried again every second. Until it works nothing is taken
//! out of the queue, so that what is lost is counted in one place. No line is ever written in half: what a failure left
//! of one is written when the disk works again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use super::files::AuditFile;
use super::redact::Redactor;
use super::{AuditEvent, Counts, line};

/// Bytes written at once.
const BATCH: usize = 256 * 1024;

/// Pause between two tries at a disk that fails.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Further tries at a disk that fails, once the log ends.
const LAST_TRIES: u32 = 2;

/// How often a quiet thread looks for events that were lost.
const IDLE: Duration = Duration::from_secs(1);

/// What waits.
pub(super) enum Queued {
    /// Something happened.
    Event {
        /// What.
        event: Box<AuditEvent>,
        /// When.
        time: SystemTime,
        /// How many of the waiting bytes are its own.
        bytes: usize,
        /// Whether its arguments found no place.
        is_cut: bool,
    },
    /// Somebody wants to know when all of this is on the disk.
    Flush(oneshot::Sender<()>),
}

pub(super) struct Writer {
    file: AuditFile,
    redactor: Redactor,
    counts: Arc<Counts>,
    /// Lines on their way to the disk.
    buffer: Vec<u8>,
    /// Who wants to know when they are there.
    waiting: Vec<oneshot::Sender<()>>,
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(file: AuditFile, redactor: Redactor, counts: Arc<Counts>) -> Self {
        Self { file, redactor, counts, buffer: Vec::new(), waiting: Vec::new(), is_failing: false }
    }

    /// Works until all handles are gone.
    pub(super) fn run(mut self, queue: &Receiver<Queued>) {
        loop {
            match queue.recv_timeout(IDLE) {
                Ok(first) => self.take(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while self.buffer.len() < BATCH {
                match queue.try_recv() {
                    Ok(next) => self.take(next),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.tell_lost();
            let mut last_tries = 0;
            while !self.write() {
                last_tries += u32::from(self.counts.is_ending.load(Ordering::Relaxed));
                if last_tries > LAST_TRIES {
                    return self.give_up(queue);
                }
                std::thread::sleep(RETRY_PAUSE);
            }
        }
        if let Err(error) = self.file.sync() {
            tracing::warn!(%error, "the end of the audit log may not be on the disk: {error}");
        }
    }

    fn take(&mut self, queued: Queued) {
        match queued {
            Queued::Event { event, time, bytes, is_cut } => {
                self.counts.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                line::write(&mut self.buffer, &event, time, is_cut, &self.redactor);
            }
            Queued::Flush(waiting) => self.waiting.push(waiting),
        }
    }

    fn tell_lost(&mut self) {
        let lost = self.counts.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::error!(
                lost,
                "{lost} events are missing in the audit log: the disk was too slow or failed"
            );
            line::write_lost(&mut self.buffer, lost, SystemTime::now());
        }
    }

    /// Writes what there is; false when the disk fails.
    fn write(&mut self) -> bool {
        match self.try_write() {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the audit log {} is written again", self.file.path().display());
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(
                        %error,
                        "the audit log {} cannot be written: {error}; trying again every second",
                        self.file.path().display()
                    );
                }
                false
            }
        }
    }

    fn try_write(&mut self) -> std::io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.append(&mut self.buffer)?;
        }
        if !self.waiting.is_empty() {
            self.file.sync()?;
            for waiting in self.waiting.drain(..) {
                // Who has stopped waiting needs no word.
                let _ = waiting.send(());
            }
        }
        Ok(())
    }

    fn give_up(self, queue: &Receiver<Queued>) {
        let lines = self.buffer.iter().filter(|byte| **byte == b'\n').count();
        let waiting = queue.try_iter().filter(|queued| matches!(queued, Queued::Event { .. })).count();
        let lost = lines.saturating_add(waiting);
        tracing::error!(lost, "{lost} events are missing at the end of the audit log: the disk fails");
    }
}
