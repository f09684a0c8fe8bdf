//! The time limits are measured in, so that tests need not wait for it.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub(in crate::access) trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since some moment; never goes back.
    fn elapsed_ms(&self) -> u64;

    /// Seconds since 1970, UTC.
    fn unix_s(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug)]
pub(in crate::access) struct SystemClock(Instant);

impl SystemClock {
    pub(in crate::access) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn unix_s(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// A clock that stands still until it is moved.
#[cfg(test)]
#[derive(Debug, Default)]
pub(in crate::access) struct TestClock(std::sync::atomic::AtomicU64);

#[cfg(test)]
impl TestClock {
    /// Moves on.
    pub(in crate::access) fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for TestClock {
    fn elapsed_ms(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// The first moment is 2026-01-30, 23:00 UTC.
    fn unix_s(&self) -> u64 {
        1_769_814_000 + self.elapsed_ms() / 1000
    }
}
