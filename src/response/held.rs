//! What a stage was given and has not let go of: given on unprocessed where the stage fails and may be left out.
//!
//! Kept only for stages with `on_failure = "open"`. As long as a stage lets text go as it came this is exact. Where it
//! changes text, what it holds is looked for by the last words it let go; text that cannot be told apart is lost with
//! the stage rather than shown twice.

use crate::domain::{DeltaKind, TextDelta};

/// Characters at the end of the last output that are looked for in the input: as many as are found there.
const LAST_WORDS: std::ops::RangeInclusive<usize> = 3..=12;

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct Held {
    text: String,
    reasoning: String,
}

impl Held {
    /// The stage gets these.
    pub(super) fn give(&mut self, deltas: &[TextDelta]) {
        for delta in deltas {
            self.part(delta.kind).push_str(&delta.text);
        }
    }

    /// The stage lets go of these.
    pub(super) fn let_go(&mut self, deltas: &[TextDelta]) {
        for kind in [DeltaKind::Text, DeltaKind::Reasoning] {
            let out: String =
                deltas.iter().filter(|delta| delta.kind == kind).map(|delta| delta.text.as_str()).collect();
            if out.is_empty() {
                continue;
            }
            let held = self.part(kind);
            let gone = if held.starts_with(&out) {
                out.len()
            } else {
                end_of_last_words(held, &out).unwrap_or(held.len())
            };
            held.drain(..gone);
        }
    }

    /// The stage holds nothing.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.reasoning.clear();
    }

    /// What it still holds.
    pub(super) fn into_deltas(self) -> Vec<TextDelta> {
        let parts = [(DeltaKind::Reasoning, self.reasoning), (DeltaKind::Text, self.text)];
        let filled = parts.into_iter().filter(|(_, text)| !text.is_empty());
        filled.map(|(kind, text)| TextDelta { kind, text }).collect()
    }

    fn part(&mut self, kind: DeltaKind) -> &mut String {
        match kind {
            DeltaKind::Text => &mut self.text,
            DeltaKind::Reasoning => &mut self.reasoning,
        }
    }
}

/// Where the last words of `out` end in `held`.
fn end_of_last_words(held: &str, out: &str) -> Option<usize> {
    LAST_WORDS.rev().find_map(|count| {
        let (start, _) = out.char_indices().rev().nth(count - 1)?;
        let last_words = &out[start..];
        held.rfind(last_words).map(|at| at + last_words.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> [TextDelta; 1] {
        [TextDelta { kind: DeltaKind::Text, text: text.to_owned() }]
    }

    fn held_after(steps: &[(&str, &str)]) -> String {
        let mut held = Held::default();
        for (given, gone) in steps {
            held.give(&text(given));
            held.let_go(&text(gone));
        }
        held.into_deltas().into_iter().map(|delta| delta.text).collect()
    }

    #[test]
    fn unchanged_text_is_followed_exactly() {
        assert_eq!(held_after(&[("one two", "one "), (" three", "")]), "two three");
        assert_eq!(held_after(&[("one", ""), ("two", "onetwo")]), "");
    }

    #[test]
    fn changed_text_is_followed_by_its_last_words() {
        assert_eq!(held_after(&[("mail é@b.c and then j", "mail [mail] and then ")]), "j");
        assert_eq!(held_after(&[("secret", "[gone]"), ("more", "")]), "more");
    }
}
