//! Reads one tool call, in the format of ReAct or of Hermes.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;
use crate::label::{self, Label, Line};

/// A longer call is taken for text.
pub(crate) const MAX_CALL_BYTES: usize = 256 * 1024;
/// So much text after a call may be needed to see its end.
const LOOK_AHEAD_BYTES: usize = label::MAX_LABEL_BYTES + MAX_SPACE_BYTES;
/// White space between the parts of a call.
const MAX_SPACE_BYTES: usize = 64;
const MAX_NAME_BYTES: usize = 128;
/// Quotes and Markdown before a name.
const MAX_QUOTES: usize = 4;

/// How the text given so far ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More may follow.
    Open,
    /// The model was done.
    Complete,
    /// The model was cut off.
    Truncated,
}

/// A tool call: the tool's name, and a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The tool.
    pub(crate) name: String,
    /// Its arguments.
    pub(crate) arguments: String,
}

/// What a text begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No call, whatever follows.
    Text,
    /// More text is needed to tell.
    Need,
    /// A call that takes so many bytes.
    Call(usize, Call),
    /// So many bytes that say there is nothing to call: `Action: None`.
    Nothing(usize),
    /// So many bytes that are the final answer, and the answer: `Action: Finish[42]`.
    Finish(usize, String),
}

impl Verdict {
    /// The verdict, if the call is not too long.
    fn within_limits(self, text: &str, end: End) -> Self {
        match self {
            Self::Call(length, _) if length > MAX_CALL_BYTES => Self::Text,
            Self::Need if end != End::Open || text.len() > MAX_CALL_BYTES + LOOK_AHEAD_BYTES => Self::Text,
            verdict => verdict,
        }
    }
}

/// Reads a call in the format of Hermes and Qwen: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`. The text
/// begins with `<`.
pub(crate) fn hermes(text: &str, end: End, key: &str) -> Verdict {
    const TAG: &str = "<tool_call>";
    if TAG.starts_with(text) && text.len() < TAG.len() {
        return Verdict::Need.within_limits(text, end);
    }
    let Some(body) = text.strip_prefix(TAG) else { return Verdict::Text };
    let at = TAG.len() + skip_space(body);
    structured(text, at, key).within_limits(text, end)
}

/// Reads a call in the format of ReAct. The text begins with the label `Action:`, which takes `label` bytes.
/// `is_react` tells that the reply is known to be in this format, so that a lone `Action: name` is a call, too.
pub(crate) fn react(text: &str, label: usize, end: End, is_react: bool, key: &str) -> Verdict {
    let at = label + skip_space(&text[label..]);
    let rest = &text[at..];
    let verdict = if rest.is_empty() {
        Verdict::Need
    } else if rest.starts_with("```")
        || rest.starts_with('{')
        || matches!(rest, "`" | "``") && end == End::Open
    {
        structured(text, at, key)
    } else {
        named(text, at, end, is_react, key)
    };
    verdict.within_limits(text, end)
}

/// An object with a name and arguments at `at`, perhaps in a code fence.
fn structured(text: &str, at: usize, key: &str) -> Verdict {
    #[derive(Deserialize)]
    struct Written<'a> {
        #[serde(alias = "action", alias = "tool", alias = "tool_name", alias = "function")]
        name: String,
        #[serde(
            default,
            borrow,
            alias = "action_input",
            alias = "tool_input",
            alias = "input",
            alias = "parameters",
            alias = "args"
        )]
        arguments: Option<&'a RawValue>,
    }
    let Some(fence) = skip_fence(&text[at..]) else { return Verdict::Need };
    let at = at + fence;
    let object = &text[at..];
    if !object.starts_with('{') {
        return if object.is_empty() { Verdict::Need } else { Verdict::Text };
    }
    let Some(length) = json::object_end(object) else { return Verdict::Need };
    let object = &object[..length];
    let repaired;
    let written = match serde_json::from_str::<Written<'_>>(object) {
        Ok(written) => written,
        Err(_) => {
            let Some(json) = json::repaired(object) else { return Verdict::Text };
            repaired = json;
            let Ok(written) = serde_json::from_str(&repaired) else { return Verdict::Text };
            written
        }
    };
    if !is_name(&written.name) {
        return Verdict::Text;
    }
    let arguments = written.arguments.map_or("", RawValue::get);
    let call = Call { arguments: json::arguments(arguments, key), name: written.name };
    Verdict::Call(at + length, call)
}

/// A name at `at`, and its input after it.
fn named(text: &str, at: usize, end: End, is_react: bool, key: &str) -> Verdict {
    let rest = &text[at..];
    let quotes = rest.len() - rest.trim_start_matches(|c| is_quote(c) || c == '[').len();
    let length = rest[quotes..].bytes().take_while(|byte| is_name_byte(*byte)).count();
    let name = rest[quotes..quotes + length].trim_end_matches(['.', ':']);
    let after = at + quotes + length;
    let tail = text[after..].len()
        - text[after..].trim_start_matches(|c| is_quote(c) || matches!(c, ' ' | '\t' | '\r' | '.')).len();
    if length > MAX_NAME_BYTES || quotes > MAX_QUOTES || tail > MAX_SPACE_BYTES {
        return Verdict::Text;
    }
    let line_end = after + tail;
    let next = text[line_end..].chars().next();
    if next.is_none() && end == End::Open {
        return Verdict::Need;
    }
    if ["none", "n/a", "null", "nothing"].iter().any(|word| name.eq_ignore_ascii_case(word)) {
        return match next {
            None => Verdict::Nothing(text.len()),
            Some('\n') => Verdict::Nothing(line_end + 1),
            Some(_) => Verdict::Text,
        };
    }
    match next {
        _ if !is_name(name) => Verdict::Text,
        None => without_input(name, text.len(), end, is_react),
        Some('\n') => after_name(text, name, line_end, end, is_react, key),
        Some('{') => input(text, name, line_end, end, key),
        Some(bracket @ ('(' | '[')) if tail == 0 => called(text, name, line_end, bracket, end, key),
        Some(_) => Verdict::Text,
    }
}

