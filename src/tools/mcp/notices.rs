//! What a server tells while requests run, and whom: progress and log lines, in the order they came.
//!
//! Stands between the transport and rmcp, which hands every notification to a task of its own: there a line could
//! overtake another one, or arrive after the result. Promises: progress goes to the call it is about and to no other;
//! a log line goes to a call only when it can be about no other caller's request; nothing is told after the answer.
//!
//! # Which log lines belong to a call
//! One that came on the stream that answers the call's own HTTP request: the protocol sends only what is about a request
//! there. Otherwise a line names no request. It is told to the call that is the only request under way for any caller,
//! where a request that was given up counts as under way until the server answers it, or has had [`TIME_TO_STOP`] since it
//! was told: it may still work on it, and its lines are nobody else's business. All other lines go to the gateway's log
//! alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rmcp::model::{
    ClientNotification, GetExtensions, JsonRpcMessage, NotificationMetaObject, ProgressNotificationParam,
    ProgressToken, RequestId, RequestMetaObject, ServerNotification,
};
#[expect(deprecated, reason = "servers of all versions before 2026-07-28 log this way")]
use rmcp::model::{LoggingLevel, LoggingMessageNotificationParam};
use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::time::Instant;

use crate::domain::{ProgressListener, ToolProgress};

/// Longest server log message in the gateway's log, and longest progress message told, in bytes.
const MAX_TEXT_BYTES: usize = 2_048;

/// Largest data of a log line told to a call, in bytes of JSON; larger data is cut and told as text.
const MAX_DATA_BYTES: usize = 16 * 1024;

/// Requests remembered as under way. Only those that were given up and never answered can become so many.
const MAX_REQUESTS: usize = 1_024;

/// How long a server may work on a request after it was told that nobody waits for it. The protocol has it stop at once and
/// answer nothing, so that there is no other sign of the end.
const TIME_TO_STOP: Duration = Duration::from_secs(600);

/// `_meta` key under which the HTTP client notes on whose stream a log line came.
pub(super) const META_ANSWERS: &str = "witgate/answers";

/// Whoever waits for a request's answer. It is dropped when nobody waits any more.
pub(super) struct Caller(pub(super) ProgressListener);

/// Goes with a request as an extension, so that [`Noticed`] sees for whom it is sent.
#[derive(Clone)]
pub(super) struct ForCaller(pub(super) Weak<Caller>);

/// The requests of callers on one connection.
pub(super) struct Notices {
    server: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sent and not answered.
    under_way: HashMap<RequestId, UnderWay>,
    /// Until when there may be more of them than are remembered.
    lost_count: Option<Instant>,
}

struct UnderWay {
    /// Gone where the request was given up.
    caller: Weak<Caller>,
    /// When a server that was told to stop has stopped.
    ends: Option<Instant>,
}

