//! One call of a guest: a place for it, a fresh instance, its time and memory, and what becomes of the outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Instance;
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};

use super::bindings::witgate::plugin::types as wit;
use super::convert;
use super::engine::Running;
use super::error::{PluginError, PluginErrorKind};
use super::plugin::Plugin;
use super::state::HostState;

/// Output of a guest that the host takes in whatever `limits.max_output_kb` says, in bytes: writes to files and
/// sockets go through the same gate.
const LEAST_HOSTCALL_BYTES: usize = 1 << 20;

/// Characters of a guest's error message that are kept.
const MAX_GUEST_MESSAGE_CHARS: usize = 2000;

/// A call that has got its place and its store.
pub(super) struct Call {
    pub(super) store: Store<HostState>,
    /// Its place among all instances of the gateway.
    pub(super) instance: OwnedSemaphorePermit,
}

/// What one call gave: the guest's answer, or the reason why there is none.
pub(super) type Outcome<T> = Result<wasmtime::Result<Result<T, wit::Error>>, tokio::time::error::Elapsed>;

impl Plugin {
    /// Lets a call in: the circuit must be closed, and there must be a place before the queue time is over.
    pub(super) async fn admit(&self) -> Result<OwnedSemaphorePermit, PluginError> {
        if let Err(left) = self.breaker.admit() {
            let message =
                format!("failed too often and is not called for another {} s", left.as_secs().max(1));
            return Err(self.refuse(PluginErrorKind::CircuitOpen, message));
        }
        self.place(&self.concurrency, "limits.max_concurrency").await
    }

