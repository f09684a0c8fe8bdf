//! A streamed reply on its way through the processors, chunk by chunk.
//!
//! Only text and reasoning pass the processors. The client's tool calls are held until the reply's end, since a processor
//! may still put others in their place; what else a chunk carries goes on in its place, and waits for the end only where
//! a processor wants the reply whole. A chunk that no processor changes is forwarded as it came, and new text is spliced
//! into the bytes of a chunk that carries nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::ReplyChunk;
use super::super::call_buffer::CallBuffer;
use super::super::message_text::{REASONING_FIELDS, drop_traces, reasoning_of, write_reasoning};
use super::super::toolset::{Owner, ToolSet};
use super::super::whole::with_wires;
use super::{RoundCalls, StreamRound, StreamShaper, has_delta};
use crate::domain::{ChoiceDelta, Chunk, DeltaKind, FinishReason, Pushed, ReplyContext, ReplyEnd, TextDelta};
use crate::response::{NextAfter, ProcessingError, ReplyChain, ResponsePipeline};

/// Choices of one reply that are processed; the API allows no more, and what an upstream sends beyond is dropped.
const MAX_CHOICES: usize = 128;

/// The processors at work on one streamed reply.
pub(in crate::chat) struct StagedRound {
    pipeline: ResponsePipeline,
    context: Arc<ReplyContext>,
    expected_choices: u64,
    choices: BTreeMap<u64, StagedChoice>,
}

/// One choice.
struct StagedChoice {
    /// `None` once a processor has blocked the choice.
    chain: Option<ReplyChain>,
    calls: CallBuffer,
    finish_reason: Option<FinishReason>,
    /// Field of the text that came last; text that is let go of later belongs to it.
    text_field: &'static str,
    /// What the chunks carried beside text, where it waits for the end.
    waiting: Option<Vec<Map<String, Value>>>,
    /// The text as the model wrote it; kept for the first choice, which alone can be asked for again.
    original: String,
}

impl StagedRound {
    /// Opens the processors for the first choice, so that those that cannot start fail the turn before its first byte.
    pub(in crate::chat) async fn open(
        pipeline: ResponsePipeline,
        context: Arc<ReplyContext>,
        expected_choices: u64,
    ) -> Result<Self, ProcessingError> {
        let mut round = Self { pipeline, context, expected_choices, choices: BTreeMap::new() };
        round.open_choice(0).await?;
        Ok(round)
    }

    async fn open_choice(&mut self, index: u64) -> Result<(), ProcessingError> {
        if self.choices.contains_key(&index) || self.choices.len() >= MAX_CHOICES {
            return Ok(());
        }
        let chain = self.pipeline.open(&self.context, index).await?;
        let choice = StagedChoice {
            chain: Some(chain),
            calls: CallBuffer::default(),
            finish_reason: None,
            text_field: "content",
            waiting: self.pipeline.holds_streams().then(Vec::new),
            original: String::new(),
        };
        self.choices.insert(index, choice);
        Ok(())
    }

    /// True once every choice has been blocked.
    pub(in crate::chat) fn is_blocked(&self) -> bool {
        let blocked = self.choices.values().filter(|choice| choice.chain.is_none()).count();
        blocked as u64 >= self.expected_choices.max(1)
    }

    /// Pushes the deltas of a choice; `None` where nothing of the choice may reach the client.
    async fn push(&mut self, index: u64, deltas: Vec<TextDelta>) -> Result<Option<Pushed>, ProcessingError> {
        let Some(choice) = self.choices.get_mut(&index) else { return Ok(None) };
        let Some(chain) = &mut choice.chain else { return Ok(None) };
        if index == 0 {
            let texts = deltas.iter().filter(|delta| delta.kind == DeltaKind::Text);
            texts.for_each(|delta| choice.original.push_str(&delta.text));
        }
        match chain.push(deltas).await? {
            Pushed::Block(_) => {
                choice.chain = None;
                Ok(None)
            }
            pushed => Ok(Some(pushed)),
        }
    }
}

