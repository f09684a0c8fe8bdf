//! All tools of all sources under their canonical names, as a snapshot that is replaced when a source changes.
//!
//! Promises: reading never waits; a request that holds a snapshot sees the same tools to its end; a source that breaks
//! or offers a broken tool takes nothing else down. Nothing here calls a tool.

mod build;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::select_all;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use self::build::Builder;
use super::{Config, RegisteredTool, ToolSource, ToolSources};

/// The tools there are now. Dropping it ends its task.
pub struct ToolRegistry {
    current: Arc<ArcSwap<ToolSnapshot>>,
    versions: watch::Receiver<u64>,
    refreshes: mpsc::Sender<oneshot::Sender<()>>,
    _follower: AbortOnDropHandle<()>,
}

/// The tools there were at one moment.
#[derive(Debug, Default)]
pub struct ToolSnapshot {
    version: u64,
    tools: Vec<Arc<RegisteredTool>>,
    by_name: HashMap<String, usize>,
}

impl ToolRegistry {
    /// Takes in what the sources (in configuration order) offer now, and follows their changes.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(config: Config, sources: Vec<Arc<dyn ToolSource>>) -> Self {
        Self::with_newcomers(config, sources, None)
    }

    /// As [`Self::new`], with sources that come and go after the fixed ones.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn with_newcomers(
        config: Config,
        sources: Vec<Arc<dyn ToolSource>>,
        newcomers: Option<Arc<dyn ToolSources>>,
    ) -> Self {
        // Subscribed before the first look, so that no change falls between.
        let mut changes: Vec<_> = sources.iter().map(|source| source.changes()).collect();
        changes.extend(newcomers.iter().map(|newcomers| newcomers.changes()));
        let mut builder = Builder::new(config, sources, newcomers);
        let first = builder.build(&ToolSnapshot::default()).unwrap_or_default();
        let versions = watch::Sender::new(first.version);
        let receiver = versions.subscribe();
        let current = Arc::new(ArcSwap::from_pointee(first));
        let (refreshes, asked) = mpsc::channel(8);
        let follower = tokio::spawn(follow(builder, changes, asked, Arc::clone(&current), versions));
        Self { current, versions: receiver, refreshes, _follower: AbortOnDropHandle::new(follower) }
    }

    /// Returns once the snapshot has everything the sources offered when this was called: a source tells of its tools
    /// before the registry has taken them in.
    pub async fn refresh(&self) {
        let (done, refreshed) = oneshot::channel();
        if self.refreshes.send(done).await.is_ok() {
            // An error means that the follower has ended, which it has logged; there is nothing to wait for then.
            let _ = refreshed.await;
        }
    }

    /// The tools there are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<ToolSnapshot> {
        self.current.load_full()
    }

    /// Changes after every new snapshot; the value is [`ToolSnapshot::version`].
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.versions.clone()
    }
}

impl ToolSnapshot {
    /// Counts the snapshots; two with the same number have the same tools.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The tools in the order of the configuration and, within a server, in the server's order.
    #[must_use]
    pub fn tools(&self) -> &[Arc<RegisteredTool>] {
        &self.tools
    }

    /// The tool called `name`: its canonical name, `server__tool`, or its server's own name for it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<RegisteredTool>> {
        self.tools.get(*self.by_name.get(name)?)
    }
}

/// Makes a new snapshot whenever a source changes.
async fn follow(
    mut builder: Builder,
    mut changes: Vec<watch::Receiver<u64>>,
    mut refreshes: mpsc::Receiver<oneshot::Sender<()>>,
    current: Arc<ArcSwap<ToolSnapshot>>,
    versions: watch::Sender<u64>,
) {
    let settled = tokio::time::sleep_until(builder.settles_at());
    tokio::pin!(settled);
    let mut is_settled = false;
    loop {
        let mut asked = None;
        tokio::select! {
            () = any_change(&mut changes) => {}
            Some(done) = refreshes.recv() => asked = Some(done),
            () = &mut settled, if !is_settled => {
                is_settled = true;
                builder.warn_about_unused_overrides();
                continue;
            }
        }
        let before = current.load_full();
        // Schemas are compiled here, which is no work for a thread that serves requests.
        let built = tokio::task::spawn_blocking(move || {
            let next = builder.build(&before);
            (builder, next)
        });
        let next;
        (builder, next) = match built.await {
            Ok(built) => built,
            Err(failure) if failure.is_cancelled() => return,
            Err(failure) => {
                error!(error = %failure, "the tool registry stopped following its sources; restart the gateway");
                return;
            }
        };
        if let Some(next) = next {
            let version = next.version;
            info!(tools = next.tools.len(), version, "the tools have changed");
            current.store(Arc::new(next));
            versions.send_replace(version);
        }
        if let Some(done) = asked {
            // Whoever asked may have gone away.
            let _ = done.send(());
        }
    }
}

/// Waits for the next change of any source; a source that has ended counts as one last change.
async fn any_change(changes: &mut Vec<watch::Receiver<u64>>) {
    if changes.is_empty() {
        return std::future::pending().await;
    }
    let waiting = changes.iter_mut().map(|source| Box::pin(source.changed()));
    let (outcome, ended, _) = select_all(waiting).await;
    if outcome.is_err() {
        changes.swap_remove(ended);
    }
}

#[cfg(test)]
mod tests;
