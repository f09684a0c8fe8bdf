//! Takes tool calls, thoughts and the final answer out of a reply, whole or piece by piece.
//!
//! Only text that can still become a call or a label is held back, with the white space before it. After the first call the
//! rest of the reply is dropped unless it is another call: models tend to go on by inventing the tool's answer. The result
//! does not depend on how the text is cut.

use crate::call::{self, Call, End, Verdict};
use crate::label::{self, Label, Line};

/// White space held back at the end of the text, in bytes; it belongs to a call that may follow.
const MAX_SPACE_BYTES: usize = 256;
/// After so many places that looked like a call and were none, the rest of the reply is plain text.
const MAX_FAILED: usize = 100;
/// More calls in one reply are dropped.
const MAX_CALLS: usize = 128;
/// What the model begins a tool's answer with that it has invented.
const INVENTED: &str = "<tool_response>";
/// A held text this long is looked at again only when it has grown by a quarter.
const SMALL_BYTES: usize = 4096;

/// What becomes of the thoughts of a ReAct reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Thoughts {
    /// They become reasoning.
    #[default]
    Reasoning,
    /// They stay in the text, with their labels.
    Text,
    /// They are dropped.
    Drop,
}

/// What to look for.
#[derive(Clone, Debug)]
pub(crate) struct Formats {
    /// `Action:` and `Action Input:`.
    pub(crate) react: bool,
    /// `<tool_call>`.
    pub(crate) hermes: bool,
    /// What becomes of thoughts.
    pub(crate) thoughts: Thoughts,
    /// The tools that may be called; empty for all.
    pub(crate) tools: Vec<String>,
    /// The argument that an input becomes which is no object.
    pub(crate) input_key: String,
}

/// A piece of the reply that can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Whether it is what the model thinks.
    pub(crate) is_thought: bool,
    /// The text.
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Text, perhaps with calls.
    Text,
    /// A thought, up to the next label or blank line.
    Thought,
    /// The final answer: the rest, as it is.
    Answer,
    /// After a call: nothing but further calls counts.
    AfterCall,
    /// Nothing counts any more.
    Done,
}

/// One reply.
#[derive(Debug)]
pub(crate) struct Parser {
    formats: Formats,
    state: State,
    /// Text that is not yet decided on.
    held: String,
    /// The length the held text must have to be looked at again.
    look_at: usize,
    /// The held text is the beginning of a line.
    at_line: bool,
    /// The reply begins with a label.
    is_react: bool,
    /// Nothing but white space has gone on so far.
    is_blank: bool,
    /// White space that goes on with what follows.
    space: String,
    /// White space that comes next is dropped: it belongs to a label.
    is_fresh: bool,
    /// Too much white space to be held.
    is_spacious: bool,
    failed: usize,
    calls: Vec<Call>,
    out: Vec<Piece>,
    has_text: bool,
    /// Thoughts, in case that they are all there is.
    thoughts: String,
}

/// What the parser does next.
enum Step {
    Wait,
    /// So many bytes are text, or thought.
    Pass(usize),
    /// So many bytes are gone.
    Skip(usize),
}

impl Parser {
    /// A parser for one reply.
    pub(crate) fn new(formats: Formats) -> Self {
        Self {
            formats,
            state: State::Text,
            held: String::new(),
            look_at: 0,
            at_line: true,
            is_react: false,
            is_blank: true,
            space: String::new(),
            is_fresh: false,
            is_spacious: false,
            failed: 0,
            calls: Vec::new(),
            out: Vec::new(),
            has_text: false,
            thoughts: String::new(),
        }
    }

