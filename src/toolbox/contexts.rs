//! Resources and prompts of MCP servers as one caller may see and use them: names, merging, access and audit.
//!
//! The access chain knows them as two tools of each server, `resources/read` and `prompts/get` (no tool can have a slash in
//! its name): who may not call these sees nothing of the lists either. A resource is found by its URI; of two servers with
//! the same one, the first in the configuration has it. A prompt keeps its name while it is the only one of it, a later one
//! is `server__prompt`, and `server__prompt` always finds it.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use futures_util::stream::FuturesOrdered;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::record::Record;
use super::{CallError, CallSite, Toolbox};
use crate::access::{AccessError, AccessScope};
use crate::audit::AuditOutcome;
use crate::domain::{ToolContext, ToolError, ToolErrorKind};
use crate::tools::{ContextCapabilities, ContextSource, ContextVersion, ResourceSubscription};

/// What reading a resource is called where access is decided on.
pub const READ_RESOURCE: &str = "resources/read";

/// What getting a prompt is called where access is decided on.
pub const GET_PROMPT: &str = "prompts/get";

/// Subscriptions come in no other way.
const VIA: &str = "mcp";

const SEPARATOR: &str = "__";

/// A prompt under the name it has here.
#[derive(Clone)]
struct Prompt {
    name: String,
    own_name: String,
    source: Arc<dyn ContextSource>,
    entry: Value,
}

/// Resources and prompts of all servers, or of one.
#[derive(Clone)]
pub struct Contexts {
    toolbox: Toolbox,
    /// The server they are of, `None` for all.
    server: Option<Arc<str>>,
}

impl Contexts {
    /// Those of `server`, or of all.
    #[must_use]
    pub fn new(toolbox: Toolbox, server: Option<Arc<str>>) -> Self {
        Self { toolbox, server }
    }

    /// Grows when a list may be another: a receiver for each server of which `scope` may see something.
    #[must_use]
    pub fn changes(&self, scope: &AccessScope) -> Vec<watch::Receiver<ContextVersion>> {
        let sees = |source: &&Arc<dyn ContextSource>| {
            is_visible(scope, source, READ_RESOURCE) || is_visible(scope, source, GET_PROMPT)
        };
        self.sources().filter(sees).map(|source| source.changes()).collect()
    }

    /// The resources, each URI once. A server that does not list its own is left out, and the log says so.
    pub async fn resources(&self, scope: &AccessScope) -> Vec<Value> {
        let sources = self.visible(scope, READ_RESOURCE, |can| can.resources);
        let lists = join_all(sources.iter().map(|source| source.resources())).await;
        distinct(listed(&sources, lists), "uri")
    }

    /// The resource templates, each once.
    pub async fn templates(&self, scope: &AccessScope) -> Vec<Value> {
        let sources = self.visible(scope, READ_RESOURCE, |can| can.resources);
        let lists = join_all(sources.iter().map(|source| source.resource_templates())).await;
        distinct(listed(&sources, lists), "uriTemplate")
    }

    /// The prompts, under the names they have here.
    pub async fn prompts(&self, scope: &AccessScope) -> Vec<Value> {
        let prompts = self.named_prompts(scope).await;
        prompts.into_iter().map(|prompt| renamed(prompt.entry, prompt.name)).collect()
    }

