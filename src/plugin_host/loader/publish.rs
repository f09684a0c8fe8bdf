//! What others see of the drop folder: the generation that serves, the state of each plugin, and a way to ask for a look.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use super::super::catalog::{Catalog, PluginState, PluginStatus, ReloadReport};
use super::super::config::Config;
use super::super::watcher::{self, Events};
use super::{Build, Entry, Loader, Scan};
use crate::config::Variables;

/// Requests for a look that wait at the same time. All that wait are answered by one look.
const MAX_WAITING: usize = 16;

/// Longest wait for the answer to a request for a look: many large plugins may have to be compiled.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// Somebody waiting for a look at the folder.
pub(in super::super) type Waiting = oneshot::Sender<ReloadReport>;

/// The plugins of the drop folder, as everyone but their loader sees them. Cheap to clone.
pub struct PluginFolder<P> {
    shared: Arc<Shared<P>>,
    requests: mpsc::Sender<Waiting>,
}

/// What the loader writes and everyone reads.
pub(in super::super) struct Shared<P> {
    catalog: ArcSwap<Catalog<P>>,
    statuses: ArcSwap<Vec<PluginStatus>>,
    warnings: ArcSwap<Vec<String>>,
    changes: watch::Sender<u64>,
}

/// The folder could not be looked at on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// Too many ask already.
    #[error("too many reloads of the plugins folder are waiting already")]
    Busy,
    /// It takes longer than anyone waits.
    #[error("the reload of the plugins folder is still under way")]
    TooLong,
    /// The gateway is stopping.
    #[error("the gateway is stopping; the plugins folder is not looked at any more")]
    Stopped,
}

impl<P> Clone for PluginFolder<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), requests: self.requests.clone() }
    }
}

impl<P: Send + Sync + 'static> PluginFolder<P> {
    /// Loads what is in the folder, and follows it from then on (if `config.watch` says so) until the handle is dropped.
    /// `config` has absolute paths ([`Config::resolved`]).
    pub async fn open<B>(config: Config, variables: Variables, builder: B) -> (Self, AbortOnDropHandle<()>)
    where
        B: Build<Plugin = P>,
    {
        let shared = Arc::new(Shared::default());
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        // Watched from before the first look, so that nothing happens unseen between the two.
        let events = if config.watch { Some(Events::of(&config.dir).await) } else { None };
        let mut loader = Loader::new(config, variables, builder, Arc::clone(&shared));
        loader.scan(Scan::Changed).await;
        let task = tokio::spawn(watcher::follow(loader, events, waiting));
        (Self { shared, requests }, AbortOnDropHandle::new(task))
    }

    /// The generation that serves now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog<P>> {
        self.shared.catalog()
    }

    /// The number of the generation, and when it changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Every plugin in the folder, by name.
    #[must_use]
    pub fn statuses(&self) -> Arc<Vec<PluginStatus>> {
        self.shared.statuses.load_full()
    }

    /// What the last look found beside plugins.
    #[must_use]
    pub fn warnings(&self) -> Arc<Vec<String>> {
        self.shared.warnings.load_full()
    }

    /// Looks at all files now, and again at those that could not be loaded before.
    ///
    /// # Errors
    /// Nobody looks at the folder any more, or it takes too long.
    pub async fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(answer).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReloadError::Busy,
            mpsc::error::TrySendError::Closed(_) => ReloadError::Stopped,
        })?;
        match tokio::time::timeout(RELOAD_TIMEOUT, answered).await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(_)) => Err(ReloadError::Stopped),
            Err(_) => Err(ReloadError::TooLong),
        }
    }
}

impl<P> Default for Shared<P> {
    fn default() -> Self {
        Self {
            catalog: ArcSwap::from_pointee(Catalog::default()),
            statuses: ArcSwap::from_pointee(Vec::new()),
            warnings: ArcSwap::from_pointee(Vec::new()),
            changes: watch::Sender::new(0),
        }
    }
}

impl<P> Shared<P> {
    pub(super) fn catalog(&self) -> Arc<Catalog<P>> {
        self.catalog.load_full()
    }

    pub(super) fn warn(&self, warnings: &[String]) {
        if self.warnings.load().as_slice() != warnings {
            self.warnings.store(Arc::new(warnings.to_vec()));
        }
    }
}

impl<B: Build> Loader<B> {
    /// Puts the entries into force. Without a difference to the last generation there is no new one.
    pub(super) fn publish(&self) {
        let statuses: Vec<PluginStatus> =
            self.entries.iter().map(|(name, entry)| status(name, entry)).collect();
        let old = self.shared.catalog();
        let mut new = self.assemble();
        if *self.shared.statuses.load_full() != statuses {
            self.shared.statuses.store(Arc::new(statuses));
        }
        let same_plugins = new.plugins.len() == old.plugins.len()
            && new.plugins.iter().zip(&old.plugins).all(|(new, old)| Arc::ptr_eq(new, old));
        let same_gaps = new.failed_auth == old.failed_auth && new.missing_required == old.missing_required;
        if same_plugins && same_gaps && old.generation > 0 {
            return;
        }
        new.generation = old.generation + 1;
        let generation = new.generation;
        self.shared.catalog.store(Arc::new(new));
        self.shared.changes.send_replace(generation);
    }

    fn assemble(&self) -> Catalog<B::Plugin> {
        let mut serving: Vec<_> =
            self.entries.iter().filter_map(|(name, entry)| Some((name, entry.serving.as_ref()?))).collect();
        serving.sort_by_key(|(name, serving)| (serving.manifest.order, name.as_str()));
        let is_failed_auth = |entry: &Entry<B::Plugin>| {
            entry.serving.is_none()
                && entry.error.is_some()
                && entry.exports.is_some_and(|exports| exports.auth)
        };
        let failed = self.entries.iter().filter(|(_, entry)| is_failed_auth(entry));
        let is_missing = |name: &&String| self.entries.get(*name).is_none_or(|entry| entry.serving.is_none());
        Catalog {
            generation: 0,
            plugins: serving.iter().map(|(_, serving)| Arc::clone(&serving.plugin)).collect(),
            failed_auth: failed.map(|(name, _)| name.clone()).collect(),
            missing_required: self.config.required.iter().filter(is_missing).cloned().collect(),
        }
    }
}

fn status<P>(name: &str, entry: &Entry<P>) -> PluginStatus {
    let state = match (&entry.serving, &entry.error) {
        (Some(_), None) => PluginState::Serving,
        (Some(_), Some(_)) => PluginState::Stale,
        (None, None) => PluginState::Disabled,
        (None, Some(_)) => PluginState::Failed,
    };
    let serving = entry.serving.as_ref();
    let exports = serving.map(|serving| serving.inspection.exports).or(entry.exports);
    let ms = |moment: SystemTime| {
        moment
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    };
    PluginStatus {
        name: name.to_owned(),
        state,
        error: entry.error.clone(),
        exports: exports.unwrap_or_default().names(),
        version: serving.and_then(|serving| serving.inspection.version.clone()),
        description: serving.and_then(|serving| serving.inspection.description.clone()),
        sha256: serving.map(|serving| serving.sha256.clone()),
        loaded_ms: serving.map(|serving| ms(serving.loaded)),
    }
}
