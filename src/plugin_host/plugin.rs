//! A loaded plugin: one generation of one component, ready to be called.
//!
//! Immutable. Calls that are running when a new generation takes over end on the one they began with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi_config::WasiConfigVariables;

use super::bindings::exports::witgate::plugin::{auth, response, response_stream, tools};
use super::breaker::Breaker;
use super::call::Outcome;
use super::convert::{self, HttpIn, PrincipalIn};
use super::egress::{Egress, EgressCounters, EgressLimits, PluginEgress};
use super::engine::{self, EngineError, EngineSettings, TICK, Ticker};
use super::error::{LoadError, PluginError, PluginErrorKind};
use super::files::{FolderGrant, Folders, Protected};
use super::inspect::{Exports, explain_link_error};
use super::key_value::KeyValueStore;
use super::manifest::{FileMode, Hook, Manifest};
use super::reply_guest::ReplyGuest;
use super::state::{self, HostState, Shared};
use super::stats::{PluginStats, StatsSnapshot};
use crate::domain::{
    AccessRequest, Decision, ProcessedReply, ReplyAction, ReplyContext, ToolContext, ToolDefinition,
    ToolError, ToolErrorKind, ToolResult,
};

/// How much longer than the guest's own deadline the host waits: the guest's own end comes with a backtrace.
pub(super) const GRACE: Duration = TICK.saturating_mul(5);

/// Tools one plugin may bring.
const MAX_TOOLS: usize = 1000;

/// What all plugins share.
pub(super) struct HostCore {
    pub(super) engine: Engine,
    pub(super) linker: Linker<HostState>,
    pub(super) ticker: Ticker,
    /// Places for instances, over all plugins.
    pub(super) instances: Arc<Semaphore>,
    pub(super) counts_fuel: bool,
    /// The way out to the network that all plugins share.
    pub(super) egress: Arc<Egress>,
    /// Folders that no plugin may be granted: what they are, and where.
    pub(super) protected: Vec<(&'static str, PathBuf)>,
}

/// What of a plugin outlives its generations.
#[derive(Clone, Default)]
pub(super) struct Lasting {
    pub(super) key_value: Arc<KeyValueStore>,
    pub(super) stats: Arc<PluginStats>,
    pub(super) egress: Arc<EgressCounters>,
}

/// See the module's words.
pub struct Plugin {
    pub(super) host: Arc<HostCore>,
    pub(super) shared: Arc<Shared>,
    pub(super) pre: InstancePre<HostState>,
    pub(super) breaker: Breaker,
    pub(super) concurrency: Arc<Semaphore>,
    pub(super) indices: Indices,
    /// False while it is being tried out: what it does then is not counted.
    pub(super) is_loaded: bool,
    sha256: String,
    tools: Vec<ToolDefinition>,
}

/// Where a component's functions are, per interface it exports.
#[derive(Default)]
pub(super) struct Indices {
    pub(super) response: Option<response::GuestIndices>,
    pub(super) response_stream: Option<response_stream::GuestIndices>,
    pub(super) auth: Option<auth::GuestIndices>,
    pub(super) tools: Option<tools::GuestIndices>,
}

impl HostCore {
    /// An engine with everything plugins may import.
    pub(super) fn new(
        settings: &EngineSettings,
        protected: Vec<(&'static str, PathBuf)>,
    ) -> Result<Self, EngineError> {
        let built = engine::build(settings)?;
        let mut linker = Linker::new(&built.engine);
        state::add_to_linker(&mut linker).map_err(|error| EngineError::Runtime(format!("{error:#}")))?;
        let places = usize::try_from(built.slots).unwrap_or(1).clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            ticker: Ticker::start(&built.engine)?,
            linker,
            instances: Arc::new(Semaphore::new(places)),
            counts_fuel: settings.count_fuel,
            egress: Arc::new(Egress::default()),
            protected,
            engine: built.engine,
        })
    }
}

