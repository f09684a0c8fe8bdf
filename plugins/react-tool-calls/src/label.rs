//! The labels that lines of a ReAct reply begin with: `Thought:`, `Action:`, `Action Input:`, `Observation:`,
//! `Final Answer:`.
//!
//! Case, a number (`Action 2:`), Markdown around the label (`**Action:**`, `### Action:`) and a Chinese colon make no
//! difference.

/// A label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// What the model thinks.
    Thought,
    /// The tool to call.
    Action,
    /// What to call it with.
    ActionInput,
    /// The tool's answer.
    Observation,
    /// What the user is meant to read.
    FinalAnswer,
}

/// Whether a line begins with a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It does not.
    Other,
    /// It may, once more of it is there.
    Unknown,
    /// It does, and the label takes so many bytes.
    Labelled(Label, usize),
}

/// The longer one of two that begin alike comes first.
const LABELS: [(&str, Label); 5] = [
    ("thought", Label::Thought),
    ("action input", Label::ActionInput),
    ("action", Label::Action),
    ("observation", Label::Observation),
    ("final answer", Label::FinalAnswer),
];
/// White space and Markdown before a label.
const MAX_BEFORE: usize = 8;
/// Markdown, white space and a number after a label's words.
const MAX_AFTER: usize = 8;

/// Longest label, in bytes.
pub(crate) const MAX_LABEL_BYTES: usize = MAX_BEFORE + 12 + 2 * MAX_AFTER + 4;

/// Looks at the beginning of a line. `at_end` tells that nothing follows.
pub(crate) fn read(line: &str, at_end: bool) -> Line {
    let bytes = line.as_bytes();
    let before = count(bytes, MAX_BEFORE, |byte| matches!(byte, b' ' | b'\t' | b'*' | b'_' | b'#' | b'>'));
    let unknown = if at_end { Line::Other } else { Line::Unknown };
    let words = &bytes[before..];
    for (name, label) in LABELS {
        let same = words
            .iter()
            .zip(name.as_bytes())
            .take_while(|(byte, own)| byte.eq_ignore_ascii_case(own))
            .count();
        if same == words.len() && same < name.len() {
            return unknown;
        }
        if same < name.len() {
            continue;
        }
        let mut at = before + same;
        let is_mark = |byte| matches!(byte, b' ' | b'\t' | b'*' | b'_' | b'0'..=b'9');
        at += count(&bytes[at..], MAX_AFTER, is_mark);
        let rest = &line[at..];
        match rest.chars().next() {
            None => return unknown,
            Some(colon @ (':' | '：')) => at += colon.len_utf8(),
            Some(_) if label == Label::ActionInput => continue,
            Some(_) => return Line::Other,
        }
        at += count(&bytes[at..], MAX_AFTER, |byte| matches!(byte, b'*' | b'_'));
        let is_whole = at < bytes.len() || at_end;
        return if is_whole { Line::Labelled(label, at) } else { Line::Unknown };
    }
    Line::Other
}

fn count(bytes: &[u8], most: usize, is_counted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take(most).take_while(|byte| is_counted(**byte)).count()
}
