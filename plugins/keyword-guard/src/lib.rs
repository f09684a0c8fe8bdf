//! Looks for certain words and phrases in replies, whole or streamed: blocks the reply, has the model try again, or
//! replaces the words.

mod config;
mod fold;
mod matcher;
mod stream;

use config::{Remedy, Rules};
use matcher::Found;
use stream::{Outcome, Stream};
use witgate_plugin::{
    Action, Context, Delta, DeltaKind, Error, Finished, NextStep, Pushed, Reply, ReplyEnd, ResponseProcessor,
    Rewritten, StreamProcessor,
};

/// One streamed reply. Whole replies need no state.
struct KeywordGuard {
    rules: Rules,
    text: Stream,
    reasoning: Stream,
    /// The whole reply, where the model may be asked again for another.
    held: Vec<Delta>,
}

impl ResponseProcessor for KeywordGuard {
    fn process(ctx: &Context, reply: Reply) -> Result<Action, Error> {
        let rules = Rules::load(ctx.attempt)?;
        let thought = reply.reasoning.as_deref().filter(|_| rules.reads_reasoning);
        match &rules.remedy {
            Remedy::Replace(replacement) => {
                let text = replaced(&rules, &reply.text, replacement);
                let thought = thought.and_then(|thought| replaced(&rules, thought, replacement));
                Ok(match (text, thought) {
                    (None, None) => Action::Keep,
                    (Some(text), None) => Action::Replace(text),
                    (text, thought) => Action::Rewrite(Rewritten {
                        text: text.unwrap_or(reply.text),
                        reasoning: thought.or(reply.reasoning),
                    }),
                })
            }
            remedy => {
                let hit = hit(&rules, &reply.text).or_else(|| hit(&rules, thought?));
                Ok(match (hit, remedy) {
                    (None, _) => Action::Keep,
                    (Some(_), Remedy::AskAgain(instruction)) => Action::AskAgain(instruction.clone()),
                    (Some(phrase), _) => Action::Block(reason(phrase)),
                })
            }
        }
    }
}

impl StreamProcessor for KeywordGuard {
    fn new(ctx: &Context, _choice: u32) -> Result<Self, Error> {
        Ok(Self {
            rules: Rules::load(ctx.attempt)?,
            text: Stream::default(),
            reasoning: Stream::default(),
            held: Vec::new(),
        })
    }

    fn push(&mut self, deltas: Vec<Delta>) -> Result<Pushed, Error> {
        if matches!(self.rules.remedy, Remedy::AskAgain(_)) {
            self.hold(deltas);
            return Ok(Pushed::Deltas(Vec::new()));
        }
        let replacement = self.rules.remedy.replacement();
        let mut is_unchanged = true;
        let mut out = Vec::with_capacity(deltas.len());
        for delta in deltas {
            if delta.text.is_empty() {
                continue;
            }
            let (own, other, other_kind) = match delta.kind {
                DeltaKind::Text => (&mut self.text, &mut self.reasoning, DeltaKind::Reasoning),
                DeltaKind::Reasoning => (&mut self.reasoning, &mut self.text, DeltaKind::Text),
            };
            // The model has moved on: what it thought must not come after what it says.
            if !other.held().is_empty() {
                let mut text = String::new();
                if let Outcome::Hit(phrase) = other.finish(&self.rules.matcher, replacement, &mut text) {
                    return Ok(Pushed::Block(reason(phrase)));
                }
                out.push(Delta { kind: other_kind, text });
                is_unchanged = false;
            }
            if delta.kind == DeltaKind::Reasoning && !self.rules.reads_reasoning {
                out.push(delta);
                continue;
            }
            let mut text = String::new();
            match own.push(&self.rules.matcher, &delta.text, replacement, &mut text) {
                Outcome::Unchanged => {}
                Outcome::Changed => is_unchanged = false,
                Outcome::Hit(phrase) => return Ok(Pushed::Block(reason(phrase))),
            }
            if !text.is_empty() {
                out.push(Delta { kind: delta.kind, text });
            }
        }
        Ok(if is_unchanged { Pushed::Unchanged } else { Pushed::Deltas(out) })
    }

    fn finish(&mut self, _end: ReplyEnd) -> Result<Finished, Error> {
        if let Remedy::AskAgain(instruction) = &self.rules.remedy {
            let next = match self.held_hit() {
                Some(_) => NextStep::AskAgain(instruction.clone()),
                None => NextStep::GoOn,
            };
            return Ok(Finished { deltas: std::mem::take(&mut self.held), next });
        }
        let mut out = Vec::new();
        for (stream, kind) in [(&mut self.reasoning, DeltaKind::Reasoning), (&mut self.text, DeltaKind::Text)]
        {
            let mut text = String::new();
            let outcome = stream.finish(&self.rules.matcher, self.rules.remedy.replacement(), &mut text);
            if let Outcome::Hit(phrase) = outcome {
                return Ok(Finished { deltas: Vec::new(), next: NextStep::Block(reason(phrase)) });
            }
            if !text.is_empty() {
                out.push(Delta { kind, text });
            }
        }
        Ok(Finished::with(out))
    }
}

impl KeywordGuard {
    /// Keeps deltas for the end, neighbours of one kind as one.
    fn hold(&mut self, deltas: Vec<Delta>) {
        for delta in deltas {
            match self.held.last_mut() {
                Some(last) if last.kind == delta.kind => last.text.push_str(&delta.text),
                _ => self.held.push(delta),
            }
        }
    }

    /// The first phrase in the whole reply.
    fn held_hit(&self) -> Option<usize> {
        self.held
            .iter()
            .filter(|delta| delta.kind == DeltaKind::Text || self.rules.reads_reasoning)
            .find_map(|delta| hit(&self.rules, &delta.text))
    }
}

/// The first phrase in a complete text.
fn hit(rules: &Rules, text: &str) -> Option<usize> {
    match rules.matcher.find(text, 0, true) {
        Found::Phrase { phrase, .. } => Some(phrase),
        Found::Clear(_) => None,
    }
}

/// A complete text with its phrases replaced; none where it has none.
fn replaced(rules: &Rules, text: &str, replacement: &str) -> Option<String> {
    let mut out = String::new();
    let mut from = 0;
    while let Found::Phrase { start, end, .. } = rules.matcher.find(text, from, true) {
        out.push_str(&text[from..start]);
        out.push_str(replacement);
        from = end;
    }
    (from > 0).then(|| out + &text[from..])
}

/// Why a reply was blocked, for the log. The phrase itself may be nothing for a log.
fn reason(phrase: usize) -> String {
    format!("the reply has phrase {} of config.phrases", phrase + 1)
}

witgate_plugin::export!(KeywordGuard: response, stream);

#[cfg(test)]
mod tests {
    mod matching;
    mod plugin;
}
