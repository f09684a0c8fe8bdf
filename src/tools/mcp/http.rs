//! HTTP for both remote transports: the client with the configured headers, streamable HTTP itself, and its errors in words.
//!
//! Headers of the configuration go to the configured origin only: a redirect elsewhere is not followed. Error texts never
//! hold an address, whose query may be a credential.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect;
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig, StreamableHttpError,
};

use super::client::Signals;
use super::legacy_sse::LegacySseError;
use super::session_client::SessionClient;
use crate::config::secret::Secret;
use crate::domain::ToolErrorKind;

/// Time to connect. Answers have no limit here: a tool may take its time, and event streams never end.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections are dropped before common servers drop them (Node.js: 5 s), or a request would meet one just closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// TCP keep-alive, so that a host that vanished is noticed below an idle event stream.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Longest chain of redirects within one origin.
const MAX_REDIRECTS: usize = 5;

/// Requests to one server at the same time; a call that holds its stream open does not count.
const MAX_CONCURRENT_REQUESTS: usize = 64;

/// Longest text of a server quoted in an error, in bytes.
const MAX_QUOTE_BYTES: usize = 300;

/// An HTTP client that sends `headers` with every request.
///
/// # Errors
/// A sentence when a header or the TLS setup is unusable.
pub(super) fn client(headers: &[(String, Secret)]) -> Result<reqwest::Client, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been faster; then its provider is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let parsed = (HeaderName::try_from(name), HeaderValue::try_from(value.expose()));
        let (Ok(header), Ok(mut value)) = parsed else {
            return Err(format!("headers.{name} has characters that HTTP does not allow"));
        };
        value.set_sensitive(true);
        map.append(header, value);
    }
    reqwest::Client::builder()
        .default_headers(map)
        .user_agent(concat!("witgate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEP_ALIVE)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(redirect::Policy::custom(same_origin))
        .build()
        .map_err(|error| format!("the HTTP client cannot be set up: {}", request_words(&error)))
}

/// Follows a redirect within the origin that keeps method and body; any other is the answer itself, an error.
fn same_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let keeps_body = matches!(attempt.status().as_u16(), 307 | 308);
    let stays = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
    if keeps_body && stays && attempt.previous().len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// The streamable HTTP transport to `url`. An expired session (404) is opened anew by it and the request sent once more,
/// which is safe: a server that does not know the session has executed nothing. `signals` learns of it.
pub(super) fn streamable(
    client: reqwest::Client,
    url: &str,
    signals: Arc<Signals>,
) -> StreamableHttpClientTransport<SessionClient> {
    let config = StreamableHttpClientTransportConfig::with_uri(url)
        .max_concurrent_requests(MAX_CONCURRENT_REQUESTS)
        .reinit_on_expired_session(true);
    StreamableHttpClientTransport::with_client(SessionClient { client, signals }, config)
}

/// Whether a request that a transport could not carry may have reached the server.
pub(super) fn sent(error: &DynamicTransportError) -> ToolErrorKind {
    let not_sent = if let Some(error) = streamable_error(error) {
        match error {
            StreamableHttpError::Client(error) => error.is_connect(),
            StreamableHttpError::SessionExpired => true,
            _ => false,
        }
    } else if let Some(error) = error.error.downcast_ref::<LegacySseError>() {
        matches!(error, LegacySseError::Request(error) if error.is_connect())
    } else {
        // A pipe: a message that was not written to its end lacks its newline, so no server has acted on it.
        error.error.is::<std::io::Error>()
    };
    if not_sent { ToolErrorKind::NotSent } else { ToolErrorKind::Failed }
}

/// True for an answer that turns a request down for its form: a client error that is neither about credentials nor rate.
pub(super) fn is_refusal(error: &DynamicTransportError) -> bool {
    status(error).is_some_and(|status| (400..500).contains(&status) && !matches!(status, 401 | 403 | 429))
}

/// True when trying again soon is useless: the server wants credentials.
pub(super) fn wants_credentials(error: &DynamicTransportError) -> bool {
    let challenged = streamable_error(error).is_some_and(|error| {
        matches!(error, StreamableHttpError::AuthRequired(_) | StreamableHttpError::InsufficientScope(_))
    });
    challenged || matches!(status(error), Some(401 | 403))
}

/// A transport's error in one line.
pub(super) fn sentence(error: &DynamicTransportError) -> String {
    let mut text = match streamable_error(error) {
        Some(_) if wants_credentials(error) => {
            "the server wants credentials (HTTP 401 or 403); set them under `headers`".to_owned()
        }
        Some(StreamableHttpError::Client(error)) => request_words(error),
        Some(error) => error.to_string(),
        None => error.error.to_string(),
    };
    if text.len() > MAX_QUOTE_BYTES {
        text.truncate(text.floor_char_boundary(MAX_QUOTE_BYTES));
        text.push('…');
    }
    text
}

/// What became of a request, without its address.
pub(super) fn request_words(error: &reqwest::Error) -> String {
    let what = if error.is_connect() {
        "cannot connect"
    } else if error.is_timeout() {
        "timed out"
    } else if error.is_redirect() {
        "redirected too often"
    } else {
        "the request failed"
    };
    let mut deepest = error.source();
    while let Some(next) = deepest.and_then(std::error::Error::source) {
        deepest = Some(next);
    }
    deepest.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}

fn streamable_error(error: &DynamicTransportError) -> Option<&StreamableHttpError<reqwest::Error>> {
    error.error.downcast_ref()
}

/// The HTTP status a transport's error is about. rmcp has it in words only for client errors.
fn status(error: &DynamicTransportError) -> Option<u16> {
    match streamable_error(error)? {
        StreamableHttpError::Client(error) => error.status().map(|status| status.as_u16()),
        StreamableHttpError::HttpStatus(error) => Some(error.status),
        StreamableHttpError::UnexpectedServerResponse(text) => {
            text.strip_prefix("HTTP ")?.get(..3)?.parse().ok()
        }
        _ => None,
    }
}
