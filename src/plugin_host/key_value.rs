//! A plugin's own small store: in memory, bounded, with keys that may expire. It outlives calls and reloads of the
//! plugin, and ends with the gateway.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest key, in bytes.
pub(super) const MAX_KEY_BYTES: usize = 512;

/// Longest value, in bytes.
pub(super) const MAX_VALUE_BYTES: usize = 64 * 1024;

/// All keys and values of one plugin, in bytes.
pub(super) const MAX_TOTAL_BYTES: usize = 4 * 1024 * 1024;

/// What an entry costs beside its key and value, in bytes.
const ENTRY_BYTES: usize = 96;

/// Most keys one listing returns.
const MAX_LISTED: usize = 1000;

/// Why nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreError {
    /// Key or value is longer than this many bytes.
    TooLarge(u32),
    /// The store holds this many bytes already.
    Full(u32),
    /// A counter's value is not a number.
    NotANumber,
}

/// See the module's words.
#[derive(Default)]
pub(super) struct KeyValueStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<String, Entry>,
    bytes: usize,
}

struct Entry {
    value: Vec<u8>,
    expires: Option<Instant>,
}

impl KeyValueStore {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        inner.forget_expired(key);
        inner.entries.get(key).map(|entry| entry.value.clone())
    }

    /// Sets a key; with `only_new`, only one that is not there. Tells whether it was set.
    pub(super) fn set(
        &self,
        key: String,
        value: Vec<u8>,
        ttl: Option<Duration>,
        only_new: bool,
    ) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        inner.forget_expired(&key);
        if only_new && inner.entries.contains_key(&key) {
            return Ok(false);
        }
        inner.insert(key, value, ttl.map(|ttl| Instant::now() + ttl))?;
        Ok(true)
    }

    /// Adds to a counter and returns it. A new counter lives for `ttl`; a running one keeps its end.
    pub(super) fn increment(&self, key: String, by: i64, ttl: Option<Duration>) -> Result<i64, StoreError> {
        let mut inner = self.lock();
        inner.forget_expired(&key);
        let (count, expires) = match inner.entries.get(&key) {
            Some(entry) => {
                let text = std::str::from_utf8(&entry.value).map_err(|_| StoreError::NotANumber)?;
                (text.parse::<i64>().map_err(|_| StoreError::NotANumber)?, entry.expires)
            }
            None => (0, ttl.map(|ttl| Instant::now() + ttl)),
        };
        let count = count.saturating_add(by);
        inner.insert(key, count.to_string().into_bytes(), expires)?;
        Ok(count)
    }

    /// Removes a key, and tells whether it was there.
    pub(super) fn delete(&self, key: &str) -> bool {
        let mut inner = self.lock();
        inner.forget_expired(key);
        inner.remove(key)
    }

    /// Keys that begin with `prefix`, in order, at most 1000.
    pub(super) fn keys(&self, prefix: &str) -> Vec<String> {
        let now = Instant::now();
        let inner = self.lock();
        let from = inner.entries.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, entry)| !entry.is_over(now))
            .map(|(key, _)| key.clone())
            .take(MAX_LISTED)
            .collect()
    }

    /// Bytes held now.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, key: String, value: Vec<u8>, expires: Option<Instant>) -> Result<(), StoreError> {
        if key.len() > MAX_KEY_BYTES {
            return Err(StoreError::TooLarge(MAX_KEY_BYTES as u32));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(StoreError::TooLarge(MAX_VALUE_BYTES as u32));
        }
        let entry = Entry { value, expires };
        let before = self.entries.get(&key).map_or(0, |old| old.cost(&key));
        let cost = entry.cost(&key);
        if self.bytes - before + cost > MAX_TOTAL_BYTES {
            self.forget_all_expired();
            let before = self.entries.get(&key).map_or(0, |old| old.cost(&key));
            if self.bytes - before + cost > MAX_TOTAL_BYTES {
                return Err(StoreError::Full(MAX_TOTAL_BYTES as u32));
            }
        }
        self.remove(&key);
        self.bytes += cost;
        self.entries.insert(key, entry);
        Ok(())
    }

    fn remove(&mut self, key: &str) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.bytes -= entry.cost(key);
        true
    }

    fn forget_expired(&mut self, key: &str) {
        if self.entries.get(key).is_some_and(|entry| entry.is_over(Instant::now())) {
            self.remove(key);
        }
    }

    fn forget_all_expired(&mut self) {
        let now = Instant::now();
        self.entries.retain(|_, entry| !entry.is_over(now));
        self.bytes = self.entries.iter().map(|(key, entry)| entry.cost(key)).sum();
    }
}

impl Entry {
    fn cost(&self, key: &str) -> usize {
        key.len() + self.value.len() + ENTRY_BYTES
    }

    fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn sets_and_counts() {
        let store = KeyValueStore::default();
        assert_eq!(store.set("a".into(), b"1".to_vec(), None, false), Ok(true));
        assert_eq!(store.set("a".into(), b"2".to_vec(), None, true), Ok(false));
        assert_eq!(store.increment("a".into(), 4, None), Ok(5));
        assert_eq!(store.increment("b".into(), -1, None), Ok(-1));
        assert_eq!(store.keys(""), ["a", "b"]);
        assert!(store.delete("a") && !store.delete("a"));
        store.set("text".into(), b"x".to_vec(), None, false).unwrap();
        assert_eq!(store.increment("text".into(), 1, None), Err(StoreError::NotANumber));
    }

    #[test]
    fn keys_expire() {
        let store = KeyValueStore::default();
        store.set("a".into(), b"1".to_vec(), GONE, false).unwrap();
        assert_eq!(store.get("a"), None);
        store.set("a".into(), b"1".to_vec(), GONE, false).unwrap();
        assert_eq!(store.keys(""), [""; 0]);
        assert_eq!(store.set("a".into(), b"1".to_vec(), None, true), Ok(true));
        assert_eq!(store.get("a"), Some(b"1".to_vec()));
    }

    #[test]
    fn the_store_is_bounded() {
        let store = KeyValueStore::default();
        let value = vec![0; MAX_VALUE_BYTES];
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        assert_eq!(store.set(long, vec![], None, false), Err(StoreError::TooLarge(512)));
        assert!(matches!(
            store.set("k".into(), vec![0; MAX_VALUE_BYTES + 1], None, false),
            Err(StoreError::TooLarge(_))
        ));
        let full = (0..1000).find_map(|n| store.set(format!("{n}"), value.clone(), None, false).err());
        assert_eq!(full, Some(StoreError::Full(MAX_TOTAL_BYTES as u32)));
        assert!(store.bytes() <= MAX_TOTAL_BYTES);
        // A key that is replaced needs no more room than it had.
        assert_eq!(store.set("0".into(), value, None, false), Ok(true));
        for key in store.keys("") {
            store.delete(&key);
        }
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn what_expired_makes_room() {
        let store = KeyValueStore::default();
        for n in 0..63 {
            store.set(format!("{n}"), vec![0; MAX_VALUE_BYTES], GONE, false).unwrap();
        }
        for n in 100..163 {
            assert_eq!(store.set(format!("{n}"), vec![0; MAX_VALUE_BYTES], None, false), Ok(true));
        }
    }
}