impl Notices {
    pub(super) fn new(server: &str) -> Arc<Self> {
        Arc::new(Self { server: server.to_owned(), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, id: RequestId, caller: Weak<Caller>) {
        let mut state = self.state();
        if state.under_way.len() >= MAX_REQUESTS {
            state.under_way.retain(|_, request| request.caller.strong_count() > 0);
            state.lost_count = Some(Instant::now() + TIME_TO_STOP);
        }
        state.under_way.insert(id, UnderWay { caller, ends: None });
    }

    /// The server was told that nobody waits for the answer.
    fn cancelled(&self, id: &RequestId) {
        if let Some(request) = self.state().under_way.get_mut(id) {
            request.ends = Some(Instant::now() + TIME_TO_STOP);
        }
    }

    fn answered(&self, id: &RequestId) {
        self.state().under_way.remove(id);
    }

    fn caller(&self, id: &RequestId) -> Option<Arc<Caller>> {
        self.state().under_way.get(id)?.caller.upgrade()
    }

    /// The only caller with a request under way.
    fn only_caller(&self) -> Option<Arc<Caller>> {
        let mut state = self.state();
        let now = Instant::now();
        let is_over = |ends: Option<Instant>| ends.is_some_and(|ends| ends <= now);
        state.under_way.retain(|_, request| !is_over(request.ends));
        let mut under_way = state.under_way.values();
        match (under_way.next(), under_way.next()) {
            (Some(only), None) if state.lost_count.is_none() || is_over(state.lost_count) => {
                only.caller.upgrade()
            }
            _ => None,
        }
    }

    /// Takes in a notification; gives it back where it is neither progress nor a log line.
    fn told(&self, notification: ServerNotification) -> Option<ServerNotification> {
        match notification {
            ServerNotification::ProgressNotification(progress) => {
                self.progress(progress.params);
                None
            }
            ServerNotification::LoggingMessageNotification(line) => {
                let noted = line.extensions.get::<NotificationMetaObject>();
                let of = noted.and_then(|meta| meta.0.0.get(META_ANSWERS)).cloned();
                self.line(line.params, of.and_then(|id| serde_json::from_value(id).ok()));
                None
            }
            other => Some(other),
        }
    }

    fn progress(&self, told: ProgressNotificationParam) {
        let ProgressNotificationParam { progress_token: ProgressToken(id), progress, total, message, .. } =
            told;
        let Some(caller) = self.caller(&id) else { return };
        let message = message.map(|message| cut(message, MAX_TEXT_BYTES));
        caller.0.tell(ToolProgress::Progress { progress, total, message });
    }

    #[expect(deprecated, reason = "servers of all versions before 2026-07-28 log this way")]
    fn line(&self, line: LoggingMessageNotificationParam, of: Option<RequestId>) {
        let text = match &line.data {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let size = text.len();
        let text = cut(text, MAX_TEXT_BYTES);
        let (server, logger) = (self.server.as_str(), line.logger.as_deref().unwrap_or_default());
        match line.level {
            LoggingLevel::Debug => tracing::debug!(server, logger, "{text}"),
            LoggingLevel::Info | LoggingLevel::Notice => tracing::info!(server, logger, "{text}"),
            _ => tracing::warn!(server, logger, "{text}"),
        }
        let caller = match of {
            Some(id) => self.caller(&id),
            None => self.only_caller(),
        };
        let Some(caller) = caller.filter(|caller| caller.0.is_listening()) else { return };
        let data = match line.data {
            data if size <= MAX_DATA_BYTES => data,
            Value::String(text) => Value::String(cut(text, MAX_DATA_BYTES)),
            other => Value::String(cut(other.to_string(), MAX_DATA_BYTES)),
        };
        let level = serde_json::to_value(line.level).ok();
        let level = level.and_then(|level| level.as_str().map(str::to_owned)).unwrap_or_default();
        let logger = line.logger.map(|logger| cut(logger, MAX_TEXT_BYTES));
        caller.0.tell(ToolProgress::Log { level, logger, data });
    }
}

fn is_heard(ForCaller(caller): &ForCaller) -> bool {
    caller.upgrade().is_some_and(|caller| caller.0.is_listening())
}

fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
    text
}

/// A transport whose progress and log notifications go to [`Notices`].
pub(super) struct Noticed<T> {
    transport: T,
    notices: Arc<Notices>,
}

impl<T> Noticed<T> {
    pub(super) fn new(transport: T, notices: Arc<Notices>) -> Self {
        Self { transport, notices }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Noticed<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        mut message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let mut asked = None;
        if let JsonRpcMessage::Request(request) = &mut message {
            let id = request.id.clone();
            let caller = request.request.extensions_mut().remove::<ForCaller>();
            let quiet = caller.as_ref().is_some_and(|caller| !is_heard(caller));
            // rmcp lets every request ask for progress, under a number of its own. Here the request's id names it, and a
            // call that nobody listens to does not ask.
            let meta = request.request.extensions_mut().get_mut::<RequestMetaObject>();
            if let Some(meta) = meta.filter(|meta| meta.get_progress_token().is_some()) {
                if quiet {
                    meta.0.0.remove("progressToken");
                } else {
                    meta.set_progress_token(ProgressToken(id.clone()));
                }
            }
            if let Some(ForCaller(caller)) = caller {
                self.notices.sent(id.clone(), caller);
                asked = Some((self.notices.clone(), id));
            }
        }
        if let JsonRpcMessage::Notification(told) = &message
            && let ClientNotification::CancelledNotification(cancelled) = &told.notification
            && let Some(id) = &cancelled.params.request_id
        {
            self.notices.cancelled(id);
        }
        let sent = self.transport.send(message);
        async move {
            let sent = sent.await;
            if let (Err(_), Some((notices, id))) = (&sent, asked) {
                notices.answered(&id);
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            match self.transport.receive().await? {
                JsonRpcMessage::Notification(mut notification) => {
                    if let Some(other) = self.notices.told(notification.notification) {
                        notification.notification = other;
                        return Some(JsonRpcMessage::Notification(notification));
                    }
                }
                JsonRpcMessage::Response(response) => {
                    self.notices.answered(&response.id);
                    return Some(JsonRpcMessage::Response(response));
                }
                JsonRpcMessage::Error(error) => {
                    if let Some(id) = &error.id {
                        self.notices.answered(id);
                    }
                    return Some(JsonRpcMessage::Error(error));
                }
                request @ JsonRpcMessage::Request(_) => return Some(request),
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.transport.close().await
    }
}

#[cfg(test)]
mod tests;
