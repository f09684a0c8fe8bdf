//! The plugins of a gateway: one engine, one drop folder, and what is told about each plugin in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::catalog::{Catalog, PluginState, PluginStatus, ReloadReport};
use super::config::Config;
use super::engine::{EngineError, EngineSettings};
use super::error::LoadError;
use super::loader::{Build, PluginFolder, ReloadError, Source};
use super::manifest::{FileGrant, FileMode, HeaderGrant};
use super::plugin::{HostCore, Lasting, Plugin};
use super::stats::StatsSnapshot;
use crate::config::Variables;

/// See the module's words. Dropping it ends the watching of the folder; calls that are running go on.
pub struct PluginHost {
    folder: PluginFolder<Plugin>,
    _watching: AbortOnDropHandle<()>,
}

/// What is told about one plugin: how it is doing, what it may do, what it has done.
#[derive(Clone, Debug, Serialize)]
pub struct PluginReport {
    /// Name, state, version, hash, error.
    #[serde(flatten)]
    pub status: PluginStatus,
    /// What the operator grants; names of secrets, never values.
    pub grants: Grants,
    /// True while it is not called because it failed too often.
    pub circuit_open: bool,
    /// Calls, failures, times and memory since the gateway started.
    #[serde(flatten)]
    pub stats: StatsSnapshot,
}

/// The grants of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// Hosts it may reach.
    pub network: Vec<String>,
    /// Folders it may use, as `guest (mode)`.
    pub files: Vec<String>,
    /// Names of the environment variables it sees.
    pub env: Vec<String>,
    /// Names of the secrets it may ask for.
    pub secrets: Vec<String>,
    /// Headers it sees as an auth policy.
    pub headers: Vec<String>,
}

impl PluginHost {
    /// Loads what is in the folder of `config` (with absolute paths) and follows it. No plugin is granted `data_dir`.
    ///
    /// # Errors
    /// When the WebAssembly runtime does not start. A plugin that cannot be loaded is no error here: its status tells.
    pub async fn start(config: Config, variables: Variables, data_dir: PathBuf) -> Result<Self, EngineError> {
        let settings = EngineSettings {
            cache_dir: config.cache_dir.clone(),
            max_instances: u32::try_from(config.max_instances).unwrap_or(u32::MAX),
            max_memory_bytes: usize::try_from(config.max_instance_memory_mb << 20).unwrap_or(usize::MAX),
            count_fuel: false,
        };
        let protected = protected_folders(&config, &data_dir);
        let core = Arc::new(HostCore::new(&settings, protected)?);
        let builder = Builder { core, lasting: Mutex::default() };
        let (folder, watching) = PluginFolder::open(config, variables, builder).await;
        Ok(Self { folder, _watching: watching })
    }

    /// The generation that serves now; read once per request.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog<Plugin>> {
        self.folder.catalog()
    }

    /// The folder, for those who keep reading it.
    #[must_use]
    pub fn folder(&self) -> PluginFolder<Plugin> {
        self.folder.clone()
    }

    /// The number of the generation, and when it changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.folder.changes()
    }

    /// Every plugin in the folder, by name.
    #[must_use]
    pub fn reports(&self) -> Vec<PluginReport> {
        let catalog = self.folder.catalog();
        let serving: HashMap<&str, &Arc<Plugin>> =
            catalog.plugins.iter().map(|plugin| (plugin.name(), plugin)).collect();
        let report = |status: &PluginStatus| {
            let mut status = status.clone();
            let plugin = serving.get(status.name.as_str());
            let circuit_open = plugin.is_some_and(|plugin| plugin.is_broken());
            if status.state == PluginState::Serving && circuit_open {
                status.state = PluginState::Broken;
            }
            PluginReport {
                grants: plugin.map(|plugin| Grants::of(plugin)).unwrap_or_default(),
                circuit_open,
                stats: plugin.map(|plugin| plugin.stats()).unwrap_or_default(),
                status,
            }
        };
        self.folder.statuses().iter().map(report).collect()
    }

    /// What else the operator should know: files that mean nothing, a folder that cannot be read.
    #[must_use]
    pub fn warnings(&self) -> Arc<Vec<String>> {
        self.folder.warnings()
    }

    /// Looks at the folder now.
    ///
    /// # Errors
    /// When the look does not happen in time.
    pub async fn reload(&self) -> Result<ReloadReport, ReloadError> {
        self.folder.reload().await
    }
}

/// The gateway's own folders, which no plugin is granted, with what they are.
pub(super) fn protected_folders(config: &Config, data_dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut folders =
        vec![("the plugins folder", config.dir.clone()), ("the data folder", data_dir.to_owned())];
    folders.extend(config.cache_dir.clone().map(|dir| ("the folder for compiled plugins", dir)));
    folders
}

impl Grants {
    fn of(plugin: &Plugin) -> Self {
        let manifest = plugin.manifest();
        let folder = |grant: &FileGrant| {
            let mode = if grant.mode == FileMode::Write { "write" } else { "read" };
            format!("{} ({mode})", grant.guest.as_str())
        };
        let header = |grant: &HeaderGrant| match grant {
            HeaderGrant::Header(name) => name.clone(),
            HeaderGrant::QueryKey(name) => format!("?{name}"),
        };
        Self {
            network: manifest.network.iter().map(ToString::to_string).collect(),
            files: manifest.files.iter().map(folder).collect(),
            env: manifest.env.keys().cloned().collect(),
            secrets: manifest.secrets.keys().cloned().collect(),
            headers: manifest.headers.iter().map(header).collect(),
        }
    }
}

/// Makes plugins for the folder, and keeps what outlives their generations.
struct Builder {
    core: Arc<HostCore>,
    lasting: Mutex<HashMap<String, Lasting>>,
}

impl Build for Builder {
    type Plugin = Plugin;

    async fn build(&self, source: Source<Plugin>) -> Result<Plugin, LoadError> {
        let lasting = {
            let mut all = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(source.name.clone()).or_default().clone()
        };
        // A changed operator's file alone needs no compiler.
        let same = source.previous.filter(|previous| previous.sha256() == source.sha256);
        let component = match same {
            Some(previous) => previous.component(),
            None => Plugin::compile(&self.core, source.bytes).await?,
        };
        Plugin::load(Arc::clone(&self.core), source.name, component, source.sha256, source.manifest, lasting)
            .await
    }
}
