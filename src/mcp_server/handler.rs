//! What one MCP client is answered: tools, resources and prompts of its endpoint, as far as its caller may see and use them.
//!
//! The scope of each request decides, not that of the request that opened the session. Dropping a call cancels it, so a
//! call that the client cancelled is dropped.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, Extensions,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel, PaginatedRequestParams,
    Prompt, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource,
    ResourceTemplate, ResourceUpdatedNotificationParam, ResultType, ServerCapabilities, ServerConfig,
    SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, ServiceError, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::call::{self, Call};
use super::changes::{Changes, News};
use super::view::{VIA, View};
use super::{contexts, convert, page};
use crate::access::{AccessError, AccessScope};
use crate::domain::{ProgressListener, SessionId};
use crate::toolbox::CallSite;

/// Most resources that one client may follow.
const MAX_FOLLOWED: usize = 256;

/// What a [`Handler`] is made of.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) view: View,
    /// Of the request that it was made for. What is asked of it has a scope of its own.
    pub(super) scope: AccessScope,
    /// Whether it lives longer than one request.
    pub(super) is_session: bool,
    /// Cancelled when the gateway takes no new work.
    pub(super) draining: CancellationToken,
    /// Becomes true once clients need not wait for tools any longer.
    pub(super) tools_settled: watch::Receiver<bool>,
}

/// Answers one client: for a session, or for one request without one.
pub(super) struct Handler {
    setup: Setup,
    /// What its calls are told they belong to.
    session_id: SessionId,
    level: Mutex<LoggingLevel>,
    /// Tells the client of changes, once it has said that it is there.
    teller: OnceLock<AbortOnDropHandle<()>>,
    /// Who follows a resource for the client, by URI.
    followers: Mutex<HashMap<String, AbortOnDropHandle<()>>>,
}

