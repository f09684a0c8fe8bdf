//! One task per server: start, watch, start again; the only writer of the server's state.
//!
//! A start that fails for a reason of the configuration is not repeated; a missing program or wrong credentials are
//! looked for again at a slow pace; everything else is tried again with growing pauses, a first crash at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::service::ClientInitializeError;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, SLOW_RETRY};
use super::client::{self, Handler, Opening, Running};
use super::server::{Live, Server};
use super::{health, http, subscriptions};
use crate::config::mcp_servers::McpTransport;

#[cfg(unix)]
use super::stdio::{Process, StartError};

/// How long closing a connection may take (an HTTP session is deleted, answers to the server are drained).
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// How long a process may go on after it closed its stdout, before that counts as how it ended.
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// Runs `server` until `stop`; on return none of its processes lives.
pub(super) async fn run(server: Arc<Server>, stop: CancellationToken) {
    if let Some(problem) = server.config.problem.clone() {
        tracing::error!(server = server.name(), "not started: {problem}");
        server.failed(problem);
        return;
    }
    let settings = &server.settings;
    let mut backoff = Backoff::new(
        Duration::from_millis(settings.restart_min_ms),
        Duration::from_millis(settings.restart_max_ms),
        Duration::from_millis(settings.stable_after_ms),
    );
    let mut opening = Opening::default();
    while !stop.is_cancelled() {
        let pause = match attempt(&server, &mut opening, &stop).await {
            End::Stopped => break,
            End::Lost { ready_for } => backoff.next(Some(ready_for)),
            End::Failed { reason, slow } => {
                let pause = backoff.next(None);
                let pause = if slow { pause.max(SLOW_RETRY) } else { pause };
                let again = format!("{reason} (next try in {:.1} s)", pause.as_secs_f64());
                tracing::warn!(server = server.name(), "could not be started: {again}");
                server.failed(reason);
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
    server.stopped(None);
}

/// How one attempt to run a server ended.
enum End {
    /// The gateway is closing.
    Stopped,
    /// It was ready for some time and is lost.
    Lost { ready_for: Duration },
    /// It never got ready; `slow` when trying again soon is useless.
    Failed { reason: String, slow: bool },
}

impl End {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), slow: false }
    }
}

/// One start of the server and its life, with the other opening where the server refuses the first.
async fn attempt(server: &Arc<Server>, opening: &mut Opening, stop: &CancellationToken) -> End {
    let first = match connect_and_serve(server, *opening, stop).await {
        Outcome::Ended(end) => {
            // Another version of the server may have taken its place, which knows `initialize` only.
            if matches!(end, End::Failed { .. }) {
                *opening = Opening::default();
            }
            return end;
        }
        Outcome::Refused(reason) => reason,
    };
    tracing::debug!(
        server = server.name(),
        "the server refuses `initialize`, trying `server/discover`: {first}"
    );
    match connect_and_serve(server, Opening::Discover, stop).await {
        Outcome::Ended(End::Failed { reason, slow }) => {
            End::Failed { reason: format!("{first}; with `server/discover`: {reason}"), slow }
        }
        Outcome::Refused(reason) => End::failed(format!("{first}; with `server/discover`: {reason}")),
        Outcome::Ended(end) => {
            *opening = Opening::Discover;
            end
        }
    }
}

enum Outcome {
    Ended(End),
    /// The server turned `initialize` down.
    Refused(String),
}

/// The child process of a stdio server; nothing for the other transports.
#[derive(Default)]
struct Child {
    #[cfg(unix)]
    process: Option<Process>,
}

impl Child {
    /// Waits for the end of the process, for ever where there is none.
    async fn exited(&mut self) -> String {
        match self.exit_if_any().await {
            Some(how) => how,
            None => std::future::pending().await,
        }
    }

    /// Waits for the end of the process, if there is one.
    async fn exit_if_any(&mut self) -> Option<String> {
        #[cfg(unix)]
        if let Some(process) = &mut self.process {
            return Some(process.exited().await);
        }
        None
    }