    /// The contents of the resource at `uri`: `{"contents": [...]}`. Dropping the future cancels.
    ///
    /// # Errors
    /// A refusal, or why there is no answer; `NotFound` where no server that may be seen has the resource.
    pub async fn read(&self, scope: &AccessScope, uri: &str, site: CallSite) -> Result<Value, CallError> {
        let arguments = json!({ "uri": uri }).to_string();
        let mut failed = None;
        for (source, knows) in self.sources_of(scope, uri).await {
            let what = ("resource_read", uri, Some(source.name()));
            let record = Record::new(&self.toolbox, scope, what, &arguments, site.via);
            let context = context(scope, &site);
            let read = source.read_resource(uri, &context);
            let answer =
                self.permitted(scope, source.as_ref(), READ_RESOURCE, &arguments, record, read).await;
            match answer {
                Ok(answer) => return Ok(answer),
                // Whoever lists it has the last word; of the others, one may have it without listing it.
                Err(error) if knows || !may_be_elsewhere(&error) => return Err(error),
                Err(error) if is_not_found(&error) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            let message = format!("there is no resource `{uri}`");
            ToolError::new(ToolErrorKind::NotFound, message).into()
        }))
    }

    /// The prompt called `name`: `{"messages": [...]}`. Dropping the future cancels.
    ///
    /// # Errors
    /// A refusal, or why there is no answer; `NotFound` where there is no such prompt.
    pub async fn prompt(
        &self,
        scope: &AccessScope,
        name: &str,
        arguments: Map<String, Value>,
        site: CallSite,
    ) -> Result<Value, CallError> {
        let prompt = self.find_prompt(scope, name).await?;
        let source = prompt.source.as_ref();
        let shown = json!({"name": prompt.own_name, "arguments": arguments}).to_string();
        let what = ("prompt_get", name, Some(source.name()));
        let record = Record::new(&self.toolbox, scope, what, &shown, site.via);
        let context = context(scope, &site);
        let got = source.get_prompt(&prompt.own_name, arguments, &context);
        self.permitted(scope, source, GET_PROMPT, &shown, record, got).await
    }

    /// What fits an argument of a prompt or a resource template: `{"completion": {...}}` for the parameters of
    /// `completion/complete`. It tells of what is in there, so the access chain decides as on getting the prompt with the
    /// arguments so far, or on reading the resource. Dropping the future cancels.
    ///
    /// # Errors
    /// A refusal, or why there is no answer.
    pub async fn complete(
        &self,
        scope: &AccessScope,
        mut params: Map<String, Value>,
        site: CallSite,
    ) -> Result<Value, CallError> {
        let field = |name: &str| params.get("ref")?.get(name)?.as_str().map(str::to_owned);
        let (source, action, shown) = if let Some(name) = field("name") {
            let prompt = self.find_prompt(scope, &name).await?;
            let mut begun = params.get("context").and_then(|context| context.get("arguments")).cloned();
            let begun = begun.get_or_insert_with(|| json!({}));
            if let Some(argument) = params.get("argument")
                && let (Some(argument_name), Some(all)) = (argument["name"].as_str(), begun.as_object_mut())
            {
                all.insert(argument_name.to_owned(), argument["value"].clone());
            }
            let shown = json!({"name": prompt.own_name, "arguments": begun});
            if let Some(reference) = params.get_mut("ref") {
                reference["name"] = Value::from(prompt.own_name);
            }
            (prompt.source, GET_PROMPT, shown)
        } else {
            let uri = field("uri").unwrap_or_default();
            let found = self.sources_of(scope, &uri).await.into_iter().next();
            let (source, _) = found.ok_or_else(|| {
                ToolError::new(ToolErrorKind::NotFound, format!("there is no resource template `{uri}`"))
            })?;
            (source, READ_RESOURCE, json!({ "uri": uri }))
        };
        let shown = shown.to_string();
        let record =
            Record::new(&self.toolbox, scope, ("completion", action, Some(source.name())), &shown, site.via);
        let context = context(scope, &site);
        let completed = async {
            if source.capabilities().completions {
                source.complete(params, &context).await
            } else {
                Ok(json!({"completion": {"values": []}}))
            }
        };
        self.permitted(scope, source.as_ref(), action, &shown, record, completed).await
    }

    /// Follows the resource at `uri`.
    ///
    /// # Errors
    /// A refusal, or why it cannot be followed.
    pub async fn subscribe(&self, scope: &AccessScope, uri: &str) -> Result<ResourceSubscription, CallError> {
        let sources = self.sources_of(scope, uri).await;
        let found = sources.into_iter().find(|(source, knows)| *knows || source.capabilities().subscriptions);
        let Some((source, _)) = found else {
            let message = format!("there is no resource `{uri}`");
            return Err(ToolError::new(ToolErrorKind::NotFound, message).into());
        };
        scope.check_call(VIA, READ_RESOURCE, &qualified(source.name(), READ_RESOURCE))?;
        scope.tool(VIA, READ_RESOURCE, source.name(), &json!({ "uri": uri }).to_string()).await?;
        Ok(source.subscribe(uri).await?)
    }

    /// Asks the access chain, then has the answer, and writes down how it went.
    async fn permitted(
        &self,
        scope: &AccessScope,
        source: &dyn ContextSource,
        action: &'static str,
        arguments: &str,
        mut record: Record<'_>,
        answer: impl Future<Output = Result<Value, ToolError>>,
    ) -> Result<Value, CallError> {
        let allowed = async {
            scope.check_call(record.via(), action, &qualified(source.name(), action))?;
            scope.tool(record.via(), action, source.name(), arguments).await
        };
        if let Err(refusal) = allowed.await {
            record.is_refused();
            return Err(refusal.into());
        }
        let answer = answer.await;
        match &answer {
            Ok(answer) => record.ended(AuditOutcome::Success, Some(answer.to_string().len())),
            Err(error) => record.failed(error),
        }
        Ok(answer?)
    }

    async fn find_prompt(&self, scope: &AccessScope, name: &str) -> Result<Prompt, CallError> {
        let prompts = self.named_prompts(scope).await;
        let is_it = |prompt: &&Prompt| {
            prompt.name == name || qualified(prompt.source.name(), &prompt.own_name) == name
        };
        prompts
            .iter()
            .find(|prompt| prompt.name == name)
            .or_else(|| prompts.iter().find(is_it))
            .cloned()
            .ok_or_else(|| {
                ToolError::new(ToolErrorKind::NotFound, format!("there is no prompt `{name}`")).into()
            })
    }

    async fn named_prompts(&self, scope: &AccessScope) -> Vec<Prompt> {
        let sources = self.visible(scope, GET_PROMPT, |can| can.prompts);
        let lists = join_all(sources.iter().map(|source| source.prompts())).await;
        let mut taken = HashSet::new();
        let mut prompts = Vec::new();
        for (source, entry) in listed(&sources, lists) {
            let Some(own_name) = entry["name"].as_str().map(str::to_owned) else { continue };
            let mut name = own_name.clone();
            if taken.contains(&name) {
                name = qualified(source.name(), &own_name);
            }
            // A server that lists a prompt twice has it once.
            if taken.insert(name.clone()) {
                prompts.push(Prompt { name, own_name, source, entry });
            }
        }
        prompts
    }

    /// The servers that may have the resource at `uri`, and whether they list it: the first that does, or else all. Nobody
    /// waits for the lists of servers that come after it.
    async fn sources_of(&self, scope: &AccessScope, uri: &str) -> Vec<(Arc<dyn ContextSource>, bool)> {
        let sources = self.visible(scope, READ_RESOURCE, |can| can.resources);
        if let [only] = sources.as_slice() {
            return vec![(Arc::clone(only), true)];
        }
        let mut known: FuturesOrdered<_> = sources
            .iter()
            .map(|source| async move { knows(source.as_ref(), uri).await.then_some(source) })
            .collect();
        while let Some(answer) = known.next().await {
            if let Some(source) = answer {
                return vec![(Arc::clone(source), true)];
            }
        }
        drop(known);
        sources.into_iter().map(|source| (source, false)).collect()
    }

    fn sources(&self) -> impl Iterator<Item = &Arc<dyn ContextSource>> {
        let is_here = |source: &&Arc<dyn ContextSource>| {
            self.server.as_deref().is_none_or(|server| server == source.name())
        };
        self.toolbox.contexts.iter().filter(is_here)
    }

    fn visible(
        &self,
        scope: &AccessScope,
        action: &str,
        can: impl Fn(ContextCapabilities) -> bool,
    ) -> Vec<Arc<dyn ContextSource>> {
        let sources = self.sources().filter(|source| can(source.capabilities()));
        sources.filter(|source| is_visible(scope, source, action)).cloned().collect()
    }
}

