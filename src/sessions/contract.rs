//! What every session store must do, as tests: each adapter runs all of them with `contract::tests!`.
//!
//! A store is made from a [`Config`] and a clock the test moves by hand, so nothing here waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{Clock, Config, Session, SessionError, SessionStore};
use crate::domain::{RawMessage, SessionId};

/// Defines one test per function of this file. The argument makes a store from a `Config` and a `Clock`.
macro_rules! tests {
    ($make:expr) => {
        $crate::sessions::contract::tests!(@each $make;
            turns_come_back_in_order, bytes_come_back_untouched, stale_versions_conflict,
            missing_sessions_are_not_found, foreign_sessions_do_not_exist, deleted_sessions_are_gone,
            lists_are_paged_latest_first, extreme_pages_are_bounded, sessions_expire_after_their_last_turn,
            zero_hours_never_expire, an_expired_id_can_start_anew, purge_counts_what_it_deletes,
            one_of_many_concurrent_turns_wins, concurrent_sessions_do_not_disturb_each_other);
    };
    (@each $make:expr; $($name:ident),+) => {
        mod contract_tests {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                $crate::sessions::contract::$name($make).await;
            })+
        }
    };
}
pub(super) use tests;

const HOUR_MS: u64 = 3_600_000;

/// A clock at 1,000,000,000,000 ms that only [`Hand::advance`] moves.
#[derive(Clone)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000_000_000)))
    }

    fn clock(&self) -> Clock {
        let time = Arc::clone(&self.0);
        Arc::new(move || time.load(Ordering::SeqCst))
    }

    fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn id(name: &str) -> SessionId {
    SessionId::parse(name).unwrap()
}

fn turn(text: &str) -> Vec<RawMessage> {
    vec![RawMessage::user(text), RawMessage::assistant(&format!("re: {text}"))]
}

async fn must_load(store: &impl SessionStore, name: &str, owner: &str) -> Session {
    store.load(&id(name), owner).await.unwrap().unwrap()
}

async fn exists(store: &impl SessionStore, name: &str, owner: &str) -> bool {
    store.load(&id(name), owner).await.unwrap().is_some()
}

pub(super) async fn turns_come_back_in_order<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let hand = Hand::new();
    let store = make(Config::default(), hand.clock());
    let start = hand.now();
    for (number, text) in ["one", "two", "three"].into_iter().enumerate() {
        let number = number as u64;
        assert_eq!(store.append(&id("a"), "o", number, &turn(text)).await.unwrap(), number + 1);
        hand.advance(5);
    }
    let expected = Session {
        id: id("a"),
        version: 3,
        created_ms: start,
        updated_ms: start + 10,
        turns: vec![turn("one"), turn("two"), turn("three")],
    };
    assert_eq!(must_load(&store, "a", "o").await, expected);
}

pub(super) async fn bytes_come_back_untouched<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let store = make(Config::default(), Hand::new().clock());
    let deep = format!(r#"{{"role":"user","content":"x","deep":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    let long = format!(r#"{{"role":"user","content":"{}"}}"#, "long ☃ ".repeat(200_000));
    let messages = [
        r#"{"role":"user","content":"Grüße, 世界 👩‍👩‍👧 \u0000 \ud83d\ude00 \ud800 \/"}"#,
        "{ \"content\" :\t\"spaces\",\r\n \"role\": \"user\" }",
        r#"{"role":"user","content":null,"n":1.0,"n":1.00,"big":123456789012345678901234567890,"e":-0E+400}"#,
        r#"{"role":"assistant","content":"quote \" ] , [ { } ' -- ; DROP TABLE sessions"}"#,
        &deep,
        &long,
    ];
    let turn: Vec<RawMessage> =
        messages.iter().map(|m| RawMessage::from_json(Bytes::copy_from_slice(m.as_bytes()))).collect();
    store.append(&id("a"), "öwner 'x'", 0, &turn).await.unwrap();
    store.append(&id("a"), "öwner 'x'", 1, &[]).await.unwrap();
    let loaded = must_load(&store, "a", "öwner 'x'").await;
    assert_eq!(loaded.turns.len(), 2);
    for (stored, given) in loaded.turns[0].iter().zip(messages) {
        assert_eq!(stored.as_bytes(), given.as_bytes());
    }
    assert_eq!(loaded.turns[0].len(), messages.len());
    assert!(loaded.turns[1].is_empty());
}