    async fn stop(self) {
        #[cfg(unix)]
        if let Some(process) = self.process {
            process.stop().await;
        }
    }
}

/// Opens a connection, serves it to its end, and leaves nothing running.
async fn connect_and_serve(server: &Arc<Server>, opening: Opening, stop: &CancellationToken) -> Outcome {
    let started = Instant::now();
    let limit = Duration::from_millis(server.settings.handshake_timeout_ms);
    let mut child = Child::default();
    let ready = tokio::select! {
        biased;
        () = stop.cancelled() => Err(Outcome::Ended(End::Stopped)),
        ready = tokio::time::timeout(limit, ready(server, opening, &mut child)) => ready.unwrap_or_else(|_| {
            let reason = format!("was not ready within {} ms (tools.mcp.handshake_timeout_ms)", limit.as_millis());
            Err(Outcome::Ended(End::failed(reason)))
        }),
    };
    let outcome = match ready {
        Ok((running, live, tools)) => {
            tracing::info!(
                server = server.name(),
                tools = tools.len(),
                "ready after {} ms",
                started.elapsed().as_millis()
            );
            let live = Arc::new(live);
            server.ready(live.clone(), tools, started.elapsed());
            Outcome::Ended(serve(server, running, &live, &mut child, stop).await)
        }
        Err(outcome) => with_last_words(server, outcome),
    };
    child.stop().await;
    outcome
}

type Ready = (Running, Live, Vec<crate::domain::ToolDefinition>);

/// Connects and lists the tools.
async fn ready(server: &Arc<Server>, opening: Opening, child: &mut Child) -> Result<Ready, Outcome> {
    let handler = Handler::new(server.clone());
    let signals = handler.signals();
    let running = open(server, handler, opening, child).await?;
    let live = Live::new(server, running.peer().clone(), signals);
    let limit = Duration::from_millis(server.settings.handshake_timeout_ms);
    let listed = client::list_tools(server.name(), &live.peer, limit).await;
    match listed {
        Ok(tools) => Ok((running, live, tools)),
        Err(error) => {
            let reason = format!("its tools could not be listed: {}", client::sentence(&error));
            close(running).await;
            Err(Outcome::Ended(End::failed(reason)))
        }
    }
}

/// Opens the configured transport and shakes hands over it.
async fn open(
    server: &Arc<Server>,
    handler: Handler,
    opening: Opening,
    child: &mut Child,
) -> Result<Running, Outcome> {
    let opened = match &server.config.transport {
        #[cfg(unix)]
        McpTransport::Stdio { command, args, env, cwd } => {
            let (process, stdout, stdin) =
                Process::start(server, command, args, env, cwd).map_err(|error| match error {
                    StartError::NotFound(reason) => Outcome::Ended(End::Failed { reason, slow: true }),
                    StartError::Io(error) => {
                        Outcome::Ended(End::failed(format!("cannot be started: {error}")))
                    }
                })?;
            child.process = Some(process);
            let transport = rmcp::transport::async_rw::AsyncRwTransport::new_client(stdout, stdin);
            client::open(handler, transport, opening).await
        }
        #[cfg(not(unix))]
        McpTransport::Stdio { .. } => {
            let _ = child;
            let reason = "servers with `command` need a Unix system; connect to it by `url`".to_owned();
            return Err(Outcome::Ended(End::Failed { reason, slow: true }));
        }
        McpTransport::LegacySse { url, headers } => {
            let client = http::client(headers).map_err(|reason| Outcome::Ended(End::failed(reason)))?;
            let transport = super::legacy_sse::LegacySse::connect(client, url, server.name()).await;
            let transport = transport.map_err(|error| {
                let slow = matches!(error, super::legacy_sse::LegacySseError::Status(401 | 403));
                Outcome::Ended(End::Failed { reason: error.to_string(), slow })
            })?;
            client::open(handler, transport, opening).await
        }
        McpTransport::StreamableHttp { url, headers } => {
            let client = http::client(headers).map_err(|reason| Outcome::Ended(End::failed(reason)))?;
            let transport = http::streamable(client, url, handler.signals());
            client::open(handler, transport, opening).await
        }
    };
    match opened {
        Ok(running) => Ok(running),
        Err(error) => Err(unopened(&error, opening, child).await),
    }
}