    /// A place among `places`, waited for no longer than the operator allows.
    async fn place(&self, places: &Arc<Semaphore>, limit: &str) -> Result<OwnedSemaphorePermit, PluginError> {
        if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
            return Ok(permit);
        }
        let patience = self.shared.manifest.limits.queue_timeout();
        match tokio::time::timeout(patience, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                // The circuit may have let this call in to see how the plugin does; now another one has to show it.
                self.breaker.undecided();
                let message =
                    format!("has too many calls at once ({limit}); waited {} ms", patience.as_millis());
                Err(self.refuse(PluginErrorKind::Overloaded, message))
            }
        }
    }

    fn refuse(&self, kind: PluginErrorKind, message: String) -> PluginError {
        self.shared.stats.record_refusal(kind);
        PluginError::new(&self.shared.name, kind, message)
    }

    /// A fresh store for one call or one streamed reply.
    pub(super) async fn open(&self, reply_body: Option<Bytes>) -> Result<Call, PluginError> {
        let instance = self.place(&self.host.instances, "plugins.max_instances").await?;
        let mut state = HostState::new(Arc::clone(&self.shared), Instant::now());
        state.reply_body = reply_body;
        let mut store = Store::new(&self.host.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_hostcall_fuel(self.shared.manifest.limits.max_output_bytes().max(LEAST_HOSTCALL_BYTES));
        store.set_max_component_handles(super::limits::MAX_HANDLES);
        store.epoch_deadline_callback(|store| {
            // Giving way lets the timeout around the call have its word, too; this one comes with a backtrace.
            if Instant::now() >= store.data().deadline {
                return Ok(UpdateDeadline::Interrupt);
            }
            Ok(UpdateDeadline::Yield(1))
        });
        if self.host.counts_fuel {
            let fuel = self.most_fuel();
            // The engine counts fuel, so setting it cannot fail.
            let _counted = store.set_fuel(fuel);
        }
        Ok(Call { store, instance })
    }

    /// Starts the time of a call that may take until `limit` from now.
    pub(super) fn start_clock<'a>(&'a self, store: &mut Store<HostState>, limit: Duration) -> Running<'a> {
        store.data_mut().deadline = Instant::now() + limit;
        store.set_epoch_deadline(1);
        self.host.ticker.running()
    }

    /// An instance in `store`.
    pub(super) async fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<Instance> {
        self.pre.instantiate_async(store).await
    }

    /// Turns the outcome of a call into an answer or an error, and remembers it.
    pub(super) fn settle<T>(
        &self,
        outcome: Outcome<T>,
        store: &Store<HostState>,
        limit: Duration,
        took: Duration,
    ) -> Result<T, PluginError> {
        let answer = match outcome {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => {
                let kind = match error {
                    wit::Error::RetryAfter(seconds) => PluginErrorKind::RetryAfter(seconds),
                    wit::Error::Denied(_) => PluginErrorKind::Denied,
                    _ => PluginErrorKind::Guest,
                };
                Err(PluginError::new(&self.shared.name, kind, cut(&convert::error_words(&error))))
            }
            Ok(Err(error)) => Err(self.explain(&error, store, limit)),
            Err(_elapsed) => Err(PluginError::timeout(&self.shared.name, limit)),
        };
        if let Ok(left) = store.get_fuel() {
            self.shared.stats.record_fuel(self.most_fuel().saturating_sub(left));
        }
        self.remember(answer.as_ref().err(), store.data().limits.memory_bytes(), took);
        answer
    }

    /// Fuel of one call, where fuel is counted.
    fn most_fuel(&self) -> u64 {
        self.shared.manifest.limits.fuel.unwrap_or(u64::MAX)
    }

    /// Counts an outcome, tells the circuit breaker, and logs a failure.
    pub(super) fn remember(&self, error: Option<&PluginError>, memory_bytes: usize, took: Duration) {
        if self.is_loaded {
            self.shared.stats.record(took, memory_bytes, error.map(|error| error.kind));
        }
        match error {
            Some(error) if error.kind.is_plugins_fault() => {
                tracing::warn!(plugin = %self.shared.name, kind = error.kind.as_str(), "{error}");
                if let Some(pause) = self.breaker.failed() {
                    tracing::error!(
                        plugin = %self.shared.name,
                        pause_s = pause.as_secs(),
                        "the plugin keeps failing and is not called for a while"
                    );
                }
            }
            Some(error) => {
                tracing::info!(plugin = %self.shared.name, kind = error.kind.as_str(), "{error}");
                self.breaker.succeeded();
            }
            None => self.breaker.succeeded(),
        }
    }

    /// An answer that breaks a rule of the interface.
    pub(super) fn broken_rule(&self, rule: String) -> PluginError {
        PluginError::new(&self.shared.name, PluginErrorKind::Trap, rule)
    }

    fn explain(&self, error: &wasmtime::Error, store: &Store<HostState>, limit: Duration) -> PluginError {
        let name = &self.shared.name;
        let trap = error.downcast_ref::<Trap>().copied();
        if trap == Some(Trap::Interrupt) {
            return with_backtrace(PluginError::timeout(name, limit), error);
        }
        if trap == Some(Trap::OutOfFuel) {
            return PluginError::new(name, PluginErrorKind::Limit, "used up its fuel (limits.fuel)");
        }
        if let Some(refused) = store.data().limits.refused() {
            return with_backtrace(
                PluginError::new(name, PluginErrorKind::Limit, refused.to_string()),
                error,
            );
        }
        let root = error.root_cause().to_string();
        if root.contains("fuel allocated for hostcalls") {
            let allowed = self.shared.manifest.limits.max_output_kb;
            let message =
                format!("handed over more than it may at once ({allowed} KiB, limits.max_output_kb)");
            return PluginError::new(name, PluginErrorKind::OutputTooLarge, message);
        }
        if let Some(hoarded) = super::limits::hoarded(error) {
            return with_backtrace(PluginError::new(name, PluginErrorKind::Limit, hoarded), error);
        }
        if trap == Some(Trap::StackOverflow) {
            let message = "used up its stack (endless recursion?)";
            return with_backtrace(PluginError::new(name, PluginErrorKind::Limit, message), error);
        }
        let message = format!("trapped: {}", cut(&root));
        with_backtrace(PluginError::new(name, PluginErrorKind::Trap, message), error)
    }
}

/// Adds the guest's own backtrace, function by function, innermost first.
fn with_backtrace(mut described: PluginError, error: &wasmtime::Error) -> PluginError {
    const MOST_FRAMES: usize = 12;
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return described };
    let names: Vec<String> = backtrace
        .frames()
        .iter()
        .take(MOST_FRAMES)
        .map(|frame| match frame.func_name() {
            Some(name) => wasmtime_name(name),
            None => format!("function {}", frame.func_index()),
        })
        .collect();
    if !names.is_empty() {
        described.message.push_str("; in ");
        described.message.push_str(&names.join(" < "));
    }
    described
}

/// A guest's function name for the log: without control characters, not longer than is useful.
fn wasmtime_name(name: &str) -> String {
    const LONGEST: usize = 120;
    name.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

fn cut(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c });
    clean.take(MAX_GUEST_MESSAGE_CHARS).collect()
}
