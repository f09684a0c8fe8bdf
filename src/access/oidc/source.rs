//! The keys of one issuer over time: fetched when the first token asks for them, and kept fresh.
//!
//! One request to the issuer at a time, made by a task of its own, so that no caller who goes away ends it for the
//! others. Keys are renewed in the background once they are half as old as they may be; only when they are older does a
//! token wait for new ones. Old keys stay where new ones cannot be had.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::keys::KeySet;

/// How old keys may be before a token waits for new ones.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The time between two fetches because of a key that is not known: whoever makes up key ids must not make us ask more.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);

/// The time between a failure and the next try.
const FAILURE_PAUSE: Duration = Duration::from_secs(3);

/// The longest that a token waits.
const WAIT: Duration = Duration::from_secs(5);

/// Gets the keys, within a bounded time.
pub(super) type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<KeySet, String>> + Send + Sync>;

/// Hands out an issuer's keys.
pub(super) struct KeySource(Arc<Inner>);

struct Inner {
    /// The issuer's name, for the log.
    name: String,
    fetch: Fetch,
    current: ArcSwapOption<Fetched>,
    refresh: Mutex<Refresh>,
}

struct Fetched {
    keys: Arc<KeySet>,
    at: Instant,
}

#[derive(Default)]
struct Refresh {
    /// The fetch under way, and what tells of its end by being closed.
    running: Option<(AbortOnDropHandle<()>, watch::Receiver<()>)>,
    /// When the last one failed; `None` after a success.
    failed_at: Option<Instant>,
    /// When a key that is not known was last asked for.
    unknown_key_at: Option<Instant>,
}

impl KeySource {
    pub(super) fn new(name: &str, fetch: Fetch) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            fetch,
            current: ArcSwapOption::empty(),
            refresh: Mutex::default(),
        }))
    }

    /// The keys; `None` where there are none to be had.
    pub(super) async fn keys(&self) -> Option<Arc<KeySet>> {
        let current = self.0.current.load_full();
        match &current {
            Some(fetched) if fetched.at.elapsed() < MAX_AGE / 2 => {}
            Some(fetched) if fetched.at.elapsed() < MAX_AGE => drop(self.renew(false)),
            // Whoever fails keeps nobody waiting: the keys there are have to do until it is back.
            Some(_) if self.is_failing() => drop(self.renew(false)),
            _ => return self.renewed(false).await,
        }
        current.map(|fetched| Arc::clone(&fetched.keys))
    }

    /// The keys after one that `seen` does not have was asked for; `None` where they cannot be newer.
    pub(super) async fn keys_after(&self, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let keys = self.renewed(true).await?;
        (!Arc::ptr_eq(&keys, seen)).then_some(keys)
    }

    /// The keys once a fetch that is due, or under way, has ended.
    async fn renewed(&self, for_unknown_key: bool) -> Option<Arc<KeySet>> {
        if let Some(mut end) = self.renew(for_unknown_key) {
            // It never tells anything but its end. A wait that is over is no failure: there may be older keys.
            let _ = tokio::time::timeout(WAIT, end.changed()).await;
        }
        Some(Arc::clone(&self.0.current.load().as_ref()?.keys))
    }

    /// Starts a fetch where one is due. What tells its end, or that of the one under way.
    fn renew(&self, for_unknown_key: bool) -> Option<watch::Receiver<()>> {
        let mut refresh = self.lock();
        // One that is closed belongs to a task that came to grief.
        if let Some((_, end)) = &refresh.running
            && end.has_changed().is_ok()
        {
            return Some(end.clone());
        }
        let has_passed = |since: Option<Instant>, pause| since.is_none_or(|at| at.elapsed() >= pause);
        if !has_passed(refresh.failed_at, FAILURE_PAUSE)
            || (for_unknown_key && !has_passed(refresh.unknown_key_at, UNKNOWN_KEY_PAUSE))
        {
            return None;
        }
        if for_unknown_key {
            refresh.unknown_key_at = Some(Instant::now());
        }
        let (teller, end) = watch::channel(());
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            inner.renew().await;
            drop(teller);
        });
        refresh.running = Some((AbortOnDropHandle::new(task), end.clone()));
        Some(end)
    }

    fn is_failing(&self) -> bool {
        self.lock().failed_at.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Refresh> {
        self.0.refresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeySource {
    fn drop(&mut self) {
        // The task holds what holds the task.
        self.lock().running = None;
    }
}

impl Inner {
    async fn renew(&self) {
        let fetched = (self.fetch)().await;
        let name = &self.name;
        let mut refresh = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        let was_failing = refresh.failed_at.is_some();
        match fetched {
            Ok(keys) => {
                self.current.store(Some(Arc::new(Fetched { keys: Arc::new(keys), at: Instant::now() })));
                refresh.failed_at = None;
                if was_failing {
                    tracing::info!(issuer = name, "the keys of the issuer `{name}` are there again");
                }
            }
            Err(problem) => {
                refresh.failed_at = Some(Instant::now());
                if !was_failing {
                    let so = if self.current.load().is_some() {
                        "those known so far go on"
                    } else {
                        "its tokens are refused until they are there"
                    };
                    tracing::warn!(
                        issuer = name,
                        "the keys of the issuer `{name}` cannot be had, {so}: {problem}"
                    );
                }
            }
        }
        // Dropping the handle of a task that is at its end aborts nothing: there is no other await.
        refresh.running = None;
    }
}

#[cfg(test)]
mod tests;