pub(super) async fn stale_versions_conflict<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let store = make(Config::default(), Hand::new().clock());
    store.append(&id("a"), "o", 0, &turn("1")).await.unwrap();
    store.append(&id("a"), "o", 1, &turn("2")).await.unwrap();
    for stale in [0, 1, 3, u64::MAX] {
        let error = store.append(&id("a"), "o", stale, &turn("lost")).await.unwrap_err();
        assert!(matches!(error, SessionError::Conflict), "version {stale}: {error}");
    }
    assert_eq!(must_load(&store, "a", "o").await.turns, [turn("1"), turn("2")]);
}

pub(super) async fn missing_sessions_are_not_found<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let store = make(Config::default(), Hand::new().clock());
    assert!(!exists(&store, "none", "o").await);
    assert!(!store.delete(&id("none"), "o").await.unwrap());
    for version in [1, u64::MAX] {
        let error = store.append(&id("none"), "o", version, &turn("1")).await.unwrap_err();
        assert!(matches!(error, SessionError::NotFound), "{error}");
    }
    let page = store.list("o", 0, 10).await.unwrap();
    assert_eq!((page.sessions.len(), page.next_offset), (0, None));
    assert_eq!(store.purge_expired().await.unwrap(), 0);
}

pub(super) async fn foreign_sessions_do_not_exist<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let store = make(Config::default(), Hand::new().clock());
    store.append(&id("a"), "ann", 0, &turn("secret")).await.unwrap();
    for stranger in ["bob", "", "ANN", "ann ", "%"] {
        assert!(!exists(&store, "a", stranger).await);
        assert!(!store.delete(&id("a"), stranger).await.unwrap());
        assert!(store.list(stranger, 0, 10).await.unwrap().sessions.is_empty());
        for version in [0, 1, 2] {
            let error = store.append(&id("a"), stranger, version, &turn("x")).await.unwrap_err();
            assert!(matches!(error, SessionError::NotFound), "version {version}: {error}");
        }
    }
    assert_eq!(must_load(&store, "a", "ann").await.turns, [turn("secret")]);
}

pub(super) async fn deleted_sessions_are_gone<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let store = make(Config::default(), Hand::new().clock());
    store.append(&id("a"), "o", 0, &turn("1")).await.unwrap();
    store.append(&id("b"), "o", 0, &turn("2")).await.unwrap();
    assert!(store.delete(&id("a"), "o").await.unwrap());
    assert!(!store.delete(&id("a"), "o").await.unwrap());
    assert!(!exists(&store, "a", "o").await);
    let error = store.append(&id("a"), "o", 1, &turn("late")).await.unwrap_err();
    assert!(matches!(error, SessionError::NotFound), "{error}");
    assert_eq!(store.append(&id("a"), "o", 0, &turn("new")).await.unwrap(), 1);
    assert_eq!(must_load(&store, "a", "o").await.turns, [turn("new")]);
    assert_eq!(must_load(&store, "b", "o").await.turns, [turn("2")]);
}

pub(super) async fn lists_are_paged_latest_first<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let hand = Hand::new();
    let store = make(Config::default(), hand.clock());
    // c, d and e share one moment: those are ordered by id.
    for name in ["a", "b", "e", "d", "c"] {
        if ["a", "b", "e"].contains(&name) {
            hand.advance(1);
        }
        store.append(&id(name), "o", 0, &turn(name)).await.unwrap();
        store.append(&id(&format!("other-{name}")), "p", 0, &turn(name)).await.unwrap();
    }
    hand.advance(1);
    store.append(&id("a"), "o", 1, &turn("again")).await.unwrap();
    let (mut seen, mut offset, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(from) = offset {
        let page = store.list("o", from, 2).await.unwrap();
        assert!(page.sessions.len() <= 2);
        seen.extend(page.sessions.into_iter().map(|s| (s.session_id.to_string(), s.turns)));
        offset = page.next_offset;
        pages += 1;
    }
    let expected = [("a", 2), ("c", 1), ("d", 1), ("e", 1), ("b", 1)];
    assert_eq!(seen, expected.map(|(name, turns)| (name.to_owned(), turns)));
    assert_eq!(pages, 3);
    let whole = store.list("o", 0, 5).await.unwrap();
    assert_eq!((whole.sessions.len(), whole.next_offset), (5, None));
    assert_eq!((whole.sessions[0].updated_ms, whole.sessions[0].created_ms), (hand.now(), hand.now() - 3));
}

pub(super) async fn extreme_pages_are_bounded<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let store = make(Config::default(), Hand::new().clock());
    store.append(&id("a"), "o", 0, &turn("1")).await.unwrap();
    store.append(&id("b"), "o", 0, &turn("1")).await.unwrap();
    let page = store.list("o", u64::MAX, u64::MAX).await.unwrap();
    assert_eq!((page.sessions.len(), page.next_offset), (0, None));
    let page = store.list("o", 0, u64::MAX).await.unwrap();
    assert_eq!((page.sessions.len(), page.next_offset), (2, None));
    // A page of nothing would send its reader round in circles.
    let page = store.list("o", 0, 0).await.unwrap();
    assert_eq!((page.sessions.len(), page.next_offset), (1, Some(1)));
}

