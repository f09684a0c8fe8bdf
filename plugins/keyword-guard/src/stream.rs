//! One text that comes in pieces: what of it can go on, and what is still the beginning of a phrase.

use crate::matcher::{Found, Matcher};

/// What is held back of a text, and the character before it.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    buffer: String,
    /// Where the held text begins in the buffer.
    held_from: usize,
}

/// What a piece has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What can go on is exactly the piece.
    Unchanged,
    /// Something is held back, was held back or was replaced.
    Changed,
    /// There is a phrase, and nothing to put in its place: its position in the list.
    Hit(usize),
}

impl Stream {
    /// What is held back.
    pub(crate) fn held(&self) -> &str {
        &self.buffer[self.held_from..]
    }

    /// Takes the next piece and appends to `out` what can go on, with `replacement` in the place of each phrase. Without a
    /// replacement the first phrase is the end.
    pub(crate) fn push(
        &mut self,
        matcher: &Matcher,
        piece: &str,
        replacement: Option<&str>,
        out: &mut String,
    ) -> Outcome {
        let held_nothing = self.held().is_empty();
        self.buffer.push_str(piece);
        match self.release(matcher, false, replacement, out) {
            Outcome::Unchanged if held_nothing && self.held().is_empty() => Outcome::Unchanged,
            Outcome::Unchanged => Outcome::Changed,
            outcome => outcome,
        }
    }

    /// Ends the text, or interrupts it, and appends what was held back to `out`.
    pub(crate) fn finish(
        &mut self,
        matcher: &Matcher,
        replacement: Option<&str>,
        out: &mut String,
    ) -> Outcome {
        self.release(matcher, true, replacement, out)
    }

    fn release(
        &mut self,
        matcher: &Matcher,
        at_end: bool,
        replacement: Option<&str>,
        out: &mut String,
    ) -> Outcome {
        let mut outcome = Outcome::Unchanged;
        loop {
            match matcher.find(&self.buffer, self.held_from, at_end) {
                Found::Clear(end) => {
                    out.push_str(&self.buffer[self.held_from..end]);
                    let last = self.buffer[..end].chars().next_back().map_or(0, char::len_utf8);
                    self.buffer.drain(..end - last);
                    self.held_from = last;
                    return outcome;
                }
                Found::Phrase { start, end, phrase } => {
                    let Some(replacement) = replacement else { return Outcome::Hit(phrase) };
                    out.push_str(&self.buffer[self.held_from..start]);
                    out.push_str(replacement);
                    self.held_from = end;
                    outcome = Outcome::Changed;
                }
            }
        }
    }
}