impl StreamShaper {
    /// Takes an upstream chunk through the processors of `round` and returns what the client sees of it, if anything.
    ///
    /// # Errors
    /// When a processor ends the turn.
    pub(in crate::chat) async fn shape_staged(
        &mut self,
        chunk: &Chunk,
        round: &mut StreamRound,
        staged: &mut StagedRound,
    ) -> Result<Option<ReplyChunk>, ProcessingError> {
        self.adopt_envelope(chunk);
        if let Some(usage) = &chunk.usage {
            round.usage = Some(usage.clone());
        }
        match self.plain_text(chunk) {
            Some((index, text)) => self.shape_plain(chunk, index, text, round, staged).await,
            None => self.shape_fields(chunk, round, staged).await,
        }
    }

    /// The choice and the text of a chunk that carries nothing but text.
    fn plain_text<'a>(&self, chunk: &'a Chunk) -> Option<(u64, &'a str)> {
        let [choice] = &chunk.choices[..] else { return None };
        let carries_more = choice.has_other_output || choice.has_more_text || choice.reasoning.is_some();
        (self.fits(chunk) && !carries_more).then_some((choice.index, choice.content.as_deref()?))
    }

    async fn shape_plain(
        &mut self,
        chunk: &Chunk,
        index: u64,
        text: &str,
        round: &mut StreamRound,
        staged: &mut StagedRound,
    ) -> Result<Option<ReplyChunk>, ProcessingError> {
        if text.is_empty() {
            return Ok(None);
        }
        staged.open_choice(index).await?;
        if let Some(choice) = staged.choices.get_mut(&index) {
            choice.text_field = "content";
        }
        let delta = TextDelta { kind: DeltaKind::Text, text: text.to_owned() };
        let Some(pushed) = staged.push(index, vec![delta]).await? else { return Ok(None) };
        let Some(envelope) = &self.envelope else { return Ok(None) };
        let (json, shown) = match pushed {
            Pushed::Deltas(deltas) => {
                let [reasoning, shown] = joined(deltas);
                if reasoning.is_some() {
                    let chunk = self.chunk_of_texts(index, [reasoning, shown], "content", round);
                    return Ok(Some(chunk));
                }
                let Some(shown) = shown else { return Ok(None) };
                let Some(json) = chunk.with_content(envelope, &shown) else { return Ok(None) };
                (json, shown)
            }
            Pushed::Unchanged | Pushed::Block(_) => (chunk.with_envelope(envelope), text.to_owned()),
        };
        let text = self.note_text(index, "content", Some(shown), round);
        Ok(Some(ReplyChunk { json, text }))
    }

    async fn shape_fields(
        &mut self,
        chunk: &Chunk,
        round: &mut StreamRound,
        staged: &mut StagedRound,
    ) -> Result<Option<ReplyChunk>, ProcessingError> {
        let Ok(mut value) = serde_json::from_slice::<Value>(&chunk.raw) else { return Ok(None) };
        self.set_usage_key(&mut value);
        let choices =
            value.get_mut("choices").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        let had_choices = !choices.is_empty();
        let mut shown = Vec::new();
        let mut shown_text = None;
        for (mut json, choice) in choices.into_iter().zip(&chunk.choices) {
            staged.open_choice(choice.index).await?;
            let text = self.shape_choice(&mut json, choice, round, staged).await?;
            let Some(state) = staged.choices.get_mut(&choice.index) else { continue };
            if state.chain.is_none() {
                // A role that does not go out with this chunk goes out with the finish reason.
                if json["delta"].get("role").is_some() {
                    self.roles_sent.retain(|sent| *sent != choice.index);
                }
                continue;
            }
            round.has_output |= choice.has_other_output;
            state.finish_reason = choice.finish_reason.clone().or(state.finish_reason.take());
            round.keep_finish(&value, &mut json, choice.index);
            shown_text = shown_text.or(text);
            if has_delta(&json) {
                shown.push(json);
            }
        }
        // A chunk that only carried usage, or that has nothing left for the client, is not sent.
        if shown.is_empty() && (had_choices || chunk.usage.is_some()) {
            return Ok(None);
        }
        value["choices"] = Value::from(shown);
        Ok(Some(self.chunk_of(value, shown_text)))
    }

    /// Leaves in a choice's JSON what the client may see of it now, and returns its text.
    async fn shape_choice(
        &mut self,
        json: &mut Value,
        choice: &ChoiceDelta,
        round: &mut StreamRound,
        staged: &mut StagedRound,
    ) -> Result<Option<String>, ProcessingError> {
        drop_traces(json);
        let Some(delta) = json.get_mut("delta").and_then(Value::as_object_mut) else { return Ok(None) };
        self.fit_role(delta, choice.index);
        let Some(state) = staged.choices.get_mut(&choice.index) else { return Ok(None) };
        if let Some(Value::Array(raw)) = delta.shift_remove("tool_calls") {
            state.calls.collect(&choice.tool_calls, &raw);
        }
        let refusal = delta.get("refusal").and_then(Value::as_str).unwrap_or_default().to_owned();
        let content = choice.content.clone().unwrap_or_default();
        if !(content.is_empty() && refusal.is_empty()) {
            state.text_field = if content.is_empty() { "refusal" } else { "content" };
        }
        let text_field = state.text_field;
        let reasoning = reasoning_of(delta).unwrap_or_default().to_owned();
        let given = [(DeltaKind::Reasoning, reasoning), (DeltaKind::Text, content + &refusal)];
        let given: Vec<TextDelta> = given
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(kind, text)| TextDelta { kind, text })
            .collect();
        let mut shown = None;
        if !given.is_empty() {
            let [reasoning, text] = match staged.push(choice.index, given.clone()).await? {
                None => [None, None],
                Some(Pushed::Deltas(deltas)) => {
                    let texts = joined(deltas);
                    write_texts(delta, &texts, text_field);
                    texts
                }
                Some(Pushed::Unchanged | Pushed::Block(_)) => joined(given),
            };
            note_reasoning(choice.index, reasoning, round);
            shown = self.note_text(choice.index, text_field, text, round);
        }
        let waiting = staged.choices.get_mut(&choice.index).and_then(|state| state.waiting.as_mut());
        if let Some(waiting) = waiting {
            let is_now =
                |name: &str| name == "role" || name == text_field || REASONING_FIELDS.contains(&name);
            let (now, later): (Map<String, Value>, _) =
                std::mem::take(delta).into_iter().partition(|(name, _)| is_now(name));
            *delta = now;
            waiting.extend(Some(later).filter(|later| later.values().any(|value| !value.is_null())));
        }
        Ok(shown)
    }

    /// Ends a round: the first choice's calls, the chunks with what had been held back, and what happens next.
    ///
    /// # Errors
    /// When a processor ends the turn.
    pub(in crate::chat) async fn end_staged(
        &mut self,
        round: &mut StreamRound,
        mut staged: StagedRound,
        tools: &ToolSet,
    ) -> Result<(RoundCalls, Vec<ReplyChunk>, NextAfter), ProcessingError> {
        round.original = staged.choices.get_mut(&0).map(|choice| std::mem::take(&mut choice.original));
        let mut first_calls = Vec::new();
        let mut shown = Vec::new();
        let mut next = NextAfter::GoOn;
        for (index, choice) in &mut staged.choices {
            let own_calls = std::mem::take(&mut choice.calls).into_calls();
            let ended = match choice.chain.take() {
                None => None,
                Some(chain) => {
                    let end = ReplyEnd {
                        finish_reason: choice.finish_reason.clone(),
                        tool_calls: own_calls.iter().map(|(call, _)| call.clone()).collect(),
                        usage: round.usage.clone(),
                    };
                    Some(chain.finish(end).await?)
                }
            };
            let Some(ended) = ended.filter(|ended| ended.next != NextAfter::Block) else {
                round.finishes.insert(*index, self.bare_chunk(*index, Map::new(), &json!("content_filter")));
                if *index == 0 {
                    next = NextAfter::Block;
                }
                continue;
            };
            if let NextAfter::AskAgain { .. } = ended.next {
                next = ended.next;
                break;
            }
            let calls = match ended.calls {
                Some(calls) => {
                    if let Some(last) = round.finishes.get_mut(index) {
                        // A processor's calls are whole, whatever became of the model's reply.
                        last["choices"][0]["finish_reason"] = Value::Null;
                    }
                    with_wires(calls, &own_calls)
                }
                None => own_calls,
            };
            self.show_rest(*index, choice, ended.deltas, &calls, (round, tools), &mut shown);
            if *index == 0 {
                first_calls = calls;
            }
        }
        Ok((first_calls, shown, next))
    }

    /// The chunks with what a choice still had for the client.
    fn show_rest(
        &mut self,
        index: u64,
        choice: &mut StagedChoice,
        deltas: Vec<TextDelta>,
        calls: &RoundCalls,
        (round, tools): (&mut StreamRound, &ToolSet),
        shown: &mut Vec<ReplyChunk>,
    ) {
        let texts = joined(deltas);
        if texts.iter().any(Option::is_some) {
            shown.push(self.chunk_of_texts(index, texts, choice.text_field, round));
        }
        for fields in choice.waiting.take().unwrap_or_default() {
            let chunk = self.bare_chunk(index, fields, &Value::Null);
            shown.push(self.chunk_of(chunk, None));
        }
        let next_index = self.calls_shown.entry(index).or_default();
        let mut parts = Vec::new();
        for (call, wire) in calls {
            if !matches!(tools.owner_of(call, wire), Owner::Client) {
                continue;
            }
            let mut part = wire.clone();
            if let Some(fields) = part.as_object_mut() {
                // `index` first, as the API itself orders it.
                fields.shift_insert(0, "index".to_owned(), json!(*next_index));
            }
            *next_index += 1;
            parts.push(part);
        }
        if !parts.is_empty() {
            round.has_output = true;
            let delta = Map::from_iter([("tool_calls".to_owned(), Value::from(parts))]);
            let chunk = self.bare_chunk(index, delta, &Value::Null);
            shown.push(self.chunk_of(chunk, None));
        }
    }

    fn chunk_of_texts(
        &mut self,
        index: u64,
        texts: [Option<String>; 2],
        text_field: &'static str,
        round: &mut StreamRound,
    ) -> ReplyChunk {
        let mut delta = Map::new();
        write_texts(&mut delta, &texts, text_field);
        let [reasoning, text] = texts;
        note_reasoning(index, reasoning, round);
        let text = self.note_text(index, text_field, text, round);
        let chunk = self.bare_chunk(index, delta, &Value::Null);
        self.chunk_of(chunk, text)
    }

    /// Remembers text of the first choice that the client sees, and returns it.
    fn note_text(
        &mut self,
        index: u64,
        field: &str,
        text: Option<String>,
        round: &mut StreamRound,
    ) -> Option<String> {
        round.note_output(text.as_deref().unwrap_or_default());
        let text = text.filter(|_| index == 0 && field == "content")?;
        round.text.push_str(&text);
        self.text.push_str(&text);
        Some(text)
    }
}

