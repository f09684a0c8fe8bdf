//! Limits: how much somebody may do, and how much of it is left.
//!
//! A request counts for the credential it came with and for the user behind it; whichever is exceeded refuses. Minutes
//! are token buckets: they hold a minute's worth and fill evenly, so that a caller who has waited may send a burst.
//! Tokens are known only afterwards, so their bucket may go below zero, and the next request waits until it has come
//! back. Callers without limits have no entry here and cost nothing.

mod bucket;
mod budget;
mod clock;
mod meter;
mod rates;
mod usage;

use std::fmt;
use std::time::Duration;

#[cfg(test)]
pub(super) use clock::TestClock;
pub(super) use clock::{Clock, SystemClock};
pub(super) use meter::{Meter, Metered};
pub use meter::{Rates, StreamPermit};
pub use rates::{RateLine, RateReport};
pub use usage::UsageBook;

use self::rates::duration_text;
use super::grants::{BudgetPeriod, Limits};

/// `[access.limits]`: the limits of callers whose own grants do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DefaultLimits {
    /// Callers whom nobody knows, each network address by itself (an IPv6 network of 64 bits).
    pub anonymous: Limits,
    /// Users, with all their keys and tokens together.
    pub user: Limits,
    /// Each key.
    pub service: Limits,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Requests in a minute.
    Requests,
    /// Tokens in a minute.
    Tokens,
    /// Open streams.
    Streams,
    /// Tokens in a longer time.
    Budget(BudgetPeriod),
}

/// What a stream is for; the limit holds for both kinds, each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// It answers a request, and ends with it.
    Answer,
    /// It waits for news. Clients keep one open for as long as they are there, so it must not be in the way of answers.
    News,
}

/// A limit that was reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct LimitReached {
    /// Which.
    pub kind: LimitKind,
    /// Its value.
    pub limit: u64,
    /// When there is something again; `None` where that cannot be said.
    pub retry_after: Option<Duration>,
}

impl LimitReached {
    /// The rule's name, for the audit log and for `witgate access explain`.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self.kind {
            LimitKind::Requests => "rate:requests",
            LimitKind::Tokens => "rate:tokens",
            LimitKind::Streams => "rate:streams",
            LimitKind::Budget(_) => "budget",
        }
    }
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.kind {
            LimitKind::Requests => write!(f, "the limit of {limit} requests per minute is reached")?,
            LimitKind::Tokens => write!(f, "the limit of {limit} tokens per minute is reached")?,
            LimitKind::Streams => {
                write!(f, "the limit of {limit} streams at the same time is reached; let one of them end")?;
            }
            LimitKind::Budget(BudgetPeriod::Ever) => {
                write!(f, "the budget of {limit} tokens is spent; ask the operator for more")?;
            }
            LimitKind::Budget(BudgetPeriod::Day) => write!(f, "the budget of {limit} tokens a day is spent")?,
            LimitKind::Budget(BudgetPeriod::Month) => {
                write!(f, "the budget of {limit} tokens a month is spent")?;
            }
        }
        match self.retry_after {
            Some(wait) if self.kind != LimitKind::Streams => {
                write!(f, "; try again in {}", duration_text(wait))
            }
            _ => Ok(()),
        }
    }
}
