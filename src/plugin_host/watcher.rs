//! Follows the drop folder: the one task that looks at it when the system says that something happened, every few
//! seconds in case it does not say so (network file systems, links that lead elsewhere), and on request.
//!
//! Promises: events only ever cause a look; what counts is what the folder holds then. A folder that is missing is
//! awaited, and one that was removed and made again is followed again. The task ends when it is dropped or when nobody can
//! ask it any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use super::loader::{Build, Loader, Scan, Waiting};

/// How often the folder is looked at without any event.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Silence after an event before the folder is looked at: one copy makes many events.
const QUIET: Duration = Duration::from_millis(50);

/// Longest wait for that silence.
const MAX_DEBOUNCE: Duration = Duration::from_millis(500);

/// Pause before files that were being written to are looked at again.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// Looks at the folder until nobody can ask for it any more. Without `events` it looks on request only.
pub(super) async fn follow<B: Build>(
    mut loader: Loader<B>,
    mut events: Option<Events>,
    mut requests: mpsc::Receiver<Waiting>,
) {
    let mut poll = tokio::time::interval(POLL_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    poll.reset();
    loop {
        let happened = events.as_ref().map(|events| Arc::clone(&events.happened));
        let watches = happened.is_some();
        let event = async {
            match happened {
                Some(happened) => happened.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { return };
                let report = loader.scan(Scan::All).await;
                // Whoever asked while the folder was looked at may have changed it before; they get a look of their own.
                let _ = request.send(report);
                continue;
            }
            () = event => {}
            _ = poll.tick(), if watches => {
                if let Some(before) = events.take() {
                    events = Some(before.renewed().await);
                }
            }
            () = tokio::time::sleep(RETRY_AFTER), if watches && loader.has_unfinished() => {}
        }
        if let Some(events) = &events {
            events.settle().await;
        }
        loader.scan(Scan::Changed).await;
    }
}

/// The system's word that something happened in the folder.
pub(super) struct Events {
    dir: PathBuf,
    happened: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    /// The folder that is watched: another one may come into its place.
    watched: Option<(u64, u64)>,
}

impl Events {
    /// Of the folder `dir`, from now on if it exists.
    pub(super) async fn of(dir: &Path) -> Self {
        let happened = Arc::new(Notify::new());
        let notify = Arc::clone(&happened);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                notify.notify_one();
            }
        });
        let watcher = watcher.map_err(|error| {
            let seconds = POLL_INTERVAL.as_secs();
            tracing::warn!(%error, "the system does not tell of changes in the plugins folder; it is looked at every {seconds} s");
        });
        let events = Self { dir: dir.to_owned(), happened, watcher: watcher.ok(), watched: None };
        events.renewed().await
    }

    /// The same, of the folder that is there now.
    async fn renewed(self) -> Self {
        let (dir, happened) = (self.dir.clone(), Arc::clone(&self.happened));
        let renewed = tokio::task::spawn_blocking(move || self.renew()).await;
        // Looking every few seconds goes on in any case.
        renewed.unwrap_or(Self { dir, happened, watcher: None, watched: None })
    }

    fn renew(mut self) -> Self {
        let Some(watcher) = &mut self.watcher else { return self };
        let now = identity(&self.dir);
        if now == self.watched {
            return self;
        }
        if self.watched.take().is_some()
            && let Err(error) = watcher.unwatch(&self.dir)
        {
            // A folder that is gone has ended its watch itself.
            tracing::debug!(%error, "the old plugins folder is not watched any more");
        }
        if now.is_some() {
            match watcher.watch(&self.dir, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched = now,
                Err(error) => tracing::debug!(%error, "the plugins folder cannot be watched"),
            }
        }
        self
    }

    /// Waits until nothing more happens, but not for long.
    async fn settle(&self) {
        let quiet = async { while tokio::time::timeout(QUIET, self.happened.notified()).await.is_ok() {} };
        if tokio::time::timeout(MAX_DEBOUNCE, quiet).await.is_err() {
            tracing::trace!("the plugins folder keeps changing");
        }
    }
}

/// Reading a file is an event too, and the loader reads: only what may change something counts.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(unix)]
fn identity(dir: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(dir).ok().filter(std::fs::Metadata::is_dir).map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(dir: &Path) -> Option<(u64, u64)> {
    dir.is_dir().then_some((0, 0))
}
