//! Finds `{"tool": "...", "arguments": {...}}` in a reply's text, whole or piece by piece, bare or in a code fence.
//!
//! Only text that can still become a call is held back; everything else flows at once. After the first call the rest
//! of the reply is dropped unless it is another call: models tend to go on by inventing the tool's answer.
//! [`TextCallProcessor`] puts the search at the head of the pipeline, so that plugins meet such calls as any others.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{OnFailure, ProcessorError, ProcessorMode, ReplyStage, ResponseProcessor};
use crate::domain::{
    DeltaKind, Finished, NextStep, ProcessedReply, Pushed, ReplyAction, ReplyContext, ReplyEnd, TextDelta,
    ToolCall, ids,
};

/// Longest text held back while it may become a call, in bytes; a longer object is taken for plain text.
const MAX_HELD_BYTES: usize = 256 * 1024;

/// A detector for one reply.
pub struct TextCallDetector {
    held: String,
    calls: Vec<ToolCall>,
    is_tool: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// What the start of a text is.
enum Verdict {
    /// Not the start of a call.
    Text,
    /// More text is needed to tell.
    Undecided,
    /// A call that takes this many bytes.
    Call(usize, ToolCall),
}

#[derive(Deserialize)]
struct TextCall<'a> {
    tool: String,
    #[serde(default, borrow)]
    arguments: Option<&'a RawValue>,
}

impl TextCallDetector {
    /// A detector that takes an object for a call only if `is_tool` knows the tool's name.
    pub fn new(is_tool: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { held: String::new(), calls: Vec::new(), is_tool: Box::new(is_tool) }
    }

    /// Takes the next piece of the reply and returns the text that is certainly not part of a call.
    pub fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        self.release(false)
    }

    /// Ends the reply: the text that was held back and is no call after all, and the calls in order.
    pub fn finish(mut self) -> (String, Vec<ToolCall>) {
        let rest = self.release(true);
        (rest, self.calls)
    }

    fn release(&mut self, at_end: bool) -> String {
        let mut out = String::new();
        let mut at = 0;
        while at < self.held.len() {
            let rest = &self.held[at..];
            let start = rest.find(['{', '`']).unwrap_or(rest.len());
            out.push_str(&rest[..start]);
            at += start;
            if start == rest.len() {
                break;
            }
            match self.judge(&self.held[at..]) {
                Verdict::Undecided if !at_end && self.held.len() - at <= MAX_HELD_BYTES => break,
                Verdict::Call(length, call) => {
                    at += length;
                    self.calls.push(call);
                    if self.calls.len() == 1 {
                        self.held.drain(..at);
                        self.drop_until_next_call(at_end);
                        return out;
                    }
                }
                _ => {
                    out.push_str(&self.held[at..=at]);
                    at += 1;
                }
            }
        }
        self.held.drain(..at);
        if self.calls.is_empty() { out } else { String::new() }
    }

    /// After a call: looks for further calls in what is held, and drops the words between them.
    fn drop_until_next_call(&mut self, at_end: bool) {
        if !self.held.is_empty() {
            let _words_after_a_call = self.release(at_end);
        }
    }

    fn judge(&self, text: &str) -> Verdict {
        let Some(body) = skip_fence(text) else { return Verdict::Undecided };
        let Some(object) = text.get(body..) else { return Verdict::Text };
        match scan_object(object) {
            Scan::Incomplete => Verdict::Undecided,
            Scan::NotACall => Verdict::Text,
            Scan::Complete(length) => match serde_json::from_str::<TextCall<'_>>(&object[..length]) {
                Ok(call) if (self.is_tool)(&call.tool) => {
                    let arguments = call.arguments.map_or("{}", RawValue::get).to_owned();
                    Verdict::Call(
                        body + length,
                        ToolCall { id: ids::random_id("call_"), name: call.tool, arguments },
                    )
                }
                _ => Verdict::Text,
            },
        }
    }
}

/// Looks for calls in the text of the first choice, which is the only one that can have them.
pub struct TextCallProcessor {
    is_tool: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl TextCallProcessor {
    /// A processor that takes an object for a call only if `is_tool` knows the tool's name.
    pub fn new(is_tool: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { is_tool: Arc::new(is_tool) }
    }
}

#[async_trait]
impl ResponseProcessor for TextCallProcessor {
    fn name(&self) -> &str {
        "text tool calls"
    }

    fn applies(&self, _endpoint: &str, _model: &str) -> bool {
        true
    }

    fn mode(&self) -> ProcessorMode {
        ProcessorMode::Stream
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Closed
    }

    async fn process(&self, _: &ReplyContext, _: &ProcessedReply) -> Result<ReplyAction, ProcessorError> {
        Ok(ReplyAction::Keep)
    }

