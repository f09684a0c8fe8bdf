//! Between the gateway's types and the guest's: borrowed on the way in, checked on the way out.

use std::borrow::Cow;

use super::bindings::exports::witgate::plugin::{auth, response, response_stream, tools};
use super::bindings::witgate::plugin::types as wit;
use super::manifest::Manifest;
use crate::domain::{
    AccessAction, AccessRequest, ContentBlock, Decision, DeltaKind, Denial, Finished, NextStep, Principal,
    PrincipalKind, Pushed, ReplyAction, ReplyContext, TextDelta, ToolAnnotations, ToolCall, ToolContext,
    ToolDefinition, ToolError, ToolErrorKind, ToolResult, Usage,
};
use crate::domain::{FinishReason, HttpFacts};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A principal, with the vector its scopes are borrowed from.
pub(super) struct PrincipalIn<'a> {
    principal: &'a Principal,
    scopes: Vec<&'a str>,
}

impl<'a> PrincipalIn<'a> {
    pub(super) fn new(principal: &'a Principal) -> Self {
        Self { principal, scopes: principal.scopes.iter().map(String::as_str).collect() }
    }

    pub(super) fn param(&self) -> wit::PrincipalParam<'_> {
        wit::PrincipalParam {
            id: &self.principal.id,
            kind: match self.principal.kind {
                PrincipalKind::User => wit::PrincipalKind::User,
                PrincipalKind::Service => wit::PrincipalKind::Service,
                PrincipalKind::Anonymous => wit::PrincipalKind::Anonymous,
            },
            scopes: &self.scopes,
            claims_json: &self.principal.claims_json,
        }
    }
}

/// The context of a call, given its principal.
pub(super) fn request_context<'a>(
    context: &'a ReplyContext,
    principal: &'a PrincipalIn<'_>,
) -> wit::RequestContext<'a> {
    wit::RequestContext {
        request_id: context.request_id.as_str(),
        endpoint: &context.endpoint,
        model: &context.model,
        session_id: context.session_id.as_ref().map(|id| id.as_str()),
        principal: Some(principal.param()),
        attempt: context.attempt,
    }
}

pub(super) fn tool_calls_in(calls: &[ToolCall]) -> Vec<wit::ToolCallParam<'_>> {
    calls
        .iter()
        .map(|call| wit::ToolCallParam { id: &call.id, name: &call.name, arguments_json: &call.arguments })
        .collect()
}

pub(super) fn finish_reason_in(reason: &FinishReason) -> wit::FinishReason<'_> {
    match reason {
        FinishReason::Stop => wit::FinishReason::Stop,
        FinishReason::Length => wit::FinishReason::Length,
        FinishReason::ToolCalls => wit::FinishReason::ToolCalls,
        FinishReason::ContentFilter => wit::FinishReason::ContentFilter,
        FinishReason::Other(text) => wit::FinishReason::Other(text),
    }
}

pub(super) fn usage_in(usage: &Usage) -> wit::Usage {
    wit::Usage {
        prompt_tokens: usage.count("prompt_tokens"),
        completion_tokens: usage.count("completion_tokens"),
    }
}

fn tool_calls_out(calls: Vec<wit::ToolCallResult>) -> Vec<ToolCall> {
    let call =
        |call: wit::ToolCallResult| ToolCall { id: call.id, name: call.name, arguments: call.arguments_json };
    calls.into_iter().map(call).collect()
}

/// A guest's action; `Err` names the rule it breaks.
pub(super) fn action_out(action: response::Action) -> Result<ReplyAction, String> {
    Ok(match action {
        response::Action::Keep => ReplyAction::Keep,
        response::Action::Replace(text) => ReplyAction::Rewrite { text, reasoning: None },
        response::Action::Rewrite(new) => {
            ReplyAction::Rewrite { text: new.text, reasoning: Some(new.reasoning) }
        }
        response::Action::CallTool(request) => {
            ReplyAction::CallTool { text: request.text, calls: checked_calls(request.calls)? }
        }
        response::Action::AskAgain(instruction) => ReplyAction::AskAgain(instruction),
        response::Action::Block(reason) => ReplyAction::Block(reason),
    })
}

/// Calls whose arguments are JSON objects, as the interface promises.
fn checked_calls(calls: Vec<wit::ToolCallResult>) -> Result<Vec<ToolCall>, String> {
    if calls.is_empty() {
        return Err("answered call-tool without any call".to_owned());
    }
    for call in &calls {
        let is_object =
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&call.arguments_json).is_ok();
        if !is_object {
            return Err(format!(
                "answered call-tool for `{}` with arguments that are not a JSON object",
                call.name
            ));
        }
    }
    Ok(tool_calls_out(calls))
}

