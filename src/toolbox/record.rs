//! The one event that every call of a tool, and every reading of a resource or prompt, leaves in the audit log.

use tokio::time::Instant;

use super::Toolbox;
use crate::access::AccessScope;
use crate::audit::{AuditEvent, AuditOutcome};
use crate::domain::ToolError;

/// Writes its event when it is told how things ended, or that they were cancelled when it is dropped before.
pub(super) struct Record<'a> {
    toolbox: &'a Toolbox,
    pub(super) scope: &'a AccessScope,
    action: &'static str,
    target: &'a str,
    server: Option<&'a str>,
    arguments: &'a str,
    via: &'static str,
    started: Instant,
    is_done: bool,
}

impl<'a> Record<'a> {
    /// Of doing `action` to `target` of `server` with `arguments`, JSON text as the caller sent it.
    pub(super) fn new(
        toolbox: &'a Toolbox,
        scope: &'a AccessScope,
        (action, target, server): (&'static str, &'a str, Option<&'a str>),
        arguments: &'a str,
        via: &'static str,
    ) -> Self {
        let started = Instant::now();
        Self { toolbox, scope, action, target, server, arguments, via, started, is_done: false }
    }

    /// How it came in.
    pub(super) fn via(&self) -> &'static str {
        self.via
    }

    /// Whether anybody reads what it says.
    pub(super) fn is_read(&self) -> bool {
        self.toolbox.audit.is_on()
    }

    /// Access has refused, and has written that down itself.
    pub(super) fn is_refused(&mut self) {
        self.is_done = true;
    }

    /// There was no result.
    pub(super) fn failed(&mut self, error: &ToolError) {
        self.ended(AuditOutcome::Failed(format!("{:?}", error.kind)), None);
    }

    /// It is over.
    pub(super) fn ended(&mut self, outcome: AuditOutcome, result_bytes: Option<usize>) {
        self.is_done = true;
        let audit = &self.toolbox.audit;
        if !audit.is_on() {
            return;
        }
        audit.record(AuditEvent {
            subject: self.scope.subject(),
            request_id: self.scope.request_id().clone(),
            via: self.via,
            action: self.action,
            target: self.target.to_owned(),
            server: self.server.map(str::to_owned),
            arguments: audit.keeps_arguments().then(|| self.arguments.to_owned()),
            outcome,
            duration: Some(self.started.elapsed()),
            result_bytes,
        });
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.ended(AuditOutcome::Cancelled, None);
        }
    }
}
