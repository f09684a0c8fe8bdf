//! Plugins as processors of replies: those of the host's catalog that export `response` or `response-stream`.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::{OnFailure, ProcessorError, ProcessorMode, ProcessorSource, ReplyStage, ResponseProcessor};
use crate::domain::{Finished, ProcessedReply, Pushed, ReplyAction, ReplyContext, ReplyEnd, TextDelta};
use crate::plugin_host::manifest::{self, Body};
use crate::plugin_host::{Plugin, PluginError, PluginErrorKind, PluginHost, ReplyGuest};

/// The host's response plugins, in the catalog's order.
pub struct PluginProcessors {
    host: Arc<PluginHost>,
    /// The processors of one generation of the catalog, made when the first turn meets it.
    latest: ArcSwap<Generation>,
}

struct Generation {
    number: u64,
    processors: Arc<[Arc<dyn ResponseProcessor>]>,
}

impl PluginProcessors {
    /// The response plugins of `host`, as they come and go.
    #[must_use]
    pub fn new(host: Arc<PluginHost>) -> Self {
        let latest = ArcSwap::from_pointee(Generation::of(&host));
        Self { host, latest }
    }
}

impl ProcessorSource for PluginProcessors {
    fn snapshot(&self) -> Arc<[Arc<dyn ResponseProcessor>]> {
        let known = self.latest.load();
        if known.number == self.host.catalog().generation {
            return Arc::clone(&known.processors);
        }
        let generation = Arc::new(Generation::of(&self.host));
        self.latest.store(Arc::clone(&generation));
        Arc::clone(&generation.processors)
    }
}

impl Generation {
    fn of(host: &PluginHost) -> Self {
        let catalog = host.catalog();
        let processors = catalog.plugins.iter().filter_map(PluginProcessor::of);
        let processors = processors.map(|processor| Arc::new(processor) as Arc<dyn ResponseProcessor>);
        Self { number: catalog.generation, processors: processors.collect() }
    }
}

struct PluginProcessor {
    plugin: Arc<Plugin>,
    mode: ProcessorMode,
}

impl PluginProcessor {
    /// `None` for a plugin of another kind.
    fn of(plugin: &Arc<Plugin>) -> Option<Self> {
        let exports = plugin.exports();
        let is_buffered = plugin.manifest().body == Some(Body::Buffered);
        let mode = ProcessorMode::of(exports.response, exports.response_stream, is_buffered)?;
        Some(Self { plugin: Arc::clone(plugin), mode })
    }
}

#[async_trait]
impl ResponseProcessor for PluginProcessor {
    fn name(&self) -> &str {
        self.plugin.name()
    }

    fn applies(&self, endpoint: &str, model: &str) -> bool {
        self.plugin.manifest().applies_to.includes(endpoint, model)
    }

    fn mode(&self) -> ProcessorMode {
        self.mode
    }

    fn on_failure(&self) -> OnFailure {
        match self.plugin.manifest().on_failure {
            manifest::OnFailure::Closed => OnFailure::Closed,
            manifest::OnFailure::Open => OnFailure::Open,
        }
    }

    async fn process(
        &self,
        context: &ReplyContext,
        reply: &ProcessedReply,
    ) -> Result<ReplyAction, ProcessorError> {
        Ok(self.plugin.process_reply(context, reply).await?)
    }

    async fn open(&self, context: &ReplyContext, choice: u64) -> Result<Box<dyn ReplyStage>, ProcessorError> {
        Ok(Box::new(GuestStage(self.plugin.open_reply(context, choice).await?)))
    }
}

struct GuestStage(ReplyGuest);

#[async_trait]
impl ReplyStage for GuestStage {
    async fn push(&mut self, deltas: &[TextDelta]) -> Result<Pushed, ProcessorError> {
        Ok(self.0.push(deltas).await?)
    }

    async fn finish(self: Box<Self>, end: &ReplyEnd) -> Result<Finished, ProcessorError> {
        Ok(self.0.finish(end).await?)
    }
}

impl From<PluginError> for ProcessorError {
    fn from(error: PluginError) -> Self {
        let message = error.to_string();
        match error.kind {
            PluginErrorKind::RetryAfter(seconds) => {
                Self::Busy { message, retry_after: Some(Duration::from_secs(seconds.into())) }
            }
            PluginErrorKind::Overloaded | PluginErrorKind::CircuitOpen => {
                Self::Busy { message, retry_after: None }
            }
            PluginErrorKind::Denied => Self::Denied(message),
            _ => Self::Failed(message),
        }
    }
}