impl Handler {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            session_id: SessionId::generate(),
            level: Mutex::new(LoggingLevel::Info),
            teller: OnceLock::new(),
            followers: Mutex::default(),
        }
    }

    fn view(&self) -> &View {
        &self.setup.view
    }

    /// Waits until the MCP servers have come up (or have had their time), so that no client that is early is told of too
    /// little.
    async fn settled(&self) {
        // The composition root bounds this wait, and drops the sender when it stops; either ends it.
        let _ = self.setup.tools_settled.clone().wait_for(|settled| *settled).await;
    }

    /// The least level of log lines that the client wants, `None` for none.
    fn least_level(&self, context: &RequestContext<RoleServer>) -> Option<LoggingLevel> {
        if context.meta.protocol_version().is_some() {
            return context.meta.log_level();
        }
        self.setup.is_session.then(|| *self.level.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn site(&self, context: &RequestContext<RoleServer>, progress: ProgressListener) -> CallSite {
        let session_id = if self.setup.is_session { self.session_id.clone() } else { SessionId::generate() };
        CallSite { via: VIA, call_id: call::id_of(context), session_id: Some(session_id), progress }
    }

    fn followers(&self) -> MutexGuard<'_, HashMap<String, AbortOnDropHandle<()>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_completions()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        let title = match &self.view().server {
            Some(server) => format!("{server} through witgate"),
            None => "witgate".to_owned(),
        };
        let identity = Implementation::new("witgate", env!("CARGO_PKG_VERSION")).with_title(title);
        ServerConfig::new(capabilities)
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
            .with_server_info(identity)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let scope = scope_of(&context.extensions)?;
        self.settled().await;
        let tools = self.view().tools(&scope);
        let page = page::of(tools.iter().map(|tool| self.view().name_of(tool)), cursor(request).as_deref())?;
        let listed = tools[page.range].iter();
        let listed = listed.map(|tool| convert::tool(self.view().name_of(tool), tool)).collect();
        let mut result = ListToolsResult::with_all_items(listed);
        result.next_cursor = page.next;
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let scope = scope_of(&context.extensions)?;
        self.settled().await;
        let tool = self.view().wanted(&scope, &request.name).map_err(|refusal| match refusal {
            AccessError::ToolNotAllowed(_) => {
                let message = format!("unknown tool `{}`: tools/list names those there are", request.name);
                ErrorData::invalid_params(message, None)
            }
            refusal => ErrorData::invalid_request(refusal.to_string(), None),
        })?;
        let (progress, teller) = call::listener(&context, self.least_level(&context));
        let site = self.site(&context, progress);
        let call = Call { toolbox: &self.view().toolbox, scope: &scope, tool: &tool, site, teller };
        Ok(Box::pin(call.run(request.arguments.unwrap_or_default(), &context)).await?.into())
    }

    /// For checking what a header says of an argument.
    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.view().find(&self.setup.scope, name).map(|tool| convert::tool(name, &tool))
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let scope = scope_of(&context.extensions)?;
        self.settled().await;
        let all = until_cancelled(&context, self.view().contexts().resources(&scope)).await?;
        let mut all: Vec<Resource> = contexts::entries(all);
        let page = page::of(all.iter().map(|resource| resource.uri.as_str()), cursor(request).as_deref())?;
        let mut result = ListResourcesResult::with_all_items(all.drain(page.range).collect());
        result.next_cursor = page.next;
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let scope = scope_of(&context.extensions)?;
        self.settled().await;
        let all = until_cancelled(&context, self.view().contexts().templates(&scope)).await?;
        let mut all: Vec<ResourceTemplate> = contexts::entries(all);
        let uris = all.iter().map(|template| template.uri_template.as_str());
        let page = page::of(uris, cursor(request).as_deref())?;
        let mut result = ListResourceTemplatesResult::with_all_items(all.drain(page.range).collect());
        result.next_cursor = page.next;
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let scope = scope_of(&context.extensions)?;
        self.settled().await;
        let site = self.site(&context, ProgressListener::default());
        let contexts = self.view().contexts();
        let answer = until_cancelled(&context, contexts.read(&scope, &request.uri, site)).await?;
        let answer = answer.map_err(|error| contexts::resource_error(error, &request.uri))?;
        let mut result: ReadResourceResult = contexts::answer(answer)?;
        result.result_type = Some(ResultType::COMPLETE);
        // Whoever else comes through the same cache may not be allowed to read it.
        result.cache_scope = Some(CacheScope::Private);
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let scope = scope_of(&context.extensions)?;
        self.settled().await;
        let all = until_cancelled(&context, self.view().contexts().prompts(&scope)).await?;
        let mut all: Vec<Prompt> = contexts::entries(all);
        let page = page::of(all.iter().map(|prompt| prompt.name.as_str()), cursor(request).as_deref())?;
        let mut result = ListPromptsResult::with_all_items(all.drain(page.range).collect());
        result.next_cursor = page.next;
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let scope = scope_of(&context.extensions)?;
        self.settled().await;
        let site = self.site(&context, ProgressListener::default());
        let (contexts, arguments) = (self.view().contexts(), request.arguments.unwrap_or_default());
        let got = contexts.prompt(&scope, &request.name, arguments, site);
        let answer = until_cancelled(&context, got).await?.map_err(contexts::prompt_error)?;
        let mut result: GetPromptResult = contexts::answer(answer)?;
        result.result_type = Some(ResultType::COMPLETE);
        Ok(result.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let scope = scope_of(&context.extensions)?;
        self.settled().await;
        let site = self.site(&context, ProgressListener::default());
        let mut params = match serde_json::to_value(request) {
            Ok(Value::Object(params)) => params,
            _ => Map::new(),
        };
        params.remove("_meta");
        let contexts = self.view().contexts();
        let completed = contexts.complete(&scope, params, site);
        let answer = until_cancelled(&context, completed).await?.map_err(contexts::prompt_error)?;
        let mut result: CompleteResult = contexts::answer(answer)?;
        result.result_type = Some(ResultType::COMPLETE);
        Ok(result)
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let scope = scope_of(&context.extensions)?;
        if !self.setup.is_session {
            return Err(ErrorData::invalid_request("there is nobody to tell without a session", None));
        }
        if self.followers().len() >= MAX_FOLLOWED {
            let message =
                format!("a client may follow {MAX_FOLLOWED} resources; unsubscribe from others first");
            return Err(ErrorData::invalid_request(message, None));
        }
        let (contexts, uri) = (self.view().contexts(), request.uri);
        let subscribed = until_cancelled(&context, contexts.subscribe(&scope, &uri)).await?;
        let mut subscription = subscribed.map_err(|error| contexts::resource_error(error, &uri))?;
        let (peer, watched) = (context.peer, uri.clone());
        let follower = tokio::spawn(async move {
            while subscription.updated().await {
                let update = ResourceUpdatedNotificationParam::new(watched.as_str());
                if peer.notify_resource_updated(update).await.is_err() {
                    return;
                }
            }
        });
        self.followers().insert(uri, AbortOnDropHandle::new(follower));
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.followers().remove(&request.uri);
        Ok(())
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = request.level;
        Ok(())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let Ok(scope) = scope_of(&context.extensions) else { return };
        let (view, peer) = (self.view().clone(), context.peer);
        self.teller.get_or_init(|| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                let mut changes = Changes::new(view, scope);
                while let Some(news) = changes.next().await {
                    if tell(&peer, news).await.is_err() {
                        return;
                    }
                }
            }))
        });
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        if let Some(uris) = &mut accepted.resource_subscriptions {
            uris.truncate(MAX_FOLLOWED);
        }
        Some(accepted)
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let scope = scope_of(&subscription.request_context().extensions)?;
        let mut changes = Changes::new(self.view().clone(), scope.clone());
        let (accepted, sink) = (subscription.accepted().clone(), subscription.sink());
        let contexts = self.view().contexts();
        let mut followed = FuturesUnordered::new();
        for uri in accepted.resource_subscriptions.unwrap_or_default() {
            let (contexts, scope) = (contexts.clone(), scope.clone());
            let follow = async move {
                match contexts.subscribe(&scope, &uri).await {
                    Ok(mut updates) => {
                        while updates.updated().await
                            && sink.notify_resource_updated(uri.as_str()).await.is_ok()
                        {
                        }
                    }
                    Err(error) => tracing::debug!("a resource is not followed: {error}"),
                }
            };
            followed.push(follow.boxed());
        }
        let of = |wanted: Option<bool>, is_news: bool| wanted == Some(true) && is_news;
        loop {
            let news = tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                () = self.setup.draining.cancelled() => return Ok(()),
                Some(()) = followed.next() => continue,
                news = changes.next() => news,
            };
            let Some(news) = news else { return Ok(()) };
            let told = async {
                if of(accepted.tools_list_changed, news.tools) {
                    sink.notify_tool_list_changed().await?;
                }
                if of(accepted.resources_list_changed, news.resources) {
                    sink.notify_resource_list_changed().await?;
                }
                if of(accepted.prompts_list_changed, news.prompts) {
                    sink.notify_prompt_list_changed().await?;
                }
                Ok::<(), rmcp::service::SubscriptionSendError>(())
            };
            if told.await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Who sent a message, and what its sender may do.
fn scope_of(extensions: &Extensions) -> Result<AccessScope, ErrorData> {
    let scope = call::of_request::<AccessScope>(extensions).cloned();
    scope.ok_or_else(|| ErrorData::internal_error("nobody knows who is asking", None))
}

fn cursor(request: Option<PaginatedRequestParams>) -> Option<String> {
    request.and_then(|request| request.cursor)
}

/// What `work` comes to; dropped when the client cancels the request.
async fn until_cancelled<T>(
    context: &RequestContext<RoleServer>,
    work: impl Future<Output = T>,
) -> Result<T, ErrorData> {
    tokio::select! {
        done = Box::pin(work) => Ok(done),
        // Nobody reads this: the client said so, or is gone.
        () = context.ct.cancelled() => Err(ErrorData::internal_error("the request was cancelled", None)),
    }
}

async fn tell(peer: &Peer<RoleServer>, news: News) -> Result<(), ServiceError> {
    if news.tools {
        peer.notify_tool_list_changed().await?;
    }
    if news.resources {
        peer.notify_resource_list_changed().await?;
    }
    if news.prompts {
        peer.notify_prompt_list_changed().await?;
    }
    Ok(())
}
