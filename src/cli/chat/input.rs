//! Where messages come from: a line editor in a terminal, else the lines of standard input.
//!
//! Reading blocks, so it happens on a thread of its own that reads only when asked. The thread is never joined: it may
//! be waiting for a key when the program ends. [`Lines`] puts the terminal back as it was in that case.

use std::cell::Cell;
use std::fs;
use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use rustyline::error::ReadlineError;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor, Helper};

/// Longest message, in bytes.
const MAX_MESSAGE_BYTES: u64 = 16 * 1024 * 1024;

/// Messages kept for the arrow keys.
const MAX_HISTORY: usize = 1000;

const PROMPT: &str = "> ";

/// What came of asking for a line.
#[derive(Debug)]
pub(super) enum Line {
    /// A message or a command.
    Text(String),
    /// Ctrl-C.
    Interrupted {
        /// Nothing had been typed: it was not meant to clear the line.
        on_empty_line: bool,
    },
    /// Ctrl-D, or the end of the input.
    End,
    /// Reading failed.
    Failed(anyhow::Error),
}

/// Lines, read one at a time and only when asked for.
pub(super) struct Lines {
    ask: std::sync::mpsc::SyncSender<()>,
    lines: tokio::sync::mpsc::Receiver<Line>,
    reading: bool,
    before: Option<TerminalMode>,
}

impl Lines {
    /// Lines from a person, with editing and history.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub(super) fn of_terminal() -> anyhow::Result<Self> {
        let mut editor = LineEditor::new()?;
        Self::of(TerminalMode::now(), move || editor.next())
    }

    /// The lines of standard input.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn of_stdin() -> anyhow::Result<Self> {
        Self::of(None, || next_line(&mut io::stdin().lock()))
    }

    fn of(
        before: Option<TerminalMode>,
        mut read: impl FnMut() -> Line + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (ask, asked) = std::sync::mpsc::sync_channel(1);
        let (answer, lines) = tokio::sync::mpsc::channel(1);
        let body = move || {
            while asked.recv().is_ok() {
                if answer.blocking_send(read()).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("input".to_owned()).spawn(body).context("cannot read the input")?;
        Ok(Self { ask, lines, reading: false, before })
    }

    /// The next line.
    pub(super) async fn next(&mut self) -> Line {
        if !self.reading && self.ask.try_send(()).is_err() {
            return Line::End;
        }
        self.reading = true;
        let line = self.lines.recv().await.unwrap_or(Line::End);
        self.reading = false;
        line
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let (true, Some(mode)) = (self.reading, &self.before) {
            mode.restore();
        }
    }
}

/// All of standard input as one text.
///
/// # Errors
/// When it is too long or is not UTF-8.
pub(super) async fn whole_stdin() -> anyhow::Result<String> {
    let read = || {
        let mut text = String::new();
        io::stdin().lock().take(MAX_MESSAGE_BYTES + 1).read_to_string(&mut text).map(|_| text)
    };
    let mut whole = Lines::of(None, move || match read() {
        Ok(text) => bounded(text),
        Err(error) => unreadable(error),
    })?;
    match whole.next().await {
        Line::Text(text) => Ok(text),
        Line::Failed(error) => Err(error),
        Line::Interrupted { .. } | Line::End => Err(anyhow!("nothing could be read from standard input")),
    }
}

fn next_line(input: &mut impl BufRead) -> Line {
    let mut line = String::new();
    match input.by_ref().take(MAX_MESSAGE_BYTES + 1).read_line(&mut line) {
        Ok(0) => Line::End,
        Ok(_) => bounded(line),
        Err(error) => unreadable(error),
    }
}

fn bounded(text: String) -> Line {
    if text.len() as u64 > MAX_MESSAGE_BYTES {
        return Line::Failed(anyhow!("a message has at most {MAX_MESSAGE_BYTES} bytes"));
    }
    Line::Text(text)
}

fn unreadable(error: io::Error) -> Line {
    Line::Failed(anyhow::Error::new(error).context("cannot read standard input"))
}

struct LineEditor {
    editor: Editor<Watcher, FileHistory>,
    history: Option<PathBuf>,
}

impl LineEditor {
    fn new() -> anyhow::Result<Self> {
        let config = Config::builder()
            .max_history_size(MAX_HISTORY)
            .and_then(|config| config.history_ignore_dups(true));
        let config = config.context("cannot set up the line editor")?.history_ignore_space(true).build();
        let mut editor = Editor::with_config(config).context("cannot use the terminal")?;
        editor.set_helper(Some(Watcher::default()));
        let history = history_file();
        if let Some(file) = &history {
            // A history that cannot be read is no reason not to talk.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, history })
    }

    fn next(&mut self) -> Line {
        if let Some(watcher) = self.editor.helper() {
            watcher.typed.set(false);
        }
        match self.editor.readline(PROMPT) {
            Ok(line) => {
                if !line.trim().is_empty() {
                    self.remember(&line);
                }
                Line::Text(line.replace("\\\n", "\n"))
            }
            Err(ReadlineError::Interrupted) => Line::Interrupted {
                on_empty_line: !self.editor.helper().is_some_and(|watcher| watcher.typed.get()),
            },
            Err(ReadlineError::Eof) => Line::End,
            Err(error) => Line::Failed(anyhow::Error::new(error).context("cannot read from the terminal")),
        }
    }

    /// Saved at once: a closed window must not take the history with it. The editor makes the file 0600.
    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line);
        if let (Ok(true), Some(file)) = (added, &self.history) {
            if let Some(folder) = file.parent() {
                let _ = fs::create_dir_all(folder);
            }
            let _ = self.editor.append_history(file);
        }
    }
}