/// Runs one function of a guest in a fresh instance, within the time a hook has.
macro_rules! call_guest {
    ($plugin:expr, $hook:expr, $indices:ident, $body:expr, |$store:ident, $guest:ident| $call:expr) => {{
        let plugin: &Plugin = $plugin;
        let Some(indices) = &plugin.indices.$indices else {
            return Err(plugin
                .broken_rule(concat!("does not export ", stringify!($indices)).to_owned())
                .into());
        };
        let _running = plugin.shared.stats.enter();
        let _permit = plugin.admit().await?;
        let mut call = plugin.open($body).await?;
        let limit = plugin.shared.manifest.limits.call_timeout($hook);
        let began = Instant::now();
        let $store = &mut call.store;
        let _clock = plugin.start_clock($store, limit);
        let outcome = tokio::time::timeout(limit + GRACE, async {
            let instance = plugin.instantiate($store).await?;
            let $guest = indices.load(&mut *$store, &instance)?;
            $call.await
        })
        .await;
        plugin.settle(outcome, &call.store, limit, began.elapsed())
    }};
}

impl Plugin {
    /// Compiles a component, on a thread of its own: it takes from milliseconds (from the cache) to seconds.
    ///
    /// # Errors
    /// What is wrong with the component.
    pub(super) async fn compile(host: &Arc<HostCore>, bytes: Vec<u8>) -> Result<Component, LoadError> {
        let engine = host.engine.clone();
        let compiled = tokio::task::spawn_blocking(move || Component::from_binary(&engine, &bytes)).await;
        compiled
            .map_err(|error| LoadError::new(format!("compiling it ended early: {error}")))?
            .map_err(|error| LoadError::new(format!("not a valid component: {error:#}")))
    }

