//! Second tries: at the same upstream while it may recover, then at the next one that offers the model.
//!
//! Nothing is tried again once the first chunk of a reply is on its way to the client. Pauses grow exponentially with
//! full jitter; an upstream's own `Retry-After` comes first. A budget per upstream keeps a dead one from being hammered,
//! and one that keeps failing is tried last for a while.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tracing::warn;

use super::openai::OpenAiUpstream;
use super::{ChatModel, ChunkStream, Config, ModelError};
use crate::domain::{Completion, CompletionRequest, RequestId};

/// The longest `Retry-After` that is waited for; beyond it the client is told to come back.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// So many failures in a row put an upstream behind the others ...
const FAILURES_TO_STEP_BACK: u32 = 3;

/// ... for this long after the last of them.
const STEP_BACK: Duration = Duration::from_secs(10);

/// Retries that come back to an upstream's budget per second, and per request made of it.
const BUDGET_PER_SECOND: f64 = 1.0;
const BUDGET_PER_REQUEST: f64 = 0.1;

/// A failed try and what can be done about it.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the client is told if nothing helps. Boxed, since this is an `Err` and errors are rare.
    pub(super) error: Box<ModelError>,
    /// Where a further try makes sense.
    pub(super) next: Next,
    /// How long the upstream asked to be left alone.
    pub(super) wait: Option<Duration>,
    /// True when the upstream itself is unwell, as opposed to the request or our credentials.
    pub(super) unwell: bool,
}

/// Where a further try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nowhere: the request is at fault.
    GiveUp,
    /// At another upstream only.
    OtherUpstream,
    /// At an upstream that was only guessed to have the model, if this one was such a guess.
    OtherGuess,
    /// At the same upstream, then at others.
    Again,
}

/// How often and how fast tries follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    max_retries: u32,
    base: Duration,
    max: Duration,
}

impl Policy {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            max_retries: config.max_retries,
            base: Duration::from_millis(config.retry_base_ms),
            max: Duration::from_millis(config.retry_max_ms),
        }
    }

    /// The pause before retry number `retry` (from 0): anything up to a bound that doubles each time.
    fn pause(&self, retry: u32) -> Duration {
        let bound = self.base.saturating_mul(1 << retry.min(16)).min(self.max);
        bound.mul_f64(fastrand::f64())
    }
}

/// How an upstream has been doing: its retry budget, its recent failures and what was last heard of it.
#[derive(Debug)]
pub(super) struct Health {
    capacity: f64,
    budget: Mutex<(f64, Instant)>,
    failures: AtomicU32,
    stepped_back_until: Mutex<Option<Instant>>,
    heard: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl Health {
    pub(super) fn new(retry_budget: u32) -> Self {
        let capacity = f64::from(retry_budget);
        Self {
            capacity,
            budget: Mutex::new((capacity, Instant::now())),
            failures: AtomicU32::new(0),
            stepped_back_until: Mutex::new(None),
            heard: AtomicBool::new(false),
            last_error: Mutex::new(None),
        }
    }

    /// Whether the upstream could be used the last time; `None` before the first time.
    pub(super) fn reachable(&self) -> Option<bool> {
        match (self.last_error(), self.heard.load(Ordering::Relaxed)) {
            (Some(_), _) => Some(false),
            (None, true) => Some(true),
            (None, false) => None,
        }
    }

    /// What went wrong the last time, unless things went well since.
    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    pub(super) fn succeeded(&self) {
        self.heard.store(true, Ordering::Relaxed);
        if self.failures.swap(0, Ordering::Relaxed) > 0 {
            *lock(&self.stepped_back_until) = None;
        }
        let mut last_error = lock(&self.last_error);
        if last_error.is_some() {
            *last_error = None;
        }
    }

    pub(super) fn failed(&self, error: &str, wait: Option<Duration>) {
        *lock(&self.last_error) = Some(error.to_owned());
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let step_back = match wait {
            Some(wait) => Some(wait.min(MAX_RETRY_AFTER)),
            None => (failures >= FAILURES_TO_STEP_BACK).then_some(STEP_BACK),
        };
        if let Some(step_back) = step_back {
            *lock(&self.stepped_back_until) = Some(Instant::now() + step_back);
        }
    }

    fn stepped_back(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 0
            && lock(&self.stepped_back_until).is_some_and(|until| until > Instant::now())
    }

    /// Notes a request, which earns a part of a retry.
    fn earn(&self) {
        self.refill(BUDGET_PER_REQUEST);
    }

    /// Takes one retry out of the budget, if there is one.
    fn spend(&self) -> bool {
        self.refill(0.0);
        let mut budget = lock(&self.budget);
        let affordable = budget.0 >= 1.0;
        if affordable {
            budget.0 -= 1.0;
        }
        affordable
    }

    fn refill(&self, extra: f64) {
        let mut budget = lock(&self.budget);
        let now = Instant::now();
        let earned = now.duration_since(budget.1).as_secs_f64() * BUDGET_PER_SECOND + extra;
        *budget = ((budget.0 + earned).min(self.capacity), now);
    }
}

/// The guarded values are whole at every moment, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One way to a model.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) upstream: Arc<OpenAiUpstream>,
    /// The id the upstream knows the model by.
    pub(super) model: String,
    /// False when the upstream is not known to have the model and gets to decide.
    pub(super) certain: bool,
}