pub(super) fn deltas_in(deltas: &[TextDelta]) -> Vec<response_stream::DeltaParam<'_>> {
    let kind = |kind| match kind {
        DeltaKind::Text => response_stream::DeltaKind::Text,
        DeltaKind::Reasoning => response_stream::DeltaKind::Reasoning,
    };
    deltas
        .iter()
        .map(|delta| response_stream::DeltaParam { kind: kind(delta.kind), text: &delta.text })
        .collect()
}

fn deltas_out(deltas: Vec<response_stream::DeltaResult>) -> Vec<TextDelta> {
    let kind = |kind| match kind {
        response_stream::DeltaKind::Text => DeltaKind::Text,
        response_stream::DeltaKind::Reasoning => DeltaKind::Reasoning,
    };
    deltas.into_iter().map(|delta| TextDelta { kind: kind(delta.kind), text: delta.text }).collect()
}

pub(super) fn pushed_out(pushed: response_stream::Pushed) -> Pushed {
    match pushed {
        response_stream::Pushed::Unchanged => Pushed::Unchanged,
        response_stream::Pushed::Deltas(deltas) => Pushed::Deltas(deltas_out(deltas)),
        response_stream::Pushed::Block(reason) => Pushed::Block(reason),
    }
}

/// A guest's last word on a streamed reply; `Err` names the rule it breaks.
pub(super) fn finished_out(finished: response_stream::Finished) -> Result<Finished, String> {
    let next = match finished.next {
        response_stream::NextStep::GoOn => NextStep::GoOn,
        response_stream::NextStep::CallTool(calls) => NextStep::CallTool(checked_calls(calls)?),
        response_stream::NextStep::AskAgain(instruction) => NextStep::AskAgain(instruction),
        response_stream::NextStep::Block(reason) => NextStep::Block(reason),
    };
    Ok(Finished { deltas: deltas_out(finished.deltas), next })
}

pub(super) fn access_action_in(action: &AccessAction) -> auth::AccessAction<'_> {
    match action {
        AccessAction::Endpoint => auth::AccessAction::Endpoint,
        AccessAction::Model(model) => auth::AccessAction::Model(model),
        AccessAction::Tool { name, server, arguments } => {
            auth::AccessAction::Tool(auth::ToolAccess { name, server, arguments_json: arguments })
        }
    }
}

/// The parts of an HTTP request a policy may see, with what they are borrowed from.
pub(super) struct HttpIn<'a> {
    facts: &'a HttpFacts,
    headers: Vec<(&'a str, &'a str)>,
    query: Option<Cow<'a, str>>,
    peer: Option<String>,
}

impl<'a> HttpIn<'a> {
    /// Shows what the operator's file grants, and no more.
    pub(super) fn new(request: &'a AccessRequest, manifest: &Manifest) -> Option<Self> {
        let facts = request.http.as_deref()?;
        let visible = facts.headers.iter().filter(|(name, _)| manifest.shows_header(name));
        let headers = visible.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let shows_key = manifest.shows_query_key(KEY_IN_QUERY);
        let query = match &facts.query {
            Some(query) if shows_key => Some(Cow::Borrowed(query.as_str())),
            _ => facts.query_without_keys(),
        };
        Some(Self { facts, headers, query, peer: facts.peer.map(|peer| peer.to_string()) })
    }

    pub(super) fn param(&self) -> auth::HttpRequest<'_> {
        auth::HttpRequest {
            method: &self.facts.method,
            path: &self.facts.path,
            query: self.query.as_deref(),
            authority: self.facts.authority.as_deref(),
            headers: &self.headers,
            peer: self.peer.as_deref(),
        }
    }
}

/// The key of a query that carries an API key.
const KEY_IN_QUERY: &str = "apikey";

/// Statuses a policy may answer with; others become 403.
const DENIAL_STATUSES: [u16; 4] = [401, 403, 404, 429];

pub(super) fn decision_out(plugin: &str, decision: auth::Decision) -> Result<Decision, String> {
    Ok(match decision {
        auth::Decision::Abstain => Decision::Abstain,
        auth::Decision::Deny(denial) => {
            let status = if DENIAL_STATUSES.contains(&denial.status) { denial.status } else { 403 };
            Decision::Deny(Denial { status, reason: denial.reason, policy: plugin.to_owned() })
        }
        auth::Decision::Allow(principal) => Decision::Allow(principal.map(principal_out).transpose()?),
    })
}