    async fn open(&self, _: &ReplyContext, choice: u64) -> Result<Box<dyn ReplyStage>, ProcessorError> {
        let is_tool = Arc::clone(&self.is_tool);
        let detector = (choice == 0).then(|| TextCallDetector::new(move |name| is_tool(name)));
        Ok(Box::new(TextCallStage { detector }))
    }
}

struct TextCallStage {
    detector: Option<TextCallDetector>,
}

#[async_trait]
impl ReplyStage for TextCallStage {
    async fn push(&mut self, deltas: &[TextDelta]) -> Result<Pushed, ProcessorError> {
        let Some(detector) = &mut self.detector else { return Ok(Pushed::Unchanged) };
        let mut deltas = deltas.to_vec();
        for delta in deltas.iter_mut().filter(|delta| delta.kind == DeltaKind::Text) {
            delta.text = detector.push(&delta.text);
        }
        Ok(Pushed::Deltas(deltas))
    }

    async fn finish(self: Box<Self>, end: &ReplyEnd) -> Result<Finished, ProcessorError> {
        let (rest, found) = self.detector.map(TextCallDetector::finish).unwrap_or_default();
        let deltas =
            if rest.is_empty() { Vec::new() } else { vec![TextDelta { kind: DeltaKind::Text, text: rest }] };
        if found.is_empty() {
            return Ok(Finished { deltas, next: NextStep::GoOn });
        }
        let mut calls = end.tool_calls.clone();
        calls.extend(found);
        Ok(Finished { deltas, next: NextStep::CallTool(calls) })
    }
}

/// Length of a code fence's opening line (``` + language + line break) before an object; 0 where there is no fence,
/// past the end where the text can be no fence, `None` while it can still become one.
fn skip_fence(text: &str) -> Option<usize> {
    if !text.starts_with('`') {
        return Some(0);
    }
    let ticks = text.bytes().take_while(|b| *b == b'`').count();
    if ticks < 3 {
        return if ticks == text.len() { None } else { Some(usize::MAX) };
    }
    let after = &text[ticks..];
    let language =
        after.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
    let blank = after[language..].bytes().take_while(u8::is_ascii_whitespace).count();
    let at = ticks + language + blank;
    match text.as_bytes().get(at) {
        None => None,
        Some(b'{') => Some(at),
        Some(_) => Some(usize::MAX),
    }
}

enum Scan {
    Incomplete,
    NotACall,
    Complete(usize),
}

/// Scans one JSON object whose first key is `tool` or `arguments`.
fn scan_object(text: &str) -> Scan {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'{') {
        return if bytes.is_empty() { Scan::Incomplete } else { Scan::NotACall };
    }
    let after = text[1..].trim_start();
    let begins = |key: &str| after.starts_with(key) || key.starts_with(after);
    if !begins("\"tool\"") && !begins("\"arguments\"") {
        return Scan::NotACall;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (position, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Scan::Complete(position + 1);
                }
            }
            _ => {}
        }
    }
    Scan::Incomplete
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[&str]) -> (String, Vec<(String, String)>) {
        let mut detector = TextCallDetector::new(|name| name == "t" || name == "u");
        let mut text: String = pieces.iter().map(|piece| detector.push(piece)).collect();
        let (rest, calls) = detector.finish();
        text.push_str(&rest);
        (text, calls.into_iter().map(|c| (c.name, c.arguments)).collect())
    }

    #[test]
    fn finds_calls_at_every_cut() {
        let reply =
            "Let me look. é\n```json\n{\"tool\": \"t\", \"arguments\": {\"a\": \"}é\\\"\"}}\n```\ninvented";
        for cut in (0..=reply.len()).filter(|cut| reply.is_char_boundary(*cut)) {
            let (text, calls) = run(&[&reply[..cut], &reply[cut..]]);
            assert_eq!(text, "Let me look. é\n", "cut at {cut}");
            assert_eq!(calls, [("t".to_owned(), "{\"a\": \"}é\\\"\"}".to_owned())], "cut at {cut}");
        }
        let single: Vec<String> = reply.chars().map(String::from).collect();
        let pieces: Vec<&str> = single.iter().map(String::as_str).collect();
        assert_eq!(run(&pieces).1.len(), 1);
    }

    #[test]
    fn plain_text_is_never_lost() {
        for text in [
            "a {b} c",
            "{\"tool\": \"unknown\", \"arguments\": {}}",
            "```rust\nfn main() {}\n```",
            "`code` and ``",
            "{\"tool\": \"t\"",
            "{",
            "```",
            "{\"other\": 1}",
        ] {
            let single: Vec<String> = text.chars().map(String::from).collect();
            let pieces: Vec<&str> = single.iter().map(String::as_str).collect();
            assert_eq!(run(&pieces), (text.to_owned(), vec![]), "{text}");
            assert_eq!(run(&[text]), (text.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn several_calls_and_swapped_keys() {
        let (text, calls) = run(&["{\"arguments\": {}, \"tool\": \"t\"}\n and {\"tool\":\"u\"} and more"]);
        assert_eq!(text, "");
        assert_eq!(calls, [("t".into(), "{}".into()), ("u".into(), "{}".into())]);
    }

    #[test]
    fn only_what_may_be_a_call_is_held_back() {
        let mut detector = TextCallDetector::new(|_| true);
        assert_eq!(detector.push("words {"), "words ");
        assert_eq!(detector.push("\"x\": 1} more"), "{\"x\": 1} more");
    }
}
