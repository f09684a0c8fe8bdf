//! Which models there are: the union over the upstreams, kept fresh in the background.
//!
//! Promises: starting never waits for an upstream; a dead upstream takes away neither the others' models nor its own
//! from the last list it gave; finding a model is one look-up in an immutable snapshot. An upstream that cannot list its
//! models is handed every id that nobody else offers, and decides.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::future::{join, join_all};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::demo::DemoModel;
use super::openai::{OpenAiUpstream, http_client};
use super::retry::{Policy, Route, RoutedModel};
use super::{
    Config, ConfigError, ModelDirectory, ModelError, ModelInfo, ResolvedModel, ToolMode, UnknownModel,
    UpstreamConfig,
};
use crate::config::secret::Secret;

/// Longest wait for an upstream's list of models.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait of a request for the lists that are asked for when the gateway starts.
const FIRST_LIST_WAIT: Duration = Duration::from_secs(1);

/// Requests for unknown models ask the upstreams again when the lists are older than this.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// How soon an upstream that has not given its list is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The default model where nothing says otherwise, as in the service this gateway grew out of.
const FALLBACK_MODEL: &str = "gpt-3.5-turbo";

const OPENAI_URL: &str = "https://api.openai.com/v1";

/// All models of all upstreams; the built-in demo model where there is no upstream.
pub struct Models {
    shared: Arc<Shared>,
    /// Keeps the lists fresh; ends with this.
    _refresher: Option<AbortOnDropHandle<()>>,
}

/// What is known of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UpstreamState {
    /// Its configured name.
    pub name: String,
    /// Its address, without credentials and query.
    pub base_url: String,
    /// Whether it answered the last time; unknown before the first.
    pub reachable: Option<bool>,
    /// How many models it is known to offer.
    pub models: usize,
    /// What went wrong the last time, unless things went well since.
    pub last_error: Option<String>,
}

struct Shared {
    config: Config,
    policy: Policy,
    upstreams: Vec<Entry>,
    demo: Option<ResolvedModel>,
    snapshot: ArcSwap<Snapshot>,
    wanted: Notify,
    refreshed: watch::Sender<Option<Instant>>,
    /// Models that were asked for by an id that no list has, so that the way to them is made once.
    guesses: RwLock<HashMap<String, ResolvedModel>>,
}

/// One upstream and what the configuration says it offers.
struct Entry {
    upstream: Arc<OpenAiUpstream>,
    /// (id clients use, id the upstream knows)
    fixed: Vec<(String, String)>,
    /// Whether it is asked for its models.
    asks: bool,
}

/// What the upstreams offer at one moment.
#[derive(Default)]
struct Snapshot {
    /// Per upstream, the list it gave last; `None` while it has given none.
    listed: Vec<Option<Vec<ModelInfo>>>,
    /// All models in configuration order.
    models: Vec<ModelInfo>,
    /// The ways to them.
    by_id: HashMap<String, ResolvedModel>,
}