/// What a failed handshake means.
async fn unopened(error: &ClientInitializeError, opening: Opening, child: &mut Child) -> Outcome {
    let reason = client::opening_sentence(error);
    if opening == Opening::Initialize && client::refuses_initialize(error) {
        return Outcome::Refused(reason);
    }
    // How a process ended says more than that it stopped talking.
    if matches!(
        error,
        ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. }
    ) && let Ok(Some(how)) = tokio::time::timeout(EXIT_WAIT, child.exit_if_any()).await
    {
        let how = if how.starts_with("exited") { format!("{how} during the handshake") } else { how };
        return Outcome::Ended(End::failed(how));
    }
    let credentials = match error {
        ClientInitializeError::TransportError { error, .. } => http::wants_credentials(error),
        _ => false,
    };
    Outcome::Ended(End::Failed { reason, slow: credentials })
}

/// Adds what a child process said last to the reason of a failed start: it usually is the reason.
fn with_last_words(server: &Server, outcome: Outcome) -> Outcome {
    match (outcome, server.tail.last()) {
        (Outcome::Ended(End::Failed { reason, slow }), Some(words)) if !reason.contains(&words) => {
            Outcome::Ended(End::Failed { reason: format!("{reason}; last on stderr: {words}"), slow })
        }
        (outcome, _) => outcome,
    }
}

/// Serves an open connection until it is lost or the gateway closes.
async fn serve(
    server: &Arc<Server>,
    running: Running,
    live: &Live,
    child: &mut Child,
    stop: &CancellationToken,
) -> End {
    let ready_at = Instant::now();
    let cancel = running.cancellation_token();
    let mut closed = Box::pin(running.waiting());
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => Loss::Stop,
        how = child.exited() => Loss::Exit(how),
        _ = &mut closed => Loss::Close,
        why = health::watch(server, live) => Loss::Silence(why),
        () = client::follow_changes(server, live) => Loss::Stop,
        () = client::follow_renewals(server, live) => Loss::Stop,
        () = Box::pin(client::subscribe(server, live)) => Loss::Stop,
        () = Box::pin(subscriptions::keep(server, live)) => Loss::Stop,
    };
    let is_closed = match end {
        // What the process wrote before it ended is read to the end first: it may answer a call.
        Loss::Exit(_) => tokio::time::timeout(EXIT_WAIT, &mut closed).await.is_ok(),
        Loss::Close => true,
        Loss::Stop | Loss::Silence(_) => false,
    };
    let how = match end {
        Loss::Stop => None,
        Loss::Exit(how) | Loss::Silence(how) => Some(how),
        Loss::Close => {
            let exited = tokio::time::timeout(EXIT_WAIT, child.exit_if_any()).await;
            Some(exited.ok().flatten().unwrap_or_else(|| "closed the connection".to_owned()))
        }
    };
    match &how {
        Some(how) => {
            tracing::warn!(server = server.name(), "lost: it {how}");
            server.lost(live, how);
        }
        None => server.stopped(Some(live)),
    }
    if !is_closed {
        cancel.cancel();
        let _ = tokio::time::timeout(CLOSE_LIMIT, closed).await;
    }
    match how {
        Some(_) => End::Lost { ready_for: ready_at.elapsed() },
        None => End::Stopped,
    }
}

/// Why an open connection is no longer served.
enum Loss {
    /// The gateway is closing.
    Stop,
    /// The process ended this way.
    Exit(String),
    /// The transport was closed.
    Close,
    /// No sign of life, for this reason.
    Silence(String),
}

async fn close(running: Running) {
    let _ = tokio::time::timeout(CLOSE_LIMIT, running.cancel()).await;
}
