//! The sessions of clients that speak a version with sessions: whose they are, how many there are, when they end.
//!
//! The transport itself is rmcp's. What this adds: a session belongs to the principal and the endpoint that opened it, and
//! to everybody else it does not exist; there are only so many; one that nobody uses ends.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::WorkerTransport;
use rmcp::transport::streamable_http_server::SessionId;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, LocalSessionWorker,
};
use rmcp::transport::streamable_http_server::session::{ServerSseMessage, SessionManager};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::access::AccessScope;

/// Who opened a session, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Id of the principal.
    pub(super) principal: String,
    /// Whose places it takes: the user's, whichever of its keys came.
    pub(super) account: String,
    /// The one server it is about, `None` for all.
    pub(super) server: Option<String>,
}

impl Owner {
    pub(super) fn new(scope: &AccessScope, server: Option<&str>) -> Self {
        let principal = &scope.principal().id;
        let account = scope.owner().map_or(principal, |owner| &owner.id);
        Self { principal: principal.clone(), account: account.clone(), server: server.map(str::to_owned) }
    }
}

/// All sessions.
pub(super) struct Sessions {
    transports: LocalSessionManager,
    entries: Mutex<HashMap<SessionId, Entry>>,
    most: usize,
    idle: Duration,
}

struct Entry {
    owner: Owner,
    last_used: Instant,
    /// Streams that are being sent.
    streams: usize,
}

impl Sessions {
    /// At most `most`, each of them ended when nobody used it for `idle`.
    pub(super) fn new(most: usize, idle: Duration) -> Self {
        let mut transports = LocalSessionManager::default();
        // rmcp would end a session whose only stream is silent; here it lives as long as somebody listens.
        transports.session_config.keep_alive = None;
        Self { transports, entries: Mutex::default(), most, idle }
    }

    /// Whether `owner` has the session `id`; being asked for counts as use.
    pub(super) fn is_owned(&self, id: &str, owner: &Owner) -> bool {
        let mut entries = self.entries();
        let entry = entries.get_mut(id).filter(|entry| entry.owner == *owner);
        entry.map(|entry| entry.last_used = Instant::now()).is_some()
    }

    /// Ends the sessions that nobody used for too long.
    pub(super) async fn end_idle(&self) {
        let idle: Vec<SessionId> = {
            let entries = self.entries();
            let is_idle = |entry: &Entry| entry.streams == 0 && entry.last_used.elapsed() >= self.idle;
            entries.iter().filter(|(_, entry)| is_idle(entry)).map(|(id, _)| Arc::clone(id)).collect()
        };
        for id in idle {
            self.end(&id).await;
        }
    }

    async fn end(&self, id: &SessionId) {
        self.entries().remove(id);
        if let Err(error) = self.transports.close_session(id).await {
            tracing::debug!(%error, "a session of an MCP client did not end well");
        }
    }

