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

/// Names that are remembered, and as many addresses; beyond it the one that was quiet for longest is forgotten.
const REMEMBERED: NonZeroUsize = match NonZeroUsize::new(20_000) {
    Some(number) => number,
    None => NonZeroUsize::MIN,
};

/// The beginning of a name's hash, or an address after its kind.
type Subject = [u8; 17];

/// Remembers failures.
pub(super) struct Throttle(Mutex<Known>);

/// Apart, so that many names from one address forget no address.
struct Known {
    names: LruCache<Subject, Failures>,
    addresses: LruCache<Subject, Failures>,
}

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
        Self(Mutex::new(Known { names: LruCache::new(REMEMBERED), addresses: LruCache::new(REMEMBERED) }))
    }

    /// Begins an attempt, or says how long to wait.
    pub(super) fn begin(
        &self,
        name: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Attempt<'_>, Duration> {
        let (name, address) = (subject_of_name(name), address.map(subject_of_address));
        let Known { names, addresses } = &mut *self.known();
        let address_too = address.map(|address| (addresses, address, FREE_FOR_ADDRESS));
        let mut counted = [Some((names, name, FREE_FOR_NAME)), address_too];
        let waits = counted.iter().flatten().map(|(known, subject, _)| {
            known.peek(subject).map_or(Duration::ZERO, |failures| failures.blocked_until - now)
        });
        let wait = waits.max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        for (known, subject, free) in counted.iter_mut().flatten() {
            let before = known.get(subject).filter(|failures| now - failures.last < FORGET_AFTER);
            let count = before.map_or(0, |failures| failures.count).saturating_add(1);
            let delay = match count.checked_sub(*free) {
                None => Duration::ZERO,
                Some(beyond) => MAX_DELAY.min(Duration::from_secs(1) * 2u32.saturating_pow(beyond.min(16))),
            };
            known.put(*subject, Failures { count, last: now, blocked_until: now + delay });
        }
        Ok(Attempt { throttle: self, name, address })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// It was the right password: the name begins anew. The address only gets this attempt back, or a user of the gateway
    /// could guess the passwords of others for as long as it likes.
    pub(super) fn succeeded(self) {
        let known = &mut *self.throttle.known();
        known.names.pop(&self.name);
        self.give_back_address(known);
    }

    /// Nothing was found out.
    pub(super) fn undecided(self) {
        let known = &mut *self.throttle.known();
        give_back(&mut known.names, &self.name);
        self.give_back_address(known);
    }

    fn give_back_address(&self, known: &mut Known) {
        if let Some(address) = &self.address {
            give_back(&mut known.addresses, address);
        }
    }
}

/// One attempt less. Who has no others is forgotten: attempts that came to nothing must not push out failures.
fn give_back(known: &mut LruCache<Subject, Failures>, subject: &Subject) {
    let Some(failures) = known.peek_mut(subject) else { return };
    failures.count = failures.count.saturating_sub(1);
    failures.blocked_until = failures.last;
    if failures.count == 0 {
        known.pop(subject);
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
            let address = IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
            let _failed = throttle.begin(&number.to_string(), Some(address), now).unwrap();
        }
        let known = throttle.known();
        assert_eq!((known.names.len(), known.addresses.len()), (REMEMBERED.get(), REMEMBERED.get()));
    }

    #[test]
    fn attempts_that_find_no_place_and_names_make_nobody_forget() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        let begin = |name: &str, address: &str| throttle.begin(name, Some(address.parse().unwrap()), now);
        for _ in 0..=FREE_FOR_NAME {
            let _failed = begin("victim", "192.0.2.1");
        }
        for number in 0..(REMEMBERED.get() + 10) {
            begin(&number.to_string(), "192.0.2.2").unwrap().undecided();
        }
        assert!(begin("victim", "192.0.2.3").is_err());
        assert_eq!(throttle.known().names.len(), 1);
        for number in 0..=FREE_FOR_ADDRESS {
            let _failed = begin(&format!("other {number}"), "192.0.2.4");
        }
        for number in 0..(REMEMBERED.get() + 10) {
            let _failed = throttle.begin(&number.to_string(), None, now);
        }
        assert!(begin("new", "192.0.2.4").is_err());
    }
}
