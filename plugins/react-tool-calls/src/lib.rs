//! Makes tool calls of what models write as text, in the formats of ReAct and of Hermes, whole or streamed.

mod call;
mod json;
mod label;
mod parser;

use call::End;
use parser::{Formats, Parser, Piece, Thoughts};
use serde::Deserialize;
use witgate_plugin::{
    Action, Context, Delta, DeltaKind, Error, FinishReason, Finished, NextStep, Pushed, Reply, ReplyEnd,
    ResponseProcessor, Rewritten, StreamProcessor, ToolCall, config,
};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    formats: Vec<Format>,
    thoughts: Thoughts,
    tools: Vec<String>,
    input_key: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Format {
    React,
    Hermes,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            formats: vec![Format::React, Format::Hermes],
            thoughts: Thoughts::default(),
            tools: Vec::new(),
            input_key: "input".to_owned(),
        }
    }
}

fn formats() -> Result<Formats, Error> {
    let config: Config = config()?;
    if config.formats.is_empty() {
        return Err(Error::internal("config.formats is empty: name a format, or set `enabled = false`"));
    }
    if config.input_key.is_empty() {
        return Err(Error::internal("config.input_key is empty: name the argument, for example \"input\""));
    }
    Ok(Formats {
        react: config.formats.contains(&Format::React),
        hermes: config.formats.contains(&Format::Hermes),
        thoughts: config.thoughts,
        tools: config.tools,
        input_key: config.input_key,
    })
}

/// One streamed reply. Whole replies need no state.
struct ReactToolCalls {
    parser: Parser,
    /// The model's server has told what the model thinks: thoughts in the text go on from there.
    has_reasoning: bool,
}

impl ResponseProcessor for ReactToolCalls {
    fn process(_ctx: &Context, reply: Reply) -> Result<Action, Error> {
        // A model whose own calls are understood needs no help.
        if !reply.tool_calls.is_empty() {
            return Ok(Action::Keep);
        }
        let mut parser = Parser::new(formats()?);
        let mut pieces = parser.push(&reply.text);
        let (rest, calls) = parser.finish(end(reply.finish_reason.as_ref()));
        pieces.extend(rest);
        let (thoughts, texts): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|piece| piece.is_thought);
        let join = |pieces: Vec<Piece>| pieces.into_iter().map(|piece| piece.text).collect::<String>();
        let (thoughts, text) = (join(thoughts), join(texts));
        if !calls.is_empty() {
            return Ok(Action::call(Some(text), tool_calls(calls)));
        }
        if thoughts.is_empty() {
            return Ok(if text == reply.text { Action::Keep } else { rewritten(text, reply.reasoning) });
        }
        let reasoning = match reply.reasoning {
            Some(reasoning) if !reasoning.is_empty() => reasoning + "\n" + &thoughts,
            _ => thoughts,
        };
        Ok(rewritten(text, Some(reasoning)))
    }
}

fn rewritten(text: String, reasoning: Option<String>) -> Action {
    Action::Rewrite(Rewritten { text, reasoning })
}

impl StreamProcessor for ReactToolCalls {
    fn new(_ctx: &Context, _choice: u32) -> Result<Self, Error> {
        Ok(Self { parser: Parser::new(formats()?), has_reasoning: false })
    }

    fn push(&mut self, deltas: Vec<Delta>) -> Result<Pushed, Error> {
        let mut out = Vec::with_capacity(deltas.len());
        for delta in &deltas {
            match delta.kind {
                DeltaKind::Reasoning => {
                    self.has_reasoning |= !delta.text.is_empty();
                    out.push(delta.clone());
                }
                DeltaKind::Text => {
                    let pieces = self.parser.push(&delta.text);
                    self.deltas(pieces, &mut out);
                }
            }
        }
        Ok(if out == deltas && !self.parser.holds() { Pushed::Unchanged } else { Pushed::Deltas(out) })
    }

    fn finish(&mut self, reply: ReplyEnd) -> Result<Finished, Error> {
        let (pieces, calls) = self.parser.finish(end(reply.finish_reason.as_ref()));
        let mut deltas = Vec::new();
        self.deltas(pieces, &mut deltas);
        let next = if calls.is_empty() || !reply.tool_calls.is_empty() {
            NextStep::GoOn
        } else {
            NextStep::CallTool(tool_calls(calls))
        };
        Ok(Finished { deltas, next })
    }
}

impl ReactToolCalls {
    fn deltas(&mut self, pieces: Vec<Piece>, out: &mut Vec<Delta>) {
        for Piece { is_thought, text } in pieces {
            if is_thought && std::mem::take(&mut self.has_reasoning) {
                out.push(Delta::reasoning("\n"));
            }
            out.push(if is_thought { Delta::reasoning(text) } else { Delta::text(text) });
        }
    }
}

fn tool_calls(calls: Vec<call::Call>) -> Vec<ToolCall> {
    calls.into_iter().map(|call| ToolCall::new(call.name, call.arguments)).collect()
}

/// A call that the token limit may have cut is not made.
fn end(reason: Option<&FinishReason>) -> End {
    match reason {
        Some(FinishReason::Length | FinishReason::ContentFilter) => End::Truncated,
        _ => End::Complete,
    }
}

witgate_plugin::export!(ReactToolCalls: response, stream);

#[cfg(test)]
mod tests {
    mod formats;
    mod plugin;
}
