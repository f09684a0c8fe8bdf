//! Puts streamed tool calls together and keeps the gateway's out of the client's sight.
//!
//! Each call is buffered until its name tells whose it is. The client's calls then flow on, with indices that count the
//! client's calls only; the gateway's stay here. Upstreams that leave `index` out, or give every call index 0, are
//! understood by the calls' ids and names.

use serde_json::{Value, json};

use super::toolset::{Owner, ToolSet, is_custom};
use crate::domain::{ToolCall, ToolCallDelta, ids};

/// The tool calls of one round of one choice.
#[derive(Default)]
pub(super) struct CallBuffer {
    calls: Vec<PartialCall>,
}

struct PartialCall {
    index: Option<u64>,
    call: ToolCall,
    /// The first part as the upstream sent it, for fields the gateway does not know (signatures and the like).
    first: Value,
    state: State,
}

enum State {
    /// Whose it is cannot be told yet; these parts wait.
    Undecided(Vec<Value>),
    /// The gateway's, or nobody's: never shown.
    Hidden,
    /// The client's, shown under this index.
    Shown(u64),
}

impl CallBuffer {
    /// Takes the parts of one chunk (typed, and as the upstream sent them) and returns the parts for the client.
    /// `next_index` counts the calls shown to the client in the whole reply.
    pub(super) fn push(
        &mut self,
        deltas: &[ToolCallDelta],
        raw: &[Value],
        tools: &ToolSet,
        next_index: &mut u64,
    ) -> Vec<Value> {
        let mut shown = Vec::new();
        for (delta, raw) in deltas.iter().zip(raw) {
            let position = self.locate(delta, raw);
            let call = &mut self.calls[position];
            call.take(delta);
            call.show(Some(raw), tools, next_index, &mut shown);
        }
        shown
    }

    /// Takes the parts of one chunk without showing any: calls that a processor may still change are shown whole.
    pub(super) fn collect(&mut self, deltas: &[ToolCallDelta], raw: &[Value]) {
        for (delta, raw) in deltas.iter().zip(raw) {
            let position = self.locate(delta, raw);
            self.calls[position].take(delta);
        }
    }

    /// Ends the round: parts that were still undecided and turn out to be the client's.
    pub(super) fn finish(&mut self, tools: &ToolSet, next_index: &mut u64) -> Vec<Value> {
        let mut shown = Vec::new();
        for call in &mut self.calls {
            call.show(None, tools, next_index, &mut shown);
        }
        shown
    }

    /// Every call of the round, in order, with its wire form for the assistant message.
    pub(super) fn into_calls(self) -> Vec<(ToolCall, Value)> {
        self.calls.into_iter().map(PartialCall::into_call).collect()
    }

    /// The call a part belongs to; a new one where it belongs to none so far.
    fn locate(&mut self, delta: &ToolCallDelta, raw: &Value) -> usize {
        let id = delta.id.as_deref().filter(|id| !id.is_empty());
        let same_index = |call: &PartialCall| delta.index.is_none() || call.index == delta.index;
        let found = match id {
            Some(id) => self.calls.iter().rposition(|call| call.call.id == id).or_else(|| {
                self.calls
                    .iter()
                    .rposition(|c| c.call.id.is_empty() && delta.index.is_some() && same_index(c))
            }),
            None => {
                // A second name without an id starts another call where no index tells the calls apart.
                let names_another = delta.index.is_none()
                    && delta.function.name.as_deref().is_some_and(|name| !name.is_empty())
                    && self.calls.last().is_some_and(|call| !call.call.arguments.is_empty());
                if names_another { None } else { self.calls.iter().rposition(same_index) }
            }
        };
        found.unwrap_or_else(|| {
            self.calls.push(PartialCall {
                index: delta.index,
                call: ToolCall { id: String::new(), name: String::new(), arguments: String::new() },
                first: raw.clone(),
                state: State::Undecided(Vec::new()),
            });
            self.calls.len() - 1
        })
    }
}

impl PartialCall {
    fn take(&mut self, delta: &ToolCallDelta) {
        if let Some(id) = delta.id.as_deref().filter(|id| !id.is_empty()) {
            id.clone_into(&mut self.call.id);
        }
        if let Some(name) = delta.function.name.as_deref() {
            // Some upstreams repeat the whole name on every part.
            if self.call.name != name {
                self.call.name.push_str(name);
            }
        }
        if let Some(arguments) = delta.function.arguments.as_deref() {
            self.call.arguments.push_str(arguments);
        }
    }

    /// Decides whose the call is, if that can be told by now (`part` is the latest; there is none at the end), and adds
    /// what the client may see to `out`.
    fn show(&mut self, part: Option<&Value>, tools: &ToolSet, next_index: &mut u64, out: &mut Vec<Value>) {
        let waiting = match &mut self.state {
            State::Hidden => return,
            State::Shown(index) => {
                out.extend(part.map(|part| with_index(part.clone(), *index)));
                return;
            }
            State::Undecided(waiting) => waiting,
        };
        waiting.extend(part.cloned());
        let is_custom = is_custom(&self.first);
        let name = self.call.name.as_str();
        let incomplete = name.is_empty()
            || (self.call.arguments.is_empty() && !tools.knows(name) && tools.may_become_known(name));
        if incomplete && !is_custom && part.is_some() {
            return;
        }
        if !matches!(tools.owner_of(&self.call, &self.first), Owner::Client) {
            self.state = State::Hidden;
            return;
        }
        let index = *next_index;
        *next_index += 1;
        if self.call.id.is_empty() {
            self.call.id = ids::random_id("call_");
        }
        let mut parts = std::mem::take(waiting);
        if let Some(first) = parts.first_mut().and_then(Value::as_object_mut) {
            first.insert("id".to_owned(), json!(self.call.id));
            first.entry("type").or_insert_with(|| json!("function"));
        }
        out.extend(parts.into_iter().map(|part| with_index(part, index)));
        self.state = State::Shown(index);
    }

    fn into_call(mut self) -> (ToolCall, Value) {
        if self.call.id.is_empty() {
            self.call.id = ids::random_id("call_");
        }
        let mut wire = self.first;
        if let Some(fields) = wire.as_object_mut() {
            fields.shift_remove("index");
            fields.insert("id".to_owned(), json!(self.call.id));
            if fields.get("type").is_none_or(|kind| kind == "function") {
                fields.insert("type".to_owned(), json!("function"));
                let function = json!({"name": self.call.name, "arguments": self.call.arguments});
                fields.insert("function".to_owned(), function);
            }
        }
        (self.call, wire)
    }
}

fn with_index(mut part: Value, index: u64) -> Value {
    if let Some(fields) = part.as_object_mut() {
        // `index` first, as the API itself orders it.
        fields.shift_remove("index");
        fields.shift_insert(0, "index".to_owned(), json!(index));
    }
    part
}