/// What follows a name and its line break at `at`.
fn after_name(text: &str, name: &str, at: usize, end: End, is_react: bool, key: &str) -> Verdict {
    let space = skip_space(&text[at..]);
    if space > MAX_SPACE_BYTES {
        return Verdict::Text;
    }
    let next = at + space;
    let rest = &text[next..];
    if rest.is_empty() {
        return if end == End::Open { Verdict::Need } else { without_input(name, at, end, is_react) };
    }
    if rest.starts_with('{') {
        return input(text, name, next, end, key);
    }
    match label::read(rest, end != End::Open) {
        Line::Unknown => Verdict::Need,
        Line::Labelled(Label::ActionInput, length) => input(text, name, next + length, end, key),
        Line::Labelled(Label::Observation, _) => without_input(name, at, End::Complete, true),
        Line::Labelled(..) => without_input(name, at, End::Complete, is_react),
        Line::Other if rest.starts_with("```") => input(text, name, next, end, key),
        Line::Other if matches!(rest, "`" | "``") && end == End::Open => Verdict::Need,
        Line::Other => Verdict::Text,
    }
}

fn without_input(name: &str, length: usize, end: End, is_react: bool) -> Verdict {
    if !is_react || end == End::Truncated || !is_name(name) {
        return Verdict::Text;
    }
    Verdict::Call(length, Call { name: name.to_owned(), arguments: "{}".to_owned() })
}

/// The input at `at`: an object, a code block, or all text up to the next label.
fn input(text: &str, name: &str, at: usize, end: End, key: &str) -> Verdict {
    let call = |length, input: &str| {
        let arguments = json::arguments(input, key);
        Verdict::Call(length, Call { name: name.to_owned(), arguments })
    };
    let (stop, is_closed) = next_label(&text[at..], end).unwrap_or((text.len() - at, end == End::Complete));
    let stop = at + stop;
    let start = at + skip_space(&text[at..stop]);
    let body = &text[start..stop];
    let Some(fence) = skip_fence(body) else {
        return if is_closed { call(stop, body) } else { Verdict::Need };
    };
    let object = &body[fence..];
    if object.starts_with('{')
        && let Some(length) = json::object_end(object)
    {
        return call(start + fence + length, &object[..length]);
    }
    let Some(inner) = fenced(body) else {
        return if is_closed { call(stop, body) } else { Verdict::Need };
    };
    match inner.find("```") {
        Some(length) => call(stop - inner.len() + length + 3, &inner[..length]),
        None if is_closed => call(stop, inner),
        None => Verdict::Need,
    }
}

/// What is in a code fence, after its first line.
fn fenced(text: &str) -> Option<&str> {
    text.strip_prefix("```")?.split_once('\n').map(|(_, inner)| inner)
}

/// Where the line break before the next label is, and true; false where it may be a label once more is there.
fn next_label(text: &str, end: End) -> Option<(usize, bool)> {
    let mut from = 0;
    while let Some(found) = text[from..].find('\n') {
        let line = from + found + 1;
        match label::read(&text[line..], end != End::Open) {
            Line::Labelled(Label::ActionInput, _) | Line::Other => from = line,
            Line::Labelled(..) => return Some((line - 1, true)),
            Line::Unknown => return Some((line - 1, false)),
        }
    }
    None
}

/// A call as in code: `name(...)` or, as in the paper on ReAct, `name[...]`, to the end of the line.
fn called(text: &str, name: &str, at: usize, bracket: char, end: End, key: &str) -> Verdict {
    let closing = if bracket == '(' { ')' } else { ']' };
    let inner_at = at + 1;
    let line = text[inner_at..].find('\n').map(|length| inner_at + length);
    let stop = match (line, end) {
        (Some(stop), _) => stop,
        (None, End::Open) => return Verdict::Need,
        (None, _) => text.len(),
    };
    let Some(inner) =
        text[inner_at..stop].trim_end_matches(['`', '*', '.', ' ', '\t', '\r']).strip_suffix(closing)
    else {
        return Verdict::Text;
    };
    if bracket == '[' && name.eq_ignore_ascii_case("finish") {
        return Verdict::Finish(stop, inner.to_owned());
    }
    let arguments = json::called_with(inner, key);
    Verdict::Call(stop, Call { name: name.to_owned(), arguments })
}

/// White space at the beginning, line breaks too.
fn skip_space(text: &str) -> usize {
    text.bytes().take(MAX_SPACE_BYTES + 1).take_while(u8::is_ascii_whitespace).count()
}

/// Length of the line that opens a code fence, and of the white space after it; 0 where there is none, `None` where that
/// cannot be told yet.
fn skip_fence(text: &str) -> Option<usize> {
    if !text.starts_with('`') {
        return Some(0);
    }
    if matches!(text, "`" | "``") {
        return None;
    }
    if !text.starts_with("```") {
        return Some(0);
    }
    let language = text[3..].bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let at = 3 + language;
    let at = at + skip_space(&text[at..]);
    if at == text.len() { None } else { Some(at) }
}

/// What models put around a name.
fn is_quote(c: char) -> bool {
    matches!(c, '`' | '"' | '\'' | '*' | ']')
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/')
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_name_byte)
}
