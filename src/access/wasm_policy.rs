//! Plugins that export `auth`, as policies: each generation of plugins becomes one set.
//!
//! Always closed: whatever goes wrong with such a plugin is a refusal, whatever its `on_failure` says, and so is a plugin
//! that has to be there and is not.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::policy::{AuthPolicy, PolicyError, PolicySet, PolicySource};
use crate::domain::{AccessRequest, Decision};
use crate::plugin_host::{Catalog, Plugin, PluginErrorKind, PluginFolder};

/// The policies among the plugins of a folder.
pub struct WasmPolicies {
    folder: PluginFolder<Plugin>,
    /// The set made of the generation that was seen last.
    built: ArcSwap<Built>,
}

struct Built {
    generation: u64,
    set: Arc<PolicySet>,
}

impl WasmPolicies {
    /// The policies that are in `folder` at each moment.
    #[must_use]
    pub fn new(folder: PluginFolder<Plugin>) -> Self {
        let built = ArcSwap::from_pointee(Built::of(&folder.catalog()));
        Self { folder, built }
    }
}

impl PolicySource for WasmPolicies {
    fn snapshot(&self) -> Arc<PolicySet> {
        let catalog = self.folder.catalog();
        let built = self.built.load();
        if built.generation == catalog.generation {
            return Arc::clone(&built.set);
        }
        // Made by whoever comes first rather than by a task that follows the changes: a plugin that is in force for
        // replies must not be late for decisions.
        let fresh = Built::of(&catalog);
        let set = Arc::clone(&fresh.set);
        self.built.store(Arc::new(fresh));
        set
    }
}

impl Built {
    fn of(catalog: &Catalog<Plugin>) -> Self {
        let policies = catalog.plugins.iter().filter(|plugin| plugin.exports().auth);
        let policies =
            policies.map(|plugin| -> Arc<dyn AuthPolicy> { Arc::new(WasmPolicy(Arc::clone(plugin))) });
        let missing = catalog.failed_auth.iter().chain(&catalog.missing_required);
        let set = PolicySet::new(policies.collect(), missing.cloned().collect());
        Self { generation: catalog.generation, set: Arc::new(set) }
    }
}

/// One plugin.
struct WasmPolicy(Arc<Plugin>);

#[async_trait]
impl AuthPolicy for WasmPolicy {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn order(&self) -> i64 {
        self.0.manifest().order.into()
    }

    async fn authorize(&self, request: &AccessRequest) -> Result<Decision, PolicyError> {
        self.0.authorize(request).await.map_err(|error| {
            let retry_after = match error.kind {
                PluginErrorKind::RetryAfter(seconds) => Some(Duration::from_secs(seconds.into())),
                _ => None,
            };
            PolicyError { message: error.to_string(), retry_after }
        })
    }
}