impl Models {
    /// Sets up the models of `config`. `env` looks up environment variables: the keys that upstreams name, and
    /// `OPENAI_API_KEY` and `OPENAI_BASE_URL`, which stand for an upstream called `openai` before all others, unless the
    /// file has an upstream of that name or with that key. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// An unusable value or a key that is not set; the message names the upstream and the variable or key.
    pub fn new(config: Config, env: impl Fn(&str) -> Option<Secret>) -> Result<Self, ConfigError> {
        check(&config)?;
        let mut configured = config.upstreams.clone();
        configured.splice(0..0, openai_from_environment(&configured, &env));
        let client = http_client(Duration::from_millis(config.connect_timeout_ms))?;
        let mut upstreams: Vec<Entry> = Vec::with_capacity(configured.len());
        for upstream in &configured {
            if upstreams.iter().any(|known| known.upstream.name() == upstream.name) {
                return Err(ConfigError(format!(
                    "llm.upstreams: two upstreams are called `{}`",
                    upstream.name
                )));
            }
            let key = key_of(upstream, &env)?;
            let client = client.clone();
            upstreams.push(Entry {
                upstream: Arc::new(OpenAiUpstream::new(upstream, &config, key.as_ref(), client)?),
                fixed: fixed_models(upstream),
                asks: upstream.models.is_empty(),
            });
        }
        let demo = upstreams.is_empty().then(|| DemoModel::resolved(&config));
        if demo.is_some() {
            warn!(
                "no language model is configured, so the built-in demo model answers; set OPENAI_API_KEY or llm.upstreams"
            );
        }
        let asks = upstreams.iter().any(|entry| entry.asks);
        let shared = Arc::new(Shared {
            policy: Policy::new(&config),
            snapshot: ArcSwap::default(),
            wanted: Notify::new(),
            refreshed: watch::Sender::new(None),
            guesses: RwLock::default(),
            config,
            upstreams,
            demo,
        });
        shared.publish(vec![None; shared.upstreams.len()]);
        let refresher = asks.then(|| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared).keep_fresh())));
        Ok(Self { shared, _refresher: refresher })
    }

    /// What is known of every upstream, in configuration order.
    #[must_use]
    pub fn upstream_states(&self) -> Vec<UpstreamState> {
        let snapshot = self.shared.snapshot.load();
        let state = |(entry, listed): (&Entry, &Option<Vec<ModelInfo>>)| UpstreamState {
            name: entry.upstream.name().to_owned(),
            base_url: entry.upstream.address().to_owned(),
            reachable: entry.upstream.health().reachable(),
            models: entry.fixed.len() + listed.as_ref().map_or(0, Vec::len),
            last_error: entry.upstream.health().last_error(),
        };
        self.shared.upstreams.iter().zip(&snapshot.listed).map(state).collect()
    }

    /// Asks every upstream now, also those whose models the configuration names, so that wrong addresses and keys show
    /// before the first request; returns what is known then.
    pub async fn probe(&self) -> Vec<UpstreamState> {
        let unasked =
            self.shared.upstreams.iter().filter(|entry| !entry.asks).map(async |entry| {
                match entry.upstream.list_models(LIST_TIMEOUT).await {
                    Ok(_) => entry.upstream.health().succeeded(),
                    Err(failure) => entry.upstream.health().failed(&failure.error.message, None),
                }
            });
        join(join_all(unasked), self.shared.learn()).await;
        self.upstream_states()
    }

    /// True when only the built-in demo model answers.
    #[must_use]
    pub fn is_demo(&self) -> bool {
        self.shared.demo.is_some()
    }
}

#[async_trait]
impl ModelDirectory for Models {
    async fn resolve(&self, requested: &str) -> Result<ResolvedModel, ModelError> {
        let shared = &self.shared;
        if requested.is_empty() {
            return shared.default_model().await;
        }
        if let Some(model) = shared.find(requested).await {
            return Ok(model);
        }
        let unknown = match shared.config.unknown_model {
            UnknownModel::Auto if shared.demo.is_some() => UnknownModel::Default,
            other => other,
        };
        if unknown != UnknownModel::Default {
            return Err(ModelError::model_not_found(requested));
        }
        let model = shared.default_model().await?;
        info!(requested, model = model.id, "the default model answers for a model that is not known");
        Ok(model)
    }

    async fn list(&self) -> Vec<ModelInfo> {
        if self.shared.refreshed.borrow().is_none() {
            self.shared.learn().await;
        }
        self.shared.snapshot.load().models.clone()
    }
}

impl Shared {
    /// The model `id`, if an upstream offers it or may.
    async fn find(&self, id: &str) -> Option<ResolvedModel> {
        if let Some(model) = self.snapshot.load().by_id.get(id) {
            return Some(model.clone());
        }
        // Right after the start the lists are on their way; a request need not wait for one that does not come.
        if self.refreshed.borrow().is_none() {
            let _ = timeout(FIRST_LIST_WAIT, self.learn()).await;
        } else if let Some(model) = self.guess(id) {
            return Some(model);
        } else {
            self.learn().await;
        }
        self.snapshot.load().by_id.get(id).cloned().or_else(|| self.guess(id))
    }

    async fn default_model(&self) -> Result<ResolvedModel, ModelError> {
        if let Some(demo) = &self.demo {
            return Ok(demo.clone());
        }
        let configured = &self.config.default_model;
        if !configured.is_empty() {
            return self.find(configured).await.ok_or_else(|| ModelError::model_not_found(configured));
        }
        let fixed = self.upstreams.iter().flat_map(|entry| &entry.fixed).map(|(id, _)| id).next();
        if let Some(model) = fixed.and_then(|id| self.snapshot.load().by_id.get(id).cloned()) {
            return Ok(model);
        }
        if self.snapshot.load().models.is_empty() {
            self.learn().await;
        }
        let snapshot = self.snapshot.load();
        let first = || snapshot.by_id.get(&snapshot.models.first()?.id);
        let model = snapshot.by_id.get(FALLBACK_MODEL).or_else(first).cloned();
        model.or_else(|| self.guess(FALLBACK_MODEL)).ok_or_else(|| {
            ModelError::new(404, "invalid_request_error", "no upstream offers a model; name one in `model`")
        })
    }

