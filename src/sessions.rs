//! The `sessions` room: the port to stored conversations.
//!
//! A session belongs to the principal who started it and to nobody else. It is appended to once per finished turn;
//! versions make a lost update an error instead of a lost message.
//!
//! Promises that hold for every adapter are the functions of `contract`, which each of them runs as its tests.

pub mod memory;
pub mod sqlite;

#[cfg(test)]
mod contract;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::{RawMessage, SessionId};

/// The longest page a store gives out; a larger `limit` gets this many sessions and the offset of the rest.
pub const MAX_PAGE: u64 = 1000;

/// The `[sessions]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where conversations are kept. Default `sqlite`.
    pub store: StoreKind,
    /// The database file of the `sqlite` store; a relative path lies within `data_dir`. Default `witgate.db`.
    pub file: PathBuf,
    /// Hours after its last turn at which a session is forgotten; 0 keeps it for ever. Default 720 (30 days).
    pub expire_after_hours: u64,
    /// Minutes between two sweeps that delete expired sessions; 0 never sweeps (an expired session is invisible all
    /// the same). Default 60.
    pub purge_interval_minutes: u64,
    /// Sessions the `memory` store holds; beyond it the one whose last turn is oldest is forgotten. Default 10000.
    pub memory_max_sessions: usize,
    /// Bytes of messages the `memory` store holds, with the same rule. Default 268435456 (256 MiB).
    pub memory_max_bytes: usize,
    /// Milliseconds a call to the `sqlite` store may take before it is given up as failed. Default 10000.
    pub timeout_ms: u64,
}

/// The kinds of store there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// One file; survives restarts and power cuts.
    #[default]
    Sqlite,
    /// The process's memory; bounded, and empty after a restart.
    Memory,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: StoreKind::Sqlite,
            file: PathBuf::from("witgate.db"),
            expire_after_hours: 720,
            purge_interval_minutes: 60,
            memory_max_sessions: 10_000,
            memory_max_bytes: 256 * 1024 * 1024,
            timeout_ms: 10_000,
        }
    }
}

impl Config {
    /// Time between two sweeps; `None` where there are none.
    #[must_use]
    pub fn purge_interval(&self) -> Option<Duration> {
        let minutes = self.purge_interval_minutes;
        (minutes > 0 && self.expire_after_hours > 0).then(|| Duration::from_secs(minutes.saturating_mul(60)))
    }

    /// Sessions whose last turn is older than this moment (milliseconds since the epoch) have expired.
    fn expired_before(&self, now_ms: u64) -> u64 {
        match self.expire_after_hours {
            0 => 0,
            hours => now_ms.saturating_sub(hours.saturating_mul(3_600_000)),
        }
    }
}

/// A stored conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Number of turns appended so far; 0 does not occur in a store.
    pub version: u64,
    /// Start, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Last turn, in milliseconds since the epoch.
    pub updated_ms: u64,
    /// All turns, oldest first; each turn begins with a user message and ends with the assistant's reply, tool calls
    /// and results between them.
    pub turns: Vec<Vec<RawMessage>>,
}

/// A session without its messages, for lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionSummary {
    /// Its id.
    pub session_id: SessionId,
    /// Start, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Last turn, in milliseconds since the epoch.
    pub updated_ms: u64,
    /// Number of turns.
    pub turns: u64,
}

/// One page of a principal's sessions, latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionSummary>,
    /// Where the next page starts; `None` on the last one.
    pub next_offset: Option<u64>,
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Another turn was appended since the session was loaded.
    #[error("the session was changed by another request at the same time")]
    Conflict,
    /// There is no such session for this owner.
    #[error("there is no such session")]
    NotFound,
    /// The store itself failed; the text is for the log.
    #[error("the session store failed: {0}")]
    Store(String),
}

/// Where conversations are kept. Every adapter passes the same contract tests.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// The owner's session `id`; `None` when there is none, it has expired, or it belongs to someone else.
    async fn load(&self, id: &SessionId, owner: &str) -> Result<Option<Session>, SessionError>;

    /// Appends one turn, durably, and returns the new version. `expected_version` 0 creates the session.
    ///
    /// # Errors
    /// `Conflict` when the session's version is not `expected_version` (or it exists already, for 0); `NotFound` when
    /// it is gone or belongs to someone else.
    async fn append(
        &self,
        id: &SessionId,
        owner: &str,
        expected_version: u64,
        turn: &[RawMessage],
    ) -> Result<u64, SessionError>;

    /// Deletes the owner's session; false when there was none.
    async fn delete(&self, id: &SessionId, owner: &str) -> Result<bool, SessionError>;

    /// At most `limit` of the owner's sessions, latest first, from `offset` on.
    async fn list(&self, owner: &str, offset: u64, limit: u64) -> Result<SessionPage, SessionError>;

    /// Forgets every session that has expired and returns how many there were.
    async fn purge_expired(&self) -> Result<u64, SessionError>;
}

/// Sweeps `store` every `interval`, for as long as this future is polled; drop it to stop. A failed sweep is logged
/// and tried again at the next interval.
pub async fn purge_regularly(store: Arc<dyn SessionStore>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        match store.purge_expired().await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "deleted {count} expired chat sessions"),
            Err(error) => tracing::warn!(%error, "could not delete expired chat sessions: {error}"),
        }
    }
}

/// What time it is, in milliseconds since the epoch; tests bring their own.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::memory::MemoryStore;
    use super::*;

    #[test]
    fn zeros_switch_sweeps_off() {
        let interval = |purge_interval_minutes, expire_after_hours| {
            Config { purge_interval_minutes, expire_after_hours, ..Config::default() }.purge_interval()
        };
        assert_eq!(interval(60, 720), Some(Duration::from_secs(3600)));
        assert_eq!(interval(0, 720), None);
        assert_eq!(interval(60, 0), None);
        assert!(interval(u64::MAX, u64::MAX).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn sweeps_go_on_until_dropped() {
        let now = Arc::new(AtomicU64::new(0));
        let time = Arc::clone(&now);
        let clock: Clock = Arc::new(move || time.load(Ordering::SeqCst));
        let config = Config { expire_after_hours: 1, ..Config::default() };
        let store = Arc::new(MemoryStore::with_clock(config, clock));
        let sweeper = purge_regularly(Arc::clone(&store) as Arc<dyn SessionStore>, Duration::from_secs(60));
        let id = SessionId::generate();
        let test = async {
            for _ in 0..3 {
                store.append(&id, "o", 0, &[RawMessage::user("x")]).await.unwrap();
                now.fetch_add(3_600_001, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(61)).await;
                assert_eq!(store.purge_expired().await.unwrap(), 0, "the sweeper was here first");
            }
        };
        tokio::select! {
            () = sweeper => panic!("sweeping ended"),
            () = test => {}
        }
    }
}
