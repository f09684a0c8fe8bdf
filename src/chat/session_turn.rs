//! Turns of stored conversations: one at a time per session, history bounded, appended once when the turn is complete.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::engine::{ChatEngine, INCLUDE_USAGE, Parts};
use super::turn::TurnOutcome;
use super::{ChatError, ChatErrorKind, ChatMessage, history};
use crate::domain::{CompletionRequest, Principal, RawMessage, SessionId};
use crate::sessions::Session;

/// A session as its owner reads it.
#[derive(Debug, Serialize)]
pub struct SessionTranscript {
    /// Its id.
    pub session_id: SessionId,
    /// Start, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Last turn, in milliseconds since the epoch.
    pub updated_ms: u64,
    /// Number of turns.
    pub turns: u64,
    /// Every message in the OpenAI form, tool calls and results included, oldest first.
    pub messages: Vec<Box<RawValue>>,
}

impl From<Session> for SessionTranscript {
    fn from(session: Session) -> Self {
        let json = |message: &RawMessage| RawValue::from_string(message.as_str().to_owned()).ok();
        Self {
            messages: session.turns.iter().flatten().filter_map(json).collect(),
            session_id: session.id,
            created_ms: session.created_ms,
            updated_ms: session.updated_ms,
            turns: session.version,
        }
    }
}

/// One gate per session, so that its turns run one after the other.
#[derive(Default)]
pub(super) struct SessionGates {
    gates: Mutex<HashMap<(String, SessionId), Weak<Semaphore>>>,
}

impl SessionGates {
    /// Waits for the session's previous turn; `None` when that takes longer than `wait`.
    async fn enter(&self, owner: &str, id: &SessionId, wait: Duration) -> Option<OwnedSemaphorePermit> {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            // Gates of finished turns are dropped here, so the map holds running turns and little more.
            if gates.len() >= 64 && gates.len().is_power_of_two() {
                gates.retain(|_, gate| gate.strong_count() > 0);
            }
            let slot = gates.entry((owner.to_owned(), id.clone())).or_default();
            slot.upgrade().unwrap_or_else(|| {
                let gate = Arc::new(Semaphore::new(1));
                *slot = Arc::downgrade(&gate);
                gate
            })
        };
        tokio::time::timeout(wait, gate.acquire_owned()).await.ok()?.ok()
    }
}

/// A session with its new message, held for one turn.
pub(super) struct OpenSession {
    pub(super) id: SessionId,
    owner: String,
    version: u64,
    model: String,
    messages: Vec<RawMessage>,
    question: RawMessage,
    /// Held until the turn is stored; a new session needs none.
    _gate: Option<OwnedSemaphorePermit>,
}

impl ChatEngine {
    /// Loads (or starts) the session of `message` and waits for its previous turn.
    pub(super) async fn open_session(
        &self,
        message: ChatMessage,
        owner: &Principal,
    ) -> Result<OpenSession, ChatError> {
        let parts = self.parts();
        let question = RawMessage::user(&message.message);
        let (id, version, turns, gate) = match message.session_id {
            None => (SessionId::generate(), 0, Vec::new(), None),
            Some(id) => {
                let wait = Duration::from_millis(parts.config.session_wait_ms);
                let gate = parts.gates.enter(&owner.id, &id, wait).await;
                let gate = gate.ok_or_else(|| ChatError::from(ChatErrorKind::SessionBusy))?;
                let loaded = parts.sessions.load(&id, &owner.id).await;
                let session = loaded.map_err(|e| ChatError::of_store(&e, Some(&id)))?;
                let session =
                    session.ok_or_else(|| ChatError::from(ChatErrorKind::SessionNotFound(id.clone())))?;
                (id, session.version, session.turns, Some(gate))
            }
        };
        let mut messages: Vec<RawMessage> =
            parts.config.system_prompt.iter().map(|text| RawMessage::system(text)).collect();
        messages.extend(history::bounded(turns, parts.config.max_history_tokens).await);
        messages.push(question.clone());
        Ok(OpenSession {
            id,
            owner: owner.id.clone(),
            version,
            model: message.model,
            messages,
            question,
            _gate: gate,
        })
    }
}

impl OpenSession {
    /// The request for the model.
    pub(super) fn request(&self, stream: bool) -> CompletionRequest {
        let mut request = CompletionRequest::of_messages(&self.model, self.messages.clone());
        request.stream = stream;
        request.stream_options = stream.then_some(INCLUDE_USAGE);
        request
    }

    /// Stores the finished turn.
    pub(super) async fn append(&self, parts: &Parts, outcome: &TurnOutcome) -> Result<(), ChatError> {
        let mut turn = Vec::with_capacity(outcome.messages.len() + 1);
        turn.push(self.question.clone());
        turn.extend(outcome.messages.iter().cloned());
        let appended = parts.sessions.append(&self.id, &self.owner, self.version, &turn).await;
        appended.map(|_version| ()).map_err(|e| ChatError::of_store(&e, Some(&self.id)))
    }
}