    /// Gives the session `id` of `owner` a place; the answer is the session that gives way, where there is no other.
    ///
    /// Whoever has the most gives way first, idle sessions before others, and of these the one that was not used for the
    /// longest time. Nobody takes the place of somebody who has less, and one that is in use is taken from those only who
    /// have more all the same: so nobody can hold all places, or push the others out.
    fn place(&self, id: &SessionId, owner: &Owner) -> Result<Option<SessionId>, SessionsError> {
        // Found and taken under one lock, or requests at the same time would find the same place.
        let mut entries = self.entries();
        let crowded_out =
            if entries.len() < self.most { None } else { Some(crowded_out(&entries, &owner.account)?) };
        if let Some(id) = &crowded_out {
            entries.remove(id);
        }
        let entry = Entry { owner: owner.clone(), last_used: Instant::now(), streams: 0 };
        entries.insert(Arc::clone(id), entry);
        Ok(crowded_out)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session that gives way to a new one of `account`, where all places are taken.
fn crowded_out(entries: &HashMap<SessionId, Entry>, account: &str) -> Result<SessionId, SessionsError> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for entry in entries.values() {
        *counts.entry(&entry.owner.account).or_default() += 1;
    }
    let count = |account: &str| counts.get(account).copied().unwrap_or(0);
    let own = count(account);
    let gives_way = entries.iter().filter(|(_, entry)| {
        let theirs = count(&entry.owner.account);
        if entry.streams == 0 { theirs >= own } else { theirs > own + 1 }
    });
    let first = gives_way
        .max_by_key(|(_, entry)| (count(&entry.owner.account), entry.streams == 0, Reverse(entry.last_used)));
    first.map(|(id, _)| Arc::clone(id)).ok_or(SessionsError::Full)
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionsError {
    #[error("there are as many sessions as there may be (mcp_server.max_sessions), and all are in use")]
    Full,
    #[error(transparent)]
    Transport(#[from] LocalSessionManagerError),
}

/// The sessions as one request may see them.
pub(super) struct SessionsOf {
    sessions: Arc<Sessions>,
    owner: Owner,
    /// What a call of this request tells, to be sent before its result.
    told: Mutex<Option<mpsc::Receiver<ServerJsonRpcMessage>>>,
    is_full: AtomicBool,
}

impl SessionsOf {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        owner: Owner,
        told: mpsc::Receiver<ServerJsonRpcMessage>,
    ) -> Self {
        Self { sessions, owner, told: Mutex::new(Some(told)), is_full: AtomicBool::new(false) }
    }

    /// True when this request wanted a session and there was no place for one.
    pub(super) fn found_no_place(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    fn in_use<S>(&self, id: &SessionId, stream: S) -> InUse<S> {
        if let Some(entry) = self.sessions.entries().get_mut(id) {
            entry.streams += 1;
        }
        InUse { stream, id: Arc::clone(id), sessions: Arc::clone(&self.sessions) }
    }
}

impl SessionManager for SessionsOf {
    type Error = SessionsError;
    type Transport = WorkerTransport<LocalSessionWorker>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), SessionsError> {
        let (id, transport) = self.sessions.transports.create_session().await?;
        match self.sessions.place(&id, &self.owner) {
            Ok(None) => {}
            Ok(Some(crowded_out)) => {
                tracing::debug!("a session of an MCP client ends: there are as many as there may be");
                self.sessions.end(&crowded_out).await;
            }
            Err(full) => {
                self.is_full.store(true, Ordering::Relaxed);
                drop(transport);
                self.sessions.end(&id).await;
                return Err(full);
            }
        }
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionsError> {
        Ok(self.sessions.transports.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, SessionsError> {
        Ok(self.sessions.is_owned(id, &self.owner) && self.sessions.transports.has_session(id).await?)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), SessionsError> {
        self.sessions.end(id).await;
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionsError> {
        let answers = self.sessions.transports.create_stream(id, message).await?;
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(self.in_use(id, Told { told, answers: Box::pin(answers) }))
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), SessionsError> {
        Ok(self.sessions.transports.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionsError> {
        let stream = self.sessions.transports.create_standalone_stream(id).await?;
        Ok(self.in_use(id, Box::pin(stream)))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionsError> {
        let stream = self.sessions.transports.resume(id, last_event_id).await?;
        Ok(self.in_use(id, Box::pin(stream)))
    }
}

/// The stream of a request: what its call tells comes before what answers it.
struct Told<S> {
    told: Option<mpsc::Receiver<ServerJsonRpcMessage>>,
    answers: S,
}

impl<S: Stream<Item = ServerSseMessage> + Unpin> Stream for Told<S> {
    type Item = ServerSseMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServerSseMessage>> {
        if let Some(told) = &mut self.told {
            match told.poll_recv(cx) {
                Poll::Ready(Some(message)) => {
                    return Poll::Ready(Some(ServerSseMessage::from_message(message)));
                }
                Poll::Ready(None) => self.told = None,
                Poll::Pending => {}
            }
        }
        self.answers.poll_next_unpin(cx)
    }
}

/// A stream that keeps its session from being idle.
struct InUse<S> {
    stream: S,
    id: SessionId,
    sessions: Arc<Sessions>,
}

impl<S: Stream<Item = ServerSseMessage> + Unpin> Stream for InUse<S> {
    type Item = ServerSseMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServerSseMessage>> {
        self.stream.poll_next_unpin(cx)
    }
}

impl<S> Drop for InUse<S> {
    fn drop(&mut self) {
        if let Some(entry) = self.sessions.entries().get_mut(&self.id) {
            entry.streams = entry.streams.saturating_sub(1);
            entry.last_used = Instant::now();
        }
    }
}
