//! How the calls of one tool ended, in numbers. Outlives the snapshots of the registry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::ToolErrorKind;

/// How a call of a tool can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// With a result.
    Success,
    /// With the tool's own report of a failure.
    ToolError,
    /// It was refused: the arguments do not fit.
    InvalidArguments,
    /// It never reached the tool: too many calls, or a server that is not there.
    NotSent,
    /// It took too long.
    Timeout,
    /// The server or the connection failed, or does not know the tool any more.
    Failed,
    /// Whoever wanted it went away.
    Cancelled,
}

impl CallOutcome {
    /// All of them, in the order of [`CallStats`].
    const ALL: [Self; 7] = [
        Self::Success,
        Self::ToolError,
        Self::InvalidArguments,
        Self::NotSent,
        Self::Timeout,
        Self::Failed,
        Self::Cancelled,
    ];

    /// A word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ToolError => "tool_error",
            Self::InvalidArguments => "invalid_arguments",
            Self::NotSent => "not_sent",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<ToolErrorKind> for CallOutcome {
    fn from(kind: ToolErrorKind) -> Self {
        match kind {
            ToolErrorKind::InvalidArguments => Self::InvalidArguments,
            ToolErrorKind::NotSent => Self::NotSent,
            ToolErrorKind::Timeout => Self::Timeout,
            ToolErrorKind::Failed | ToolErrorKind::NotFound => Self::Failed,
        }
    }
}

/// Counters of one tool.
#[derive(Debug, Default)]
pub struct CallStats {
    ended: [AtomicU64; CallOutcome::ALL.len()],
    micros: AtomicU64,
}

impl CallStats {
    /// Counts a call that ended.
    pub(super) fn record(&self, outcome: CallOutcome, took: Duration) {
        if let Some(counter) = self.ended.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many calls ended in which way.
    pub fn ended(&self) -> impl Iterator<Item = (CallOutcome, u64)> + '_ {
        CallOutcome::ALL.into_iter().zip(self.ended.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }

    /// How long all calls together took, retries and waiting included.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_outcome() {
        let stats = CallStats::default();
        for outcome in CallOutcome::ALL {
            stats.record(outcome, Duration::from_millis(1));
        }
        stats.record(CallOutcome::from(ToolErrorKind::Timeout), Duration::from_millis(1));
        let twice: Vec<_> = stats.ended().filter(|(_, count)| *count != 1).collect();
        assert_eq!(twice, [(CallOutcome::Timeout, 2)]);
        assert_eq!(stats.total(), Duration::from_millis(8));
    }
}
