//! Turns the drop folder into generations of plugins.
//!
//! Promises: a file is read whole, and only when nobody writes to it any more. A plugin that cannot be loaded changes
//! nothing but its status: the last good version keeps serving. Content that did not change is not loaded again. All
//! reading happens on blocking threads; one scan runs at a time. What a plugin is made of is the business of [`Build`].

mod files;
mod prepare;
mod publish;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;

use self::files::{Candidate, Listing};
use self::prepare::{Prepared, Ready};
use self::publish::Shared;
pub(super) use self::publish::Waiting;
pub use self::publish::{PluginFolder, ReloadError};
use super::catalog::{Change, PluginChange, ReloadReport};
use super::config::Config;
use super::error::LoadError;
use super::inspect::{Exports, Inspection};
use super::manifest::Manifest;
use crate::config::Variables;

/// Between two looks at a file that may still be written to.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(150);

/// How often a reload that was asked for looks again at files that are being written.
const MAX_LOOKS: usize = 20;

/// Longest time that one plugin may take to be built. Compiling a large guest takes seconds, on a busy machine more.
const BUILD_TIMEOUT: Duration = Duration::from_secs(180);

/// What makes a plugin from a checked component.
pub trait Build: Send + Sync + 'static {
    /// The plugin.
    type Plugin: Send + Sync + 'static;

    /// Compiles, links and tries the component. Runs on an async thread: whatever blocks has to go elsewhere.
    fn build(
        &self,
        source: Source<Self::Plugin>,
    ) -> impl Future<Output = Result<Self::Plugin, LoadError>> + Send;
}

/// What a plugin is made of.
#[derive(Debug)]
pub struct Source<P> {
    /// Its name.
    pub name: String,
    /// The component.
    pub bytes: Vec<u8>,
    /// SHA-256 of the component, in hexadecimal.
    pub sha256: String,
    /// What the operator says; the component fits it.
    pub manifest: Manifest,
    /// What is known about the component.
    pub inspection: Inspection,
    /// What serves under this name until now.
    pub previous: Option<Arc<P>>,
}

/// Which files a scan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Those that look changed.
    Changed,
    /// All, also those that could not be loaded last time; files that are being written are waited for.
    All,
}

/// The drop folder and what was made of it. Owned by one task; what others see of it is in [`Shared`].
pub(super) struct Loader<B: Build> {
    builder: B,
    config: Config,
    variables: Variables,
    entries: BTreeMap<String, Entry<B::Plugin>>,
    shared: Arc<Shared<B::Plugin>>,
    has_unfinished: bool,
    /// What was told already.
    warnings: Vec<String>,
    missing: Vec<String>,
}

/// One name in the folder.
struct Entry<P> {
    /// The files as they were when they were last looked into.
    seen: Candidate,
    serving: Option<Serving<P>>,
    error: Option<String>,
    is_disabled: bool,
    /// What the component exports, as far as it could be looked into.
    exports: Option<Exports>,
}

/// A good version.
struct Serving<P> {
    plugin: Arc<P>,
    manifest: Manifest,
    inspection: Inspection,
    sha256: String,
    loaded: SystemTime,
}