fn is_visible(scope: &AccessScope, source: &Arc<dyn ContextSource>, action: &str) -> bool {
    scope.sees_tool(action, &qualified(source.name(), action))
}

fn qualified(server: &str, name: &str) -> String {
    format!("{server}{SEPARATOR}{name}")
}

fn context(scope: &AccessScope, site: &CallSite) -> ToolContext {
    ToolContext {
        principal: scope.principal().clone(),
        request_id: scope.request_id().clone(),
        session_id: site.session_id.clone(),
        call_id: site.call_id.clone(),
        progress: site.progress.clone(),
    }
}

/// Whether it is worth asking the next server.
fn may_be_elsewhere(error: &CallError) -> bool {
    match error {
        CallError::Tool(error) => error.kind != ToolErrorKind::Timeout,
        CallError::Access(_) => is_not_found(error),
    }
}

/// Whether the resource is not there, or must look so. Since version 2026-07-28 servers answer what they do not know with the
/// code of wrong arguments.
fn is_not_found(error: &CallError) -> bool {
    match error {
        CallError::Tool(error) => {
            matches!(error.kind, ToolErrorKind::NotFound | ToolErrorKind::InvalidArguments)
        }
        CallError::Access(refusal) => matches!(refusal, AccessError::ToolNotAllowed(_)),
    }
}

