//! The resources and prompts of a server, through the port [`ContextSource`]: bounded in time, size and number.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmcp::model::{
    ClientRequest, CompleteRequest, CompleteRequestParams, GetPromptRequest, GetPromptRequestParams,
    ReadResourceRequest, ReadResourceRequestParams, ServerResult,
};
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, watch};

use super::lists::{self, Kind};
use super::server::Server;
use super::{request, subscriptions};
use crate::domain::{ToolContext, ToolError, ToolErrorKind};
use crate::tools::{Config, ContextCapabilities, ContextSource, ContextVersion, ResourceSubscription};

/// One server, with the limits of `[tools]`.
pub(super) struct McpContext {
    server: Arc<Server>,
    limit: Duration,
    queue_limit: Duration,
    max_bytes: usize,
    places: Semaphore,
}

impl McpContext {
    pub(super) fn new(server: Arc<Server>, config: &Config) -> Self {
        let millis = server.config.timeout_ms.unwrap_or(config.call_timeout_ms);
        Self {
            server,
            limit: Duration::from_millis(millis),
            queue_limit: Duration::from_millis(config.queue_timeout_ms),
            max_bytes: config.max_resource_bytes,
            places: Semaphore::new(config.max_concurrent_calls_per_server.min(Semaphore::MAX_PERMITS)),
        }
    }

    async fn list(&self, kind: Kind) -> Result<Arc<[Value]>, ToolError> {
        let Some(live) = self.server.connection() else { return Ok(Arc::default()) };
        let has_it = match kind {
            Kind::Resources | Kind::Templates => live.offers.resources,
            Kind::Prompts => live.offers.prompts,
        };
        if !has_it {
            return Ok(Arc::default());
        }
        lists::list(&self.server, &live, kind, self.limit, self.max_bytes).await
    }

    /// Asks, and keeps `fields` of the answer, the first of which must be there.
    async fn ask(
        &self,
        subject: &str,
        request: ClientRequest,
        fields: &[&str],
        context: &ToolContext,
    ) -> Result<Value, ToolError> {
        let failed = |why: &str| request::failed(&self.server, subject, why);
        let place = tokio::time::timeout(self.queue_limit, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            let message = failed("waits for too many others (tools.max_concurrent_calls_per_server)").message;
            return Err(ToolError::new(ToolErrorKind::NotSent, message));
        };
        let answer = request::ask(&self.server, subject, request, context);
        let Ok(answer) = tokio::time::timeout(self.limit, answer).await else {
            let why = format!("gave no answer within {} ms and was cancelled", self.limit.as_millis());
            return Err(ToolError::new(ToolErrorKind::Timeout, failed(&why).message));
        };
        let answer = match answer? {
            ServerResult::InputRequiredResult(_) => {
                return Err(failed("asks for input from a person, which this gateway cannot get"));
            }
            answer => serde_json::to_value(answer).unwrap_or_default(),
        };
        let Value::Object(mut answer) = answer else { return Err(failed("answered with no object")) };
        if !fields.first().is_some_and(|field| answer.contains_key(*field)) {
            return Err(failed("answered with something else"));
        }
        // What the protocol's version adds for this connection alone (how long an answer is fresh) is not for others.
        answer.retain(|field, _| fields.contains(&field.as_str()) || field == "_meta");
        let answer = Value::Object(answer);
        let bytes = answer.to_string().len();
        if bytes > self.max_bytes {
            let limit = self.max_bytes;
            return Err(failed(&format!("has {bytes} bytes, more than {limit} (tools.max_resource_bytes)")));
        }
        Ok(answer)
    }

    /// Errors where the server is there and has nothing of that kind.
    async fn has(
        &self,
        subject: &str,
        offers: impl Fn(&ContextCapabilities) -> bool,
    ) -> Result<(), ToolError> {
        let live = self.server.live().await?;
        if offers(&live.offers) {
            return Ok(());
        }
        let message =
            request::failed(&self.server, subject, "is not there: the server has nothing of the kind");
        Err(ToolError::new(ToolErrorKind::NotFound, message.message))
    }
}

#[async_trait]
impl ContextSource for McpContext {
    fn name(&self) -> &str {
        self.server.name()
    }

    fn capabilities(&self) -> ContextCapabilities {
        self.server.connection().map(|live| live.offers).unwrap_or_default()
    }

    async fn resources(&self) -> Result<Arc<[Value]>, ToolError> {
        self.list(Kind::Resources).await
    }

    async fn resource_templates(&self) -> Result<Arc<[Value]>, ToolError> {
        self.list(Kind::Templates).await
    }

    async fn prompts(&self) -> Result<Arc<[Value]>, ToolError> {
        self.list(Kind::Prompts).await
    }

    async fn read_resource(&self, uri: &str, context: &ToolContext) -> Result<Value, ToolError> {
        let subject = format!("resource `{uri}`");
        self.has(&subject, |offers| offers.resources).await?;
        let request = ReadResourceRequest::new(ReadResourceRequestParams::new(uri));
        self.ask(&subject, ClientRequest::ReadResourceRequest(request), &["contents"], context).await
    }

    async fn get_prompt(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        context: &ToolContext,
    ) -> Result<Value, ToolError> {
        let subject = format!("prompt `{name}`");
        self.has(&subject, |offers| offers.prompts).await?;
        let mut params = GetPromptRequestParams::new(name);
        params.arguments = (!arguments.is_empty()).then_some(arguments);
        let request = ClientRequest::GetPromptRequest(GetPromptRequest::new(params));
        self.ask(&subject, request, &["messages", "description"], context).await
    }

    async fn complete(
        &self,
        mut params: Map<String, Value>,
        context: &ToolContext,
    ) -> Result<Value, ToolError> {
        let subject = "completion";
        self.has(subject, |offers| offers.completions).await?;
        params.remove("_meta");
        let params: CompleteRequestParams =
            serde_json::from_value(Value::Object(params)).map_err(|error| {
                let message = format!("`ref`, `argument` or `context` of the completion is wrong: {error}");
                ToolError::new(ToolErrorKind::InvalidArguments, message)
            })?;
        let request = ClientRequest::CompleteRequest(CompleteRequest::new(params));
        self.ask(subject, request, &["completion"], context).await
    }

    async fn subscribe(&self, uri: &str) -> Result<ResourceSubscription, ToolError> {
        let live = self.server.live().await?;
        if !live.offers.subscriptions {
            return Err(subscriptions::untold(self.server.name()));
        }
        self.server.subscriptions.follow(self.server.name(), uri, self.limit).await
    }

    fn changes(&self) -> watch::Receiver<ContextVersion> {
        self.server.context_changes()
    }
}