impl<B: Build> Loader<B> {
    pub(super) fn new(
        config: Config,
        variables: Variables,
        builder: B,
        shared: Arc<Shared<B::Plugin>>,
    ) -> Self {
        Self {
            builder,
            config,
            variables,
            entries: BTreeMap::new(),
            shared,
            has_unfinished: false,
            warnings: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// Whether the last scan left files alone because they were being written to.
    pub(super) fn has_unfinished(&self) -> bool {
        self.has_unfinished
    }

    /// Looks at the folder and puts into force what is new in it, plugin by plugin.
    pub(super) async fn scan(&mut self, scan: Scan) -> ReloadReport {
        let mut report = ReloadReport::default();
        match self.complete_files(scan).await {
            Ok((listing, unfinished)) => {
                self.has_unfinished = !unfinished.is_empty();
                self.warn(&listing.warnings);
                self.remove_missing(&listing, &mut report);
                for (name, candidate) in listing.plugins {
                    let (change, error) = if unfinished.contains(&name) {
                        (Change::Unfinished, None)
                    } else {
                        self.look_at(&name, candidate, scan).await
                    };
                    report.plugins.push(PluginChange { name, change, error });
                }
                report.warnings = listing.warnings;
            }
            Err(problem) => {
                // A folder that cannot be read says nothing about what lies in it: everything stays.
                let problem =
                    format!("the plugins folder {} cannot be read: {problem}", self.dir().display());
                self.warn(std::slice::from_ref(&problem));
                report.warnings = vec![problem];
            }
        }
        report.plugins.sort_by(|a, b| a.name.cmp(&b.name));
        self.publish();
        self.tell_missing();
        report.generation = self.shared.catalog().generation;
        report
    }

    /// The folder's files, and those of them that are being written to.
    async fn complete_files(&self, scan: Scan) -> Result<(Listing, BTreeSet<String>), String> {
        let mut listing = self.list().await?;
        let is_young = |(name, candidate): &(&String, &Candidate)| {
            !candidate.is_settled() && !self.has_seen(name, candidate)
        };
        let mut unfinished = BTreeSet::new();
        for _ in 0..if scan == Scan::All { MAX_LOOKS } else { 1 } {
            if !listing.plugins.iter().any(|plugin| is_young(&plugin)) {
                return Ok((listing, BTreeSet::new()));
            }
            tokio::time::sleep(SECOND_LOOK_AFTER).await;
            let before = std::mem::replace(&mut listing, self.list().await?);
            let young = listing.plugins.iter().filter(is_young);
            let moving = young.filter(|(name, now)| before.plugins.get(*name) != Some(*now));
            unfinished = moving.map(|(name, _)| name.clone()).collect();
            if unfinished.is_empty() {
                break;
            }
        }
        Ok((listing, unfinished))
    }

    async fn list(&self) -> Result<Listing, String> {
        let (dir, bundled) = (self.config.dir.clone(), self.config.bundled.clone());
        let listed = tokio::task::spawn_blocking(move || files::list(&dir, &bundled)).await;
        listed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    fn has_seen(&self, name: &str, candidate: &Candidate) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.seen == *candidate)
    }

    fn remove_missing(&mut self, listing: &Listing, report: &mut ReloadReport) {
        let gone: Vec<String> =
            self.entries.keys().filter(|name| !listing.plugins.contains_key(*name)).cloned().collect();
        for name in gone {
            self.entries.remove(&name);
            tracing::info!(plugin = %name, "plugin {name} was removed");
            report.plugins.push(PluginChange { name, change: Change::Removed, error: None });
            self.publish();
        }
    }

    /// Looks into one plugin's files if that may bring anything new.
    async fn look_at(&mut self, name: &str, candidate: Candidate, scan: Scan) -> (Change, Option<String>) {
        if scan == Scan::Changed && self.has_seen(name, &candidate) {
            return (Change::Unchanged, None);
        }
        let began = std::time::Instant::now();
        let entry = self.entries.get(name);
        let good = entry.and_then(|entry| entry.serving.as_ref());
        let prepared = prepare::prepare(name, &candidate, &self.config, &self.variables).await;
        let (ready, exports) = match prepared {
            Prepared::Changing => {
                self.has_unfinished = true;
                return (Change::Unfinished, None);
            }
            Prepared::Disabled => return self.disable(name, candidate),
            Prepared::Faulty { error, exports } => return self.fail(name, candidate, error, exports),
            Prepared::Ready(ready) => {
                let exports = ready.inspection.exports;
                (ready, exports)
            }
        };
        if good.is_some_and(|good| good.sha256 == ready.sha256 && good.manifest == ready.manifest) {
            if let Some(entry) = self.entries.get_mut(name) {
                entry.seen = candidate;
                entry.error = None;
                entry.exports = Some(exports);
            }
            return (Change::Unchanged, None);
        }
        let previous = good.map(|good| Arc::clone(&good.plugin));
        let Ready { bytes, sha256, manifest, inspection } = *ready;
        let source = Source {
            name: name.to_owned(),
            bytes,
            sha256: sha256.clone(),
            manifest: manifest.clone(),
            inspection: inspection.clone(),
            previous,
        };
        match self.build(source).await {
            Ok(plugin) => {
                let loaded = SystemTime::now();
                let serving = Serving { plugin: Arc::new(plugin), manifest, inspection, sha256, loaded };
                self.serve(name, candidate, serving, began.elapsed());
                (Change::Loaded, None)
            }
            Err(error) => {
                let error = prepare::about(&format!("{name}.wasm"), &error.message);
                self.fail(name, candidate, error, Some(exports))
            }
        }
    }

    /// Builds in bounded time, and survives a builder that panics: one component must not end the loading of all.
    async fn build(&self, source: Source<B::Plugin>) -> Result<B::Plugin, LoadError> {
        let building = AssertUnwindSafe(self.builder.build(source)).catch_unwind();
        match tokio::time::timeout(BUILD_TIMEOUT, building).await {
            Ok(Ok(built)) => built,
            Ok(Err(_)) => {
                Err(LoadError::new("loading it failed within the gateway itself; the log has the reason"))
            }
            Err(_) => {
                let seconds = BUILD_TIMEOUT.as_secs();
                Err(LoadError::new(format!("compiling and trying it took longer than {seconds} s")))
            }
        }
    }

    fn serve(&mut self, name: &str, seen: Candidate, serving: Serving<B::Plugin>, took: Duration) {
        let exports = serving.inspection.exports;
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            plugin = %name,
            version = serving.inspection.version.as_deref().unwrap_or_default(),
            sha256 = %serving.sha256,
            took_ms = ms,
            "plugin {name} serves: {}",
            exports.names().join(", ")
        );
        let entry =
            Entry { seen, serving: Some(serving), error: None, is_disabled: false, exports: Some(exports) };
        self.entries.insert(name.to_owned(), entry);
        self.publish();
    }

