//! What one instance of a plugin can reach: the host side of every import.
//!
//! Made afresh for every call (or streamed reply), so it holds little: the parts of WASI are built when a guest first
//! asks for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::bindings::{EveryPlugin, witgate};
use super::egress::{self, CallEgress, PluginEgress};
use super::files::Folders;
use super::key_value::{KeyValueStore, StoreError};
use super::limits::{InstanceLimits, MAX_RESOURCES};
use super::manifest::Manifest;
use super::stats::PluginStats;
use super::stdio::{PluginLog, Source};
use crate::config::secret::Secret;

/// Random bytes a guest may ask for at once.
const MAX_RANDOM_BYTES: u64 = 64 * 1024;

/// Headers of one request or answer, in bytes.
const MAX_FIELDS_BYTES: usize = 32 * 1024;

/// What all instances of one plugin generation share.
pub(super) struct Shared {
    /// The plugin's name.
    pub(super) name: Arc<str>,
    /// The operator's file.
    pub(super) manifest: Manifest,
    /// The `config` table as JSON text.
    pub(super) config_json: String,
    /// The `config` table for guests that use `wasi:config`.
    pub(super) wasi_config: WasiConfigVariables,
    /// The folders it may use.
    pub(super) folders: Folders,
    /// Its way out to the network.
    pub(super) egress: Arc<PluginEgress>,
    /// The store that outlives this generation.
    pub(super) key_value: Arc<KeyValueStore>,
    /// The counters that outlive this generation.
    pub(super) stats: Arc<PluginStats>,
}

/// The data of one store.
pub(super) struct HostState {
    pub(super) shared: Arc<Shared>,
    pub(super) limits: InstanceLimits,
    /// When the running call is out of time.
    pub(super) deadline: Instant,
    /// The body of the reply under processing.
    pub(super) reply_body: Option<Bytes>,
    log: Option<Arc<PluginLog>>,
    table: ResourceTable,
    wasi: Option<Box<WasiCtx>>,
    http: Option<Box<(WasiHttpCtx, CallEgress)>>,
}

impl HostState {
    pub(super) fn new(shared: Arc<Shared>, deadline: Instant) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let limits = InstanceLimits::new(shared.manifest.limits.memory_bytes());
        Self { shared, limits, deadline, reply_body: None, log: None, table, wasi: None, http: None }
    }

    /// The log of this call.
    fn log(&mut self) -> &Arc<PluginLog> {
        self.log.get_or_insert_with(|| PluginLog::new(Arc::clone(&self.shared.name)))
    }

    fn build_wasi(&mut self) -> WasiCtx {
        let mut builder = WasiCtxBuilder::new();
        let log = Arc::clone(self.log());
        builder
            .max_random_size(MAX_RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .stdout(log.stream(Source::Stdout))
            .stderr(log.stream(Source::Stderr))
            .args(&[&self.shared.name]);
        for (name, value) in &self.shared.manifest.env {
            builder.env(name, value.expose());
        }
        if let Err(error) = self.shared.folders.add_to(&mut builder) {
            tracing::warn!(plugin = %self.shared.name, %error, "a granted folder is gone");
        }
        builder.build()
    }
}

/// Adds every import a plugin may have. What it may do with them is decided by its grants, at load and per call.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    EveryPlugin::add_to_linker::<HostState, HasSelf<HostState>>(linker, |state| state)?;
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    egress::add_to_linker(linker)?;
    wasmtime_wasi_config::add_to_linker(linker, |state| WasiConfig::from(&state.shared.wasi_config))?;
    Ok(())
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let built = match self.wasi.take() {
            Some(built) => built,
            None => Box::new(self.build_wasi()),
        };
        WasiCtxView { ctx: self.wasi.insert(built), table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let log = Arc::clone(self.log());
        let egress = &self.shared.egress;
        let (ctx, hooks) = &mut **self.http.get_or_insert_with(|| {
            let mut ctx = WasiHttpCtx::new();
            ctx.set_field_size_limit(MAX_FIELDS_BYTES);
            Box::new((ctx, egress.call(log)))
        });
        WasiHttpCtxView { hooks, table: &mut self.table, ctx }
    }
}

impl witgate::plugin::types::Host for HostState {}

impl witgate::plugin::reply_body::Host for HostState {
    fn get(&mut self) -> wasmtime::Result<Option<String>> {
        let body = self.reply_body.as_deref();
        Ok(body.and_then(|body| std::str::from_utf8(body).ok()).map(str::to_owned))
    }
}

impl witgate::plugin::log::Host for HostState {
    fn write(
        &mut self,
        level: witgate::plugin::log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        use tracing::Level as To;
        use witgate::plugin::log::Level;
        let level = match level {
            Level::Trace => To::TRACE,
            Level::Debug => To::DEBUG,
            Level::Info => To::INFO,
            Level::Warn => To::WARN,
            Level::Error => To::ERROR,
        };
        self.log().write(level, &message, &fields);
        Ok(())
    }
}

impl witgate::plugin::config::Host for HostState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.shared.manifest.config.get(&key).map(ToString::to_string))
    }

    fn get_all(&mut self) -> wasmtime::Result<String> {
        Ok(self.shared.config_json.clone())
    }
}

impl witgate::plugin::secrets::Host for HostState {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let secret: Option<&Secret> = self.shared.manifest.secrets.get(&name);
        Ok(secret.map(|secret| secret.expose().to_owned()))
    }
}

impl witgate::plugin::key_value::Host for HostState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.shared.key_value.get(&key))
    }

    fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_seconds: Option<u32>,
    ) -> wasmtime::Result<Result<(), witgate::plugin::key_value::StoreError>> {
        Ok(self.shared.key_value.set(key, value, ttl(ttl_seconds), false).map(drop).map_err(store_error))
    }

    fn set_new(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_seconds: Option<u32>,
    ) -> wasmtime::Result<Result<bool, witgate::plugin::key_value::StoreError>> {
        Ok(self.shared.key_value.set(key, value, ttl(ttl_seconds), true).map_err(store_error))
    }

    fn increment(
        &mut self,
        key: String,
        by: i64,
        ttl_seconds: Option<u32>,
    ) -> wasmtime::Result<Result<i64, witgate::plugin::key_value::StoreError>> {
        Ok(self.shared.key_value.increment(key, by, ttl(ttl_seconds)).map_err(store_error))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<bool> {
        Ok(self.shared.key_value.delete(&key))
    }

    fn keys(&mut self, prefix: String) -> wasmtime::Result<Vec<String>> {
        Ok(self.shared.key_value.keys(&prefix))
    }
}

fn ttl(seconds: Option<u32>) -> Option<Duration> {
    seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

fn store_error(error: StoreError) -> witgate::plugin::key_value::StoreError {
    match error {
        StoreError::TooLarge(limit) => witgate::plugin::key_value::StoreError::TooLarge(limit),
        StoreError::Full(limit) => witgate::plugin::key_value::StoreError::Full(limit),
        StoreError::NotANumber => witgate::plugin::key_value::StoreError::NotANumber,
    }
}