fn note_reasoning(index: u64, reasoning: Option<String>, round: &mut StreamRound) {
    round.note_output(reasoning.as_deref().unwrap_or_default());
    if let (0, Some(reasoning)) = (index, reasoning) {
        round.reasoning.push_str(&reasoning);
    }
}

/// Reasoning and text of `deltas`, each in one piece; `None` where there is nothing of a kind.
fn joined(deltas: Vec<TextDelta>) -> [Option<String>; 2] {
    let [mut reasoning, mut text] = [None::<String>, None::<String>];
    for delta in deltas.into_iter().filter(|delta| !delta.text.is_empty()) {
        let part = match delta.kind {
            DeltaKind::Reasoning => &mut reasoning,
            DeltaKind::Text => &mut text,
        };
        match part {
            Some(part) => part.push_str(&delta.text),
            None => *part = Some(delta.text),
        }
    }
    [reasoning, text]
}

/// Puts reasoning and text into a delta, in the place of its own.
fn write_texts(delta: &mut Map<String, Value>, [reasoning, text]: &[Option<String>; 2], field: &str) {
    write_reasoning(delta, reasoning.as_deref());
    let other = if field == "content" { "refusal" } else { "content" };
    if delta.get(other).and_then(Value::as_str).is_some_and(|text| !text.is_empty()) {
        delta.shift_remove(other);
    }
    match text {
        Some(text) => drop(delta.insert(field.to_owned(), json!(text))),
        None => drop(delta.shift_remove(field)),
    }
}