    fn disable(&mut self, name: &str, seen: Candidate) -> (Change, Option<String>) {
        let was_disabled = self.entries.get(name).is_some_and(|entry| entry.is_disabled);
        if !was_disabled {
            tracing::info!(plugin = %name, "plugin {name} is disabled by {name}.toml");
        }
        let entry = Entry { seen, serving: None, error: None, is_disabled: true, exports: None };
        self.entries.insert(name.to_owned(), entry);
        self.publish();
        (Change::Disabled, None)
    }

    fn fail(
        &mut self,
        name: &str,
        seen: Candidate,
        error: String,
        exports: Option<Exports>,
    ) -> (Change, Option<String>) {
        let before = self.entries.remove(name);
        let (serving, known) = before.map_or((None, None), |entry| (entry.serving, entry.exports));
        let meanwhile = if serving.is_some() { "; the last good version keeps serving" } else { "" };
        tracing::warn!(plugin = %name, %error, "plugin {name} cannot be loaded{meanwhile}: {error}");
        // What cannot be looked into any more is what it was when it could be.
        let exports = exports.or(known);
        let entry = Entry { seen, serving, error: Some(error.clone()), is_disabled: false, exports };
        self.entries.insert(name.to_owned(), entry);
        self.publish();
        (Change::Failed, Some(error))
    }

    fn tell_missing(&mut self) {
        let missing = self.shared.catalog().missing_required.clone();
        if missing != self.missing && !missing.is_empty() {
            let names = missing.join(", ");
            tracing::error!("plugins.required: not serving: {names}; requests are refused until they are");
        }
        self.missing = missing;
    }

    /// Tells of warnings once, not at every look.
    fn warn(&mut self, warnings: &[String]) {
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            tracing::warn!("plugins folder: {warning}");
        }
        self.shared.warn(warnings);
        self.warnings = warnings.to_vec();
    }
}