/// The entries of all lists that there are, with their sources.
fn listed(
    sources: &[Arc<dyn ContextSource>],
    lists: Vec<Result<Arc<[Value]>, ToolError>>,
) -> Vec<(Arc<dyn ContextSource>, Value)> {
    let mut entries = Vec::new();
    for (source, list) in sources.iter().zip(lists) {
        match list {
            Ok(list) => entries.extend(list.iter().map(|entry| (Arc::clone(source), entry.clone()))),
            Err(error) => tracing::warn!(server = source.name(), "left out of a list: {error}"),
        }
    }
    entries
}

/// The entries without those whose `key` came before.
fn distinct(entries: Vec<(Arc<dyn ContextSource>, Value)>, key: &str) -> Vec<Value> {
    let mut seen = HashSet::new();
    let entries = entries.into_iter().map(|(_, entry)| entry);
    entries.filter(|entry| seen.insert(entry[key].as_str().unwrap_or_default().to_owned())).collect()
}

fn renamed(mut entry: Value, name: String) -> Value {
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("name".to_owned(), Value::from(name));
    }
    entry
}

/// Whether `source` lists the resource at `uri`, or a template that it fits (or is).
async fn knows(source: &dyn ContextSource, uri: &str) -> bool {
    let has = |list: Arc<[Value]>| list.iter().any(|entry| entry["uri"] == uri);
    let fits = |list: Arc<[Value]>| {
        list.iter().any(|entry| {
            let template = entry["uriTemplate"].as_str().unwrap_or_default();
            template == uri || fits_template(template, uri)
        })
    };
    let (resources, templates) = join(source.resources(), source.resource_templates()).await;
    resources.is_ok_and(has) || templates.is_ok_and(fits)
}

/// Whether `uri` has the fixed parts of `template` (RFC 6570), in order.
fn fits_template(template: &str, uri: &str) -> bool {
    let mut rest = uri;
    let mut parts = template.split('{');
    let Some(begin) = parts.next().filter(|begin| !begin.is_empty()) else { return false };
    let Some(after) = rest.strip_prefix(begin) else { return false };
    rest = after;
    let fixed: Vec<&str> = parts.filter_map(|part| Some(part.split_once('}')?.1)).collect();
    let Some((last, middle)) = fixed.split_last() else { return rest.is_empty() };
    for part in middle.iter().filter(|part| !part.is_empty()) {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests;
