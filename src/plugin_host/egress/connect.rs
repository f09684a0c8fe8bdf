//! Connections to addresses that were admitted, plain or over TLS. Nothing here looks up a name, and no proxy of the
//! environment is used: the proxy would resolve the name once more.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

use super::target::{Host, Scheme, Target};

/// The one protocol that is offered.
const ALPN: &[u8] = b"http/1.1";

/// A connection of either kind.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The TLS client, set up when the first plugin needs it: the system's certificates take a while to read.
#[derive(Debug, Default)]
pub(super) struct Tls(OnceCell<Arc<ClientConfig>>);

impl Tls {
    #[cfg(test)]
    pub(super) fn with(config: ClientConfig) -> Self {
        Self(OnceCell::new_with(Some(Arc::new(config))))
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let read = || async {
            let set_up = tokio::task::spawn_blocking(system_tls).await.map_err(|error| error.to_string());
            set_up.and_then(|config| config.map_err(|error| error.to_string())).map(Arc::new)
        };
        self.0.get_or_try_init(read).await.cloned().map_err(|problem| {
            tracing::warn!("plugins cannot reach anything over https: {problem}");
            Error::ConfigurationError
        })
    }
}

/// TLS with the system's certificate authorities.
fn system_tls() -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Connects to the first of `addresses` that answers; all tries together take `wait` at most.
pub(super) async fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    wait: Duration,
    tls: &Tls,
) -> Result<Box<dyn Connection>, Error> {
    let connected = async {
        let stream = tcp(addresses, wait).await.map_err(|error| tcp_error(&error))?;
        // Small requests should not wait for each other; without it all still works.
        let _ = stream.set_nodelay(true);
        match target.scheme {
            Scheme::Http => Ok(Box::new(stream) as Box<dyn Connection>),
            Scheme::Https => {
                let connector = TlsConnector::from(tls.config().await?);
                let name = server_name(&target.host)?;
                let stream = connector.connect(name, stream).await.map_err(|error| tls_error(&error))?;
                Ok(Box::new(stream) as Box<dyn Connection>)
            }
        }
    };
    timeout(wait, connected).await.unwrap_or(Err(Error::ConnectionTimeout))
}

/// An address that does not answer leaves time for those after it.
async fn tcp(addresses: &[SocketAddr], wait: Duration) -> io::Result<TcpStream> {
    let each = wait / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// The certificate must be for what the guest asked for, not for the address it was resolved to.
fn server_name(host: &Host) -> Result<ServerName<'static>, Error> {
    match host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Error::HttpRequestUriInvalid),
        Host::Address(address) => Ok(ServerName::from(*address)),
    }
}

fn tcp_error(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Error::ConnectionTerminated,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        _ => Error::DestinationUnavailable,
    }
}

fn tls_error(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: None }
        }
        Some(_) => Error::TlsProtocolError,
        None => tcp_error(error),
    }
}
