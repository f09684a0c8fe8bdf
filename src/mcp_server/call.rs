//! One `tools/call`: made through the toolbox, with what it tells on the way sent to the client.

use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::model::{
    CallToolResult, Extensions, JsonObject, LoggingLevel, ServerJsonRpcMessage, ServerNotification,
};
use rmcp::service::{Peer, RequestContext};
use rmcp::{ErrorData, RoleServer};
use tokio::sync::mpsc;
use tracing::{Instrument, Span};

use super::convert;
use crate::access::{AccessError, AccessScope};
use crate::domain::{ProgressListener, ToolError, ToolErrorKind, ToolProgress};
use crate::toolbox::{CallError, CallSite, Toolbox};
use crate::tools::RegisteredTool;

/// Words of a call that wait to be sent; what comes while so many wait is lost.
const MAX_WAITING: usize = 64;

/// The longest id of a call, in bytes; the client's own may be longer.
const MAX_ID_BYTES: usize = 64;

/// From this version on, arguments that do not fit are for the model to read; before, they were an error of the protocol.
const INVALID_ARGUMENTS_ARE_RESULTS: &str = "2025-11-25";

/// Where the words of a call go that belongs to a session: onto the stream of its request.
#[derive(Clone)]
pub(super) struct RequestStream(mpsc::Sender<ServerJsonRpcMessage>);

/// What came along with a message: with the HTTP request it was in, or from whoever took it off standard input.
pub(super) fn of_request<T: Send + Sync + 'static>(extensions: &Extensions) -> Option<&T> {
    extensions.get::<T>().or_else(|| extensions.get::<http::request::Parts>()?.extensions.get::<T>())
}

/// One call, beside its arguments.
pub(super) struct Call<'a> {
    pub(super) toolbox: &'a Toolbox,
    pub(super) scope: &'a AccessScope,
    pub(super) tool: &'a RegisteredTool,
    pub(super) site: CallSite,
    /// Passes on what the call tells, where the client wants to hear it.
    pub(super) teller: Option<Teller>,
}

impl RequestStream {
    /// A stream, and where its words come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<ServerJsonRpcMessage>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self(sender), receiver)
    }
}

impl Call<'_> {
    /// Makes the call; ends it at once when the client cancels it.
    pub(super) async fn run(
        self,
        arguments: JsonObject,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let span = of_request::<Span>(&context.extensions).cloned().unwrap_or_else(Span::current);
        let arguments = serde_json::Value::Object(arguments).to_string();
        let teller = self.teller;
        let call = self.toolbox.call(self.scope, self.tool, &arguments, self.site);
        let outcome = async {
            let mut call = std::pin::pin!(call);
            let Some(mut teller) = teller else { return call.await };
            tokio::select! {
                outcome = &mut call => {
                    teller.finish().await;
                    outcome
                }
                // Ends only when nobody can tell anything any more, which is when the call is over.
                () = teller.run() => call.await,
            }
        };
        tokio::select! {
            outcome = outcome.instrument(span) => match outcome {
                Ok(result) => Ok(convert::result(result)),
                Err(error) => answer(error, context),
            },
            // Nobody reads this: the client said so, or is gone.
            () = context.ct.cancelled() => Err(ErrorData::internal_error("the call was cancelled", None)),
        }
    }
}

/// What a call is known by in logs: the request's own id.
pub(super) fn id_of(context: &RequestContext<RoleServer>) -> String {
    let mut id = context.id.to_string();
    id.truncate(id.floor_char_boundary(MAX_ID_BYTES));
    id
}

/// A listener for this call, and who passes on what it hears; nobody listens where the client wants to hear nothing.
pub(super) fn listener(
    context: &RequestContext<RoleServer>,
    level: Option<LoggingLevel>,
) -> (ProgressListener, Option<Teller>) {
    let token = context.meta.get_progress_token();
    if token.is_none() && level.is_none() {
        return (ProgressListener::default(), None);
    }
    let (sender, told) = mpsc::channel(MAX_WAITING);
    let is_losing = AtomicBool::new(false);
    let listener = ProgressListener::new(move |progress: ToolProgress| {
        let Some(notification) = convert::notification(progress, token.as_ref(), level) else { return };
        if sender.try_send(notification).is_err() && !is_losing.swap(true, Ordering::Relaxed) {
            tracing::debug!("the client reads too slowly: some of what a tool tells is lost");
        }
    });
    let stream = of_request::<RequestStream>(&context.extensions).cloned();
    let way = match stream {
        Some(RequestStream(sender)) => Way::Stream(sender),
        None => Way::Peer(context.peer.clone()),
    };
    (listener, Some(Teller { told, way }))
}

/// Passes on what a call tells.
pub(super) struct Teller {
    told: mpsc::Receiver<ServerNotification>,
    way: Way,
}

enum Way {
    Stream(mpsc::Sender<ServerJsonRpcMessage>),
    Peer(Peer<RoleServer>),
}

impl Teller {
    async fn run(&mut self) {
        while let Some(notification) = self.told.recv().await {
            self.pass_on(notification).await;
        }
    }

    /// Passes on what was told before the call ended.
    async fn finish(&mut self) {
        while let Ok(notification) = self.told.try_recv() {
            self.pass_on(notification).await;
        }
    }

    /// A client that is gone is noticed elsewhere.
    async fn pass_on(&self, notification: ServerNotification) {
        match &self.way {
            Way::Stream(sender) => {
                drop(sender.send(ServerJsonRpcMessage::notification(notification)).await);
            }
            Way::Peer(peer) => drop(peer.send_notification(notification).await),
        }
    }
}

/// What a call without a result is answered with: words for the model wherever it can do something about it.
fn answer(error: CallError, context: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    match error {
        CallError::Access(AccessError::MissingScope(_) | AccessError::ToolNotAllowed(_)) => {
            Err(ErrorData::invalid_request(error.to_string(), None))
        }
        CallError::Access(refusal) => Ok(convert::failure(format!("the call is not allowed: {refusal}"))),
        CallError::Tool(ToolError { kind: ToolErrorKind::InvalidArguments, message }) => {
            let version = context.protocol_version();
            let is_result = version.is_some_and(|version| version.as_str() >= INVALID_ARGUMENTS_ARE_RESULTS);
            if is_result {
                Ok(convert::failure(message))
            } else {
                Err(ErrorData::invalid_params(message, None))
            }
        }
        CallError::Tool(error) => Ok(convert::failure(error.message)),
    }
}
