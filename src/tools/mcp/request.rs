//! One request for a caller: said for whom it is made, given up when nobody waits any more, explained where it fails.
//!
//! Promises: the server learns the caller in `_meta`; a request whose future is dropped is cancelled at the server; an
//! error says whether the server may have worked on it. Puts no limit on the time: whoever asks does.

use std::sync::Arc;
use std::time::Duration;

use rmcp::ServiceError;
#[expect(deprecated, reason = "version 2026-07-28 deprecates log lines, but has them")]
use rmcp::model::LoggingLevel;
use rmcp::model::{ClientRequest, ErrorCode, ErrorData, GetExtensions, RequestMetaObject, ServerResult};
use rmcp::service::{PeerRequestOptions, RequestHandle, RoleClient};
use tokio_util::task::TaskTracker;

use super::notices::{Caller, ForCaller};
use super::server::{Live, Server};
use super::{client, http};
use crate::domain::{ToolContext, ToolError, ToolErrorKind};

/// `_meta` key of the calling principal's id.
const META_PRINCIPAL: &str = "witgate/principal";
/// `_meta` key of the id of the request that caused the call.
const META_REQUEST_ID: &str = "witgate/request-id";
/// `_meta` key of the session the call belongs to.
const META_SESSION_ID: &str = "witgate/session-id";

/// How long a broken call waits for the supervisor to find out what became of the server.
const END_WAIT: Duration = Duration::from_secs(5);

/// How long telling a server that a call was given up may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// Asks `server` for `subject` (``tool `x` ``) on behalf of a caller.
///
/// # Errors
/// [`ToolError`] when there is no answer, or an error as answer.
pub(super) async fn ask(
    server: &Arc<Server>,
    subject: &str,
    mut request: ClientRequest,
    context: &ToolContext,
) -> Result<ServerResult, ToolError> {
    let live = server.live().await?;
    let caller = Arc::new(Caller(context.progress.clone()));
    request.extensions_mut().insert(ForCaller(Arc::downgrade(&caller)));
    let options = PeerRequestOptions::no_options().with_meta(meta(context, &live));
    let handle = match live.peer.send_cancellable_request(request, options).await {
        Ok(handle) => handle,
        Err(ServiceError::TransportClosed) => {
            let end = live.end(END_WAIT).await;
            let message = format!("server `{}` {end} before the call was sent", server.name());
            return Err(ToolError::new(ToolErrorKind::NotSent, message));
        }
        Err(error) => return Err(broken(server, subject, error, &live).await),
    };
    match Pending::new(handle, caller, live.clone(), server.tasks.clone()).answer().await {
        Ok(answer) => {
            live.answered();
            Ok(answer)
        }
        Err(error) => {
            if matches!(error, ServiceError::McpError(_)) {
                live.answered();
            }
            Err(broken(server, subject, error, &live).await)
        }
    }
}

/// `subject` of `server` failed in the way `why` says.
pub(super) fn failed(server: &Server, subject: &str, why: &str) -> ToolError {
    ToolError::new(ToolErrorKind::Failed, format!("{subject} of server `{}` {why}", server.name()))
}

/// For whom a request is made, and what a listener wants to be told.
#[expect(deprecated, reason = "version 2026-07-28 deprecates log lines, but has them")]
fn meta(context: &ToolContext, live: &Live) -> RequestMetaObject {
    let mut meta = RequestMetaObject::new();
    meta.0.0.insert(META_PRINCIPAL.to_owned(), context.principal.id.clone().into());
    meta.0.0.insert(META_REQUEST_ID.to_owned(), context.request_id.as_str().into());
    if let Some(session) = &context.session_id {
        meta.0.0.insert(META_SESSION_ID.to_owned(), session.as_str().into());
    }
    // Since 2026-07-28 a server logs only for requests that ask for it; before, the level is one for the connection.
    if live.modern && live.logs && context.progress.is_listening() {
        meta.set_log_level(LoggingLevel::Info);
    }
    meta
}

/// What a request that got no answer means.
async fn broken(server: &Server, subject: &str, error: ServiceError, live: &Live) -> ToolError {
    match error {
        ServiceError::McpError(error) => refused(server, subject, &error),
        ServiceError::TransportSend(error) => {
            live.suspect.notify_one();
            let (kind, reason) = (http::sent(&error), http::sentence(&error));
            ToolError::new(kind, format!("server `{}` cannot be reached: {reason}", server.name()))
        }
        ServiceError::TransportClosed => {
            let end = live.end(END_WAIT).await;
            let message = format!("server `{}` {end} during the call", server.name());
            ToolError::new(ToolErrorKind::Failed, message)
        }
        ServiceError::Cancelled { reason } => {
            let reason = reason.unwrap_or_else(|| "no reason given".to_owned());
            failed(server, subject, &format!("was cancelled: {reason}"))
        }
        other => failed(server, subject, &format!("failed: {}", client::sentence(&other))),
    }
}

fn refused(server: &Server, subject: &str, error: &ErrorData) -> ToolError {
    let kind = match error.code {
        ErrorCode::INVALID_PARAMS => ToolErrorKind::InvalidArguments,
        ErrorCode::RESOURCE_NOT_FOUND => ToolErrorKind::NotFound,
        _ => ToolErrorKind::Failed,
    };
    let words = failed(server, subject, &format!("answered with an error: {}", error.message));
    ToolError::new(kind, words.message)
}

/// A request that waits for its answer. Dropped before that, it tells the server that nobody waits any more.
struct Pending {
    request: Option<RequestHandle<RoleClient>>,
    /// While it lives, progress and log lines of the request are told.
    _caller: Arc<Caller>,
    live: Arc<Live>,
    call: u64,
    tasks: TaskTracker,
}

impl Pending {
    fn new(
        request: RequestHandle<RoleClient>,
        caller: Arc<Caller>,
        live: Arc<Live>,
        tasks: TaskTracker,
    ) -> Self {
        let call = live.begin_call();
        Self { request: Some(request), _caller: caller, live, call, tasks }
    }

    async fn answer(mut self) -> Result<ServerResult, ServiceError> {
        let Some(request) = &mut self.request else { return Err(ServiceError::TransportClosed) };
        let answer = (&mut request.rx).await;
        self.request = None;
        answer.unwrap_or(Err(ServiceError::TransportClosed))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let request = self.request.take();
        self.live.end_call(self.call, request.is_some());
        let Some(request) = request else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let told = async move {
                let told = request.cancel(Some("the caller no longer waits for the result".to_owned()));
                let _ = tokio::time::timeout(CANCEL_LIMIT, told).await;
            };
            self.tasks.spawn_on(told, &runtime);
        }
    }
}
