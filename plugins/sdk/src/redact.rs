//! Replacing what a pattern finds, in whole replies and in replies that come piece by piece.
//!
//! In a stream a match may be cut anywhere: `ann@exa` in one delta, `mple.org` in the next. [`Redactor`] holds back the end
//! of the text as long as it may still become a match, and lets everything else pass at once.
//!
//! ```
//! use std::ops::Range;
//! use witgate_plugin::redact::{Pattern, Redactor};
//! use witgate_plugin::{Context, Delta, Error, Finished, Pushed, ReplyEnd, StreamProcessor};
//!
//! /// Four digits in a row.
//! struct Pin;
//!
//! impl Pattern for Pin {
//!     const REPLACEMENT: &str = "[pin]";
//!     const MAX_BYTES: usize = 4;
//!
//!     fn may_contain(character: char) -> bool {
//!         character.is_ascii_digit()
//!     }
//!
//!     fn find(text: &str) -> Option<Range<usize>> {
//!         let start = (0..text.len()).find(|&at| {
//!             text.as_bytes()[at..].len() >= 4 && text.as_bytes()[at..at + 4].iter().all(u8::is_ascii_digit)
//!         })?;
//!         Some(start..start + 4)
//!     }
//! }
//!
//! struct Plugin(Redactor<Pin>);
//!
//! impl StreamProcessor for Plugin {
//!     fn new(_ctx: &Context, _choice: u32) -> Result<Self, Error> {
//!         Ok(Self(Redactor::new()))
//!     }
//!
//!     fn push(&mut self, deltas: Vec<Delta>) -> Result<Pushed, Error> {
//!         Ok(self.0.push(deltas))
//!     }
//!
//!     fn finish(&mut self, _end: ReplyEnd) -> Result<Finished, Error> {
//!         Ok(Finished::with(self.0.finish()))
//!     }
//! }
//!
//! let mut plugin = Plugin::new(&Context::default(), 0)?;
//! assert_eq!(plugin.push(vec![Delta::text("Your pin: 12")])?, Pushed::Deltas(vec![Delta::text("Your pin: ")]));
//! assert_eq!(plugin.push(vec![Delta::text("34.")])?, Pushed::Deltas(vec![Delta::text("[pin].")]));
//! # Ok::<(), Error>(())
//! ```

use std::marker::PhantomData;
use std::ops::Range;

use crate::stream::{Delta, DeltaKind, Pushed};

/// What is to be replaced.
pub trait Pattern {
    /// What takes the place of a match.
    const REPLACEMENT: &str;

    /// Longest match in bytes; `find` must not return a longer one. Of a row of characters that is more than twice as long,
    /// a stream is let go on before the row's end is known; a match may then be found where the whole row has none.
    const MAX_BYTES: usize;

    /// Whether a match may have this character in it, in any place. The fewer there are, the less is held back.
    fn may_contain(character: char) -> bool;

    /// The first match in a text, as a range of bytes; none of length 0.
    ///
    /// Whether there is a match must depend on the characters that a match may contain, and on where their row begins and
    /// ends; not on what stands farther off.
    fn find(text: &str) -> Option<Range<usize>>;
}

/// Replaces all matches in a text, none where there is no match.
#[must_use]
pub fn redact<P: Pattern>(text: &str) -> Option<String> {
    let mut out = String::new();
    (replace::<P>(text, text.len(), &mut out) > 0).then_some(out)
}

/// Replaces matches in one reply that comes piece by piece. Text and reasoning are two texts.
#[derive(Debug)]
pub struct Redactor<P> {
    text: String,
    reasoning: String,
    pattern: PhantomData<P>,
}

impl<P: Pattern> Default for Redactor<P> {
    fn default() -> Self {
        Self { text: String::new(), reasoning: String::new(), pattern: PhantomData }
    }
}

impl<P: Pattern> Redactor<P> {
    /// One for the beginning of a reply.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next deltas and returns what may go on.
    #[must_use]
    pub fn push(&mut self, deltas: Vec<Delta>) -> Pushed {
        let nothing_held = self.text.is_empty() && self.reasoning.is_empty();
        if nothing_held && deltas.iter().all(|delta| passes::<P>(&delta.text)) {
            return Pushed::Unchanged;
        }
        let released = deltas.into_iter().map(|delta| {
            let held = self.held(delta.kind);
            held.push_str(&delta.text);
            Delta { kind: delta.kind, text: release::<P>(held) }
        });
        Pushed::Deltas(released.filter(|delta| !delta.text.is_empty()).collect())
    }

    /// What was still held back at the end of the reply.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Delta> {
        [DeltaKind::Reasoning, DeltaKind::Text]
            .into_iter()
            .map(|kind| {
                let held = std::mem::take(self.held(kind));
                Delta { kind, text: redact::<P>(&held).unwrap_or(held) }
            })
            .filter(|delta| !delta.text.is_empty())
            .collect()
    }

    fn held(&mut self, kind: DeltaKind) -> &mut String {
        match kind {
            DeltaKind::Text => &mut self.text,
            DeltaKind::Reasoning => &mut self.reasoning,
        }
    }
}

