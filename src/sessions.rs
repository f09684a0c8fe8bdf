//! The `sessions` room: the port to stored conversations.
//!
//! A session belongs to the principal who started it and to nobody else. It is appended to once per finished turn;
//! versions make a lost update an error instead of a lost message.

use async_trait::async_trait;
use serde::Serialize;

use crate::domain::{RawMessage, SessionId};

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
