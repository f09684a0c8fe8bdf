//! How often somebody may try to log in.
//!
//! Counted for the name and for the address, whether there is such a user or not. After some failures for free each
//! further one costs a wait, twice as long as the one before, up to [`MAX_DELAY`]. An attempt counts as failed until it
//! has succeeded, so that many at the same time do not slip through.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use sha2::{Digest, Sha256};

/// Failures that cost nothing.
const FREE_FOR_NAME: u32 = 10;
const FREE_FOR_ADDRESS: u32 = 50;

/// The longest wait. Not longer, since whoever knows a name can make its owner wait.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Failures this old are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);

/// Names and addresses that are remembered; beyond it the one that was quiet for longest is forgotten.
const REMEMBERED: NonZeroUsize = match NonZeroUsize::new(20_000) {
    Some(number) => number,
    None => NonZeroUsize::MIN,
};

type Subject = [u8; 17];

/// Remembers failures.
pub(super) struct Throttle(Mutex<LruCache<Subject, Failures>>);

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    blocked_until: Instant,
}

/// An attempt that is going on; counts as failed unless it is told otherwise.
#[must_use]
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    name: Subject,
    address: Option<Subject>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }

    /// Begins an attempt, or says how long to wait.
    pub(super) fn begin(
        &self,
        name: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Attempt<'_>, Duration> {
        let (name, address) = (subject_of_name(name), address.map(subject_of_address));
        let mut known = self.known();
        let subjects = [Some((name, FREE_FOR_NAME)), address.map(|address| (address, FREE_FOR_ADDRESS))];
        let wait = |(subject, _): &(Subject, u32)| {
            known.peek(subject).map_or(Duration::ZERO, |failures| failures.blocked_until - now)
        };
        let wait = subjects.iter().flatten().map(wait).max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        for (subject, free) in subjects.into_iter().flatten() {
            let before = known.get(&subject).filter(|failures| now - failures.last < FORGET_AFTER);
            let count = before.map_or(0, |failures| failures.count).saturating_add(1);
            let delay = match count.checked_sub(free) {
                None => Duration::ZERO,
                Some(beyond) => MAX_DELAY.min(Duration::from_secs(1) * 2u32.saturating_pow(beyond.min(16))),
            };
            known.put(subject, Failures { count, last: now, blocked_until: now + delay });
        }
        Ok(Attempt { throttle: self, name, address })
    }

    fn known(&self) -> MutexGuard<'_, LruCache<Subject, Failures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// It was the right password: the name begins anew. The address only gets this attempt back, or a user of the gateway
    /// could guess the passwords of others for as long as it likes.
    pub(super) fn succeeded(self) {
        self.throttle.known().pop(&self.name);
        self.give_back(self.address);
    }

    /// Nothing was found out.
    pub(super) fn undecided(self) {
        self.give_back(Some(self.name));
        self.give_back(self.address);
    }

    fn give_back(&self, subject: Option<Subject>) {
        let mut known = self.throttle.known();
        if let Some(failures) = subject.and_then(|subject| known.peek_mut(&subject)) {
            failures.count = failures.count.saturating_sub(1);
            failures.blocked_until = failures.last;
        }
    }
}

fn subject_of_name(name: &str) -> Subject {
    let mut subject = [b'n'; 17];
    let hash: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    subject[1..].copy_from_slice(&hash[..16]);
    subject
}

/// Whoever has an IPv6 address has a whole /64 of them.
fn subject_of_address(address: IpAddr) -> Subject {
    let mut subject = [0; 17];
    match address.to_canonical() {
        IpAddr::V4(address) => {
            subject[0] = b'4';
            subject[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            subject[0] = b'6';
            subject[1..9].copy_from_slice(&address.octets()[..8]);
        }
    }
    subject
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(throttle: &Throttle, name: &str, address: &str, now: Instant) -> Result<(), Duration> {
        throttle.begin(name, Some(address.parse().unwrap()), now).map(|_attempt| ())
    }

    #[test]
    fn failures_cost_more_and_more_and_are_forgotten() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        for _ in 0..FREE_FOR_NAME {
            fail(&throttle, "a", "192.0.2.1", start).unwrap();
        }
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = fail(&throttle, "a", "192.0.2.1", now).unwrap_err();
            waits.push(wait.as_secs());
            now += wait;
            fail(&throttle, "a", "192.0.2.1", now).unwrap();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        // Another name from there, and the same name from elsewhere.
        fail(&throttle, "b", "192.0.2.1", now).unwrap();
        assert!(fail(&throttle, "a", "192.0.2.2", now).is_err());
        now += FORGET_AFTER;
        for _ in 0..FREE_FOR_NAME {
            fail(&throttle, "a", "192.0.2.1", now).unwrap();
        }
    }

    #[test]
    fn success_begins_anew_for_the_name_and_not_for_the_address() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        let address = || Some("2001:db8::1".parse().unwrap());
        for round in 0..(FREE_FOR_ADDRESS - 1) {
            fail(&throttle, &format!("victim {round}"), "2001:db8::2", now).unwrap();
            throttle.begin("own", address(), now).unwrap().succeeded();
        }
        fail(&throttle, "victim", "2001:db8:0:0:ffff::3", now).unwrap();
        assert!(fail(&throttle, "victim 2", "2001:db8::4", now).is_err(), "one /64 is one address");
        fail(&throttle, "victim 2", "2001:db8:0:1::4", now).unwrap();
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        for number in 0..(REMEMBERED.get() + 10) {
            throttle.begin(&number.to_string(), None, now).unwrap().undecided();
        }
        assert_eq!(throttle.known().len(), REMEMBERED.get());
    }
}
