//! What a plugin answered, as JSON. Names are those of the interfaces (`wit/`), with underscores.

use serde_json::{Map, Value, json};

use crate::domain::{
    Decision, DeltaKind, Finished, NextStep, Principal, Pushed, ReplyAction, TextDelta, ToolCall,
};

/// An action on a whole reply.
pub(super) fn action(action: &ReplyAction) -> Value {
    match action {
        ReplyAction::Keep => json!({"action": "keep"}),
        ReplyAction::Rewrite { text, reasoning: None } => json!({"action": "replace", "text": text}),
        ReplyAction::Rewrite { text, reasoning: Some(reasoning) } => {
            json!({"action": "rewrite", "text": text, "reasoning": reasoning})
        }
        ReplyAction::CallTool { text, calls } => {
            json!({"action": "call_tool", "text": text, "calls": self::calls(calls)})
        }
        ReplyAction::AskAgain(instruction) => json!({"action": "ask_again", "instruction": instruction}),
        ReplyAction::Block(reason) => json!({"action": "block", "reason": reason}),
    }
}

/// What a push let go of.
pub(super) fn pushed(pushed: &Pushed) -> Value {
    match pushed {
        Pushed::Unchanged => json!("unchanged"),
        Pushed::Deltas(deltas) => json!({"deltas": self::deltas(deltas)}),
        Pushed::Block(reason) => json!({"block": reason}),
    }
}

/// How a streamed reply ended.
pub(super) fn finished(finished: &Finished) -> Value {
    let next = match &finished.next {
        NextStep::GoOn => json!("go_on"),
        NextStep::CallTool(calls) => json!({"call_tool": self::calls(calls)}),
        NextStep::AskAgain(instruction) => json!({"ask_again": instruction}),
        NextStep::Block(reason) => json!({"block": reason}),
    };
    json!({"deltas": deltas(&finished.deltas), "next": next})
}

/// A decision.
pub(super) fn decision(decision: &Decision) -> Value {
    match decision {
        Decision::Allow(None) => json!({"decision": "allow"}),
        Decision::Allow(Some(principal)) => {
            json!({"decision": "allow", "principal": self::principal(principal)})
        }
        Decision::Deny(denial) => {
            json!({"decision": "deny", "status": denial.status, "reason": denial.reason})
        }
        Decision::Abstain => json!({"decision": "abstain"}),
    }
}

fn principal(principal: &Principal) -> Value {
    let claims: Value = serde_json::from_str(&principal.claims_json).unwrap_or_default();
    json!({"id": principal.id, "scopes": principal.scopes, "claims": claims})
}

/// Pieces, each by its kind: `{"text": ...}` or `{"reasoning": ...}`.
fn deltas(deltas: &[TextDelta]) -> Vec<Value> {
    let kind = |delta: &TextDelta| match delta.kind {
        DeltaKind::Text => "text",
        DeltaKind::Reasoning => "reasoning",
    };
    let one = |delta: &TextDelta| {
        Value::Object(Map::from_iter([(kind(delta).to_owned(), Value::String(delta.text.clone()))]))
    };
    deltas.iter().map(one).collect()
}

/// Tool calls; arguments that are JSON are shown as such.
fn calls(calls: &[ToolCall]) -> Vec<Value> {
    let arguments =
        |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    calls
        .iter()
        .map(|call| json!({"id": call.id, "name": call.name, "arguments": arguments(&call.arguments)}))
        .collect()
}
