//! What a server wrote to stderr: each line to the log with the server's name, the last ones kept for a status page.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Lines kept.
const KEPT_LINES: usize = 20;

/// Longest line kept and logged, in bytes; the rest of it is dropped.
const MAX_LINE_BYTES: usize = 2_048;

/// The last lines of one server's stderr.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<VecDeque<String>>);

impl Tail {
    /// The kept lines, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The last line that says anything.
    pub(super) fn last(&self) -> Option<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().rev().find(|line| !line.trim().is_empty()).cloned()
    }

    /// Forgets what an earlier process wrote.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn push(&self, server: &str, line: &[u8]) {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        tracing::info!(server, "{line}");
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Reads `stderr` of `server` to its end.
    pub(super) async fn follow(&self, server: &str, mut stderr: impl AsyncRead + Unpin) {
        let mut chunk = [0u8; 4_096];
        let mut line = Vec::new();
        loop {
            let read = match stderr.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            for part in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
                let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
                let room = MAX_LINE_BYTES - line.len();
                line.extend_from_slice(&text[..text.len().min(room)]);
                if ended {
                    self.push(server, &line);
                    line.clear();
                }
            }
        }
        if !line.is_empty() {
            self.push(server, &line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_last_lines_and_cuts_long_ones() {
        let mut text = String::new();
        for number in 0..30 {
            text.push_str(&format!("line {number}\r\n"));
        }
        text.push_str(&"x".repeat(10_000));
        text.push_str("\n\nunfinished");
        let tail = Tail::default();
        tail.follow("demo", text.as_bytes()).await;
        let lines = tail.lines();
        assert_eq!(lines.len(), KEPT_LINES);
        assert_eq!(lines[0], "line 13");
        assert_eq!(lines[17].len(), MAX_LINE_BYTES);
        assert_eq!(lines[19], "unfinished");
        assert_eq!(tail.last().as_deref(), Some("unfinished"));
    }
}
