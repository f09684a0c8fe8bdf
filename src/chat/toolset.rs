//! The tools of one turn: which of the gateway's are offered, which are the client's, and whose a call is.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::TurnContext;
use crate::domain::{CompletionRequest, ToolCall};
use crate::llm::ToolChoice;
use crate::tools::{RegisteredTool, ToolSnapshot};

/// The tools of one turn; one snapshot of the registry for the turn's whole life.
#[derive(Clone, Default)]
pub(super) struct ToolSet {
    gateway: Vec<Arc<RegisteredTool>>,
    client: HashSet<String>,
    /// The client's own `tools` entries, as it sent them.
    client_entries: Vec<Bytes>,
    /// True where the conversation is stored here, and no client is there that could answer a call.
    is_stored: bool,
}

/// Who runs a call.
pub(super) enum Owner {
    /// The gateway, with this tool.
    Gateway(Arc<RegisteredTool>),
    /// The client.
    Client,
    /// Nobody: the model made the name up.
    Nobody,
}

impl ToolSet {
    /// The tools for `request`. The client's tools win over the gateway's of the same name. None of the gateway's are
    /// offered where the API has no way to run them: several choices, legacy `functions`, or `tool_choice: "none"`.
    pub(super) fn for_request(
        request: &CompletionRequest,
        snapshot: &ToolSnapshot,
        allowed: &ToolChoice,
        context: &TurnContext,
    ) -> Self {
        let client: HashSet<String> = request.tools.iter().filter_map(tool_name).collect();
        let refused = request.choice_count() > 1
            || request.field("functions").is_some_and(|functions| functions[..] != *b"null")
            || request.refuses_tools();
        let gateway = if refused { Vec::new() } else { select(snapshot, allowed, context, &client) };
        Self { gateway, client, client_entries: request.tools.clone(), is_stored: false }
    }

    /// The same for a conversation that is stored here: a call that nobody answers would break it for good, so no
    /// call is the client's.
    pub(super) fn of_stored(self) -> Self {
        Self { is_stored: true, ..self }
    }

    /// True when the gateway offers nothing of its own.
    pub(super) fn gateway_is_empty(&self) -> bool {
        self.gateway.is_empty()
    }

    /// True when there is no tool at all.
    pub(super) fn is_empty(&self) -> bool {
        self.gateway.is_empty() && self.client_entries.is_empty()
    }

    /// All `tools` entries: the client's as it sent them, then the gateway's.
    pub(super) fn entries(&self) -> Vec<Bytes> {
        let own = self.gateway.iter().map(|tool| tool.function_json.clone());
        self.client_entries.iter().cloned().chain(own).collect()
    }

    /// True when `name` is a tool of either side.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.client.contains(name) || self.gateway.iter().any(|tool| tool.definition.name == name)
    }

    /// True when some tool's name is longer than `start` and begins with it: a streamed name may not be whole yet.
    pub(super) fn may_become_known(&self, start: &str) -> bool {
        let longer = |name: &str| name.len() > start.len() && name.starts_with(start);
        self.client.iter().any(|name| longer(name))
            || self.gateway.iter().any(|tool| longer(&tool.definition.name))
    }

    /// Whose a call is; `wire` is its wire form. Custom (not function) calls are the client's. A name that nobody knows
    /// goes to the client if it brought tools or if the gateway offered none, since then the model answers the client
    /// alone.
    pub(super) fn owner_of(&self, call: &ToolCall, wire: &Value) -> Owner {
        if is_custom(wire) || self.client.contains(&call.name) {
            return if self.is_stored { Owner::Nobody } else { Owner::Client };
        }
        match self.gateway.iter().find(|tool| tool.definition.name == call.name) {
            Some(tool) => Owner::Gateway(Arc::clone(tool)),
            None if self.is_stored => Owner::Nobody,
            None if self.gateway.is_empty() || !self.client_entries.is_empty() => Owner::Client,
            None => Owner::Nobody,
        }
    }
}

fn select(
    snapshot: &ToolSnapshot,
    allowed: &ToolChoice,
    context: &TurnContext,
    client: &HashSet<String>,
) -> Vec<Arc<RegisteredTool>> {
    let names_of = |choice: &ToolChoice| match choice {
        ToolChoice::All => None,
        ToolChoice::None => Some(HashSet::new()),
        ToolChoice::Only(names) => {
            let found = names.iter().filter_map(|name| {
                let tool = snapshot.find(name);
                if tool.is_none() {
                    tracing::debug!(tool = %name, "a tool that was asked for by name is not there now");
                }
                tool.map(|tool| tool.definition.name.clone())
            });
            Some(found.collect::<HashSet<String>>())
        }
    };
    let (allowed, wanted) = (names_of(allowed), names_of(&context.tools));
    let fits =
        |names: &Option<HashSet<String>>, name: &str| names.as_ref().is_none_or(|names| names.contains(name));
    let offered = snapshot.tools().iter().filter(|tool| {
        let name = tool.definition.name.as_str();
        let may_call = || context.access.may_call(name, &tool.qualified_name).is_ok();
        !client.contains(name) && fits(&allowed, name) && fits(&wanted, name) && may_call()
    });
    offered.cloned().collect()
}

/// True for a call of a kind other than `function`.
pub(super) fn is_custom(wire: &Value) -> bool {
    wire.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "function")
}

/// The name in a `tools` entry: `function.name`, `custom.name`, or `name`.
fn tool_name(raw: &Bytes) -> Option<String> {
    let entry: Value = serde_json::from_slice(raw).ok()?;
    let name = entry.get("function").or_else(|| entry.get("custom")).unwrap_or(&entry).get("name")?;
    Some(name.as_str()?.to_owned())
}