/// Whether a text has no match in it and cannot be the beginning of one.
fn passes<P: Pattern>(text: &str) -> bool {
    !text.ends_with(P::may_contain) && P::find(text).is_none()
}

/// Takes from the held text what is decided, and returns it with matches replaced.
fn release<P: Pattern>(held: &mut String) -> String {
    // The last row of characters that a match may contain can still grow.
    let mut decided = held.trim_end_matches(P::may_contain).len();
    if held.len() - decided > 2 * P::MAX_BYTES {
        // No single match is as long as this row: one that begins early enough is complete, with a character after it.
        decided = held.floor_char_boundary(held.len() - P::MAX_BYTES);
    }
    let mut out = String::new();
    let end = replace::<P>(held, decided, &mut out).max(decided);
    let rest = held.split_off(end);
    if out.is_empty() {
        return std::mem::replace(held, rest);
    }
    *held = rest;
    out
}

/// Writes `text` up to `before`, or to the end of a match that begins before it, with matches replaced; returns where it
/// ended. Writes nothing where there is no match.
fn replace<P: Pattern>(text: &str, before: usize, out: &mut String) -> usize {
    let mut at = 0;
    while let Some(found) = P::find(&text[at..]) {
        let start = at + found.start;
        if start >= before || found.is_empty() {
            break;
        }
        out.push_str(&text[at..start]);
        out.push_str(P::REPLACEMENT);
        at += found.end;
    }
    if at > 0 && at < before {
        out.push_str(&text[at..before]);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Redactor, redact};
    use crate::{Delta, Pushed};
    use std::ops::Range;

    /// Three to five `x` or `ü`, with no more of them on either side.
    struct Row;

    impl Pattern for Row {
        const REPLACEMENT: &str = "[row]";
        const MAX_BYTES: usize = 10;

        fn may_contain(character: char) -> bool {
            matches!(character, 'x' | 'ü')
        }

        fn find(text: &str) -> Option<Range<usize>> {
            let mut at = 0;
            while at < text.len() {
                let length = text[at..].find(|c| !Self::may_contain(c)).unwrap_or(text.len() - at);
                if (3..=5).contains(&text[at..at + length].chars().count()) {
                    return Some(at..at + length);
                }
                at += length + text[at + length..].chars().next().map_or(0, char::len_utf8);
            }
            None
        }
    }

    /// Pushes the pieces one by one and joins what comes out.
    fn in_pieces(pieces: &[&str]) -> String {
        let mut redactor = Redactor::<Row>::new();
        let mut out = String::new();
        for piece in pieces {
            let deltas = vec![Delta::text(*piece)];
            match redactor.push(deltas) {
                Pushed::Unchanged => out.push_str(piece),
                Pushed::Deltas(deltas) => out.extend(deltas.into_iter().map(|delta| delta.text)),
                Pushed::Block(_) => unreachable!("nothing here blocks"),
            }
        }
        out.extend(redactor.finish().into_iter().map(|delta| delta.text));
        out
    }

    #[test]
    fn every_way_to_cut_a_text_gives_the_same() {
        for text in
            ["a xxx b", "xxxx", "xx", "xxxxxx no", "üxx, xü xxxüx", "", "äxxxä", "xxx xxx", "x x xx xxx!"]
        {
            let whole = redact::<Row>(text).unwrap_or_else(|| text.to_owned());
            let places: Vec<usize> = (1..text.len()).filter(|at| text.is_char_boundary(*at)).collect();
            for cuts in 0..1_u32 << places.len() {
                let mut pieces = Vec::new();
                let mut start = 0;
                for (index, at) in places.iter().enumerate() {
                    if cuts & (1 << index) != 0 {
                        pieces.push(&text[start..*at]);
                        start = *at;
                    }
                }
                pieces.push(&text[start..]);
                assert_eq!(in_pieces(&pieces), whole, "{pieces:?}");
            }
        }
    }

    #[test]
    fn only_what_may_become_a_match_is_held_back() {
        let mut redactor = Redactor::<Row>::new();
        assert_eq!(redactor.push(vec![Delta::text("plain")]), Pushed::Unchanged);
        assert_eq!(redactor.push(vec![Delta::text("a x")]), Pushed::Deltas(vec![Delta::text("a ")]));
        assert_eq!(redactor.push(vec![Delta::reasoning("xx")]), Pushed::Deltas(vec![]));
        assert_eq!(redactor.push(vec![Delta::text("xx b")]), Pushed::Deltas(vec![Delta::text("[row] b")]));
        assert_eq!(redactor.finish(), vec![Delta::reasoning("xx")]);
    }

    #[test]
    fn an_endless_row_is_not_held_forever() {
        let mut redactor = Redactor::<Row>::new();
        let mut released = 0;
        for _ in 0..1000 {
            let Pushed::Deltas(deltas) = redactor.push(vec![Delta::text("xxxxxxx")]) else { continue };
            released += deltas.iter().map(|delta| delta.text.len()).sum::<usize>();
            assert!(redactor.text.len() <= 3 * Row::MAX_BYTES);
        }
        assert!(released >= 7000 - 3 * Row::MAX_BYTES);
    }
}
