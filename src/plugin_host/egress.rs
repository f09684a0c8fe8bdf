//! What guests may reach over the network: the policy behind `wasi:http/outgoing-handler`.
//!
//! A plugin reaches a host only where its operator's file grants it (`network`, see [`grants`]), and never an address
//! that is not public unless a grant names that address ([`addresses`]). A name is resolved once, every address of the
//! answer is checked, and only these are connected to. Time, size and number of requests are bounded ([`EgressLimits`]);
//! whoever drops the call drops its requests and their connections.
//!
//! Requests go over HTTP/1.1, each on a connection of its own. Nothing is shared between plugins or calls.

mod admission;
mod body;
mod connect;
mod exchange;
mod linker;

pub mod addresses;
pub mod grants;
pub mod resolver;
pub mod target;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{EXPECT, HeaderName, TE, TRAILER};
use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

pub use self::linker::add_to_linker;

use super::stdio::PluginLog;
use admission::{Refusal, admit};
use connect::Tls;
use exchange::{Driver, bounded, exchange};
use grants::NetworkGrant;
use resolver::{Resolver, SystemResolver};
use target::Target;

/// Most bytes a guest hands over in one write to a request's body. Two such pieces may wait for the network.
const BODY_CHUNK_BYTES: usize = 16 * 1_024;

/// Bounds of what one call may do over the network. A guest may ask for shorter waits, never for longer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressLimits {
    /// Resolving the name, and after that connecting, TLS included.
    pub connect_timeout: Duration,
    /// From the connection to the end of the answer's head.
    pub first_byte_timeout: Duration,
    /// Silence within an answer's body.
    pub between_bytes_timeout: Duration,
    /// The whole request, to the last byte of the answer.
    pub total_timeout: Duration,
    /// Body of a request, in bytes.
    pub max_request_bytes: u64,
    /// Body of an answer as it comes over the wire, in bytes.
    pub max_response_bytes: u64,
    /// Requests of one call at a time; one more is refused.
    pub max_concurrent: usize,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(60),
            between_bytes_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(300),
            max_request_bytes: 16 * 1_024 * 1_024,
            max_response_bytes: 16 * 1_024 * 1_024,
            max_concurrent: 8,
        }
    }
}

/// The way out of the gateway that all plugins share.
pub struct Egress {
    resolver: Box<dyn Resolver>,
    tls: Tls,
}

/// One plugin's way out.
pub struct PluginEgress {
    egress: Arc<Egress>,
    grants: Vec<NetworkGrant>,
    limits: EgressLimits,
    counters: Arc<EgressCounters>,
}

/// One call's way out: what the state of a store gives `wasi:http` as its hooks.
pub struct CallEgress {
    plugin: Arc<PluginEgress>,
    log: Arc<PluginLog>,
    places: Arc<Semaphore>,
    forbidden: ForbiddenHeaderFilter,
}

/// What a plugin has asked for, since its counters were made.
#[derive(Debug, Default)]
pub struct EgressCounters {
    allowed: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
}

/// A reading of [`EgressCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressCounts {
    /// Requests that the operator's file allows.
    pub allowed: u64,
    /// Requests that it does not.
    pub denied: u64,
    /// Allowed requests that brought no answer.
    pub failed: u64,
}

impl EgressCounters {
    /// The counts as they are now.
    pub fn read(&self) -> EgressCounts {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EgressCounts {
            allowed: value(&self.allowed),
            denied: value(&self.denied),
            failed: value(&self.failed),
        }
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self { resolver: Box::new(SystemResolver::default()), tls: Tls::default() }
    }
}

impl Egress {
    /// As the default, with a resolver other than the system's.
    #[must_use]
    pub fn with_resolver(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Box::new(resolver), tls: Tls::default() }
    }
}

impl PluginEgress {
    /// A plugin's way out with what its operator grants. `counters` may outlive the plugin's generation.
    #[must_use]
    pub fn new(
        egress: Arc<Egress>,
        grants: Vec<NetworkGrant>,
        limits: EgressLimits,
        counters: Arc<EgressCounters>,
    ) -> Arc<Self> {
        Arc::new(Self { egress, grants, limits, counters })
    }

    /// The way out of one call, which writes refusals to the call's log.
    #[must_use]
    pub fn call(self: &Arc<Self>, log: Arc<PluginLog>) -> CallEgress {
        CallEgress {
            plugin: self.clone(),
            log,
            places: Arc::new(Semaphore::new(self.limits.max_concurrent)),
            forbidden: Arc::new(is_forbidden),
        }
    }

    async fn send(
        &self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        place: OwnedSemaphorePermit,
        log: &PluginLog,
    ) -> Result<(Response<WasiBody>, Driver), Error> {
        let limits = bounded(&self.limits, options);
        let target = Target::from_uri(request.uri()).map_err(|problem| {
            self.counters.denied.fetch_add(1, Ordering::Relaxed);
            warn(log, &format!("sent a request whose address is wrong: {problem}"));
            Error::HttpRequestUriInvalid
        })?;
        let admitted = admit(&target, &self.grants, &*self.egress.resolver, limits.connect_timeout).await;
        let addresses = admitted.map_err(|refusal| {
            self.count(&refusal);
            warn(log, &refusal.to_string());
            refusal.error()
        })?;
        self.counters.allowed.fetch_add(1, Ordering::Relaxed);
        let answer = exchange(&target, &addresses, request, &limits, &self.egress.tls, place).await;
        answer.inspect_err(|error| {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
            warn(log, &format!("got no answer from {target}: {error}"));
        })
    }

    fn count(&self, refusal: &Refusal) {
        if refusal.is_policy() {
            self.counters.denied.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counters.allowed.fetch_add(1, Ordering::Relaxed);
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A guest decides how often this is called, so it counts among the lines of its call.
fn warn(log: &PluginLog, problem: &str) {
    if log.admit() {
        let plugin = log.plugin();
        let problem = super::stdio::visible(problem, super::stdio::MAX_LINE_BYTES);
        tracing::warn!(plugin, "plugin `{plugin}` {problem}");
    }
}

/// Headers that are the host's own: those that frame a message or belong to one connection, and those for proxies.
fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
        || matches!(*name, TE | TRAILER | EXPECT)
        || name.as_str().starts_with("proxy-")
}

type Sent = Box<
    dyn Future<
            Output = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>,
        > + Send,
>;

impl WasiHttpHooks for CallEgress {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        self.forbidden.clone()
    }

    /// The host writes it itself, from the target it has checked.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sent {
        let place = self.places.clone().try_acquire_owned();
        let (plugin, log) = (self.plugin.clone(), self.log.clone());
        let sent = async move {
            let Ok(place) = place else {
                let max = plugin.limits.max_concurrent;
                warn(&log, &format!("made more than {max} requests at a time in one call"));
                return Err(Error::ConnectionLimitReached);
            };
            let (response, driver) = plugin.send(request, options, place, &log).await?;
            Ok((response, Box::new(driver) as Box<dyn Future<Output = _> + Send>))
        };
        Box::new(sent.in_current_span())
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}
