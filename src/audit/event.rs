//! What is written down.

use std::time::Duration;

use crate::domain::{Principal, RequestId, TraceId};

/// Something that happened.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// Who did it.
    pub subject: AuditSubject,
    /// The request it belongs to.
    pub request_id: RequestId,
    /// How it came in: `chat`, `rest`, `mcp`, or `cli`.
    pub via: &'static str,
    /// What was done: `tool_call`, `denied`, `login`, `key_created`, `key_revoked`, `user_created`, ...
    pub action: &'static str,
    /// What it was done to: a tool's name, a path, a key's id.
    pub target: String,
    /// The MCP server or plugin of a tool.
    pub server: Option<String>,
    /// Arguments of a tool call, or what a change is about: JSON text, as sent. Redacted before it is written.
    pub arguments: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// How long it took.
    pub duration: Option<Duration>,
    /// Size of the result, in bytes.
    pub result_bytes: Option<usize>,
}

impl AuditEvent {
    /// An event that went well, and of which nothing more is known.
    #[must_use]
    pub fn new(
        subject: AuditSubject,
        request_id: RequestId,
        via: &'static str,
        action: &'static str,
        target: String,
    ) -> Self {
        Self {
            subject,
            request_id,
            via,
            action,
            target,
            server: None,
            arguments: None,
            outcome: AuditOutcome::Success,
            duration: None,
            result_bytes: None,
        }
    }

    /// Cuts each text but the arguments after `limit` bytes; how many bytes are left of them together.
    pub(super) fn cut_texts(&mut self, limit: usize) -> usize {
        let outcome = match &mut self.outcome {
            AuditOutcome::Failed(text) | AuditOutcome::Denied { rule: text, .. } => Some(text),
            AuditOutcome::Success | AuditOutcome::ToolError | AuditOutcome::Cancelled => None,
        };
        let AuditSubject { principal, name, .. } = &mut self.subject;
        let texts = [Some(&mut self.target), Some(principal), name.as_mut(), self.server.as_mut(), outcome];
        texts.into_iter().flatten().fold(0, |sum, text| {
            if text.len() > limit {
                text.truncate(text.floor_char_boundary(limit));
                text.shrink_to_fit();
            }
            sum + text.len()
        })
    }
}

/// Who did something.
#[derive(Clone, Debug)]
pub struct AuditSubject {
    /// The principal's id.
    pub principal: String,
    /// What people call it, where that is known.
    pub name: Option<String>,
    /// The other side of the connection, where there is one.
    pub peer: Option<std::net::IpAddr>,
    /// The trace the client's request belongs to.
    pub trace_id: Option<TraceId>,
}

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// As it should.
    Success,
    /// The tool itself reports a failure.
    ToolError,
    /// There was no result; why, without any value of the caller's.
    Failed(String),
    /// The caller went away.
    Cancelled,
    /// It was not allowed: by which rule, and the HTTP status.
    Denied {
        /// The rule or policy.
        rule: String,
        /// 401, 403, 404, 429 or 503.
        status: u16,
    },
}

impl From<&Principal> for AuditSubject {
    fn from(principal: &Principal) -> Self {
        Self { principal: principal.id.clone(), name: None, peer: None, trace_id: None }
    }
}
