//! The circuit breaker of one plugin: one that keeps failing by its own fault is not called for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open the circuit.
const FAILURES_TO_OPEN: u32 = 5;

/// How long the circuit stays open the first time; doubled each time the trial call fails, too.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// See the module's words.
#[derive(Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    pause: Option<Duration>,
    open_until: Option<Instant>,
    trial_since: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made; `Err` tells how long the circuit stays open. After the pause one call is let through
    /// as a trial, and the others wait for its outcome.
    pub(super) fn admit(&self) -> Result<(), Duration> {
        let mut state = self.lock();
        let Some(until) = state.open_until else { return Ok(()) };
        let now = Instant::now();
        if let Some(left) = until.checked_duration_since(now).filter(|left| !left.is_zero()) {
            return Err(left);
        }
        // A trial that was dropped midway must not keep the circuit open for ever.
        let trial_runs = state.trial_since.is_some_and(|since| now.duration_since(since) < LONGEST_PAUSE);
        if trial_runs {
            return Err(FIRST_PAUSE);
        }
        state.trial_since = Some(now);
        Ok(())
    }

    /// A call went well.
    pub(super) fn succeeded(&self) {
        let mut state = self.lock();
        if state.failures > 0 || state.open_until.is_some() {
            *state = State::default();
        }
    }

    /// A call that proves nothing either way ended: a trial is free again.
    pub(super) fn undecided(&self) {
        self.lock().trial_since = None;
    }

    /// A call failed by the plugin's fault. Returns the pause where this opened the circuit.
    pub(super) fn failed(&self) -> Option<Duration> {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        let was_trial = state.trial_since.take().is_some();
        if !was_trial && (state.failures < FAILURES_TO_OPEN || state.open_until.is_some()) {
            return None;
        }
        let pause = state.pause.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        state.pause = Some(pause);
        state.open_until = Some(Instant::now() + pause);
        Some(pause)
    }

    /// True while calls are refused.
    pub(super) fn is_open(&self) -> bool {
        self.lock().open_until.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn let_time_pass(&self) {
        self.lock().open_until = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Breaker {
        let breaker = Breaker::default();
        let opened = (0..FAILURES_TO_OPEN).filter_map(|_| breaker.failed()).collect::<Vec<_>>();
        assert_eq!(opened, [FIRST_PAUSE]);
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row() {
        let breaker = Breaker::default();
        for _ in 0..20 {
            assert_eq!(breaker.failed(), None);
            breaker.succeeded();
        }
        assert!(breaker.admit().is_ok() && !breaker.is_open());
        assert!(opened().admit().is_err());
    }

    #[test]
    fn one_trial_decides() {
        let breaker = opened();
        breaker.let_time_pass();
        assert!(breaker.admit().is_ok(), "the trial");
        assert!(breaker.admit().is_err(), "the others wait");
        assert_eq!(breaker.failed(), Some(FIRST_PAUSE * 2));
        breaker.let_time_pass();
        assert!(breaker.admit().is_ok());
        breaker.undecided();
        assert!(breaker.admit().is_ok(), "a trial without outcome is repeated");
        breaker.succeeded();
        assert!(!breaker.is_open() && breaker.admit().is_ok());
    }
}
