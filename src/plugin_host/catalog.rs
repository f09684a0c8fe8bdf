//! What is loaded: immutable generations of plugins, and what is told about each file in the folder.
//!
//! Promises: a request that holds a generation keeps its plugins, whatever happens to the folder meanwhile.

use std::sync::Arc;

use serde::Serialize;

/// One generation: all that serves at one moment. Read once per request.
#[derive(Debug)]
pub struct Catalog<P> {
    /// Counts up with every change; 0 before the folder was looked at.
    pub generation: u64,
    /// The plugins that serve, by `order` and then by name.
    pub plugins: Vec<Arc<P>>,
    /// Auth policies that are there, enabled and have never been loaded well. While there is one, nobody can be allowed
    /// anything: what it would refuse is not known.
    pub failed_auth: Vec<String>,
    /// Names in `plugins.required` that do not serve. While there is one, requests have to be refused.
    pub missing_required: Vec<String>,
}

impl<P> Default for Catalog<P> {
    fn default() -> Self {
        Self { generation: 0, plugins: Vec::new(), failed_auth: Vec::new(), missing_required: Vec::new() }
    }
}

/// How a plugin is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginState {
    /// What lies in the folder serves.
    Serving,
    /// What lies in the folder cannot be used; the last good version serves.
    Stale,
    /// It cannot be used, and there is no good version.
    Failed,
    /// Its file says `enabled = false`.
    Disabled,
    /// It serves, but failed so often that it is not called for a while.
    Broken,
}

impl PluginState {
    /// As it is written in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Stale => "stale",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
            Self::Broken => "broken",
        }
    }
}

/// What is told about one plugin in the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginStatus {
    /// The file's name without `.wasm`.
    pub name: String,
    /// How it is doing.
    pub state: PluginState,
    /// What is wrong, one fault a line.
    pub error: Option<String>,
    /// What it exports, as far as that is known.
    pub exports: Vec<&'static str>,
    /// Its own version, where its maker wrote one into it. Of what serves.
    pub version: Option<String>,
    /// What it is, where its maker wrote that into it. Of what serves.
    pub description: Option<String>,
    /// SHA-256 of the component that serves, in hexadecimal.
    pub sha256: Option<String>,
    /// When what serves was loaded, in milliseconds since the epoch.
    pub loaded_ms: Option<u64>,
}

/// What a look at the folder came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// The generation that serves now.
    pub generation: u64,
    /// Each plugin, by name.
    pub plugins: Vec<PluginChange>,
    /// What else the operator should know: files that mean nothing, a folder that cannot be read.
    pub warnings: Vec<String>,
}

/// What became of one plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginChange {
    /// Its name.
    pub name: String,
    /// What happened.
    pub change: Change,
    /// What is wrong, one fault a line.
    pub error: Option<String>,
}

/// What can happen to a plugin when the folder is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new or changed, and serves.
    Loaded,
    /// Nothing.
    Unchanged,
    /// It cannot be used; if it served before, the last good version still does.
    Failed,
    /// It is gone from the folder.
    Removed,
    /// Its file says `enabled = false`.
    Disabled,
    /// Its files are still being written; it is looked at again.
    Unfinished,
}
