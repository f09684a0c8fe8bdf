//! Sessions in the process's memory: for trying things out and for gateways that must not keep anything.
//!
//! Promises the contract of [`SessionStore`] but for durability, and bounds: at most `memory_max_sessions` sessions
//! and `memory_max_bytes` bytes of messages, beyond which the session whose last turn is oldest is forgotten. The
//! session just written is never the one to go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Clock, Config, MAX_PAGE, Session, SessionError, SessionPage, SessionStore, SessionSummary, system_clock,
};
use crate::domain::{RawMessage, SessionId};

/// The store.
pub struct MemoryStore {
    config: Config,
    clock: Clock,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    by_id: HashMap<SessionId, Stored>,
    /// Order of last turns, oldest first; the key is `Stored::stamp`.
    by_stamp: BTreeMap<u64, SessionId>,
    next_stamp: u64,
    bytes: usize,
}

struct Stored {
    owner: String,
    session: Session,
    bytes: usize,
    stamp: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, system_clock())
    }

    pub(super) fn with_clock(config: Config, clock: Clock) -> Self {
        Self { config, clock, sessions: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // No code between lock and unlock leaves the maps half changed, so a panic elsewhere spoils nothing.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expired_before(&self) -> u64 {
        self.config.expired_before((self.clock)())
    }
}

impl Sessions {
    fn remove(&mut self, id: &SessionId) -> Option<Stored> {
        let stored = self.by_id.remove(id)?;
        self.by_stamp.remove(&stored.stamp);
        self.bytes -= stored.bytes;
        Some(stored)
    }

    fn push(&mut self, id: &SessionId, owner: &str, now_ms: u64, turn: Vec<RawMessage>) -> u64 {
        let mut stored = self.remove(id).unwrap_or_else(|| Stored {
            owner: owner.to_owned(),
            session: Session {
                id: id.clone(),
                version: 0,
                created_ms: now_ms,
                updated_ms: now_ms,
                turns: Vec::new(),
            },
            bytes: 0,
            stamp: 0,
        });
        stored.bytes += turn.iter().map(|message| message.as_bytes().len()).sum::<usize>();
        stored.session.turns.push(turn);
        stored.session.version += 1;
        stored.session.updated_ms = now_ms;
        stored.stamp = self.next_stamp;
        let version = stored.session.version;
        self.next_stamp += 1;
        self.bytes += stored.bytes;
        self.by_stamp.insert(stored.stamp, id.clone());
        self.by_id.insert(id.clone(), stored);
        version
    }

