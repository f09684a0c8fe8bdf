//! The registry: every source's tools under canonical names, as an immutable snapshot that is swapped when one changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jsonschema::Validator;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use super::naming::{NameBook, ToolNames};
use super::{Config, Tool, ToolSource, schema};
use crate::domain::ToolDefinition;

/// Longest description that model APIs take, in characters.
const MAX_DESCRIPTION: usize = 1024;

/// All tools of all sources. Dropping it ends its task.
pub struct ToolRegistry {
    state: Arc<State>,
    _follower: AbortOnDropHandle<()>,
}

/// The tools at one moment.
#[derive(Default)]
pub struct ToolSnapshot {
    tools: Vec<Arc<RegisteredTool>>,
    by_name: HashMap<String, usize>,
}

/// A tool under its canonical name, ready to be offered and called.
pub struct RegisteredTool {
    /// The tool's definition under its canonical name.
    pub definition: ToolDefinition,
    /// The `tools[]` entry for models: `{"type":"function","function":{name, description, parameters}}`.
    pub function_json: Bytes,
    /// `server__tool`: the name that resolves whatever else there is.
    pub qualified_name: String,
    pub(super) tool: Arc<dyn Tool>,
    pub(super) validator: Validator,
    pub(super) output_validator: Option<Validator>,
    pub(super) shared: Arc<Shared>,
}

/// What every call shares.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) places: Semaphore,
}

struct State {
    sources: Vec<Arc<dyn ToolSource>>,
    shared: Arc<Shared>,
    snapshot: ArcSwap<ToolSnapshot>,
    names: Mutex<NameBook>,
    changes: watch::Sender<u64>,
}

impl ToolRegistry {
    /// A registry over `sources`, in configuration order. Needs a tokio runtime: a task of its own follows the sources.
    #[must_use]
    pub fn new(config: Config, sources: Vec<Arc<dyn ToolSource>>) -> Self {
        let places = Semaphore::new(config.max_concurrent_calls.max(1));
        let state = Arc::new(State {
            shared: Arc::new(Shared { config, places }),
            snapshot: ArcSwap::default(),
            names: Mutex::default(),
            changes: watch::channel(0).0,
            sources,
        });
        // Receivers are taken before the first look, so that no change falls between the two.
        let receivers: Vec<_> = state.sources.iter().map(|source| source.changes()).collect();
        state.rebuild();
        let follower = tokio::spawn(follow(Arc::clone(&state), receivers));
        Self { state, _follower: AbortOnDropHandle::new(follower) }
    }

    /// The tools now; take one snapshot per request.
    #[must_use]
    pub fn snapshot(&self) -> Arc<ToolSnapshot> {
        self.state.snapshot.load_full()
    }

    /// Changes whenever the snapshot does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.state.changes.subscribe()
    }
}

impl ToolSnapshot {
    /// Every tool, in configuration order.
    #[must_use]
    pub fn tools(&self) -> &[Arc<RegisteredTool>] {
        &self.tools
    }

    /// The tool of that canonical or `server__tool` name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<RegisteredTool>> {
        self.by_name.get(name).and_then(|position| self.tools.get(*position))
    }
}

async fn follow(state: Arc<State>, receivers: Vec<watch::Receiver<u64>>) {
    let next = |mut receiver: watch::Receiver<u64>| async move {
        receiver.changed().await.is_ok().then_some(receiver)
    };
    let mut waiting: FuturesUnordered<_> = receivers.into_iter().map(next).collect();
    while let Some(changed) = waiting.next().await {
        // A source that is gone for good changes no more.
        let Some(receiver) = changed else { continue };
        waiting.push(next(receiver));
        state.rebuild();
    }
}

impl State {
    fn rebuild(&self) {
        let listed: Vec<(String, Vec<Arc<dyn Tool>>)> =
            self.sources.iter().map(|source| (source.name().to_owned(), source.tools())).collect();
        let servers: Vec<(String, Vec<String>)> = listed
            .iter()
            .map(|(server, tools)| {
                (server.clone(), tools.iter().map(|t| t.definition().name.clone()).collect())
            })
            .collect();
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).assign(&servers);
        let before = self.snapshot.load();
        let mut snapshot = ToolSnapshot::default();
        for (server, tools) in &listed {
            for tool in tools {
                let key = (server.clone(), tool.definition().name.clone());
                let Some(names) = names.get(&key) else { continue };
                if self.shared.config.overrides.get(&names.canonical).is_some_and(|setting| setting.disabled)
                {
                    continue;
                }
                let kept =
                    before.find(&names.canonical).filter(|known| Arc::ptr_eq(&known.tool, tool)).cloned();
                if let Some(registered) = kept.or_else(|| self.register(server, tool, names)) {
                    snapshot.add(registered);
                }
            }
        }
        snapshot.add_qualified_names();
        self.snapshot.store(Arc::new(snapshot));
        self.changes.send_modify(|version| *version += 1);
    }

    fn register(&self, server: &str, tool: &Arc<dyn Tool>, names: &ToolNames) -> Option<Arc<RegisteredTool>> {
        let mut definition = tool.definition().clone();
        let own_name = std::mem::replace(&mut definition.name, names.canonical.clone());
        definition.server.get_or_insert_with(|| server.to_owned());
        let validator = match schema::compile(&definition.input_schema) {
            Ok(validator) => validator,
            Err(cause) => {
                tracing::warn!(tool = %own_name, server, cause, "the tool is not offered: its input schema is not valid JSON Schema");
                return None;
            }
        };
        let output_validator =
            definition.output_schema.as_ref().and_then(|schema| schema::compile(schema).ok());
        let description: String = definition.description.chars().take(MAX_DESCRIPTION).collect();
        let function = json!({"type": "function", "function": {
            "name": definition.name, "description": description, "parameters": schema::lower(&definition.input_schema)}});
        Some(Arc::new(RegisteredTool {
            function_json: Bytes::from(function.to_string()),
            qualified_name: names.qualified.clone(),
            tool: Arc::clone(tool),
            shared: Arc::clone(&self.shared),
            definition,
            validator,
            output_validator,
        }))
    }
}

impl ToolSnapshot {
    fn add(&mut self, tool: Arc<RegisteredTool>) {
        self.by_name.insert(tool.definition.name.clone(), self.tools.len());
        self.tools.push(tool);
    }

    /// `server__tool` resolves too, wherever it is not some tool's own canonical name.
    fn add_qualified_names(&mut self) {
        for (position, tool) in self.tools.iter().enumerate() {
            self.by_name.entry(tool.qualified_name.clone()).or_insert(position);
        }
    }
}
