//! Shows an answer while it is written: text on standard output, tool calls and everything else on standard error.
//!
//! All of it is foreign text and is cleaned ([`clean`]) on its way.

use std::io::{self, Write};

use crate::cli::client::ReplyEvent;
use crate::cli::spinner::Spinner;
use crate::cli::terminal::{Style, Terminal, clean, one_line};

/// Prints the events of one answer. Dropping it ends the line, also of an answer that was interrupted.
pub(super) struct Printer<O: Write, E: Write> {
    terminal: Terminal,
    show_tools: bool,
    out: O,
    err: E,
    spinner: Spinner,
    line_is_open: bool,
    has_text: bool,
}

impl<O: Write, E: Write> Printer<O, E> {
    /// A printer that writes text to `out` and the rest to `err`.
    pub(super) fn new(terminal: Terminal, show_tools: bool, out: O, err: E) -> Self {
        let spinner = Spinner::start(terminal, "thinking");
        Self { terminal, show_tools, out, err, spinner, line_is_open: false, has_text: false }
    }

    /// Shows one event.
    ///
    /// # Errors
    /// When nobody reads the output any more.
    pub(super) fn event(&mut self, event: &ReplyEvent) -> io::Result<()> {
        match event {
            ReplyEvent::Delta(text) => self.text(text),
            ReplyEvent::ToolCall { name, arguments, .. } => {
                let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
                let line = self.cut(&format!("-> {name} {arguments}"));
                self.aside(&line, Style::Dim)?;
                self.spinner = Spinner::start(self.terminal, &one_line(name, 64));
                Ok(())
            }
            ReplyEvent::ToolResult { name, is_error, content, .. } => {
                let (mark, style) = if *is_error { ("failed: ", Style::Bad) } else { ("", Style::Dim) };
                let line = self.cut(&format!("<- {name}: {mark}{content}"));
                self.aside(&line, style)?;
                self.spinner = Spinner::start(self.terminal, "thinking");
                Ok(())
            }
            ReplyEvent::Done { response, .. } if !self.has_text => {
                self.text(response)?;
                self.end()
            }
            ReplyEvent::Done { .. } => self.end(),
        }
    }

    /// Ends the line, so that something else can be written.
    ///
    /// # Errors
    /// When nobody reads the output any more.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.spinner.stop();
        if self.line_is_open {
            self.line_is_open = false;
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let text = clean(text);
        if text.is_empty() {
            return Ok(());
        }
        self.spinner.stop();
        self.has_text = true;
        self.line_is_open = !text.ends_with('\n');
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// A line beside the text. Where both go to one screen it must not continue a line of the text.
    fn aside(&mut self, line: &str, style: Style) -> io::Result<()> {
        self.spinner.stop();
        if !self.show_tools {
            return Ok(());
        }
        if self.terminal.stdout && self.terminal.stderr {
            self.end()?;
        }
        writeln!(self.err, "{}", self.terminal.err(style, line))
    }

    fn cut(&self, line: &str) -> String {
        one_line(line, self.terminal.width().saturating_sub(24))
    }
}

impl<O: Write, E: Write> Drop for Printer<O, E> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &str) -> ReplyEvent {
        ReplyEvent::ToolCall { id: "c".into(), name: name.into(), arguments: arguments.into() }
    }

    fn result(name: &str, is_error: bool, content: &str) -> ReplyEvent {
        ReplyEvent::ToolResult { id: "c".into(), name: name.into(), is_error, content: content.into() }
    }

    fn done(response: &str) -> ReplyEvent {
        ReplyEvent::Done { response: response.into(), session: "s".into() }
    }

    fn show(terminal: Terminal, show_tools: bool, events: &[ReplyEvent]) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(terminal, show_tools, &mut out, &mut err);
        for event in events {
            printer.event(event).unwrap();
        }
        drop(printer);
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn text_and_tool_calls_go_their_own_ways() {
        let events = [
            ReplyEvent::Delta("Let me ".into()),
            ReplyEvent::Delta("look.".into()),
            call("list_tables", ""),
            result("list_tables", false, "a\nb\n"),
            call("read_query", "{\n \"query\": \"x\"}"),
            result("read_query", true, "no such table"),
            ReplyEvent::Delta(" Two.".into()),
            done("Let me look. Two."),
        ];
        let (out, err) = show(Terminal::none(), true, &events);
        assert_eq!(out, "Let me look. Two.\n");
        let wanted = "-> list_tables {}\n<- list_tables: a b\n-> read_query { \"query\": \"x\"}\n\
                      <- read_query: failed: no such table\n";
        assert_eq!(err, wanted);
        let (out, err) = show(Terminal::none(), false, &events);
        assert_eq!((out.as_str(), err.as_str()), ("Let me look. Two.\n", ""));
    }

    #[test]
    fn on_one_screen_a_tool_call_begins_a_line() {
        let mut terminal = Terminal::none();
        (terminal.stdout, terminal.stderr) = (true, true);
        let events =
            [ReplyEvent::Delta("a".into()), call("t", "{}"), ReplyEvent::Delta("b\n".into()), done("a b")];
        assert_eq!(show(terminal, true, &events).0, "a\nb\n");
    }

    #[test]
    fn an_answer_that_was_not_streamed_is_shown_at_the_end() {
        assert_eq!(show(Terminal::none(), true, &[done("whole")]).0, "whole\n");
        assert_eq!(show(Terminal::none(), true, &[done("")]).0, "");
    }

    #[test]
    fn an_interrupted_answer_ends_its_line() {
        assert_eq!(show(Terminal::none(), true, &[ReplyEvent::Delta("half".into())]).0, "half\n");
    }

    #[test]
    fn nothing_foreign_controls_the_terminal() {
        let evil = "\u{1b}[2J\u{9b}1m\r";
        let events = [
            ReplyEvent::Delta(evil.into()),
            call(evil, evil),
            result(evil, true, evil),
            ReplyEvent::Delta(evil.into()),
            done(evil),
        ];
        let (out, err) = show(Terminal::none(), true, &events);
        for text in [out, err] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}