    fn shrink(&mut self, max_sessions: usize, max_bytes: usize) {
        while self.by_id.len() > 1 && (self.by_id.len() > max_sessions || self.bytes > max_bytes) {
            let Some((_, oldest)) = self.by_stamp.pop_first() else { return };
            tracing::debug!(session = %oldest, "the memory store is full: forgot its oldest session");
            self.remove(&oldest);
        }
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn load(&self, id: &SessionId, owner: &str) -> Result<Option<Session>, SessionError> {
        let expired_before = self.expired_before();
        let sessions = self.lock();
        let found = sessions.by_id.get(id);
        let visible = found.filter(|s| s.owner == owner && s.session.updated_ms >= expired_before);
        Ok(visible.map(|stored| stored.session.clone()))
    }

    async fn append(
        &self,
        id: &SessionId,
        owner: &str,
        expected_version: u64,
        turn: &[RawMessage],
    ) -> Result<u64, SessionError> {
        // Copies, because a message may be a slice of a whole request body that would stay in memory with it.
        let copy = |m: &RawMessage| RawMessage::from_json(Bytes::copy_from_slice(m.as_bytes()));
        let turn: Vec<RawMessage> = turn.iter().map(copy).collect();
        let now_ms = (self.clock)();
        let expired_before = self.config.expired_before(now_ms);
        let mut sessions = self.lock();
        if sessions.by_id.get(id).is_some_and(|stored| stored.session.updated_ms < expired_before) {
            sessions.remove(id);
        }
        match sessions.by_id.get(id) {
            Some(stored) if stored.owner != owner => return Err(SessionError::NotFound),
            Some(stored) if stored.session.version != expected_version => return Err(SessionError::Conflict),
            None if expected_version != 0 => return Err(SessionError::NotFound),
            Some(_) | None => {}
        }
        let version = sessions.push(id, owner, now_ms, turn);
        sessions.shrink(self.config.memory_max_sessions, self.config.memory_max_bytes);
        Ok(version)
    }

    async fn delete(&self, id: &SessionId, owner: &str) -> Result<bool, SessionError> {
        let expired_before = self.expired_before();
        let mut sessions = self.lock();
        let Some(stored) = sessions.by_id.get(id).filter(|stored| stored.owner == owner) else {
            return Ok(false);
        };
        let visible = stored.session.updated_ms >= expired_before;
        sessions.remove(id);
        Ok(visible)
    }

    async fn list(&self, owner: &str, offset: u64, limit: u64) -> Result<SessionPage, SessionError> {
        let expired_before = self.expired_before();
        let sessions = self.lock();
        let mine =
            sessions.by_id.values().filter(|s| s.owner == owner && s.session.updated_ms >= expired_before);
        let mut all: Vec<SessionSummary> = mine.map(|stored| summary(&stored.session)).collect();
        drop(sessions);
        all.sort_unstable_by(|a, b| {
            b.updated_ms.cmp(&a.updated_ms).then_with(|| a.session_id.cmp(&b.session_id))
        });
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
        let length = usize::try_from(limit.clamp(1, MAX_PAGE)).unwrap_or(1).min(all.len() - start);
        let next_offset = (start + length < all.len()).then(|| offset + length as u64);
        Ok(SessionPage { sessions: all.drain(start..start + length).collect(), next_offset })
    }

    async fn purge_expired(&self) -> Result<u64, SessionError> {
        let expired_before = self.expired_before();
        let mut sessions = self.lock();
        let expired = sessions.by_id.values().filter(|stored| stored.session.updated_ms < expired_before);
        let ids: Vec<SessionId> = expired.map(|stored| stored.session.id.clone()).collect();
        for id in &ids {
            sessions.remove(id);
        }
        Ok(ids.len() as u64)
    }
}

fn summary(session: &Session) -> SessionSummary {
    SessionSummary {
        session_id: session.id.clone(),
        created_ms: session.created_ms,
        updated_ms: session.updated_ms,
        turns: session.version,
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    contract::tests!(MemoryStore::with_clock);

    fn id(name: &str) -> SessionId {
        SessionId::parse(name).unwrap()
    }

    #[tokio::test]
    async fn the_session_with_the_oldest_turn_makes_room() {
        let store = MemoryStore::new(Config { memory_max_sessions: 2, ..Config::default() });
        let turn = [RawMessage::user("hi")];
        store.append(&id("a"), "o", 0, &turn).await.unwrap();
        store.append(&id("b"), "o", 0, &turn).await.unwrap();
        store.append(&id("a"), "o", 1, &turn).await.unwrap();
        store.append(&id("c"), "o", 0, &turn).await.unwrap();
        assert!(store.load(&id("b"), "o").await.unwrap().is_none());
        assert!(store.load(&id("a"), "o").await.unwrap().is_some());
        assert!(store.load(&id("c"), "o").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn bytes_are_bounded_and_counted_back() {
        let store = MemoryStore::new(Config { memory_max_bytes: 300, ..Config::default() });
        let turn = [RawMessage::user(&"x".repeat(100))];
        for name in ["a", "b", "c", "d"] {
            store.append(&id(name), "o", 0, &turn).await.unwrap();
            assert!(store.lock().bytes <= 300);
        }
        assert_eq!(store.list("o", 0, 10).await.unwrap().sessions.len(), 2);
        for name in ["a", "b", "c", "d"] {
            store.delete(&id(name), "o").await.unwrap();
        }
        assert_eq!(store.lock().bytes, 0);
        assert!(store.lock().by_stamp.is_empty());
    }

    #[tokio::test]
    async fn a_session_larger_than_the_bound_stays_until_the_next_one() {
        let store = MemoryStore::new(Config { memory_max_bytes: 10, ..Config::default() });
        let turn = [RawMessage::user(&"x".repeat(100))];
        store.append(&id("a"), "o", 0, &turn).await.unwrap();
        assert!(store.load(&id("a"), "o").await.unwrap().is_some());
    }
}
