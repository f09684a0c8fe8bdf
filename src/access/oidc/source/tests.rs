//! When an issuer is asked for its keys, and how long anybody waits for that.

use std::collections::VecDeque;
use std::future::pending;

use jsonwebtoken::Algorithm;
use tokio::time::{advance, sleep};

use super::*;

/// What an issuer does when it is asked.
#[derive(Clone)]
enum Does {
    /// Publishes a key with this id, after a second.
    Publish(&'static str),
    Fail,
    Hang,
}

#[derive(Clone)]
struct Asked(Arc<Mutex<(usize, VecDeque<Does>)>>);

impl Asked {
    fn times(&self) -> usize {
        self.0.lock().unwrap().0
    }

    fn next(&self) -> Does {
        let mut script = self.0.lock().unwrap();
        script.0 += 1;
        script.1.pop_front().unwrap()
    }
}

fn key_set(kid: &str) -> KeySet {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let text = format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "kid": "{kid}", "x": "{x}"}}]}}"#);
    KeySet::parse(text.as_bytes()).unwrap()
}

fn source(script: &[Does]) -> (Arc<KeySource>, Asked) {
    let asked = Asked(Arc::new(Mutex::new((0, script.iter().cloned().collect()))));
    let script = asked.clone();
    let fetch: Fetch = Box::new(move || {
        let does = script.next();
        Box::pin(async move {
            sleep(Duration::from_secs(1)).await;
            match does {
                Does::Publish(kid) => Ok(key_set(kid)),
                Does::Fail => Err("it is down".to_owned()),
                Does::Hang => pending().await,
            }
        })
    });
    (Arc::new(KeySource::new("staff", fetch)), asked)
}

/// Whether there are keys and the one with this id is among them.
async fn has(source: &KeySource, kid: &str) -> bool {
    source.keys().await.is_some_and(|keys| keys.find(Some(kid), Algorithm::EdDSA).is_ok())
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_share_one_fetch_and_none_who_leaves_ends_it() {
    let (source, asked) = source(&[Does::Publish("a")]);
    assert_eq!(asked.times(), 0, "nobody has asked for keys");
    let first = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.keys().await }
    });
    sleep(Duration::from_millis(10)).await;
    first.abort();
    let (a, b) = tokio::join!(has(&source, "a"), has(&source, "a"));
    assert_eq!((a, b, asked.times()), (true, true, 1));
}

#[tokio::test(start_paused = true)]
async fn keys_are_renewed_beside_the_requests_and_before_them_only_when_old() {
    let (source, asked) = source(&[Does::Publish("a"), Does::Publish("b"), Does::Publish("c")]);
    assert!(has(&source, "a").await);
    advance(MAX_AGE / 2).await;
    let before = Instant::now();
    assert!(has(&source, "a").await, "nobody waits for the new ones");
    assert_eq!(before, Instant::now());
    sleep(Duration::from_secs(2)).await;
    assert!(has(&source, "b").await);
    assert_eq!(asked.times(), 2);
    advance(MAX_AGE).await;
    assert!(has(&source, "c").await, "keys that are too old are waited for");
}

#[tokio::test(start_paused = true)]
async fn old_keys_stay_where_there_are_no_new_ones() {
    let (source, asked) = source(&[Does::Publish("a"), Does::Fail, Does::Fail, Does::Publish("b")]);
    assert!(has(&source, "a").await);
    advance(MAX_AGE).await;
    assert!(has(&source, "a").await);
    assert!(has(&source, "a").await);
    assert_eq!(asked.times(), 2, "a failure is followed by a pause");
    advance(FAILURE_PAUSE).await;
    let before = Instant::now();
    assert!(has(&source, "a").await, "and whoever fails keeps nobody waiting");
    assert_eq!(before, Instant::now());
    sleep(FAILURE_PAUSE * 2).await;
    assert!(has(&source, "a").await);
    sleep(Duration::from_secs(2)).await;
    assert!(has(&source, "b").await);
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_an_end() {
    let (source, asked) = source(&[Does::Hang]);
    let before = Instant::now();
    assert!(source.keys().await.is_none());
    assert_eq!(before.elapsed(), WAIT);
    assert!(source.keys().await.is_none());
    assert_eq!(asked.times(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_not_known_are_asked_for_with_pauses() {
    let (source, asked) = source(&[Does::Publish("a"), Does::Publish("a"), Does::Publish("b")]);
    let seen = source.keys().await.unwrap();
    let second = source.keys_after(&seen).await.unwrap();
    assert!(second.find(Some("b"), Algorithm::EdDSA).is_err());
    for _ in 0..10 {
        assert!(source.keys_after(&second).await.is_none());
    }
    assert_eq!(asked.times(), 2);
    advance(UNKNOWN_KEY_PAUSE).await;
    assert!(source.keys_after(&second).await.unwrap().find(Some("b"), Algorithm::EdDSA).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_is_not_the_last_one() {
    // The script is empty the first time.
    let (source, asked) = source(&[]);
    assert!(source.keys().await.is_none());
    asked.0.clear_poison();
    asked.0.lock().unwrap().1.push_back(Does::Publish("a"));
    assert!(has(&source, "a").await);
}
