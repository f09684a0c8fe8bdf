//! What a plugin is called with: JSON written by hand, or a reply as a model's server sent it.
//!
//! Everything that is left out has a plain value: an anonymous caller, the model `test`, the first attempt.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::{
    AccessAction, AccessRequest, DeltaKind, FinishReason, HttpFacts, Principal, PrincipalKind,
    ProcessedReply, ReplyContext, ReplyEnd, RequestId, SessionId, TextDelta, ToolCall, ToolContext, Usage,
};

/// Characters in a piece of a text that is given as a whole.
const PIECE: usize = 7;

/// Who is asking.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalInput {
    id: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    claims: Option<Value>,
}

/// What a call belongs to.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ContextInput {
    endpoint: Option<String>,
    model: Option<String>,
    session_id: Option<String>,
    principal: Option<PrincipalInput>,
    attempt: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallInput {
    #[serde(default)]
    id: String,
    name: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum DeltaInput {
    Text(String),
    Part(DeltaPart),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DeltaPart {
    text: Option<String>,
    reasoning: Option<String>,
}

/// A reply, whole or in pieces.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ReplyInput {
    choice: u64,
    text: String,
    reasoning: Option<String>,
    deltas: Option<Vec<DeltaInput>>,
    tool_calls: Vec<CallInput>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    context: ContextInput,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionInput {
    Endpoint,
    Model(String),
    Tool(ToolAccessInput),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolAccessInput {
    name: String,
    #[serde(default)]
    server: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpInput {
    #[serde(default)]
    method: Option<String>,
    path: String,
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    authority: Option<String>,
    #[serde(default)]
    headers: serde_json::Map<String, Value>,
    #[serde(default)]
    peer: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessInput {
    action: ActionInput,
    #[serde(default)]
    principal: Option<PrincipalInput>,
    #[serde(default)]
    http: Option<HttpInput>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolInput {
    name: String,
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    context: ContextInput,
}

/// A whole reply and what it belongs to.
///
/// # Errors
/// When the text is neither a reply nor a `chat.completion`.
pub(super) fn reply(text: &str) -> anyhow::Result<(ReplyContext, ProcessedReply)> {
    let (input, raw) = reply_input(text)?;
    let context = input.context.reply_context()?;
    let whole = |pick: fn(&DeltaPart) -> Option<&str>, given: String| match &input.deltas {
        None => given,
        Some(deltas) => deltas.iter().filter_map(|delta| delta.pick(pick)).collect(),
    };
    let reasoning = whole(|part| part.reasoning.as_deref(), input.reasoning.clone().unwrap_or_default());
    let reply = ProcessedReply {
        choice: input.choice,
        text: whole(|part| part.text.as_deref(), input.text.clone()),
        reasoning: Some(reasoning).filter(|text| !text.is_empty()),
        tool_calls: input.tool_calls.into_iter().map(CallInput::call).collect(),
        finish_reason: input.finish_reason.map(FinishReason::from),
        usage: input.usage,
        raw,
    };
    Ok((context, reply))
}

/// A reply in pieces: as the input has it, else cut after every few characters.
///
/// # Errors
/// When the text is neither a reply nor a `chat.completion`.
pub(super) fn stream(text: &str) -> anyhow::Result<(ReplyContext, u64, Vec<TextDelta>, ReplyEnd)> {
    let (input, _) = reply_input(text)?;
    let context = input.context.reply_context()?;
    let deltas = match input.deltas {
        Some(deltas) => deltas.into_iter().flat_map(DeltaInput::deltas).collect(),
        None => {
            let mut deltas = pieces(DeltaKind::Reasoning, input.reasoning.as_deref().unwrap_or_default());
            deltas.extend(pieces(DeltaKind::Text, &input.text));
            deltas
        }
    };
    let end = ReplyEnd {
        finish_reason: input.finish_reason.map(FinishReason::from),
        tool_calls: input.tool_calls.into_iter().map(CallInput::call).collect(),
        usage: input.usage,
    };
    Ok((context, input.choice, deltas, end))
}

/// What a policy is asked.
///
/// # Errors
/// When the text is no access request.
pub(super) fn access(text: &str) -> anyhow::Result<AccessRequest> {
    let input: AccessInput = read(text, "action, principal, http")?;
    let action = match input.action {
        ActionInput::Endpoint => AccessAction::Endpoint,
        ActionInput::Model(model) => AccessAction::Model(model),
        ActionInput::Tool(tool) => {
            AccessAction::Tool { name: tool.name, server: tool.server, arguments: arguments(&tool.arguments) }
        }
    };
    Ok(AccessRequest {
        request_id: RequestId::generate(),
        action,
        principal: input.principal.as_ref().map(PrincipalInput::make).transpose()?,
        http: input.http.map(HttpInput::facts).transpose()?.map(Arc::new),
    })
}

/// A tool call: context, name, arguments.
///
/// # Errors
/// When the text is no tool call.
pub(super) fn tool_call(text: &str) -> anyhow::Result<(ToolContext, String, String)> {
    let input: ToolInput = read(text, "name, arguments, context")?;
    let context = input.context.reply_context()?;
    let context = ToolContext {
        principal: context.principal,
        request_id: context.request_id,
        session_id: context.session_id,
        call_id: "call_test".to_owned(),
        progress: Default::default(),
    };
    Ok((context, input.name, arguments(&input.arguments)))
}

fn read<T: DeserializeOwned>(text: &str, keys: &str) -> anyhow::Result<T> {
    serde_json::from_str(text).map_err(|error| anyhow!("{error}; the keys are {keys}"))
}

/// A reply written by hand, or the first choice of a `chat.completion` with the body itself.
fn reply_input(text: &str) -> anyhow::Result<(ReplyInput, Option<Bytes>)> {
    let value: Value = serde_json::from_str(text)?;
    let Some(choices) = value.get("choices") else {
        let keys = "text, reasoning, deltas, tool_calls, finish_reason, usage, choice, context";
        return Ok((read(text, keys)?, None));
    };
    let choice = choices.get(0).context("choices is empty")?;
    let message = &choice["message"];
    let string = |value: &Value| value.as_str().map(str::to_owned);
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let calls = calls.iter().map(|call| CallInput {
        id: string(&call["id"]).unwrap_or_default(),
        name: string(&call["function"]["name"]).unwrap_or_default(),
        arguments: call["function"]["arguments"].clone(),
    });
    let input = ReplyInput {
        choice: choice["index"].as_u64().unwrap_or(0),
        text: string(&message["content"]).or_else(|| string(&message["refusal"])).unwrap_or_default(),
        reasoning: string(&message["reasoning_content"]),
        tool_calls: calls.collect(),
        finish_reason: string(&choice["finish_reason"]),
        usage: value["usage"].as_object().cloned().map(Usage),
        context: ContextInput { model: string(&value["model"]), ..ContextInput::default() },
        ..ReplyInput::default()
    };
    Ok((input, Some(Bytes::copy_from_slice(text.as_bytes()))))
}

/// Arguments as JSON text; a string is such a text already.
fn arguments(value: &Value) -> String {
    match value {
        Value::Null => "{}".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pieces(kind: DeltaKind, text: &str) -> Vec<TextDelta> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(PIECE).map(|piece| TextDelta { kind, text: piece.iter().collect() }).collect()
}

impl CallInput {
    fn call(self) -> ToolCall {
        ToolCall { id: self.id, name: self.name, arguments: arguments(&self.arguments) }
    }
}

impl DeltaInput {
    fn pick(&self, pick: fn(&DeltaPart) -> Option<&str>) -> Option<String> {
        let part = match self {
            Self::Text(text) => &DeltaPart { text: Some(text.clone()), reasoning: None },
            Self::Part(part) => part,
        };
        pick(part).map(str::to_owned)
    }

    fn deltas(self) -> Vec<TextDelta> {
        let part = match self {
            Self::Text(text) => DeltaPart { text: Some(text), reasoning: None },
            Self::Part(part) => part,
        };
        let delta = |kind, text: Option<String>| text.map(|text| TextDelta { kind, text });
        let both = [delta(DeltaKind::Reasoning, part.reasoning), delta(DeltaKind::Text, part.text)];
        both.into_iter().flatten().collect()
    }
}

impl ContextInput {
    fn reply_context(&self) -> anyhow::Result<ReplyContext> {
        let session_id = match &self.session_id {
            None => None,
            Some(id) => Some(SessionId::parse(id).with_context(|| format!("`{id}` is not a session's id"))?),
        };
        let principal = self.principal.as_ref().map(PrincipalInput::make).transpose()?;
        Ok(ReplyContext {
            request_id: RequestId::generate(),
            endpoint: self.endpoint.as_deref().unwrap_or("/v1/chat/completions").into(),
            model: self.model.as_deref().unwrap_or("test").into(),
            session_id,
            principal: principal.unwrap_or_else(Principal::anonymous),
            attempt: self.attempt.unwrap_or(1),
        })
    }
}

impl PrincipalInput {
    fn make(&self) -> anyhow::Result<Principal> {
        let kind = match self.kind.as_deref() {
            None | Some("user") => PrincipalKind::User,
            Some("service") => PrincipalKind::Service,
            Some("anonymous") => PrincipalKind::Anonymous,
            Some(other) => bail!("principal.kind is `{other}`; it can be user, service or anonymous"),
        };
        let mut principal = Principal::new(&*self.id, kind);
        principal.scopes.clone_from(&self.scopes);
        if let Some(claims) = &self.claims {
            principal.claims_json = claims.to_string();
        }
        Ok(principal)
    }
}

impl HttpInput {
    fn facts(self) -> anyhow::Result<HttpFacts> {
        let headers = self.headers.into_iter().map(|(name, value)| match value {
            Value::String(value) => Ok((name.to_lowercase(), value)),
            other => Err(anyhow!("http.headers.{name} is {other}; it must be a string")),
        });
        Ok(HttpFacts {
            method: self.method.unwrap_or_else(|| "POST".to_owned()),
            path: self.path,
            query: self.query,
            authority: self.authority,
            headers: headers.collect::<anyhow::Result<_>>()?,
            peer: self.peer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_written_by_hand_or_taken_from_a_body() {
        let (context, by_hand) = reply(r#"{"text": "hi", "finish_reason": "stop"}"#).unwrap();
        assert_eq!((by_hand.text.as_str(), &*context.model, context.attempt), ("hi", "test", 1));
        let body = r#"{"model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"content": null,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}]}"#;
        let (context, taken) = reply(body).unwrap();
        assert_eq!((taken.text.as_str(), &*context.model), ("", "m"));
        assert_eq!(taken.tool_calls[0].name, "f");
        assert_eq!(taken.raw.as_deref(), Some(body.as_bytes()));
        let error = reply(r#"{"txt": "hi"}"#).unwrap_err().to_string();
        assert!(error.contains("`txt`") && error.contains("finish_reason"), "{error}");
    }

    #[test]
    fn a_text_is_cut_into_pieces_and_pieces_make_a_text() {
        let text = |delta: &TextDelta| delta.text.clone();
        let (_, _, deltas, _) = stream(r#"{"text": "ein Gürteltier", "reasoning": "hm"}"#).unwrap();
        assert_eq!(deltas.iter().map(text).collect::<Vec<_>>(), ["hm", "ein Gür", "teltier"]);
        let given = r#"{"deltas": ["a", {"reasoning": "r"}, {"text": "b"}]}"#;
        let (_, _, deltas, _) = stream(given).unwrap();
        assert_eq!(deltas.len(), 3);
        let (_, whole) = reply(given).unwrap();
        assert_eq!((whole.text.as_str(), whole.reasoning.as_deref()), ("ab", Some("r")));
    }

    #[test]
    fn access_requests_and_calls_name_what_is_wrong_with_them() {
        let request = access(r#"{"action": {"tool": {"name": "t", "arguments": {"a": 1}}}}"#).unwrap();
        assert!(matches!(request.action, AccessAction::Tool { arguments, .. } if arguments == r#"{"a":1}"#));
        let request = access(r#"{"action": "endpoint", "principal": {"id": "x", "kind": "robot"}}"#);
        assert!(request.unwrap_err().to_string().contains("robot"));
        let (_, name, arguments) = tool_call(r#"{"name": "count"}"#).unwrap();
        assert_eq!((name.as_str(), arguments.as_str()), ("count", "{}"));
    }
}