    /// Ways to a model that no list has: upstreams without a list, and those that list it under a longer name (Ollama's
    /// `x:latest` for `x`) or its base (OpenRouter's `x` for `x:online`).
    fn guess(&self, id: &str) -> Option<ResolvedModel> {
        /// Ids are the clients' to choose, so this must end somewhere.
        const MOST_GUESSES: usize = 256;
        if let Some(known) = self.guesses.read().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Some(known.clone());
        }
        let snapshot = self.snapshot.load();
        let base = id.rsplit_once(':').map(|(base, _)| base);
        let latest = format!("{id}:latest");
        let related = |model: &ModelInfo| model.id == latest || Some(model.id.as_str()) == base;
        let may_have = |(entry, listed): &(&Entry, &Option<Vec<ModelInfo>>)| {
            entry.asks && listed.as_ref().is_none_or(|models| models.iter().any(related))
        };
        let routes: Vec<Route> = self
            .upstreams
            .iter()
            .zip(&snapshot.listed)
            .filter(may_have)
            .map(|(entry, _)| Route {
                upstream: Arc::clone(&entry.upstream),
                model: id.to_owned(),
                certain: false,
            })
            .collect();
        let model = self.resolved(id, routes)?;
        let mut guesses = self.guesses.write().unwrap_or_else(PoisonError::into_inner);
        if guesses.len() < MOST_GUESSES {
            guesses.insert(id.to_owned(), model.clone());
        }
        Some(model)
    }

    fn resolved(&self, id: &str, routes: Vec<Route>) -> Option<ResolvedModel> {
        let tool_mode = routes.first()?.upstream.tool_mode();
        let mut own_ids: Vec<String> = Vec::new();
        for route in &routes {
            if !own_ids.contains(&route.model) {
                own_ids.push(route.model.clone());
            }
        }
        let model = Arc::new(RoutedModel::new(routes, self.policy));
        let (tool_mode, tools) = settings(&self.config, id, tool_mode);
        Some(ResolvedModel { id: id.to_owned(), own_ids: own_ids.into(), tool_mode, tools, model })
    }

    /// Waits for a fresh list, unless the last one is fresh enough.
    async fn learn(&self) {
        if !self.upstreams.iter().any(|entry| entry.asks) {
            return;
        }
        let mut refreshed = self.refreshed.subscribe();
        if refreshed.borrow_and_update().is_some_and(|at| at.elapsed() < STALE_AFTER) {
            return;
        }
        self.wanted.notify_one();
        // The lists have their own time limit; this one only guards against a refresher that is gone.
        let _ = timeout(LIST_TIMEOUT * 2, refreshed.changed()).await;
    }

    /// Asks the upstreams for their models, again and again, until it is aborted.
    async fn keep_fresh(self: Arc<Self>) {
        loop {
            self.refresh().await;
            let complete = self
                .upstreams
                .iter()
                .zip(&self.snapshot.load().listed)
                .all(|(e, list)| !e.asks || list.is_some());
            let period = match self.config.models_refresh_s {
                0 => None,
                seconds if complete => Some(Duration::from_secs(seconds)),
                seconds => Some(Duration::from_secs(seconds).min(ASK_AGAIN)),
            };
            match period {
                Some(period) => drop(timeout(period, self.wanted.notified()).await),
                None => self.wanted.notified().await,
            }
        }
    }

    async fn refresh(&self) {
        let before = self.snapshot.load_full();
        let ask = |(entry, last): (&Entry, &Option<Vec<ModelInfo>>)| {
            let (upstream, asks, last) = (Arc::clone(&entry.upstream), entry.asks, last.clone());
            async move {
                if !asks {
                    return None;
                }
                match upstream.list_models(LIST_TIMEOUT).await {
                    Ok(list) => {
                        upstream.health().succeeded();
                        list.or(last)
                    }
                    Err(failure) => {
                        let error = failure.error.message;
                        warn!(upstream = upstream.name(), error, "an upstream did not list its models");
                        upstream.health().failed(&error, None);
                        last
                    }
                }
            }
        };
        let asked: Vec<_> = self.upstreams.iter().zip(&before.listed).map(ask).collect();
        let listed = join_all(asked).await;
        self.publish(listed);
        self.guesses.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.refreshed.send_replace(Some(Instant::now()));
    }

    /// Makes the snapshot of what the upstreams listed.
    fn publish(&self, listed: Vec<Option<Vec<ModelInfo>>>) {
        let mut models: Vec<ModelInfo> = Vec::new();
        let mut routes: HashMap<String, Vec<Route>> = HashMap::new();
        for (entry, listed) in self.upstreams.iter().zip(&listed) {
            let fixed = entry.fixed.iter().map(|(id, theirs)| {
                let owned_by = entry.upstream.name().to_owned();
                let own_ids = Arc::default();
                (ModelInfo { id: id.clone(), object: "model", created: 0, owned_by, own_ids }, theirs.clone())
            });
            let listed = listed.iter().flatten().map(|info| (info.clone(), info.id.clone()));
            let mut seen = HashSet::new();
            for (info, theirs) in fixed.chain(listed) {
                if !seen.insert(info.id.clone()) {
                    continue;
                }
                let upstream = Arc::clone(&entry.upstream);
                let ways = routes.entry(info.id.clone()).or_default();
                ways.push(Route { upstream, model: theirs, certain: true });
                if ways.len() == 1 {
                    models.push(info);
                }
            }
        }
        let mut by_id: HashMap<String, ResolvedModel> = routes
            .into_iter()
            .filter_map(|(id, routes)| Some((id.clone(), self.resolved(&id, routes)?)))
            .collect();
        for info in &mut models {
            info.own_ids = by_id.get(&info.id).map(|model| Arc::clone(&model.own_ids)).unwrap_or_default();
        }
        if let Some(demo) = &self.demo {
            models.push(DemoModel::info());
            by_id.insert(demo.id.clone(), demo.clone());
        }
        self.snapshot.store(Arc::new(Snapshot { listed, models, by_id }));
    }
}

