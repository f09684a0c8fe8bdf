//! Gateway calls that a client never saw, kept until it comes back with the results of its own.
//!
//! A reply that calls both the client's and the gateway's tools is shown to the client with its own calls only. When
//! the client sends that message back with its results, the gateway's calls and results are put beside them again, or
//! the model would meet a history it never wrote. The memory is bounded; what was forgotten leaves a history that is
//! still valid, only without the gateway's part.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::domain::{Principal, RawMessage};

/// What one mixed reply hid.
#[derive(Debug)]
pub(super) struct HiddenRound {
    /// The assistant message with every call, the client's included.
    pub(super) assistant: RawMessage,
    /// The results of the gateway's calls.
    pub(super) results: Vec<RawMessage>,
}

/// Hidden rounds by principal and client call id.
pub(super) struct HiddenCalls {
    rounds: Mutex<LruCache<(String, String), Arc<HiddenRound>>>,
}

impl HiddenCalls {
    /// Remembers at most `capacity` client calls.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self { rounds: Mutex::new(LruCache::new(capacity)) }
    }

    /// Remembers `round` under each of the client's call ids.
    pub(super) fn remember(&self, principal: &Principal, client_call_ids: &[&str], round: HiddenRound) {
        let round = Arc::new(round);
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        for id in client_call_ids {
            rounds.put((principal.id.clone(), (*id).to_owned()), Arc::clone(&round));
        }
    }

    /// Puts hidden calls and results back into a history; leaves it untouched where nothing was hidden.
    pub(super) fn restore(&self, principal: &Principal, messages: &mut Vec<RawMessage>) {
        if self.rounds.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        let mut at = 0;
        while at < messages.len() {
            let round = self.hidden_in(principal, &messages[at]);
            at += 1;
            if let Some(round) = round {
                messages[at - 1] = round.assistant.clone();
                let count = round.results.len();
                messages.splice(at..at, round.results.iter().cloned());
                at += count;
            }
        }
    }

    fn hidden_in(&self, principal: &Principal, message: &RawMessage) -> Option<Arc<HiddenRound>> {
        let head = message.head().ok()?;
        if head.role != "assistant" {
            return None;
        }
        let id = head.tool_call_ids().into_iter().next()?;
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.get(&(principal.id.clone(), id)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ToolCall;

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.into(), name: "n".into(), arguments: "{}".into() }
    }

    #[test]
    fn hidden_calls_come_back_for_their_own_principal_only() {
        let hidden = HiddenCalls::new(4);
        let owner = Principal::anonymous();
        let full = RawMessage::assistant_with_calls(None, &[call("ours"), call("theirs")]);
        let round = HiddenRound { assistant: full.clone(), results: vec![RawMessage::tool("ours", "r")] };
        hidden.remember(&owner, &["theirs"], round);
        let seen = RawMessage::assistant_with_calls(None, &[call("theirs")]);
        let history = vec![RawMessage::user("q"), seen, RawMessage::tool("theirs", "x")];
        let mut restored = history.clone();
        hidden.restore(&owner, &mut restored);
        assert_eq!(restored.len(), 4);
        assert_eq!((&restored[1], &restored[2]), (&full, &RawMessage::tool("ours", "r")));
        let mut foreign = history.clone();
        hidden.restore(&Principal::new("other", crate::domain::PrincipalKind::User), &mut foreign);
        assert_eq!(foreign, history);
    }

    #[test]
    fn memory_is_bounded() {
        let hidden = HiddenCalls::new(2);
        for id in ["a", "b", "c"] {
            let round = HiddenRound { assistant: RawMessage::assistant("x"), results: vec![] };
            hidden.remember(&Principal::anonymous(), &[id], round);
        }
        assert_eq!(hidden.rounds.lock().unwrap().len(), 2);
    }
}