    /// Takes the next piece of the reply and returns what can go on.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        if self.held.len() >= self.look_at {
            self.run(End::Open);
            let length = self.held.len();
            self.look_at = if length > SMALL_BYTES { length + length / 4 } else { 0 };
        }
        std::mem::take(&mut self.out)
    }

    /// Ends the reply: what was held back and is no call after all, and the calls. `end` tells whether the model was done.
    pub(crate) fn finish(&mut self, end: End) -> (Vec<Piece>, Vec<Call>) {
        self.run(end);
        if !self.calls.is_empty() {
            return (std::mem::take(&mut self.out), std::mem::take(&mut self.calls));
        }
        if self.state != State::Thought {
            let space = std::mem::take(&mut self.space);
            self.send(&space);
        }
        if end == End::Complete && !self.has_text && !self.thoughts.is_empty() {
            // A model that only thinks has forgotten to say that this is its answer.
            let text = std::mem::take(&mut self.thoughts);
            self.out.push(Piece { is_thought: false, text });
        }
        (std::mem::take(&mut self.out), Vec::new())
    }

    /// Whether text is held back.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty() || !self.space.is_empty()
    }

    fn run(&mut self, end: End) {
        let held = std::mem::take(&mut self.held);
        let mut at = 0;
        while at < held.len() {
            let rest = &held[at..];
            match self.step(rest, end) {
                Step::Wait => break,
                Step::Pass(length) => {
                    self.pass(&rest[..length]);
                    at += length;
                }
                Step::Skip(length) => {
                    self.at_line = rest[..length].ends_with('\n');
                    at += length;
                }
            }
        }
        self.held = held;
        self.held.drain(..at);
    }

    /// Decides on the beginning of a text that is not empty.
    fn step(&mut self, rest: &str, end: End) -> Step {
        if self.state == State::Done {
            return Step::Skip(rest.len());
        }
        if self.state == State::Answer || self.failed > MAX_FAILED {
            return Step::Pass(rest.len());
        }
        if self.at_line && self.formats.react {
            match label::read(rest, end != End::Open) {
                Line::Unknown => return Step::Wait,
                Line::Labelled(label, length) => {
                    if let Some(step) = self.labelled(label, length, rest, end) {
                        return step;
                    }
                }
                Line::Other => {}
            }
        }
        if self.formats.hermes && rest.starts_with('<') {
            let verdict = call::hermes(rest, end, &self.formats.input_key);
            if verdict != Verdict::Text || rest.starts_with("<tool_call>") {
                if let Some(step) = self.judged(verdict) {
                    return step;
                }
            } else if self.state == State::AfterCall && rest.starts_with(INVENTED) {
                self.state = State::Done;
                return Step::Skip(rest.len());
            } else if self.state == State::AfterCall && INVENTED.starts_with(rest) && end == End::Open {
                return Step::Wait;
            }
        }
        Step::Pass(self.undecided(rest))
    }

    /// How much of a text is certainly no beginning of a label or tag. Its first character is known not to be one.
    fn undecided(&self, rest: &str) -> usize {
        let first = rest.chars().next().map_or(0, char::len_utf8);
        if rest.starts_with('\n') {
            return first;
        }
        let tail = &rest[first..];
        let found = if self.formats.hermes { tail.find(['\n', '<']) } else { tail.find('\n') };
        match found {
            Some(found) => first + found + usize::from(tail.as_bytes()[found] == b'\n'),
            None => rest.len(),
        }
    }

    /// What a label at the beginning of `rest` leads to; `None` where it is but text.
    fn labelled(&mut self, label: Label, length: usize, rest: &str, end: End) -> Option<Step> {
        let is_react = self.is_react || self.is_blank;
        match (label, self.state) {
            (Label::Observation, State::AfterCall) => {
                self.state = State::Done;
                Some(Step::Skip(rest.len()))
            }
            (Label::Thought | Label::FinalAnswer, State::AfterCall) => Some(Step::Skip(length)),
            (Label::Thought, _) if is_react => {
                if self.formats.thoughts == Thoughts::Text {
                    self.is_react = true;
                    return None;
                }
                self.begin(State::Thought);
                Some(Step::Skip(length))
            }
            (Label::FinalAnswer, _) if is_react => {
                self.begin(State::Answer);
                Some(Step::Skip(length))
            }
            (Label::Action, _) => {
                let verdict = call::react(rest, length, end, is_react, &self.formats.input_key);
                self.judged(verdict)
            }
            (Label::ActionInput, _) if self.is_react && self.state != State::AfterCall => {
                // The input of no action.
                let line = rest.find('\n').map(|at| at + 1);
                match (line, end) {
                    (None, End::Open) => Some(Step::Wait),
                    (line, _) => Some(Step::Skip(line.unwrap_or(rest.len()))),
                }
            }
            _ => None,
        }
    }

    /// What the verdict on a place leads to; `None` where it is but text.
    fn judged(&mut self, verdict: Verdict) -> Option<Step> {
        match verdict {
            Verdict::Need => return Some(Step::Wait),
            Verdict::Call(length, call) if self.is_tool(&call.name) => {
                self.drop_space();
                self.state = State::AfterCall;
                if self.calls.len() < MAX_CALLS {
                    self.calls.push(call);
                }
                return Some(Step::Skip(length));
            }
            Verdict::Nothing(length) if self.is_react => return Some(Step::Skip(length)),
            Verdict::Finish(length, answer) if self.state != State::AfterCall => {
                self.begin(State::Answer);
                self.emit(&answer);
                self.state = State::Done;
                return Some(Step::Skip(length));
            }
            _ => {}
        }
        self.failed += 1;
        None
    }

    fn is_tool(&self, name: &str) -> bool {
        self.formats.tools.is_empty() || self.formats.tools.iter().any(|tool| tool == name)
    }

    /// Lets a text pass that is no label and no call.
    fn pass(&mut self, text: &str) {
        let is_blank_line = self.at_line && text.starts_with('\n');
        self.at_line = text.ends_with('\n');
        if self.state == State::AfterCall {
            return;
        }
        if self.state == State::Thought && is_blank_line {
            self.begin(State::Text);
        }
        self.emit(text);
    }

    /// Goes over to a thought, to the answer, or back to text.
    fn begin(&mut self, state: State) {
        let goes_on = if state == State::Thought { !self.thoughts.is_empty() } else { self.has_text };
        if self.state == State::Thought || state == State::Thought {
            self.space.clear();
            self.space.push_str(if goes_on { "\n" } else { "" });
        }
        self.is_react = true;
        self.is_fresh = true;
        self.is_spacious = false;
        self.state = state;
    }

    /// Lets a text go on, but for the white space at its end.
    fn emit(&mut self, text: &str) {
        let text = if self.is_fresh { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        self.is_fresh = false;
        let words = text.trim_end();
        if !words.is_empty() {
            self.is_blank = false;
            self.is_spacious = false;
            let space = std::mem::take(&mut self.space);
            self.send(&space);
            self.send(words);
        }
        let space = &text[words.len()..];
        if self.is_spacious {
            self.send(space);
            return;
        }
        self.space.push_str(space);
        if self.space.len() > MAX_SPACE_BYTES {
            self.is_spacious = true;
            let space = std::mem::take(&mut self.space);
            self.send(&space);
        }
    }

    fn send(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let is_thought = self.state == State::Thought;
        if is_thought {
            self.thoughts.push_str(text);
            if self.formats.thoughts == Thoughts::Drop {
                return;
            }
        } else {
            self.has_text = true;
        }
        match self.out.last_mut() {
            Some(last) if last.is_thought == is_thought => last.text.push_str(text),
            _ => self.out.push(Piece { is_thought, text: text.to_owned() }),
        }
    }

    fn drop_space(&mut self) {
        self.space.clear();
        self.is_spacious = false;
    }
}
