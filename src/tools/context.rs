//! The port to what servers offer besides tools: resources, resource templates, prompts, and completions for both.
//!
//! Entries and answers are JSON in the protocol's own shapes (`Resource`, `ResourceTemplate`, `Prompt`,
//! `ReadResourceResult`, ... with camelCase fields): the gateway passes them on and looks at names and addresses only.
//! Promises of every adapter: bounded time and size; a source that is down offers nothing and breaks nobody else.
//! Does not name, merge or filter: a source's names and URIs are its own, and two sources may have the same ones.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};

use crate::domain::{ToolContext, ToolError};

/// What a source can be asked now; nothing while it is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContextCapabilities {
    /// It has resources and resource templates.
    pub resources: bool,
    /// It tells when a resource changes.
    pub subscriptions: bool,
    /// It has prompts.
    pub prompts: bool,
    /// It completes arguments of prompts and of resource templates.
    pub completions: bool,
}

/// Counts the changes of a source's lists, each kind by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextVersion {
    /// Grows when the resources or the resource templates may be others.
    pub resources: u64,
    /// Grows when the prompts may be others.
    pub prompts: u64,
}

/// A provider of resources and prompts that may come and go.
#[async_trait]
pub trait ContextSource: Send + Sync {
    /// The name of the server, unique in the configuration.
    fn name(&self) -> &str;

    /// What it can be asked now. Reading it costs nothing.
    fn capabilities(&self) -> ContextCapabilities;

    /// Its resources: objects that have at least `uri` and `name`, as texts. Asked of the server when first wanted, and
    /// kept until [`Self::changes`] grows; none where the source is down or has no resources.
    ///
    /// # Errors
    /// When the server does not list them in time.
    async fn resources(&self) -> Result<Arc<[Value]>, ToolError>;

    /// Its resource templates: objects that have at least `uriTemplate` and `name`. Else as [`Self::resources`].
    ///
    /// # Errors
    /// When the server does not list them in time.
    async fn resource_templates(&self) -> Result<Arc<[Value]>, ToolError>;

    /// Its prompts: objects that have at least `name`. Else as [`Self::resources`].
    ///
    /// # Errors
    /// When the server does not list them in time.
    async fn prompts(&self) -> Result<Arc<[Value]>, ToolError>;

    /// `{"contents": [...]}` of the resource at `uri`. Dropping the future cancels the request at the server.
    ///
    /// # Errors
    /// [`ToolError`]; `NotFound` where the source has no such resource, `Failed` where it is too large as well.
    async fn read_resource(&self, uri: &str, context: &ToolContext) -> Result<Value, ToolError>;

    /// `{"description"?: ..., "messages": [...]}` of the prompt called `name`. Dropping the future cancels.
    ///
    /// # Errors
    /// [`ToolError`]; `InvalidArguments` where the server does not know the prompt or wants other arguments.
    async fn get_prompt(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        context: &ToolContext,
    ) -> Result<Value, ToolError>;

    /// `{"completion": {"values": [...], ...}}` for the parameters of `completion/complete`: `ref`, `argument` and
    /// `context`, with the source's own names. Dropping the future cancels.
    ///
    /// # Errors
    /// [`ToolError`]; `InvalidArguments` where the parameters have another shape or the server refuses them.
    async fn complete(&self, params: Map<String, Value>, context: &ToolContext) -> Result<Value, ToolError>;

    /// Follows the resource at `uri` until the subscription is dropped. Several subscriptions are one at the server.
    ///
    /// # Errors
    /// [`ToolError`] where the server does not tell of changes, or refuses.
    async fn subscribe(&self, uri: &str) -> Result<ResourceSubscription, ToolError>;

    /// Grows whenever a list, or [`Self::capabilities`], may be another: first the list, then the number.
    fn changes(&self) -> watch::Receiver<ContextVersion>;
}

/// Tells when one resource changed. Dropping the last one of a resource ends the subscription at the server.
#[derive(Debug)]
pub struct ResourceSubscription {
    updates: watch::Receiver<u64>,
    /// Dropped after `updates`, so that whoever is told finds nobody listening.
    _dropped: Option<TellsWhenDropped>,
}

impl ResourceSubscription {
    /// A subscription to the resource whose changes `updates` counts. `dropped` is told when it ends.
    #[must_use]
    pub fn new(updates: watch::Receiver<u64>, dropped: Option<Arc<Notify>>) -> Self {
        Self { updates, _dropped: dropped.map(TellsWhenDropped) }
    }

    /// Waits until the resource changed since the last call; several changes may be told as one. A server that was
    /// restarted counts as a change. False, at once and for ever, when the server tells no more.
    pub async fn updated(&mut self) -> bool {
        self.updates.changed().await.is_ok()
    }
}

#[derive(Debug)]
struct TellsWhenDropped(Arc<Notify>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
