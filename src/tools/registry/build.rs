//! Builds snapshots: names the tools, compiles what is new, and keeps what has not changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::ToolSnapshot;
use crate::domain::ToolDefinition;
use crate::tools::call_stats::CallStats;
use crate::tools::invoke::{Gates, Limits, RegisteredTool, Schemas};
use crate::tools::lowering::function_json;
use crate::tools::naming::{Namer, ToolNames};
use crate::tools::schema::Schema;
use crate::tools::{Config, Tool, ToolOverride, ToolSource, ToolSources};

/// Tools whose counters are kept though they are not offered any more.
const MAX_GONE: usize = 4096;

/// Makes snapshots of what the sources offer.
pub(super) struct Builder {
    config: Config,
    sources: Vec<Source>,
    newcomers: Option<Arc<dyn ToolSources>>,
    namer: Namer,
    all_calls: Arc<Semaphore>,
    settles_at: Instant,
    used_overrides: BTreeSet<String>,
    /// Counters by qualified name: a tool that comes back goes on counting.
    stats: HashMap<String, Arc<CallStats>>,
}

struct Source {
    source: Arc<dyn ToolSource>,
    calls: Arc<Semaphore>,
    /// What was made of the tools the source offers, by its own names for them.
    known: HashMap<String, Known>,
}

/// What was made of one tool.
struct Known {
    names: ToolNames,
    tool: Arc<dyn Tool>,
    input: Value,
    output: Option<Value>,
    /// `None` when the input schema is broken.
    schemas: Option<Arc<Schemas>>,
    registered: Option<Arc<RegisteredTool>>,
}

impl Source {
    fn new(source: Arc<dyn ToolSource>, config: &Config) -> Self {
        let calls = gate(config.max_concurrent_calls_per_server);
        Self { source, calls, known: HashMap::new() }
    }
}

fn gate(calls: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(calls.min(Semaphore::MAX_PERMITS)))
}

impl Builder {
    pub(super) fn new(
        config: Config,
        sources: Vec<Arc<dyn ToolSource>>,
        newcomers: Option<Arc<dyn ToolSources>>,
    ) -> Self {
        let namer = Namer::new(sources.iter().map(|source| source.name()));
        let sources = sources.into_iter().map(|source| Source::new(source, &config));
        Self {
            sources: sources.collect(),
            newcomers,
            namer,
            all_calls: gate(config.max_concurrent_calls),
            settles_at: Instant::now() + Duration::from_millis(config.name_settle_ms),
            used_overrides: BTreeSet::new(),
            stats: HashMap::new(),
            config,
        }
    }

    /// From when on names stay, however the sources come and go.
    pub(super) fn settles_at(&self) -> Instant {
        self.settles_at
    }

    /// The snapshot after `before`; `None` when nothing a caller could see is different.
    pub(super) fn build(&mut self, before: &ToolSnapshot) -> Option<ToolSnapshot> {
        self.welcome_newcomers();
        let offered: Vec<Vec<Arc<dyn Tool>>> =
            self.sources.iter().map(|source| distinct(source.source.tools(), source.source.name())).collect();
        let raw_names: Vec<Vec<&str>> = offered
            .iter()
            .map(|tools| tools.iter().map(|tool| tool.definition().name.as_str()).collect())
            .collect();
        self.namer.assign(&raw_names, Instant::now() >= self.settles_at);

        let mut tools = Vec::new();
        let mut aliases = Vec::new();
        for (at, offered) in offered.iter().enumerate() {
            let mut known = std::mem::take(&mut self.sources[at].known);
            for tool in offered {
                let raw = tool.definition().name.as_str();
                let Some(names) = self.namer.names(at, raw) else { continue };
                let entry = self.make(at, tool, names, known.remove(raw));
                if let Some(registered) = &entry.registered {
                    aliases.push((entry.names.clone(), tools.len()));
                    tools.push(Arc::clone(registered));
                }
                self.sources[at].known.insert(raw.to_owned(), entry);
            }
        }
        let is_same = before.version > 0
            && before.tools.len() == tools.len()
            && before.tools.iter().zip(&tools).all(|(old, new)| Arc::ptr_eq(old, new));
        (!is_same).then(|| ToolSnapshot { version: before.version + 1, by_name: index(&aliases), tools })
    }

    /// Takes in sources that were not there before. One that is gone offers no tools and keeps its place, and with it
    /// the names of its tools.
    fn welcome_newcomers(&mut self) {
        let Some(newcomers) = &self.newcomers else { return };
        for source in newcomers.sources() {
            if !self.sources.iter().any(|known| known.source.name() == source.name()) {
                self.namer.add(source.name());
                self.sources.push(Source::new(source, &self.config));
            }
        }
    }

    /// Tells the operator of overrides that change nothing, mostly names with a slip of the pen.
    pub(super) fn warn_about_unused_overrides(&self) {
        for name in self.config.overrides.keys().filter(|name| !self.used_overrides.contains(*name)) {
            warn!(
                key = %format!("tools.overrides.\"{name}\""),
                "this override fits no tool so far; write the tool's name as callers see it, or `server__tool`"
            );
        }
    }

    fn make(&mut self, at: usize, tool: &Arc<dyn Tool>, names: ToolNames, known: Option<Known>) -> Known {
        let definition = tool.definition();
        let schemas = match known {
            Some(known) if is_same_tool(&known.tool, tool) && known.names == names => return known,
            Some(known)
                if known.input == definition.input_schema && known.output == definition.output_schema =>
            {
                known.schemas
            }
            _ => self.compile(at, definition),
        };
        let registered = schemas.as_ref().and_then(|schemas| self.register(at, tool, &names, schemas));
        Known {
            names,
            tool: Arc::clone(tool),
            input: definition.input_schema.clone(),
            output: definition.output_schema.clone(),
            schemas,
            registered,
        }
    }

