//! The pauses between starts of one server: none after the first crash of a healthy one, then doubling, with jitter.

use std::time::Duration;

/// Start of a server whose fault will hardly go away by itself (its program is missing): tried again this often.
pub(super) const SLOW_RETRY: Duration = Duration::from_secs(30);

/// Share of a pause that is left to chance, so that many servers of one dead host do not come back in step.
const JITTER: f64 = 0.2;

/// How often in a row a server was lost or could not be started.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    stable_after: Duration,
    losses: u32,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, stable_after: Duration) -> Self {
        Self { min, max: max.max(min), stable_after, losses: 0 }
    }

    /// The pause before the next start, given for how long the server had been ready (`None`: it never got there).
    pub(super) fn next(&mut self, ready_for: Option<Duration>) -> Duration {
        let crashed_first = match ready_for {
            Some(time) if time >= self.stable_after => {
                self.losses = 0;
                true
            }
            Some(_) => self.losses == 0,
            None => false,
        };
        self.losses = self.losses.saturating_add(1);
        if crashed_first {
            return Duration::ZERO;
        }
        let doublings = self.losses.saturating_sub(1).min(16);
        let pause = self.min.saturating_mul(1 << doublings).min(self.max);
        pause.mul_f64(1.0 - JITTER * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(500), Duration::from_secs(30), Duration::from_secs(10))
    }

    fn assert_about(pause: Duration, millis: u64) {
        let expected = Duration::from_millis(millis);
        assert!(pause <= expected && pause >= expected.mul_f64(1.0 - JITTER), "{pause:?} for {expected:?}");
    }

    #[test]
    fn the_first_crash_restarts_at_once_and_the_next_ones_wait() {
        let mut backoff = backoff();
        assert_eq!(backoff.next(Some(Duration::from_secs(1))), Duration::ZERO);
        assert_about(backoff.next(Some(Duration::from_secs(1))), 1_000);
        assert_about(backoff.next(None), 2_000);
    }

    #[test]
    fn a_failed_first_start_waits_and_pauses_stay_bounded() {
        let mut backoff = backoff();
        assert_about(backoff.next(None), 500);
        for _ in 0..40 {
            backoff.next(None);
        }
        assert_about(backoff.next(None), 30_000);
    }

    #[test]
    fn a_stable_time_forgives_everything() {
        let mut backoff = backoff();
        for _ in 0..5 {
            backoff.next(None);
        }
        assert_eq!(backoff.next(Some(Duration::from_secs(11))), Duration::ZERO);
        assert_about(backoff.next(None), 1_000);
    }
}
