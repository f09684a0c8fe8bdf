//! What guests say: their standard output, standard error and `log` interface, as lines of the gateway's log.
//!
//! A guest's text is somebody else's: control characters are shown and not obeyed, long lines are cut, and after a number
//! of lines in one call the rest is dropped and counted. A stream's line is logged when its end comes, when it is too
//! long, or when the call is over.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tracing::Level;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Longest line, in bytes. The log's reader has no use for more.
pub const MAX_LINE_BYTES: usize = 8 * 1_024;

/// Lines of one call.
pub const MAX_LINES: u64 = 200;

/// Most bytes a guest hands over in one write to a stream; it asks before it writes.
const MAX_WRITE_BYTES: usize = 64 * 1_024;

/// The log of one call into one plugin. Dropping it tells how many lines were dropped.
#[derive(Debug)]
pub struct PluginLog {
    plugin: Arc<str>,
    limiter: LogLimiter,
}

/// Counts lines, and what came after the last one that was let through.
#[derive(Debug)]
pub struct LogLimiter {
    max: u64,
    seen: AtomicU64,
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The `log` interface.
    Log,
}

impl LogLimiter {
    /// Lets `max` lines through.
    #[must_use]
    pub fn new(max: u64) -> Self {
        Self { max, seen: AtomicU64::new(0) }
    }

    /// Whether one more line may be written.
    pub fn admit(&self) -> bool {
        self.seen.fetch_add(1, Ordering::Relaxed) < self.max
    }

    /// Lines that were not let through.
    pub fn dropped(&self) -> u64 {
        self.seen.load(Ordering::Relaxed).saturating_sub(self.max)
    }
}

impl PluginLog {
    /// The log of a call into `plugin`.
    #[must_use]
    pub fn new(plugin: Arc<str>) -> Arc<Self> {
        Arc::new(Self { plugin, limiter: LogLimiter::new(MAX_LINES) })
    }

    /// The plugin's name.
    #[must_use]
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// Whether one more line about this call may be written; also for lines that the host writes on a guest's doing.
    pub fn admit(&self) -> bool {
        self.limiter.admit()
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.limiter.dropped()
    }

    /// Writes one line of the `log` interface.
    pub fn write(&self, level: Level, message: &str, fields: &[(String, String)]) {
        self.line(Source::Log, level, message, fields);
    }

    /// A stream of the guest, for `WasiCtxBuilder::stdout` and `stderr`.
    #[must_use]
    pub fn stream(self: &Arc<Self>, source: Source) -> PluginStream {
        PluginStream(Arc::new(Mutex::new(Lines {
            log: self.clone(),
            source,
            pending: Vec::new(),
            cut: false,
        })))
    }

    fn line(&self, source: Source, level: Level, message: &str, fields: &[(String, String)]) {
        if !self.admit() {
            return;
        }
        let (plugin, stream) = (&*self.plugin, source.name());
        let message = visible(message, MAX_LINE_BYTES);
        let fields = (!fields.is_empty()).then(|| rendered(fields));
        let fields = fields.as_deref();
        match level {
            Level::ERROR => tracing::error!(target: "plugin", plugin, stream, fields, "{message}"),
            Level::WARN => tracing::warn!(target: "plugin", plugin, stream, fields, "{message}"),
            Level::INFO => tracing::info!(target: "plugin", plugin, stream, fields, "{message}"),
            Level::DEBUG => tracing::debug!(target: "plugin", plugin, stream, fields, "{message}"),
            _ => tracing::trace!(target: "plugin", plugin, stream, fields, "{message}"),
        }
    }
}

impl Drop for PluginLog {
    fn drop(&mut self) {
        let dropped = self.dropped();
        if dropped > 0 {
            let (plugin, max) = (&*self.plugin, self.limiter.max);
            tracing::warn!(
                target: "plugin", plugin, dropped,
                "plugin `{plugin}` wrote more than {max} lines in one call; {dropped} were dropped"
            );
        }
    }
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Log => "log",
        }
    }
}

/// One of a guest's output streams. Clones write to the same lines.
#[derive(Clone)]
pub struct PluginStream(Arc<Mutex<Lines>>);

struct Lines {
    log: Arc<PluginLog>,
    source: Source,
    pending: Vec<u8>,
    /// Whether the line had to be cut: what is left of it is dropped.
    cut: bool,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if !self.cut {
                // One byte more than a line may have, so that the line is seen to be cut.
                let room = (MAX_LINE_BYTES + 1).saturating_sub(self.pending.len());
                self.pending.extend_from_slice(&text[..text.len().min(room)]);
                if text.len() > room {
                    self.write_out();
                    self.cut = true;
                }
            }
            if ended {
                if !self.cut {
                    self.write_out();
                }
                self.cut = false;
            }
        }
    }

    fn write_out(&mut self) {
        let line = self.pending.strip_suffix(b"\r").unwrap_or(&self.pending);
        self.log.line(self.source, Level::INFO, &String::from_utf8_lossy(line), &[]);
        self.pending.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            self.write_out();
        }
    }
}

impl PluginStream {
    fn take(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
    }
}

impl IsTerminal for PluginStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for PluginStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for PluginStream {
    async fn ready(&mut self) {}
}

impl OutputStream for PluginStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE_BYTES)
    }
}

impl tokio::io::AsyncWrite for PluginStream {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.take(bytes);
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// Fields as `key=value`, values that would be ambiguous in quotes.
fn rendered(fields: &[(String, String)]) -> String {
    let mut text = String::new();
    for (key, value) in fields {
        if text.len() > MAX_LINE_BYTES {
            break;
        }
        let separator = if text.is_empty() { "" } else { " " };
        let quoted = value.is_empty() || value.contains([' ', '"', '=']);
        let quote = if quoted { "\"" } else { "" };
        let value = cut(value, MAX_LINE_BYTES).0.replace('"', "\\\"");
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{}={quote}{value}{quote}", cut(key, MAX_LINE_BYTES).0);
    }
    visible(&text, MAX_LINE_BYTES)
}

/// The first `max` bytes of `text` or a little less, and whether there is more.
fn cut(text: &str, max: usize) -> (&str, bool) {
    let kept = &text[..text.floor_char_boundary(max)];
    (kept, kept.len() < text.len())
}

/// `text` on one line, without anything that a terminal or an editor would obey, and not longer than `max` bytes of it.
pub(super) fn visible(text: &str, max: usize) -> String {
    let (kept, more) = cut(text, max);
    let mut shown = String::with_capacity(kept.len());
    for character in kept.chars() {
        if character.is_control() || steers(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if more {
        shown.push_str(" [cut]");
    }
    shown
}

/// Characters without a look of their own that change how a line reads: separators of lines, and marks of direction.
fn steers(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
#[path = "stdio/tests.rs"]
mod tests;
