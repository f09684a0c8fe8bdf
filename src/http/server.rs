//! The listener: accepts connections within limits, serves HTTP/1.1 and HTTP/2 on them, and drains them at the end.
//!
//! It is built on hyper instead of `axum::serve`, which has no limits on slow clients. Promises:
//! - a client that sends its request head too slowly, sends none, or does not read its response is disconnected;
//! - a client that goes away cancels what runs for it, since dropping a connection drops its handlers and bodies;
//! - while draining, the listener stays open and answers 503, so that nobody meets a closed port without a word.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::config::{LimitsConfig, ServerConfig};
use super::router::router;
use super::state::App;
use super::upload::Upload;

/// Pause after a failed accept: out of file descriptors, most likely, which only time cures.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time that finished connections get to send their last bytes when the server stops.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Silent HTTP/2 connections are pinged this often, and closed when the answer takes longer than the timeout.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests at the same time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// The least buffer hyper takes.
const SMALLEST_BUFFER: usize = 8192;

/// A bound listener that is not serving yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why the gateway cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Someone else listens there.
    #[error(
        "cannot listen on {address}: the port is taken by another program (or another witgate); stop it, or choose \
         another port with --port, PORT or server.port (0 takes a free one)"
    )]
    Taken {
        /// Where.
        address: String,
    },
    /// Ports below 1024 often need privileges.
    #[error(
        "cannot listen on {address}: no permission; choose a port above 1023 with --port, PORT or server.port"
    )]
    Forbidden {
        /// Where.
        address: String,
    },
    /// Anything else, such as a host name that does not exist.
    #[error(
        "cannot listen on {address}: {source}; check server.host (HOST, --host) and server.port (PORT, --port)"
    )]
    Other {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
}

impl Server {
    /// Takes the address of `config`.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(config: &ServerConfig) -> Result<Self, BindError> {
        let host = config.host.trim_start_matches('[').trim_end_matches(']');
        let bound = TcpListener::bind((host, config.port)).await;
        let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| {
            let address = format!("{}:{}", config.host, config.port);
            match source.kind() {
                io::ErrorKind::AddrInUse => BindError::Taken { address },
                io::ErrorKind::PermissionDenied => BindError::Forbidden { address },
                _ => BindError::Other { address, source },
            }
        })?;
        Ok(Self { listener, address })
    }

    /// The real address, also for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the API over `app` until `shutdown` is ready, then drains: new requests get 503, running ones are given
    /// `server.drain_timeout_ms` to finish, and every connection is closed before this returns.
    pub async fn serve(self, app: App, shutdown: impl Future<Output = ()>) {
        let connections = Arc::new(Connections::new(&app));
        let drain = async {
            shutdown.await;
            app.start_draining();
            let limit = app.server().drain_timeout();
            tracing::info!(
                in_flight = app.running(),
                "stopping: running requests get {} ms",
                limit.as_millis()
            );
            if !app.idle(limit).await {
                tracing::warn!(in_flight = app.running(), "stopping although requests are still running");
            }
        };
        tokio::select! {
            () = drain => {}
            () = accept_all(self.listener, &connections) => {}
        }
        connections.close().await;
    }
}

