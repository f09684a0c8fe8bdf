//! What a tool tells while it runs, between the tool, which must not wait, and a client that may be slow.
//!
//! Promises: telling never blocks; what waits is bounded. A progress report that nobody has read yet gives way to the next
//! one; of a log that comes faster than it is read the oldest lines are left out, and the client is told how many.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use serde_json::{Value, json};

use crate::domain::ToolProgress;
use crate::http::sse;

/// The most frames that wait for their client, and the most bytes of them.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// Frames on their way to one client.
#[derive(Default)]
pub(super) struct ProgressQueue {
    waiting: Mutex<Waiting>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Entry>,
    bytes: usize,
    left_out: u64,
}

struct Entry {
    is_progress: bool,
    frame: Bytes,
}

impl ProgressQueue {
    /// Takes what a tool tells.
    pub(super) fn push(&self, told: &ToolProgress) {
        self.lock().push(entry(told));
        self.reader.wake();
    }

    /// The next frame; pending while there is none.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Bytes> {
        self.reader.register(cx.waker());
        self.pop().map_or(Poll::Pending, Poll::Ready)
    }

    /// The next frame, if there is one now.
    pub(super) fn pop(&self) -> Option<Bytes> {
        self.lock().pop()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, entry: Entry) {
        if entry.is_progress && self.frames.back().is_some_and(|last| last.is_progress) {
            let last = self.frames.pop_back();
            self.bytes -= last.map_or(0, |last| last.frame.len());
        }
        self.bytes += entry.frame.len();
        self.frames.push_back(entry);
        while self.frames.len() > MAX_WAITING || self.bytes > MAX_WAITING_BYTES {
            let Some(oldest) = self.frames.pop_front() else { return };
            self.bytes -= oldest.frame.len();
            self.left_out += u64::from(!oldest.is_progress);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        if self.left_out > 0 {
            let count = std::mem::take(&mut self.left_out);
            let data =
                format!("{count} log messages are left out here: they came faster than they were read");
            return Some(log_frame("warning", Some(env!("CARGO_PKG_NAME")), &Value::from(data)));
        }
        let next = self.frames.pop_front()?;
        self.bytes -= next.frame.len();
        Some(next.frame)
    }
}

fn entry(told: &ToolProgress) -> Entry {
    match told {
        ToolProgress::Progress { progress, total, message } => {
            let data = json!({"progress": progress, "total": total, "message": message});
            Entry { is_progress: true, frame: sse::frame(Some("progress"), data.to_string().as_bytes()) }
        }
        ToolProgress::Log { level, logger, data } => {
            Entry { is_progress: false, frame: log_frame(level, logger.as_deref(), data) }
        }
    }
}

fn log_frame(level: &str, logger: Option<&str>, data: &Value) -> Bytes {
    let data = json!({"level": level, "logger": logger, "data": data});
    sse::frame(Some("log"), data.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(progress: f64) -> ToolProgress {
        ToolProgress::Progress { progress, total: Some(9.0), message: None }
    }

    fn log(data: &str) -> ToolProgress {
        ToolProgress::Log { level: "info".to_owned(), logger: None, data: Value::from(data) }
    }

    fn texts(queue: &ProgressQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|frame| String::from_utf8(frame.to_vec()).unwrap()).collect()
    }

    #[test]
    fn progress_gives_way_to_newer_progress_and_keeps_its_place_among_logs() {
        let queue = ProgressQueue::default();
        for told in [progress(1.0), progress(2.0), log("a"), progress(3.0), progress(4.0)] {
            queue.push(&told);
        }
        assert_eq!(
            texts(&queue),
            [
                "event: progress\ndata: {\"progress\":2.0,\"total\":9.0,\"message\":null}\n\n",
                "event: log\ndata: {\"level\":\"info\",\"logger\":null,\"data\":\"a\"}\n\n",
                "event: progress\ndata: {\"progress\":4.0,\"total\":9.0,\"message\":null}\n\n",
            ]
        );
        assert!(texts(&queue).is_empty());
    }

    #[test]
    fn a_flood_of_logs_is_bounded_and_its_end_arrives() {
        let queue = ProgressQueue::default();
        for at in 0..MAX_WAITING + 10 {
            queue.push(&log(&format!("line {at}")));
        }
        let texts = texts(&queue);
        assert!(texts[0].contains("10 log messages are left out"), "{}", texts[0]);
        assert!(texts[1].contains("line 10\""), "{}", texts[1]);
        assert_eq!(texts.len(), MAX_WAITING + 1);
        queue.push(&log(&"x".repeat(MAX_WAITING_BYTES)));
        queue.push(&log("small"));
        let texts: Vec<String> = self::texts(&queue);
        assert!(texts[0].contains("1 log messages") && texts[1].contains("small"), "{texts:?}");
    }
}
