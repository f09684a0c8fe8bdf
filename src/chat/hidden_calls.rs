//! Gateway calls that a client never saw, kept until it comes back with the results of its own.
//!
//! A reply that calls both the client's and the gateway's tools is shown to the client with its own calls only. When
//! the client sends that message back with its results, the gateway's calls and results are put beside them again, or
//! the model would meet a history it never wrote. Call ids alone do not tell conversations apart (some upstreams number
//! their calls from 0), so a round is found by its caller, its ids *and* the conversation before it. The memory is
//! bounded; what was forgotten leaves a history that is still valid, only without the gateway's part.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use sha2::{Digest, Sha256};

use crate::domain::{Principal, RawMessage};

/// Rounds remembered under one call id; more conversations than this with the same id push out the oldest.
const MAX_ROUNDS_PER_ID: usize = 64;

/// What one mixed reply hid.
#[derive(Debug)]
pub(super) struct HiddenRound {
    /// The assistant message with every call, the client's included.
    pub(super) assistant: RawMessage,
    /// The results of the gateway's calls.
    pub(super) results: Vec<RawMessage>,
}

/// Hidden rounds by principal and client call id, each with the fingerprint of the conversation before it.
pub(super) struct HiddenCalls {
    rounds: Mutex<LruCache<(String, String), RoundsOfId>>,
}

type Fingerprint = [u8; 32];
type RoundsOfId = Vec<(Fingerprint, Arc<HiddenRound>)>;

impl HiddenCalls {
    /// Remembers at most `capacity` client calls.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self { rounds: Mutex::new(LruCache::new(capacity)) }
    }

    /// Remembers `round` under each of the client's call ids; `before` is the conversation as the client sent it.
    pub(super) fn remember(
        &self,
        principal: &Principal,
        before: &[RawMessage],
        client_call_ids: &[&str],
        round: HiddenRound,
    ) {
        let round = Arc::new(round);
        let fingerprint = fingerprint(before);
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        for id in client_call_ids {
            let of_id = rounds.get_or_insert_mut((principal.id.clone(), (*id).to_owned()), Vec::new);
            of_id.retain(|(known, _)| *known != fingerprint);
            if of_id.len() >= MAX_ROUNDS_PER_ID {
                of_id.remove(0);
            }
            of_id.push((fingerprint, Arc::clone(&round)));
        }
    }

    /// Puts hidden calls and results back into a history; leaves it untouched where nothing was hidden.
    pub(super) fn restore(&self, principal: &Principal, messages: &mut Vec<RawMessage>) {
        if self.rounds.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        let found: Vec<(usize, Arc<HiddenRound>)> = (0..messages.len())
            .filter_map(|at| {
                self.hidden_in(principal, &messages[..at], &messages[at]).map(|round| (at, round))
            })
            .collect();
        // From the end, so that what is put in does not move the places still to come.
        for (at, round) in found.into_iter().rev() {
            messages[at] = round.assistant.clone();
            messages.splice(at + 1..=at, round.results.iter().cloned());
        }
    }

    fn hidden_in(
        &self,
        principal: &Principal,
        before: &[RawMessage],
        message: &RawMessage,
    ) -> Option<Arc<HiddenRound>> {
        let head = message.head().ok()?;
        if head.role != "assistant" {
            return None;
        }
        let id = head.tool_call_ids().into_iter().next()?;
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        // The conversation is hashed only where there is something to find.
        let of_id = rounds.get(&(principal.id.clone(), id))?;
        let fingerprint = fingerprint(before);
        of_id.iter().find(|(known, _)| *known == fingerprint).map(|(_, round)| Arc::clone(round))
    }
}

/// What tells conversations apart: every message's role, text and call ids. White space and the order of keys do not
/// count, since clients write their history anew.
fn fingerprint(messages: &[RawMessage]) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    for message in messages {
        let Ok(head) = message.head() else { continue };
        add(&head.role);
        add(&head.text());
        add(head.tool_call_id.as_deref().unwrap_or_default());
        head.tool_call_ids().iter().for_each(|id| add(id));
    }
    hash.finalize().into()
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
        hidden.remember(&owner, &[RawMessage::user("q")], &["theirs"], round);
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
    fn another_conversation_with_the_same_ids_gets_nothing() {
        let hidden = HiddenCalls::new(4);
        let owner = Principal::anonymous();
        let round = |result: &str| HiddenRound {
            assistant: RawMessage::assistant_with_calls(None, &[call("call_1"), call("call_0")]),
            results: vec![RawMessage::tool("call_1", result)],
        };
        hidden.remember(&owner, &[RawMessage::user("mine")], &["call_0"], round("secret"));
        let history = |question: &str| {
            vec![RawMessage::user(question), RawMessage::assistant_with_calls(None, &[call("call_0")])]
        };
        let mut foreign = history("theirs");
        hidden.restore(&owner, &mut foreign);
        assert_eq!(foreign, history("theirs"));
        hidden.remember(&owner, &[RawMessage::user("theirs")], &["call_0"], round("other"));
        for (question, result) in [("mine", "secret"), ("theirs", "other")] {
            let mut restored = history(question);
            hidden.restore(&owner, &mut restored);
            assert_eq!(restored[2], RawMessage::tool("call_1", result));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let hidden = HiddenCalls::new(2);
        for id in ["a", "b", "c"] {
            let round = HiddenRound { assistant: RawMessage::assistant("x"), results: vec![] };
            hidden.remember(&Principal::anonymous(), &[], &[id], round);
        }
        assert_eq!(hidden.rounds.lock().unwrap().len(), 2);
    }
}