fn principal_out(principal: wit::PrincipalResult) -> Result<Principal, String> {
    let claims = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&principal.claims_json);
    if claims.is_err() {
        return Err("allowed a principal whose claims-json is not a JSON object".to_owned());
    }
    let kind = match principal.kind {
        wit::PrincipalKind::User => PrincipalKind::User,
        wit::PrincipalKind::Service => PrincipalKind::Service,
        wit::PrincipalKind::Anonymous => PrincipalKind::Anonymous,
    };
    let mut out = Principal::new(principal.id, kind);
    out.scopes = principal.scopes;
    out.claims_json = principal.claims_json;
    Ok(out)
}

pub(super) fn call_context_in<'a>(
    context: &'a ToolContext,
    principal: &'a PrincipalIn<'_>,
) -> tools::CallContext<'a> {
    tools::CallContext {
        request_id: context.request_id.as_str(),
        call_id: &context.call_id,
        session_id: context.session_id.as_ref().map(|id| id.as_str()),
        principal: principal.param(),
    }
}

/// A tool as the registry knows it; `Err` names what is wrong with its definition.
pub(super) fn definition_out(plugin: &str, tool: tools::ToolDefinition) -> Result<ToolDefinition, String> {
    let schema = |what: &str, text: &str| {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| format!("tool `{}`: its {what} is not JSON: {error}", tool.name))?;
        if value.is_object() {
            Ok(value)
        } else {
            Err(format!("tool `{}`: its {what} is not an object", tool.name))
        }
    };
    Ok(ToolDefinition {
        input_schema: schema("input-schema-json", &tool.input_schema_json)?,
        output_schema: tool
            .output_schema_json
            .as_deref()
            .map(|text| schema("output-schema-json", text))
            .transpose()?,
        annotations: ToolAnnotations {
            read_only_hint: tool.annotations.read_only_hint,
            destructive_hint: tool.annotations.destructive_hint,
            idempotent_hint: tool.annotations.idempotent_hint,
            open_world_hint: tool.annotations.open_world_hint,
        },
        title: tool.title,
        description: tool.description,
        server: Some(plugin.to_owned()),
        name: tool.name,
    })
}

/// A tool's result; `Err` names the rule it breaks.
pub(super) fn result_out(result: tools::ToolResult) -> Result<ToolResult, String> {
    let structured_content = match result.structured_json {
        Some(text) => {
            let value: serde_json::Value = serde_json::from_str(&text)
                .map_err(|error| format!("answered with structured-json that is not JSON: {error}"))?;
            if !value.is_object() {
                return Err("answered with structured-json that is not an object".to_owned());
            }
            Some(value)
        }
        None => None,
    };
    let content = result.content.into_iter().map(block_out).collect::<Result<_, _>>()?;
    Ok(ToolResult { content, structured_content, is_error: result.is_error })
}

fn block_out(block: tools::ContentBlock) -> Result<ContentBlock, String> {
    Ok(match block {
        tools::ContentBlock::Text(text) => ContentBlock::Text { text },
        tools::ContentBlock::Image(media) => {
            ContentBlock::Image { data: STANDARD.encode(media.data), mime_type: media.mime_type }
        }
        tools::ContentBlock::Audio(media) => {
            ContentBlock::Audio { data: STANDARD.encode(media.data), mime_type: media.mime_type }
        }
        tools::ContentBlock::ResourceLink(link) => ContentBlock::ResourceLink {
            uri: link.uri,
            name: link.name,
            description: link.description,
            mime_type: link.mime_type,
        },
        tools::ContentBlock::ResourceJson(text) => ContentBlock::Resource {
            resource: serde_json::from_str(&text)
                .map_err(|error| format!("answered with resource-json that is not JSON: {error}"))?,
        },
    })
}

pub(super) fn tool_error_out(error: tools::ToolError) -> ToolError {
    match error {
        tools::ToolError::NotFound(message) => ToolError::new(ToolErrorKind::NotFound, message),
        tools::ToolError::InvalidArguments(message) => {
            ToolError::new(ToolErrorKind::InvalidArguments, message)
        }
        tools::ToolError::Failed(message) => ToolError::new(ToolErrorKind::Failed, message),
    }
}

/// A guest's own error in words.
pub(super) fn error_words(error: &wit::Error) -> String {
    match error {
        wit::Error::Denied(why) => format!("refused: {why}"),
        wit::Error::InvalidInput(why) => format!("cannot work with its input: {why}"),
        wit::Error::Upstream(why) => format!("depends on a service that failed: {why}"),
        wit::Error::RetryAfter(seconds) => format!("is busy; try again in {seconds} s"),
        wit::Error::Internal(why) => format!("failed: {why}"),
    }
}
