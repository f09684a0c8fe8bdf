//! Gateway calls that a client never saw, kept until it comes back with the results of its own.
//!
//! A turn that ends with calls of the client's tools shows the client these calls only, whatever the gateway's own tools
//! did before and beside them. When the client sends that message back with its results, the hidden rounds, calls and
//! results take their places again, or the model would meet a history it never wrote, and do once more what it has
//! done. Call ids alone do not tell conversations apart (some upstreams number their calls from 0), so what was hidden is
//! found by its caller, the conversation before it *and* the ids. The memory is bounded; what was forgotten leaves a
//! history that is still valid, only without the gateway's part.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use sha2::{Digest, Sha256};

use crate::domain::{MessageHead, Principal, RawMessage};

/// Most bytes of messages that are remembered in all; what was not asked for the longest leaves first.
const MAX_BYTES: usize = 64 << 20;

/// What turns hid, by caller, conversation and client call ids.
pub(super) struct HiddenCalls {
    memory: Mutex<Memory>,
}

struct Memory {
    turns: LruCache<Key, Vec<RawMessage>>,
    bytes: usize,
    max_bytes: usize,
}

type Key = [u8; 32];

impl HiddenCalls {
    /// Remembers at most `capacity` turns.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        let memory = Memory { turns: LruCache::new(capacity), bytes: 0, max_bytes: MAX_BYTES };
        Self { memory: Mutex::new(memory) }
    }

    /// Remembers the `messages` that belong in the place of a reply of which the client sees only these calls; `before`
    /// is the conversation as the client sent it.
    pub(super) fn remember(
        &self,
        principal: &Principal,
        before: &[RawMessage],
        client_call_ids: &[String],
        messages: Vec<RawMessage>,
    ) {
        let mut conversation = Conversation::of(principal);
        before.iter().filter_map(|message| message.head().ok()).for_each(|head| conversation.add(&head));
        self.memory().put(conversation.key(client_call_ids), messages);
    }

    /// Puts what was hidden back into a history; leaves it untouched where nothing was.
    pub(super) fn restore(&self, principal: &Principal, messages: &mut Vec<RawMessage>) {
        if self.memory().turns.is_empty() {
            return;
        }
        let keys = keys(principal, messages);
        let mut memory = self.memory();
        // From the end, so that what is put in does not move the places still to come.
        for (at, key) in keys.into_iter().rev() {
            if let Some(hidden) = memory.turns.get(&key) {
                messages.splice(at..=at, hidden.iter().cloned());
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn put(&mut self, key: Key, messages: Vec<RawMessage>) {
        let size = size_of(&messages);
        if size > self.max_bytes {
            return;
        }
        let mut gone = self.turns.push(key, messages);
        self.bytes += size;
        loop {
            self.bytes -= gone.map_or(0, |(_, messages)| size_of(&messages));
            if self.bytes <= self.max_bytes {
                break;
            }
            gone = self.turns.pop_lru();
        }
    }
}

fn size_of(messages: &[RawMessage]) -> usize {
    messages.iter().map(|message| message.as_bytes().len()).sum()
}

/// The places in a history where something may have been hidden.
fn keys(principal: &Principal, messages: &[RawMessage]) -> Vec<(usize, Key)> {
    let has_calls = |head: &MessageHead<'_>| head.role == "assistant" && !head.tool_call_ids().is_empty();
    let heads: Vec<_> =
        messages.iter().enumerate().filter_map(|(at, message)| Some((at, message.head().ok()?))).collect();
    // What follows the last of these places need not be hashed.
    let end = heads.iter().rposition(|(_, head)| has_calls(head)).map_or(0, |last| last + 1);
    let mut conversation = Conversation::of(principal);
    let mut keys = Vec::new();
    for (at, head) in &heads[..end] {
        if has_calls(head) {
            keys.push((*at, conversation.key(&head.tool_call_ids())));
        }
        conversation.add(head);
    }
    keys
}

/// What tells conversations apart: the caller, and every message's role, text and call ids. White space and the order
/// of keys do not count, since clients write their history anew.
struct Conversation(Sha256);

impl Conversation {
    fn of(principal: &Principal) -> Self {
        let mut conversation = Self(Sha256::new());
        conversation.add_text(&principal.id);
        conversation
    }

    fn add(&mut self, head: &MessageHead<'_>) {
        self.add_text(&head.role);
        self.add_text(&head.text());
        self.add_text(head.tool_call_id.as_deref().unwrap_or_default());
        self.add_ids(&head.tool_call_ids());
    }

    /// The key of a reply with these calls at this place.
    fn key(&self, call_ids: &[String]) -> Key {
        let mut with_ids = Self(self.0.clone());
        with_ids.add_ids(call_ids);
        with_ids.0.finalize().into()
    }

    fn add_ids(&mut self, ids: &[String]) {
        self.0.update(ids.len().to_le_bytes());
        ids.iter().for_each(|id| self.add_text(id));
    }

    fn add_text(&mut self, text: &str) {
        self.0.update(text.len().to_le_bytes());
        self.0.update(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{PrincipalKind, ToolCall};

    fn calls(ids: &[&str]) -> RawMessage {
        let call = |id: &&str| ToolCall { id: (*id).to_owned(), name: "n".into(), arguments: "{}".into() };
        RawMessage::assistant_with_calls(None, &ids.iter().map(call).collect::<Vec<_>>())
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn what_was_hidden_comes_back_for_its_own_principal_only() {
        let hidden = HiddenCalls::new(4);
        let owner = Principal::anonymous();
        let own = vec![calls(&["first"]), RawMessage::tool("first", "1"), calls(&["ours", "theirs", "more"])];
        hidden.remember(&owner, &[RawMessage::user("q")], &ids(&["theirs", "more"]), own.clone());
        let history =
            vec![RawMessage::user("q"), calls(&["theirs", "more"]), RawMessage::tool("theirs", "x")];
        let mut restored = history.clone();
        hidden.restore(&owner, &mut restored);
        assert_eq!(restored, [&history[..1], &own[..], &history[2..]].concat());
        let mut foreign = history.clone();
        hidden.restore(&Principal::new("other", PrincipalKind::User), &mut foreign);
        assert_eq!(foreign, history);
        // With a call less, the model would find one of its calls unanswered.
        let fewer = vec![RawMessage::user("q"), calls(&["theirs"]), RawMessage::tool("theirs", "x")];
        let mut same = fewer.clone();
        hidden.restore(&owner, &mut same);
        assert_eq!(same, fewer);
    }

    #[test]
    fn another_conversation_with_the_same_ids_gets_nothing() {
        let hidden = HiddenCalls::new(4);
        let owner = Principal::anonymous();
        let own = |result: &str| vec![calls(&["call_1", "call_0"]), RawMessage::tool("call_1", result)];
        hidden.remember(&owner, &[RawMessage::user("mine")], &ids(&["call_0"]), own("secret"));
        let history = |question: &str| vec![RawMessage::user(question), calls(&["call_0"])];
        let mut foreign = history("theirs");
        hidden.restore(&owner, &mut foreign);
        assert_eq!(foreign, history("theirs"));
        hidden.remember(&owner, &[RawMessage::user("theirs")], &ids(&["call_0"]), own("other"));
        for (question, result) in [("mine", "secret"), ("theirs", "other")] {
            let mut restored = history(question);
            hidden.restore(&owner, &mut restored);
            assert_eq!(restored[2], RawMessage::tool("call_1", result));
        }
    }

    #[test]
    fn memory_is_bounded_in_bytes_too() {
        let hidden = HiddenCalls::new(100);
        hidden.memory().max_bytes = 1000;
        let owner = Principal::anonymous();
        let remember = |id: &str, bytes: usize| {
            let own = vec![RawMessage::tool(id, &"x".repeat(bytes)), calls(&[id])];
            hidden.remember(&owner, &[], &ids(&[id]), own);
            let memory = hidden.memory();
            let sum: usize = memory.turns.iter().map(|(_, messages)| size_of(messages)).sum();
            assert_eq!(sum, memory.bytes);
            assert!(sum <= 1000, "{sum}");
        };
        let is_known = |id: &str| {
            let mut history = vec![calls(&[id])];
            hidden.restore(&owner, &mut history);
            history.len() == 2
        };
        remember("a", 200);
        remember("b", 200);
        assert!(is_known("a"));
        remember("c", 200);
        assert_eq!(["a", "b", "c"].map(is_known), [true, false, true], "`a` was asked for since");
        remember("c", 300);
        remember("d", 2000);
        assert_eq!(["a", "c", "d"].map(is_known), [true, true, false], "too large by itself");
        remember("e", 700);
        assert_eq!(["a", "c", "e"].map(is_known), [false, false, true]);
    }

    #[test]
    fn memory_is_bounded() {
        let hidden = HiddenCalls::new(2);
        for id in ["a", "b", "c"] {
            hidden.remember(&Principal::anonymous(), &[], &ids(&[id]), Vec::new());
        }
        assert_eq!(hidden.memory().turns.len(), 2);
    }
}