    /// Links a component, tries one instance of it, and asks for its tools.
    ///
    /// # Errors
    /// What is wrong with the component, in the operator's words.
    pub(super) async fn load(
        host: Arc<HostCore>,
        name: String,
        component: Component,
        sha256: String,
        manifest: Manifest,
        lasting: Lasting,
    ) -> Result<Self, LoadError> {
        let pre = host.linker.instantiate_pre(&component).map_err(|error| link_error(&error))?;
        let indices = Indices::of(&pre)?;
        let folders = folders(&host, &manifest)?;
        let network = manifest.network.clone();
        let egress =
            PluginEgress::new(Arc::clone(&host.egress), network, EgressLimits::default(), lasting.egress);
        let shared = Shared {
            folders,
            egress,
            config_json: serde_json::Value::Object(manifest.config.clone()).to_string(),
            wasi_config: wasi_config(&manifest),
            key_value: lasting.key_value,
            stats: lasting.stats,
            name: name.into(),
            manifest,
        };
        let limit = usize::try_from(shared.manifest.limits.max_concurrency).unwrap_or(1);
        let mut plugin = Self {
            host,
            shared: Arc::new(shared),
            pre,
            sha256,
            breaker: Breaker::default(),
            concurrency: Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS))),
            indices,
            is_loaded: false,
            tools: Vec::new(),
        };
        plugin.try_out().await.map_err(|error| LoadError::new(error.message))?;
        if plugin.indices.tools.is_some() {
            plugin.tools = plugin.list_tools().await.map_err(|error| LoadError::new(error.message))?;
        }
        plugin.is_loaded = true;
        Ok(plugin)
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// SHA-256 of the component, in hexadecimal.
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The compiled component.
    pub(super) fn component(&self) -> Component {
        self.pre.component().clone()
    }

    /// The operator's file.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.shared.manifest
    }

    /// What it exports.
    #[must_use]
    pub fn exports(&self) -> Exports {
        Exports {
            response: self.indices.response.is_some(),
            response_stream: self.indices.response_stream.is_some(),
            auth: self.indices.auth.is_some(),
            tools: self.indices.tools.is_some(),
        }
    }

    /// The tools it brings.
    #[must_use]
    pub fn tools(&self) -> &[ToolDefinition] {
        &self.tools
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> StatsSnapshot {
        self.shared.stats.snapshot()
    }

    /// True while the circuit breaker keeps calls away.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.breaker.is_open()
    }

    /// Asks what is to become of one choice of a whole reply.
    ///
    /// # Errors
    /// When there is no answer, or one that breaks a rule of the interface.
    pub async fn process_reply(
        &self,
        context: &ReplyContext,
        reply: &ProcessedReply,
    ) -> Result<ReplyAction, PluginError> {
        let principal = PrincipalIn::new(&context.principal);
        let calls = convert::tool_calls_in(&reply.tool_calls);
        let param = response::Reply {
            choice: u32::try_from(reply.choice).unwrap_or(u32::MAX),
            text: &reply.text,
            reasoning: reply.reasoning.as_deref(),
            tool_calls: &calls,
            finish_reason: reply.finish_reason.as_ref().map(convert::finish_reason_in),
            usage: reply.usage.as_ref().map(convert::usage_in),
        };
        let context = convert::request_context(context, &principal);
        let action: Result<_, PluginError> =
            call_guest!(self, Hook::Response, response, reply.raw.clone(), |store, guest| {
                guest.call_process_llm_response(store, context, param)
            });
        convert::action_out(action?).map_err(|rule| self.broken_rule(rule))
    }

    /// Opens one choice of a streamed reply.
    ///
    /// # Errors
    /// When the plugin does not take it.
    pub async fn open_reply(
        self: &Arc<Self>,
        context: &ReplyContext,
        choice: u64,
    ) -> Result<ReplyGuest, PluginError> {
        ReplyGuest::open(Arc::clone(self), context, choice).await
    }

    /// Asks for a decision.
    ///
    /// # Errors
    /// When there is none; a caller has to take that for a refusal.
    pub async fn authorize(&self, request: &AccessRequest) -> Result<Decision, PluginError> {
        let principal = request.principal.as_ref().map(PrincipalIn::new);
        let http = HttpIn::new(request, &self.shared.manifest);
        let param = auth::AccessRequest {
            request_id: request.request_id.as_str(),
            action: convert::access_action_in(&request.action),
            principal: principal.as_ref().map(PrincipalIn::param),
            http: http.as_ref().map(HttpIn::param),
        };
        let decision: Result<_, PluginError> =
            call_guest!(self, Hook::Auth, auth, None, |store, guest| guest.call_authorize(store, param));
        convert::decision_out(&self.shared.name, decision?).map_err(|rule| self.broken_rule(rule))
    }

    /// Calls a tool with arguments that fit its schema.
    ///
    /// # Errors
    /// When there is no result.
    pub async fn call_tool(
        &self,
        context: &ToolContext,
        name: &str,
        arguments_json: &str,
    ) -> Result<ToolResult, ToolError> {
        let result = self.call_tool_inner(context, name, arguments_json).await.map_err(|error| {
            let kind = match error.kind {
                PluginErrorKind::Timeout => ToolErrorKind::Timeout,
                PluginErrorKind::Overloaded | PluginErrorKind::CircuitOpen => ToolErrorKind::NotSent,
                _ => ToolErrorKind::Failed,
            };
            ToolError::new(kind, error.for_callers())
        })?;
        result.map_err(convert::tool_error_out).and_then(|result| {
            convert::result_out(result).map_err(|rule| {
                let error = self.broken_rule(rule);
                ToolError::new(ToolErrorKind::Failed, error.to_string())
            })
        })
    }

    async fn call_tool_inner(
        &self,
        context: &ToolContext,
        name: &str,
        arguments_json: &str,
    ) -> Result<Result<tools::ToolResult, tools::ToolError>, PluginError> {
        let principal = PrincipalIn::new(&context.principal);
        let context = convert::call_context_in(context, &principal);
        call_guest!(self, Hook::Tool, tools, None, |store, guest| async {
            // A tool's own error is an answer like any other.
            Ok(Ok(guest.call_call_tool(store, context, name, arguments_json).await?))
        })
    }

    async fn list_tools(&self) -> Result<Vec<ToolDefinition>, PluginError> {
        let tools: Result<_, PluginError> =
            call_guest!(self, Hook::Load, tools, None, |store, guest| guest.call_list_tools(store));
        let tools: Vec<tools::ToolDefinition> = tools?;
        if tools.len() > MAX_TOOLS {
            return Err(
                self.broken_rule(format!("brings {} tools; at most {MAX_TOOLS} are possible", tools.len()))
            );
        }
        let checked = tools.into_iter().map(|tool| convert::definition_out(&self.shared.name, tool));
        checked.collect::<Result<_, _>>().map_err(|rule| self.broken_rule(rule))
    }

    /// One instance, to see that the component starts within its limits.
    async fn try_out(&self) -> Result<(), PluginError> {
        let mut call = self.open(None).await?;
        let limit = self.shared.manifest.limits.call_timeout(Hook::Load);
        let began = Instant::now();
        let _clock = self.start_clock(&mut call.store, limit);
        let store: &mut Store<HostState> = &mut call.store;
        let outcome: Outcome<()> = tokio::time::timeout(limit + GRACE, async {
            self.instantiate(store).await.map(|_instance| Ok(()))
        })
        .await;
        self.settle(outcome, &call.store, limit, began.elapsed())
    }
}