/// `$XDG_STATE_HOME/witgate/chat_history`, by default below `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("witgate/chat_history"))
}

/// Lets a line that ends with a backslash go on in the next one, and remembers whether anything is typed.
#[derive(Default)]
struct Watcher {
    typed: Cell<bool>,
}

impl Validator for Watcher {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let goes_on = context.input().ends_with('\\');
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl rustyline::completion::Completer for Watcher {
    type Candidate = String;
}

/// Gives no hints; it is asked at every key, which is how the line can be watched.
impl Hinter for Watcher {
    type Hint = String;

    fn hint(&self, line: &str, _position: usize, _context: &rustyline::Context<'_>) -> Option<String> {
        self.typed.set(!line.is_empty());
        None
    }
}

impl rustyline::highlight::Highlighter for Watcher {}

impl Helper for Watcher {}

/// How the terminal was before the line editor changed it.
#[cfg(unix)]
struct TerminalMode(nix::sys::termios::Termios);

#[cfg(unix)]
impl TerminalMode {
    fn now() -> Option<Self> {
        nix::sys::termios::tcgetattr(io::stdin()).ok().map(Self)
    }

    /// Echo and line mode come back, bracketed paste ends.
    fn restore(&self) {
        let _ = nix::sys::termios::tcsetattr(io::stdin(), nix::sys::termios::SetArg::TCSANOW, &self.0);
        let _ = crate::cli::terminal::print("\x1b[?2004l\n");
    }
}

/// Elsewhere the console's mode ends with the process.
#[cfg(not(unix))]
struct TerminalMode;

#[cfg(not(unix))]
impl TerminalMode {
    fn now() -> Option<Self> {
        None
    }

    fn restore(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_and_wrong_bytes_are_told() {
        let mut input = io::Cursor::new(b"one\ntwo".to_vec());
        assert!(matches!(next_line(&mut input), Line::Text(line) if line == "one\n"));
        assert!(matches!(next_line(&mut input), Line::Text(line) if line == "two"));
        assert!(matches!(next_line(&mut input), Line::End));
        let Line::Failed(error) = next_line(&mut io::Cursor::new(b"\xff\n")) else {
            panic!("read bytes as text")
        };
        assert_eq!(error.to_string(), "cannot read standard input");
    }

    #[tokio::test]
    async fn a_line_is_read_only_when_asked_for() {
        let (reads, mut count) = (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), 0);
        let counter = std::sync::Arc::clone(&reads);
        let mut lines = Lines::of(None, move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            count += 1;
            if count < 3 { Line::Text(count.to_string()) } else { Line::End }
        })
        .unwrap();
        assert!(matches!(lines.next().await, Line::Text(line) if line == "1"));
        assert_eq!(reads.load(std::sync::atomic::Ordering::SeqCst), 1);
        assert!(matches!(lines.next().await, Line::Text(line) if line == "2"));
        assert!(matches!(lines.next().await, Line::End));
    }
}