/// What the configuration says about the model `id`; its upstream's tool mode where it says nothing.
pub(super) fn settings(config: &Config, id: &str, upstream_mode: ToolMode) -> (ToolMode, super::ToolChoice) {
    let model = config.models.get(id).cloned().unwrap_or_default();
    (model.tool_mode.unwrap_or(upstream_mode), model.tools)
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let own = |name: &str, value: u64| (format!("llm.{name}"), value);
    let mut bounds = vec![
        own("first_byte_timeout_ms", config.first_byte_timeout_ms),
        own("idle_timeout_ms", config.idle_timeout_ms),
        own("connect_timeout_ms", config.connect_timeout_ms),
        own("max_response_bytes", config.max_response_bytes as u64),
    ];
    for upstream in &config.upstreams {
        if upstream.name.trim().is_empty() {
            return Err(ConfigError("llm.upstreams: an upstream has an empty `name`".to_owned()));
        }
        let timeouts = [
            ("first_byte_timeout_ms", upstream.first_byte_timeout_ms),
            ("idle_timeout_ms", upstream.idle_timeout_ms),
        ];
        for (name, value) in timeouts {
            bounds.extend(value.map(|value| (format!("llm.upstreams `{}`: {name}", upstream.name), value)));
        }
    }
    match bounds.iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(ConfigError(format!("{name} must be at least 1"))),
        None => Ok(()),
    }
}

fn openai_from_environment(
    configured: &[UpstreamConfig],
    env: &impl Fn(&str) -> Option<Secret>,
) -> Option<UpstreamConfig> {
    let covered = configured
        .iter()
        .any(|upstream| upstream.name == "openai" || upstream.api_key_env == "OPENAI_API_KEY");
    let set = |name: &str| env(name).filter(|value| !value.expose().trim().is_empty());
    let (key, url) = (set("OPENAI_API_KEY"), set("OPENAI_BASE_URL"));
    if covered || (key.is_none() && url.is_none()) {
        return None;
    }
    Some(UpstreamConfig {
        name: "openai".to_owned(),
        base_url: url.map_or_else(|| OPENAI_URL.to_owned(), |url| url.expose().to_owned()),
        api_key_env: if key.is_some() { "OPENAI_API_KEY".to_owned() } else { String::new() },
        models: Vec::new(),
        aliases: Default::default(),
        headers: Default::default(),
        first_byte_timeout_ms: None,
        idle_timeout_ms: None,
        tool_mode: ToolMode::Native,
    })
}

fn key_of(
    upstream: &UpstreamConfig,
    env: &impl Fn(&str) -> Option<Secret>,
) -> Result<Option<Secret>, ConfigError> {
    let variable = &upstream.api_key_env;
    if variable.is_empty() {
        return Ok(None);
    }
    match env(variable).filter(|key| !key.expose().trim().is_empty()) {
        Some(key) => Ok(Some(key)),
        None => Err(ConfigError(format!(
            "llm.upstreams `{}`: the environment variable `{variable}` that `api_key_env` names is not set; set it, \
             or remove `api_key_env` if the upstream needs no key",
            upstream.name
        ))),
    }
}

fn fixed_models(upstream: &UpstreamConfig) -> Vec<(String, String)> {
    let same = upstream.models.iter().map(|id| (id.clone(), id.clone()));
    same.chain(upstream.aliases.iter().map(|(id, theirs)| (id.clone(), theirs.clone()))).collect()
}

#[cfg(test)]
mod tests;
