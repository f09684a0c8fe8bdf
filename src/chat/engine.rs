//! The engine: what the APIs call. It takes one snapshot of model and tools per turn and runs the turn loop with it.

use std::sync::Arc;

use bytes::Bytes;

use super::hidden_calls::HiddenCalls;
use super::session_turn::SessionGates;
use super::stream::TurnStream;
use super::toolset::ToolSet;
use super::turn::{Turn, TurnOutcome};
use super::{
    ChatError, ChatErrorKind, ChatMessage, ChatReply, Config, ReplyStream, SessionTranscript, TurnContext,
    TurnSummary, WholeReply,
};
use crate::access::AccessScope;
use crate::domain::{CompletionRequest, Principal, SessionId};
use crate::llm::{ModelDirectory, ModelInfo, ToolMode};
use crate::response::{ProcessorSource, ResponsePipeline, TextCallProcessor};
use crate::sessions::{SessionPage, SessionStore};
use crate::toolbox::Toolbox;

/// The engine; a clone is another handle to the same one.
#[derive(Clone)]
pub struct ChatEngine {
    parts: EngineParts,
}

/// What every turn shares.
pub(super) type EngineParts = Arc<Parts>;

/// The parts of an engine.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) models: Arc<dyn ModelDirectory>,
    pub(super) toolbox: Toolbox,
    pub(super) sessions: Arc<dyn SessionStore>,
    pub(super) processors: Arc<dyn ProcessorSource>,
    pub(super) hidden_calls: HiddenCalls,
    pub(super) gates: SessionGates,
}

impl ChatEngine {
    /// An engine over these models, tools, sessions and processors of replies.
    pub fn new(
        config: Config,
        models: Arc<dyn ModelDirectory>,
        toolbox: Toolbox,
        sessions: Arc<dyn SessionStore>,
        processors: Arc<dyn ProcessorSource>,
    ) -> Self {
        let hidden_calls = HiddenCalls::new(config.max_hidden_replies);
        let gates = SessionGates::default();
        let parts = Parts { config, models, toolbox, sessions, processors, hidden_calls, gates };
        Self { parts: Arc::new(parts) }
    }

    /// A whole reply to an OpenAI-compatible request whose `stream` is false.
    ///
    /// # Errors
    /// See [`ChatErrorKind`].
    pub async fn complete(
        &self,
        request: CompletionRequest,
        context: TurnContext,
    ) -> Result<WholeReply, ChatError> {
        let turn = self.turn(request, context, None).await?;
        let outcome = Box::pin(turn.run(None)).await?;
        Ok(WholeReply { body: outcome.body })
    }

    /// A streamed reply to an OpenAI-compatible request whose `stream` is true. Returns with the first event at hand,
    /// so that a failure before it can be a proper status.
    ///
    /// # Errors
    /// See [`ChatErrorKind`].
    pub async fn stream(
        &self,
        request: CompletionRequest,
        context: TurnContext,
    ) -> Result<ReplyStream, ChatError> {
        let turn = self.turn(request, context, None).await?;
        TurnStream::start(|events| async move {
            let outcome = turn.run(events).await?;
            Ok(TurnSummary { response: outcome.text, usage: outcome.usage, session_id: None })
        })
        .await
    }

    /// A whole answer of the simple chat API; the session is stored when this returns.
    ///
    /// # Errors
    /// See [`ChatErrorKind`].
    pub async fn chat(&self, message: ChatMessage, context: TurnContext) -> Result<ChatReply, ChatError> {
        let open = self.open_session(message, &context.principal).await?;
        let turn = self.turn(open.request(false), context, Some(open.id.clone())).await?;
        let outcome = Box::pin(turn.run(None)).await?;
        open.append(&self.parts, &outcome).await?;
        Ok(ChatReply { response: outcome.text, session_id: open.id, usage: outcome.usage })
    }

    /// A streamed answer of the simple chat API; the session is stored when `Done` comes.
    ///
    /// # Errors
    /// See [`ChatErrorKind`].
    pub async fn chat_stream(
        &self,
        message: ChatMessage,
        context: TurnContext,
    ) -> Result<ReplyStream, ChatError> {
        let open = self.open_session(message, &context.principal).await?;
        let turn = self.turn(open.request(true), context, Some(open.id.clone())).await?;
        let parts = Arc::clone(&self.parts);
        TurnStream::start(|events| async move {
            let outcome: TurnOutcome = turn.run(events).await?;
            open.append(&parts, &outcome).await?;
            Ok(TurnSummary { response: outcome.text, usage: outcome.usage, session_id: Some(open.id) })
        })
        .await
    }