/// Accepts for ever. Once all places are taken, further clients wait in the operating system's queue.
async fn accept_all(listener: TcpListener, connections: &Arc<Connections>) {
    loop {
        let Ok(place) = Arc::clone(&connections.places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let owner = Arc::clone(connections);
                connections.tasks.spawn(async move {
                    owner.serve(stream, peer).await;
                    drop(place);
                });
            }
            // The client was gone before it was accepted.
            Err(error) if is_clients_fault(&error) => {}
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted; is the limit of open files too low?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What all connections share; owns their tasks.
struct Connections {
    builder: Builder<TokioExecutor>,
    router: Router,
    places: Arc<Semaphore>,
    /// How long a connection may make no progress.
    patience: Duration,
    tasks: TaskTracker,
    closing: CancellationToken,
    kill: CancellationToken,
}

impl Connections {
    fn new(app: &App) -> Self {
        let limits = app.limits();
        Self {
            builder: builder(limits),
            router: router(app),
            places: Arc::new(Semaphore::new(limits.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            // Streams show life at every keep-alive comment; a healthy one must not look stuck.
            patience: limits.header_timeout().max(app.server().keep_alive() * 3),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            kill: CancellationToken::new(),
        }
    }

    /// Lets connections finish their last response, then cuts those that do not.
    async fn close(&self) {
        self.tasks.close();
        self.closing.cancel();
        if tokio::time::timeout(CLOSE_GRACE, self.tasks.wait()).await.is_err() {
            self.kill.cancel();
            self.tasks.wait().await;
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr) {
        // Events are small and must not wait for each other.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
        }
        let activity = Arc::new(Activity::default());
        let service = service_fn(|request| {
            let request = Upload::of(request, &self.tasks);
            answer(self.router.clone(), request, peer, Arc::clone(&activity))
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        let mut check = pin!(tokio::time::sleep(self.patience));
        let mut seen = 0;
        let mut closing = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%peer, error, "a connection ended early");
                    }
                    return;
                }
                () = self.kill.cancelled() => return,
                () = self.closing.cancelled(), if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = check.as_mut() => {
                    match activity.check(&mut seen) {
                        State::Active => {}
                        State::Idle if !closing => {
                            closing = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        State::Idle | State::Stuck => {
                            tracing::debug!(%peer, "a connection made no progress and is closed");
                            return;
                        }
                    }
                    check.as_mut().reset(Instant::now() + self.patience);
                }
            }
        }
    }
}

fn builder(limits: &LimitsConfig) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout())
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_header_bytes.max(SMALLEST_BUFFER));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX));
    builder
}

async fn answer(
    mut router: Router,
    mut request: hyper::Request<Upload>,
    peer: SocketAddr,
    activity: Arc<Activity>,
) -> Result<hyper::Response<ActiveBody>, Infallible> {
    activity.progress.fetch_add(1, Ordering::Relaxed);
    request.extensions_mut().insert(ConnectInfo(peer));
    let busy = Count::enter(&activity, |a| &a.handlers);
    let response = router.call(request).await?;
    drop(busy);
    let sending = Count::enter(&activity, |a| &a.bodies);
    Ok(response.map(|inner| ActiveBody { inner, activity, _sending: sending }))
}

/// What happens on one connection, to tell a busy one from one that is idle or stuck.
#[derive(Default)]
struct Activity {
    /// Grows with every request and every look at a response body.
    progress: AtomicU64,
    /// Requests that have no response yet: those take the time they take.
    handlers: AtomicUsize,
    /// Response bodies being sent.
    bodies: AtomicUsize,
}

enum State {
    Active,
    Idle,
    /// A response is waiting to be read by a client that does not.
    Stuck,
}

impl Activity {
    /// Compares with the progress `seen` at the last check.
    fn check(&self, seen: &mut u64) -> State {
        let progress = self.progress.load(Ordering::Relaxed);
        if self.handlers.load(Ordering::Relaxed) > 0 || progress != *seen {
            *seen = progress;
            State::Active
        } else if self.bodies.load(Ordering::Relaxed) > 0 {
            State::Stuck
        } else {
            State::Idle
        }
    }
}

/// Counts as long as it lives.
struct Count {
    activity: Arc<Activity>,
    counter: fn(&Activity) -> &AtomicUsize,
}

impl Count {
    fn enter(activity: &Arc<Activity>, counter: fn(&Activity) -> &AtomicUsize) -> Self {
        counter(activity).fetch_add(1, Ordering::Relaxed);
        Self { activity: Arc::clone(activity), counter }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        (self.counter)(&self.activity).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response body whose polls are progress.
struct ActiveBody {
    inner: Body,
    activity: Arc<Activity>,
    _sending: Count,
}

impl HttpBody for ActiveBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.activity.progress.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