pub(super) async fn sessions_expire_after_their_last_turn<S: SessionStore>(
    make: impl FnOnce(Config, Clock) -> S,
) {
    let hand = Hand::new();
    let store = make(Config { expire_after_hours: 2, ..Config::default() }, hand.clock());
    store.append(&id("a"), "o", 0, &turn("1")).await.unwrap();
    hand.advance(HOUR_MS);
    store.append(&id("a"), "o", 1, &turn("2")).await.unwrap();
    hand.advance(2 * HOUR_MS);
    assert!(exists(&store, "a", "o").await);
    hand.advance(1);
    assert!(!exists(&store, "a", "o").await);
    assert!(store.list("o", 0, 10).await.unwrap().sessions.is_empty());
    let error = store.append(&id("a"), "o", 2, &turn("3")).await.unwrap_err();
    assert!(matches!(error, SessionError::NotFound), "{error}");
    assert!(!store.delete(&id("a"), "o").await.unwrap());
}

pub(super) async fn zero_hours_never_expire<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let hand = Hand::new();
    let store = make(Config { expire_after_hours: 0, ..Config::default() }, hand.clock());
    store.append(&id("a"), "o", 0, &turn("1")).await.unwrap();
    hand.advance(1_000_000 * HOUR_MS);
    assert_eq!(store.purge_expired().await.unwrap(), 0);
    assert!(exists(&store, "a", "o").await);
}

pub(super) async fn an_expired_id_can_start_anew<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let hand = Hand::new();
    let store = make(Config { expire_after_hours: 1, ..Config::default() }, hand.clock());
    store.append(&id("a"), "o", 0, &turn("old")).await.unwrap();
    store.append(&id("a"), "o", 1, &turn("old")).await.unwrap();
    hand.advance(HOUR_MS + 1);
    assert_eq!(store.append(&id("a"), "o", 0, &turn("new")).await.unwrap(), 1);
    let session = must_load(&store, "a", "o").await;
    assert_eq!((session.turns, session.created_ms), (vec![turn("new")], hand.now()));
}

pub(super) async fn purge_counts_what_it_deletes<S: SessionStore>(make: impl FnOnce(Config, Clock) -> S) {
    let hand = Hand::new();
    let store = make(Config { expire_after_hours: 1, ..Config::default() }, hand.clock());
    // More than one batch of the SQLite store.
    for number in 0..450 {
        store.append(&id(&format!("old-{number}")), "o", 0, &turn("x")).await.unwrap();
    }
    hand.advance(HOUR_MS + 1);
    store.append(&id("fresh"), "o", 0, &turn("y")).await.unwrap();
    assert_eq!(store.purge_expired().await.unwrap(), 450);
    assert_eq!(store.purge_expired().await.unwrap(), 0);
    assert_eq!(must_load(&store, "fresh", "o").await.turns, [turn("y")]);
}

pub(super) async fn one_of_many_concurrent_turns_wins<S: SessionStore + 'static>(
    make: impl FnOnce(Config, Clock) -> S,
) {
    let store = Arc::new(make(Config::default(), Hand::new().clock()));
    for version in 0..3u64 {
        let tries = (0..100).map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                store.append(&id("a"), "o", version, &turn(&format!("{version}/{number}"))).await
            })
        });
        let (mut won, mut lost) = (0, 0);
        for attempt in tries.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Ok(new) => {
                    assert_eq!(new, version + 1);
                    won += 1;
                }
                Err(SessionError::Conflict) => lost += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((won, lost), (1, 99));
    }
    assert_eq!(must_load(&*store, "a", "o").await.version, 3);
}

pub(super) async fn concurrent_sessions_do_not_disturb_each_other<S: SessionStore + 'static>(
    make: impl FnOnce(Config, Clock) -> S,
) {
    let store = Arc::new(make(Config::default(), Hand::new().clock()));
    let writers = (0..20).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let (name, owner) = (format!("s{number}"), format!("o{number}"));
            for version in 0..10 {
                let text = format!("{number}/{version}");
                store.append(&id(&name), &owner, version, &turn(&text)).await.unwrap();
                let session = store.load(&id(&name), &owner).await.unwrap().unwrap();
                assert_eq!(session.turns.last().unwrap(), &turn(&text));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(must_load(&*store, "s7", "o7").await.version, 10);
}