    /// The principal's own sessions, latest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sessions(
        &self,
        principal: &Principal,
        offset: u64,
        limit: u64,
    ) -> Result<SessionPage, ChatError> {
        self.parts
            .sessions
            .list(&principal.id, offset, limit)
            .await
            .map_err(|e| ChatError::of_store(&e, None))
    }

    /// One of the principal's own sessions with its messages.
    ///
    /// # Errors
    /// `SessionNotFound` when there is none, or it is someone else's.
    pub async fn session(
        &self,
        principal: &Principal,
        id: &SessionId,
    ) -> Result<SessionTranscript, ChatError> {
        let loaded = self.parts.sessions.load(id, &principal.id).await;
        let session = loaded.map_err(|e| ChatError::of_store(&e, Some(id)))?;
        session.map(SessionTranscript::from).ok_or_else(|| ChatErrorKind::SessionNotFound(id.clone()).into())
    }

    /// Deletes one of the principal's own sessions.
    ///
    /// # Errors
    /// `SessionNotFound` when there is none, or it is someone else's.
    pub async fn delete_session(&self, principal: &Principal, id: &SessionId) -> Result<(), ChatError> {
        let deleted = self.parts.sessions.delete(id, &principal.id).await;
        match deleted.map_err(|e| ChatError::of_store(&e, Some(id)))? {
            true => Ok(()),
            false => Err(ChatErrorKind::SessionNotFound(id.clone()).into()),
        }
    }

    /// Every model that the caller of `access` can ask for.
    pub async fn models(&self, access: &AccessScope) -> Vec<ModelInfo> {
        let mut models = self.parts.models.list().await;
        models.retain(|model| match &*model.own_ids {
            [] => access.sees_model(&[&model.id]),
            own_ids => access.sees_model(own_ids),
        });
        models
    }

    /// One of these, by its id.
    pub async fn model(&self, access: &AccessScope, id: &str) -> Option<ModelInfo> {
        self.models(access).await.into_iter().find(|model| model.id == id)
    }

    /// What the engine is made of, for the room's other files.
    pub(super) fn parts(&self) -> &EngineParts {
        &self.parts
    }

    /// A turn with the model, the tools and the processors as they are now.
    async fn turn(
        &self,
        mut request: CompletionRequest,
        context: TurnContext,
        session_id: Option<SessionId>,
    ) -> Result<Turn, ChatError> {
        let model = self.parts.models.resolve(&request.model).await?;
        context.access.model(&request.model, &model.own_ids).await.map_err(ChatErrorKind::from)?;
        let client_messages = request.messages.clone();
        self.parts.hidden_calls.restore(&context.principal, &mut request.messages);
        if model.tool_mode == ToolMode::Text && request.refuses_tools() {
            // A model that reads of tools in words would call them.
            request.tools.clear();
        }
        let mut tools =
            ToolSet::for_request(&request, &self.parts.toolbox.snapshot(), &model.tools, &context);
        if session_id.is_some() {
            tools = tools.of_stored();
        }
        request.model.clone_from(&model.id);
        let is_plain = |choice: &Bytes| matches!(&choice[..], b"\"none\"" | b"\"auto\"");
        if tools.is_empty() && request.tool_choice.as_ref().is_some_and(is_plain) {
            // To a client it may mean the gateway's tools; an upstream refuses it where the request has no tools.
            request.tool_choice = None;
        }
        let processors = self.parts.processors.snapshot();
        let mut pipeline = ResponsePipeline::of(&processors, &context.endpoint, &model.id);
        if model.tool_mode == ToolMode::Text && !tools.is_empty() {
            let tools = tools.clone();
            let text_calls = TextCallProcessor::new(move |name| tools.knows(name));
            pipeline = pipeline.starting_with(Arc::new(text_calls));
        }
        Ok(Turn {
            parts: Arc::clone(&self.parts),
            pipeline,
            model,
            request,
            client_messages,
            tools,
            context,
            session_id,
        })
    }
}

/// `stream_options` of the gateway's own streamed requests.
pub(super) const INCLUDE_USAGE: Bytes = Bytes::from_static(br#"{"include_usage":true}"#);