/// A model behind one or several upstreams.
#[derive(Debug)]
pub(super) struct RoutedModel {
    routes: Vec<Route>,
    policy: Policy,
}

impl RoutedModel {
    /// A model that is looked for at `routes`, in this order.
    pub(super) fn new(routes: Vec<Route>, policy: Policy) -> Self {
        Self { routes, policy }
    }

    /// Makes tries until one succeeds or none is left.
    async fn run<'a, T, F, R>(
        &'a self,
        request: &CompletionRequest,
        request_id: &'a RequestId,
        attempt: F,
    ) -> Result<T, ModelError>
    where
        F: Fn(&'a OpenAiUpstream, Bytes, &'a RequestId) -> R,
        R: Future<Output = Result<T, Failure>> + Send,
    {
        let mut error = ModelError::upstream("no upstream offers this model");
        let mut order: Vec<&Route> = self.routes.iter().collect();
        order.sort_by_key(|route| route.upstream.health().stepped_back());
        for (position, route) in order.iter().enumerate() {
            let has_other = position + 1 < order.len();
            let body = request.encode(&route.model);
            let try_once = || attempt(&route.upstream, body.clone(), request_id);
            match self.run_route(route, has_other, request_id, try_once).await {
                Ok(value) => return Ok(value),
                Err(failure) => {
                    let go_on = match failure.next {
                        Next::GiveUp => false,
                        Next::OtherGuess => !route.certain,
                        Next::OtherUpstream | Next::Again => true,
                    };
                    error = *failure.error;
                    if !go_on {
                        break;
                    }
                    if has_other {
                        warn!(
                            %request_id, upstream = route.upstream.name(), model = route.model, status = error.status,
                            "trying the model's next upstream after: {error}"
                        );
                    }
                }
            }
        }
        Err(error)
    }

    /// Makes tries at one upstream.
    async fn run_route<T, F, R>(
        &self,
        route: &Route,
        has_other: bool,
        request_id: &RequestId,
        try_once: F,
    ) -> Result<T, Failure>
    where
        F: Fn() -> R,
        R: Future<Output = Result<T, Failure>> + Send,
    {
        let health = route.upstream.health();
        health.earn();
        let mut retry = 0;
        loop {
            let failure = match try_once().await {
                Ok(value) => {
                    health.succeeded();
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            if failure.unwell {
                health.failed(&failure.error.message, failure.wait);
            }
            let pause = failure.wait.unwrap_or_else(|| self.policy.pause(retry));
            // Another upstream is sooner ready than one that asks for a long pause.
            let patience = if has_other { self.policy.max } else { MAX_RETRY_AFTER };
            if failure.next != Next::Again
                || retry >= self.policy.max_retries
                || pause > patience
                || !health.spend()
            {
                return Err(failure);
            }
            retry += 1;
            warn!(
                %request_id, upstream = route.upstream.name(), model = route.model, status = failure.error.status,
                retry, pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "trying the upstream again after: {}", failure.error
            );
            tokio::time::sleep(pause).await;
        }
    }
}

#[async_trait]
impl ChatModel for RoutedModel {
    async fn complete(
        &self,
        request: &CompletionRequest,
        request_id: &RequestId,
    ) -> Result<Completion, ModelError> {
        self.run(request, request_id, |upstream, body, id| upstream.complete(body, id)).await
    }

    async fn stream(
        &self,
        request: &CompletionRequest,
        request_id: &RequestId,
    ) -> Result<ChunkStream, ModelError> {
        let include_usage = request.include_usage();
        self.run(request, request_id, |upstream, body, id| upstream.stream(body, include_usage, id)).await
    }
}

#[cfg(test)]
mod tests;
