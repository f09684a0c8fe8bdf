//! The terminal: what may be written to it, and how.
//!
//! Text of models, tools and servers is foreign: an escape sequence in it could rewrite the screen, set the window's
//! title or the clipboard, or hide what a tool did. [`clean`] makes every such character visible and harmless before
//! it is printed.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Columns assumed where there is no terminal or it does not tell.
const DEFAULT_WIDTH: usize = 120;

/// Less would leave nothing of a line.
const MIN_WIDTH: usize = 40;

/// What standard output and standard error are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    /// Standard input and output are both a terminal: somebody is typing.
    pub(super) interactive: bool,
    /// Standard output is a terminal.
    pub(super) stdout: bool,
    /// Standard error is a terminal.
    pub(super) stderr: bool,
    colour: bool,
}

/// How a piece of text is set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Beside the point: tool calls, hints.
    Dim,
    /// Headings and prompts.
    Bold,
    /// Something works.
    Good,
    /// Something deserves a look.
    Warning,
    /// Something failed.
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Dim => "2",
            Self::Bold => "1",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }
}

impl Terminal {
    /// What this process has.
    pub(super) fn detect() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let (stdout, stderr) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self { interactive: io::stdin().is_terminal() && stdout, stdout, stderr, colour: !no_colour && !dumb }
    }

    /// Neither input nor output is a terminal.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { interactive: false, stdout: false, stderr: false, colour: false }
    }

    /// `text` in `style`, for standard output.
    pub(super) fn out<'t>(&self, style: Style, text: &'t str) -> Cow<'t, str> {
        styled(self.stdout && self.colour, style, text)
    }

    /// `text` in `style`, for standard error.
    pub(super) fn err<'t>(&self, style: Style, text: &'t str) -> Cow<'t, str> {
        styled(self.stderr && self.colour, style, text)
    }

    /// Columns a line on standard error may have before it is cut.
    pub(super) fn width(&self) -> usize {
        let size = if self.stderr { terminal_size::terminal_size_of(io::stderr()) } else { None };
        size.map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0)).max(MIN_WIDTH)
    }
}

fn styled(on: bool, style: Style, text: &str) -> Cow<'_, str> {
    if on { Cow::Owned(format!("\x1b[{}m{text}\x1b[0m", style.code())) } else { Cow::Borrowed(text) }
}

/// `text` without anything a terminal would obey: control characters become their pictures (`␛`), carriage returns
/// vanish, C1 controls and characters that reorder the line become `\u{fffd}`. Line feeds and tabs stay.
///
/// Works character by character, so pieces of a stream can be cleaned one by one.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars().filter(|c| *c != '\r').map(|c| if is_unsafe(c) { picture(c) } else { c }).collect(),
    )
}

/// `text` cleaned, on one line, and cut to `limit` characters with a note of how long it was.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
            length += 1;
        }
        for c in word.chars() {
            if length >= limit {
                return format!("{line}… ({} characters)", text.chars().count());
            }
            line.extend(clean(c.encode_utf8(&mut [0; 4])).chars());
            length += 1;
        }
    }
    line
}

fn is_unsafe(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Bidirectional embeddings, overrides and isolates: they make a line read as something it is not.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{2028}' | '\u{2029}' => true,
        _ => c.is_control(),
    }
}

fn picture(c: char) -> char {
    match u32::from(c) {
        code @ 0..=0x1f => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Writes to standard output and flushes: the reader sees it now.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes to standard error. Nobody can be told if that fails.
pub(super) fn note(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_become_visible_text() {
        assert_eq!(clean("\x1b]0;owned\x07\x1b[31mred"), "␛]0;owned␇␛[31mred");
        assert_eq!(clean("a\u{9b}31mb\u{7f}\0"), "a\u{fffd}31mb␡␀");
        assert_eq!(clean("rm\u{202e}fdp.exe"), "rm\u{fffd}fdp.exe");
        assert_eq!(clean("50%\r\nnext\rover"), "50%\nnextover");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "a\n\tb", "Grüße, 世界 👩‍👩‍👧 שלום"] {
            assert!(matches!(clean(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn cleaning_pieces_equals_cleaning_the_whole() {
        let text = "x\x1b[2Jy\r\nz\u{9b}ü";
        let pieces: String = text.chars().map(|c| clean(&c.to_string()).into_owned()).collect();
        assert_eq!(pieces, clean(text));
    }

    #[test]
    fn long_results_are_cut_to_one_line() {
        assert_eq!(one_line("a\n  b\t\x1b c", 80), "a b ␛ c");
        assert_eq!(one_line("1234567890", 4), "1234… (10 characters)");
        assert_eq!(one_line("1234", 4), "1234");
        assert_eq!(one_line(" \n ", 4), "");
    }

    #[test]
    fn colours_only_on_a_terminal_that_wants_them() {
        let mut terminal = Terminal::none();
        assert_eq!(terminal.out(Style::Bad, "x"), "x");
        terminal.stdout = true;
        assert_eq!(terminal.out(Style::Bad, "x"), "x");
        terminal.colour = true;
        assert_eq!(terminal.out(Style::Bad, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(terminal.err(Style::Bad, "x"), "x");
    }
}