impl Indices {
    fn of(pre: &InstancePre<HostState>) -> Result<Self, LoadError> {
        /// The indices of one interface; none where the component does not have it.
        fn found<T>(
            pre: &InstancePre<HostState>,
            interface: &str,
            indices: wasmtime::Result<T>,
        ) -> Result<Option<T>, LoadError> {
            let full = format!("witgate:plugin/{interface}@0.1.0");
            match indices {
                Ok(indices) => Ok(Some(indices)),
                Err(_) if pre.component().get_export_index(None, &full).is_none() => Ok(None),
                Err(error) => Err(LoadError::new(format!(
                    "exports {full}, but not with the functions of that version: {error:#}"
                ))),
            }
        }
        let indices = Self {
            response: found(pre, "response", response::GuestIndices::new(pre))?,
            response_stream: found(pre, "response-stream", response_stream::GuestIndices::new(pre))?,
            auth: found(pre, "auth", auth::GuestIndices::new(pre))?,
            tools: found(pre, "tools", tools::GuestIndices::new(pre))?,
        };
        if indices.response.is_none()
            && indices.response_stream.is_none()
            && indices.auth.is_none()
            && indices.tools.is_none()
        {
            return Err(LoadError::new(
                "exports nothing the gateway could call: a plugin exports response, response-stream, auth or tools of \
                 witgate:plugin@0.1.0",
            ));
        }
        Ok(indices)
    }
}

/// Opens the folders that the operator's file grants.
fn folders(host: &HostCore, manifest: &Manifest) -> Result<Folders, LoadError> {
    let grants = manifest.files.iter().map(|grant| FolderGrant {
        host: &grant.host,
        guest: grant.guest.as_str(),
        writable: grant.mode == FileMode::Write,
    });
    let protected: Vec<Protected<'_>> =
        host.protected.iter().map(|(what, path)| Protected { what, path }).collect();
    Folders::open(grants, &protected).map_err(|error| LoadError::new(error.to_string()))
}

fn link_error(error: &wasmtime::Error) -> LoadError {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    explain_link_error(causes.iter().map(String::as_str))
}

/// The `config` table for `wasi:config`: strings as they are, everything else as JSON text.
fn wasi_config(manifest: &Manifest) -> WasiConfigVariables {
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let pairs: BTreeMap<String, String> =
        manifest.config.iter().map(|(key, json)| (key.clone(), value(json))).collect();
    pairs.into_iter().collect()
}