    fn compile(&self, at: usize, definition: &ToolDefinition) -> Option<Arc<Schemas>> {
        let server = self.sources[at].source.name();
        let tool = definition.name.as_str();
        let max_bytes = self.config.max_schema_bytes;
        let input = match Schema::compile(&definition.input_schema, max_bytes) {
            Ok(input) => input,
            Err(reason) => {
                warn!(tool, server, reason, "tool is not offered: its input schema cannot be used");
                return None;
            }
        };
        let output = definition.output_schema.as_ref().and_then(|schema| {
            let compiled = Schema::compile(schema, max_bytes);
            compiled
                .map_err(|reason| {
                    warn!(
                        tool,
                        server, reason, "tool results are not checked: its output schema cannot be used"
                    );
                })
                .ok()
        });
        Some(Arc::new(Schemas { input, output }))
    }

    /// The tool as it is offered; `None` when the configuration leaves it out.
    fn register(
        &mut self,
        at: usize,
        tool: &Arc<dyn Tool>,
        names: &ToolNames,
        schemas: &Arc<Schemas>,
    ) -> Option<Arc<RegisteredTool>> {
        let raw = tool.definition();
        let exception = self.exception(names);
        if exception.disabled {
            debug!(tool = %names.canonical, "tool is not offered: disabled in tools.overrides");
            return None;
        }
        let stats = self.stats_of(&names.aliases[0]);
        let server = &self.sources[at];
        let definition = ToolDefinition {
            name: names.canonical.clone(),
            server: Some(server.source.name().to_owned()),
            ..raw.clone()
        };
        let configured = exception.timeout_ms.map(Duration::from_millis).or_else(|| tool.timeout());
        let limits = Limits {
            timeout: configured.unwrap_or(Duration::from_millis(self.config.call_timeout_ms)),
            retries: exception.retries.unwrap_or(self.config.retries),
            backoff: Duration::from_millis(self.config.retry_backoff_ms),
            safe_to_repeat: exception
                .safe_to_repeat
                .unwrap_or(exception.retries.is_some() || raw.annotations.safe_to_repeat()),
            queue_timeout: Duration::from_millis(self.config.queue_timeout_ms),
            max_argument_bytes: self.config.max_argument_bytes,
            max_result_bytes: exception.max_result_bytes.unwrap_or(self.config.max_result_bytes),
        };
        let definition_json = Bytes::from(serde_json::to_vec(&definition).unwrap_or_default());
        Some(Arc::new(RegisteredTool {
            definition_digest: Sha256::digest(&definition_json).into(),
            definition_json,
            input_object: Arc::new(object(&definition.input_schema)),
            output_object: definition.output_schema.as_ref().map(|schema| Arc::new(object(schema))),
            function_json: function_json(&definition, self.config.max_description_chars),
            definition,
            qualified_name: names.aliases[0].clone(),
            tool: Arc::clone(tool),
            schemas: Arc::clone(schemas),
            limits,
            stats,
            gates: Gates { server: Arc::clone(&server.calls), all: Arc::clone(&self.all_calls) },
        }))
    }

    fn stats_of(&mut self, qualified_name: &str) -> Arc<CallStats> {
        if self.stats.len() > MAX_GONE {
            self.stats.retain(|_, stats| Arc::strong_count(stats) > 1);
        }
        Arc::clone(self.stats.entry(qualified_name.to_owned()).or_default())
    }

    /// The override for a tool: the one of its full name goes before the one of its plain name.
    fn exception(&mut self, names: &ToolNames) -> ToolOverride {
        let mut keys = names.aliases.iter().chain([&names.canonical]).chain(&names.own);
        let Some((key, exception)) = keys.find_map(|name| self.config.overrides.get_key_value(name)) else {
            return ToolOverride::default();
        };
        self.used_overrides.insert(key.clone());
        exception.clone()
    }
}

/// The tools without those whose name stands twice in the list; the first one stays.
fn distinct(tools: Vec<Arc<dyn Tool>>, server: &str) -> Vec<Arc<dyn Tool>> {
    let mut seen = HashSet::new();
    let mut distinct = Vec::with_capacity(tools.len());
    for tool in tools {
        if seen.insert(tool.definition().name.clone()) {
            distinct.push(tool);
        } else {
            warn!(tool = %tool.definition().name, server, "the server offers this tool twice; the first is used");
        }
    }
    distinct
}

/// Canonical names go before aliases, these before servers' own names, and earlier servers before later ones.
fn index(names: &[(ToolNames, usize)]) -> HashMap<String, usize> {
    let mut by_name: HashMap<String, usize> =
        names.iter().map(|(names, at)| (names.canonical.clone(), *at)).collect();
    let qualified = names.iter().map(|(names, at)| (&names.aliases[0], at));
    let written = names.iter().map(|(names, at)| (&names.aliases[1], at));
    let own = names.iter().flat_map(|(names, at)| names.own.iter().map(move |own| (own, at)));
    for (alias, at) in qualified.chain(written).chain(own) {
        by_name.entry(alias.clone()).or_insert(*at);
    }
    by_name
}

fn object(schema: &Value) -> Map<String, Value> {
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    schema.entry("type").or_insert_with(|| Value::from("object"));
    schema
}

fn is_same_tool(one: &Arc<dyn Tool>, other: &Arc<dyn Tool>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}
