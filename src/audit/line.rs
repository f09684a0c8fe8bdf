//! An event as a line: one JSON object, its keys always in this order.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use super::event::{AuditEvent, AuditOutcome};
use super::redact::Redactor;
use crate::domain::time::rfc3339;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    action: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<std::net::IpAddr>,
    via: &'a str,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<f64>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

/// Adds `event` to `buffer`, with its line break. `is_cut` says that its arguments could not be kept.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    event: &AuditEvent,
    time: SystemTime,
    is_cut: bool,
    redactor: &Redactor,
) {
    let (outcome, reason, rule, status) = match &event.outcome {
        AuditOutcome::Success => ("success", None, None, None),
        AuditOutcome::ToolError => ("tool_error", None, None, None),
        AuditOutcome::Failed(reason) => ("failed", Some(redactor.text(reason)), None, None),
        AuditOutcome::Cancelled => ("cancelled", None, None, None),
        AuditOutcome::Denied { rule, status } => ("denied", None, Some(redactor.name(rule)), Some(*status)),
    };
    let arguments = match (&event.arguments, is_cut) {
        (_, true) => Some(Value::from("[left out: the log was behind]")),
        (Some(text), false) => redactor.arguments(text),
        (None, false) => None,
    };
    let line = Line {
        time: rfc3339(time),
        action: event.action,
        outcome,
        reason,
        rule,
        status,
        principal: redactor.name(&event.subject.principal),
        name: event.subject.name.as_deref().map(|name| redactor.name(name)),
        peer: event.subject.peer,
        via: event.via,
        target: redactor.target(&event.target),
        server: event.server.as_deref(),
        arguments,
        result_bytes: event.result_bytes,
        duration_ms: event.duration.map(milliseconds),
        request_id: event.request_id.as_str(),
        trace_id: event.subject.trace_id.as_ref().map(|id| id.as_str()),
    };
    add(buffer, &line);
}

/// Adds the line that says that `count` events are missing before it.
pub(super) fn write_lost(buffer: &mut Vec<u8>, count: u64, time: SystemTime) {
    #[derive(Serialize)]
    struct Lost {
        time: String,
        action: &'static str,
        outcome: &'static str,
        lost: u64,
        reason: &'static str,
    }
    let reason = "the queue was full: the disk was too slow, or could not be written to";
    add(buffer, &Lost { time: rfc3339(time), action: "events_lost", outcome: "failed", lost: count, reason });
}

fn add(buffer: &mut Vec<u8>, line: &impl Serialize) {
    let start = buffer.len();
    match serde_json::to_writer(&mut *buffer, line) {
        Ok(()) => buffer.push(b'\n'),
        Err(error) => {
            buffer.truncate(start);
            tracing::error!(%error, "an event could not be written to the audit log: {error}");
        }
    }
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
