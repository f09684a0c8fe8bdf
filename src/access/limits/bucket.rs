//! A token bucket that holds one minute's worth and fills evenly. Integers only: nothing is lost by rounding.

use std::time::Duration;

const MINUTE_MS: u128 = 60_000;

/// What was taken and has not come back yet, in sixty-thousandths: every millisecond gives back `limit` of them.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    taken: u128,
    at_ms: u64,
}

impl Bucket {
    /// Brings the bucket to the moment `now_ms`. A limit that has changed counts for the time since the last look.
    pub(super) fn settle(&mut self, limit: u64, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.at_ms);
        self.taken = self.taken.saturating_sub(u128::from(passed) * u128::from(limit));
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// Takes `amount`, also where there is less: the bucket is then below zero.
    pub(super) fn take(&mut self, amount: u64) {
        self.taken = self.taken.saturating_add(u128::from(amount) * MINUTE_MS);
    }

    /// Gives back what was taken in vain.
    pub(super) fn give_back(&mut self, amount: u64) {
        self.taken = self.taken.saturating_sub(u128::from(amount) * MINUTE_MS);
    }

    /// What is left of `limit`, in whole ones.
    pub(super) fn left(&self, limit: u64) -> u64 {
        let left = (u128::from(limit) * MINUTE_MS).saturating_sub(self.taken) / MINUTE_MS;
        u64::try_from(left).unwrap_or(u64::MAX)
    }

    /// How long until there is one to take; zero where there is one, `None` where there never will be.
    pub(super) fn wait(&self, limit: u64) -> Option<Duration> {
        let needed = (self.taken + MINUTE_MS).saturating_sub(u128::from(limit) * MINUTE_MS);
        if needed == 0 { Some(Duration::ZERO) } else { after(needed, limit) }
    }

    /// How long until it is full.
    pub(super) fn until_full(&self, limit: u64) -> Duration {
        after(self.taken, limit).unwrap_or_default()
    }

    /// True when all has come back, as of the last look.
    #[cfg(test)]
    pub(super) fn is_full(&self) -> bool {
        self.taken == 0
    }
}

fn after(amount: u128, limit: u64) -> Option<Duration> {
    if limit == 0 {
        return None;
    }
    let ms = amount.div_ceil(u128::from(limit));
    Some(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn one_comes_back_after_its_share_of_a_minute() {
        let mut bucket = Bucket::default();
        bucket.take(3);
        assert_eq!((bucket.left(3), bucket.wait(3)), (0, ms(20_000)));
        assert_eq!(bucket.until_full(3), Duration::from_secs(60));
        bucket.settle(3, 19_999);
        assert_eq!((bucket.left(3), bucket.wait(3)), (0, ms(1)));
        bucket.settle(3, 20_000);
        assert_eq!((bucket.left(3), bucket.wait(3)), (1, ms(0)));
        bucket.settle(3, 60_000);
        assert_eq!((bucket.left(3), bucket.is_full()), (3, true));
    }

    #[test]
    fn odd_limits_lose_nothing_over_many_looks() {
        let mut bucket = Bucket::default();
        bucket.take(7);
        // A look every millisecond must come to the same as a single one.
        (1..60_000).for_each(|now| bucket.settle(7, now));
        assert_eq!((bucket.left(7), bucket.is_full()), (6, false));
        bucket.settle(7, 60_000);
        assert!(bucket.is_full());
    }

    #[test]
    fn it_can_be_below_zero_and_recovers() {
        let mut bucket = Bucket::default();
        bucket.take(250);
        assert_eq!((bucket.left(100), bucket.wait(100)), (0, ms(90_600)));
        bucket.settle(100, 90_599);
        assert_ne!(bucket.wait(100), ms(0));
        bucket.settle(100, 90_600);
        assert_eq!((bucket.left(100), bucket.wait(100)), (1, ms(0)));
    }

    #[test]
    fn a_changed_limit_keeps_what_was_taken() {
        let mut bucket = Bucket::default();
        bucket.take(5);
        assert_eq!((bucket.left(10), bucket.left(5), bucket.left(2)), (5, 0, 0));
        assert_eq!((bucket.left(0), bucket.wait(0)), (0, None));
        bucket.give_back(5);
        assert_eq!(bucket.left(2), 2);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut bucket = Bucket::default();
        bucket.take(u64::MAX);
        bucket.take(u64::MAX);
        assert_eq!(bucket.left(u64::MAX), 0);
        bucket.settle(u64::MAX, u64::MAX);
        assert!(bucket.is_full());
    }
}
