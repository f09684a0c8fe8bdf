//! One plugin without a folder: to find out whether it loads, and to call it by hand.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::config::Config;
use super::engine::EngineSettings;
use super::error::LoadError;
use super::host::protected_folders;
use super::inspect::Inspection;
use super::manifest::Manifest;
use super::plugin::{HostCore, Lasting, Plugin};

/// Instances at the same time: one is called, and one more is made when a plugin is loaded.
const INSTANCES: u32 = 4;

/// The gateway that a plugin is tried for.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// Its section `[plugins]`.
    pub config: &'a Config,
    /// Its data folder.
    pub data_dir: &'a Path,
    /// Whether instructions are counted ([`super::StatsSnapshot::last_fuel`]), which slows the plugin down.
    pub count_fuel: bool,
}

/// Loads a plugin as a gateway does: looked into, compared with what `manifest` grants, compiled, linked, started once.
/// Nothing is written to disk.
///
/// # Errors
/// What is wrong with it, in the operator's words.
pub async fn load(
    name: &str,
    bytes: Vec<u8>,
    manifest: Manifest,
    trial: Trial<'_>,
) -> Result<Arc<Plugin>, LoadError> {
    Inspection::read(&bytes)?.check(&manifest)?;
    let engine = EngineSettings {
        cache_dir: None,
        max_instances: INSTANCES,
        max_memory_bytes: usize::try_from(trial.config.max_instance_memory_mb << 20).unwrap_or(usize::MAX),
        count_fuel: trial.count_fuel,
    };
    let protected = protected_folders(trial.config, trial.data_dir);
    let core = HostCore::new(&engine, protected).map_err(|error| LoadError::new(error.to_string()))?;
    let core = Arc::new(core);
    let sha256 = Sha256::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    let component = Plugin::compile(&core, bytes).await?;
    let lasting = Lasting::default();
    Plugin::load(core, name.to_owned(), component, sha256, manifest, lasting).await.map(Arc::new)
}
