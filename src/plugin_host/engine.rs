//! The wasmtime engine all plugins share: its limits, its memory pool, its code cache and its clock.
//!
//! Every number here has its reason beside it; `docs/plugins/performance.md` has the measurements.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig, WasmBacktraceDetails,
};

/// How often a running guest is asked whether its time is up. A guest that computes gives way to other tasks of its
/// thread this often, too.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Stack of a guest, in bytes. Interpreters inside guests (QuickJS, CPython) recurse deeply.
const MAX_WASM_STACK: usize = 1 << 20;

/// Stack a guest's fiber runs on: the guest's own and what the host needs on top of it.
const ASYNC_STACK: usize = MAX_WASM_STACK + (1 << 20);

/// Memory that a slot of the pool keeps between two calls instead of giving it back to the system, in bytes. Only what
/// a guest has written to is cleaned (`pagemap_scan`), so a large value costs a small guest nothing.
const KEEP_RESIDENT: usize = 4 << 20;

/// Slots that stay bound to the plugin that used them last: enough for the calls of a busy gateway, few enough that
/// idle plugins hold little memory.
const WARM_SLOTS: u32 = 32;

/// Core instances of one component; a Python guest has about 30.
const CORE_INSTANCES_PER_COMPONENT: u32 = 100;

/// Linear memories of one component: its own and those of adapters.
const MEMORIES_PER_COMPONENT: u32 = 4;

/// Tables of one component; shared libraries inside a Python guest bring several.
const TABLES_PER_COMPONENT: u32 = 32;

/// Entries of one table. CPython's has about 13,000.
const TABLE_ELEMENTS: usize = 50_000;

/// Bookkeeping of one instance, in bytes. Large guests have large tables of functions.
const INSTANCE_BYTES: usize = 4 << 20;

/// What can be set about the engine.
#[derive(Clone, Debug)]
pub(super) struct EngineSettings {
    /// Folder for compiled code; `None` compiles at every start.
    pub(super) cache_dir: Option<PathBuf>,
    /// Calls and open replies at the same time, over all plugins.
    pub(super) max_instances: u32,
    /// Most memory one instance may be granted, in bytes.
    pub(super) max_memory_bytes: usize,
    /// Whether instructions are counted, which slows guests down; for trying a plugin out.
    pub(super) count_fuel: bool,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The cache folder cannot be used.
    #[error("the folder for compiled plugins, {}, cannot be used: {reason}; set plugins.cache_dir", dir.display())]
    Cache {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The runtime does not run on this machine.
    #[error("the WebAssembly runtime does not start: {0}")]
    Runtime(String),
}

/// An engine, and how many instances it has room for at the same time.
pub(super) struct BuiltEngine {
    pub(super) engine: Engine,
    pub(super) slots: u32,
}

/// Builds the engine. Where the machine has not enough address space for the pool (a container with a limit on virtual
/// memory), smaller pools are tried, and then none.
pub(super) fn build(settings: &EngineSettings) -> Result<BuiltEngine, EngineError> {
    let cache = settings.cache_dir.as_deref().map(open_cache).transpose()?;
    let mut slots = settings.max_instances.max(1);
    let last = loop {
        let mut config = base_config(settings, cache.clone());
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings, slots)));
        match Engine::new(&config) {
            Ok(engine) => {
                if slots < settings.max_instances {
                    tracing::warn!(
                        wanted = settings.max_instances,
                        got = slots,
                        "not enough address space for the plugin pool; fewer plugin calls run at the same time without waiting"
                    );
                }
                return Ok(BuiltEngine { engine, slots });
            }
            Err(error) if slots <= 8 => break format!("{error:#}"),
            Err(_too_large) => slots /= 4,
        }
    };
    tracing::warn!(error = %last, "no memory pool for plugins; instances are made on demand, which is slower");
    let engine = Engine::new(&base_config(settings, cache))
        .map_err(|error| EngineError::Runtime(format!("{error:#}; with a pool: {last}")))?;
    Ok(BuiltEngine { engine, slots: settings.max_instances.max(1) })
}

fn open_cache(dir: &Path) -> Result<Cache, EngineError> {
    let refused = |reason: String| EngineError::Cache { dir: dir.to_owned(), reason };
    std::fs::create_dir_all(dir).map_err(|error| refused(error.to_string()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Whoever can write compiled code can run anything as the gateway.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
            .map_err(|error| refused(error.to_string()))?;
    }
    let absolute = std::path::absolute(dir).map_err(|error| refused(error.to_string()))?;
    let mut config = CacheConfig::new();
    config.with_directory(absolute);
    Cache::new(config).map_err(|error| refused(format!("{error:#}")))
}

fn base_config(settings: &EngineSettings, cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .consume_fuel(settings.count_fuel)
        .max_wasm_stack(MAX_WASM_STACK)
        .async_stack_size(ASYNC_STACK)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_component_model(true)
        // Guests see one thread and one memory; what they do not need cannot be turned against the host.
        .wasm_memory64(false)
        .cache(cache);
    config
}

fn pool(settings: &EngineSettings, slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(8).max(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(slots.saturating_mul(2))
        .total_tables(slots.saturating_mul(4).max(TABLES_PER_COMPONENT))
        .total_stacks(slots)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(settings.max_memory_bytes)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// The clock of the engine's epochs: a thread of its own, since async threads may be busy with the very guest that has
/// to be stopped. It sleeps while no guest runs.
pub(super) struct Ticker {
    shared: Arc<TickerShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct TickerShared {
    running: AtomicUsize,
    parked: AtomicBool,
    stopping: AtomicBool,
}

/// Keeps the clock going while a guest runs.
pub(super) struct Running<'a>(&'a Ticker);

impl Ticker {
    /// Starts the clock of `engine`.
    pub(super) fn start(engine: &Engine) -> Result<Self, EngineError> {
        let shared = Arc::new(TickerShared::default());
        let (state, engine) = (Arc::clone(&shared), engine.weak());
        let thread = std::thread::Builder::new()
            .name("plugin-clock".to_owned())
            .spawn(move || {
                while !state.stopping.load(Ordering::Acquire) {
                    if state.running.load(Ordering::Acquire) == 0 {
                        state.parked.store(true, Ordering::SeqCst);
                        if state.running.load(Ordering::SeqCst) == 0 && !state.stopping.load(Ordering::SeqCst)
                        {
                            std::thread::park();
                        }
                        state.parked.store(false, Ordering::SeqCst);
                    }
                    // Woken early only to stop, or by a guest that just began; an early tick does no harm.
                    std::thread::park_timeout(TICK);
                    let Some(engine) = engine.upgrade() else { return };
                    engine.increment_epoch();
                }
            })
            .map_err(|error| EngineError::Runtime(format!("no thread for the clock: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps the clock going until the guard is dropped.
    pub(super) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(self)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the plugin clock ended in a panic");
            }
        }
    }
}
