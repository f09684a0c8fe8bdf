//! The HTTP+SSE transport of protocol version 2024-11-05, which rmcp no longer has.
//!
//! A GET opens an event stream. Its first event, `endpoint`, names the address to POST messages to; every message of the
//! server, answers included, comes as a `message` event. The endpoint must be of the same origin as the stream, since it
//! gets the configured credentials. The stream's end is the connection's end: the supervisor opens a new one.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use sse_stream::{Sse, SseByteStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Messages of the server that may wait to be taken; the stream is not read on while they are that many.
const QUEUE: usize = 64;

/// Largest event, in bytes; as large as the one of streamable HTTP.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Time for the server to accept a message (its answer comes on the stream).
const POST_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a connection could not be opened, or a message not be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum LegacySseError {
    /// The request failed.
    #[error("{}", super::http::request_words(.0))]
    Request(#[source] reqwest::Error),
    /// The server answered with an error status.
    #[error("the server answered HTTP {0}")]
    Status(u16),
    /// The address gives no event stream.
    #[error("the answer is no event stream; a streamable HTTP server needs `\"type\": \"http\"`")]
    NoStream,
    /// The stream ended or broke before it named its endpoint.
    #[error("the event stream ended before it named its endpoint")]
    NoEndpoint,
    /// The endpoint is not an address of the same origin.
    #[error(
        "the server names an endpoint of another origin, which would get the configured headers; refused"
    )]
    ForeignEndpoint,
    /// The address in the configuration is not usable.
    #[error("url is not a usable address")]
    Url,
}

/// An open connection.
pub(super) struct LegacySse {
    client: reqwest::Client,
    endpoint: Url,
    incoming: mpsc::Receiver<RxJsonRpcMessage<RoleClient>>,
    reader: AbortOnDropHandle<()>,
}

impl LegacySse {
    /// Opens the stream at `url` and waits for its endpoint. `server` is for the log. The caller limits the time.
    ///
    /// # Errors
    /// [`LegacySseError`].
    pub(super) async fn connect(
        client: reqwest::Client,
        url: &str,
        server: &str,
    ) -> Result<Self, LegacySseError> {
        let base = Url::parse(url).map_err(|_| LegacySseError::Url)?;
        let request = client.get(base.clone()).header(ACCEPT, "text/event-stream");
        let response = request.send().await.map_err(LegacySseError::Request)?;
        if !response.status().is_success() {
            return Err(LegacySseError::Status(response.status().as_u16()));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Err(LegacySseError::NoStream);
        }
        let mut events = Box::pin(SseByteStream::new(bounded(response.bytes_stream())));
        let endpoint = loop {
            match events.next().await {
                Some(Ok(Sse { event: Some(event), data: Some(data), .. })) if event == "endpoint" => {
                    break resolve(&base, &data)?;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(LegacySseError::NoEndpoint),
            }
        };
        let (sender, incoming) = mpsc::channel(QUEUE);
        let reader = AbortOnDropHandle::new(tokio::spawn(read(events, sender, server.to_owned())));
        Ok(Self { client, endpoint, incoming, reader })
    }
}

impl Transport<RoleClient> for LegacySse {
    type Error = LegacySseError;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let request = self.client.post(self.endpoint.clone()).timeout(POST_TIMEOUT).json(&message);
        async move {
            let response = request.send().await.map_err(LegacySseError::Request)?;
            if response.status().is_success() {
                Ok(())
            } else {
                Err(LegacySseError::Status(response.status().as_u16()))
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        self.incoming.recv().await
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.reader.abort();
        self.incoming.close();
        Ok(())
    }
}

/// Hands the messages of a stream on until it ends or nobody takes them.
async fn read(
    mut events: impl Stream<Item = Result<Sse, sse_stream::Error>> + Unpin,
    sender: mpsc::Sender<RxJsonRpcMessage<RoleClient>>,
    server: String,
) {
    while let Some(event) = events.next().await {
        let Sse { event, data: Some(data), .. } = (match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(server, "the event stream broke: {error}");
                return;
            }
        }) else {
            continue;
        };
        // An event without a name is a `message`.
        if event.is_some_and(|event| !event.is_empty() && event != "message") {
            continue;
        }
        match serde_json::from_str(&data) {
            Ok(message) => {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(server, "left out an event that is no message: {error}"),
        }
    }
}

/// The address to post to: `endpoint` as the server gave it, seen from the stream's address.
fn resolve(stream: &Url, endpoint: &str) -> Result<Url, LegacySseError> {
    let endpoint = stream.join(endpoint.trim()).map_err(|_| LegacySseError::ForeignEndpoint)?;
    if endpoint.origin() == stream.origin() { Ok(endpoint) } else { Err(LegacySseError::ForeignEndpoint) }
}

/// `stream`, cut off with an error where a single event grows beyond [`MAX_EVENT_BYTES`]: the parser would buffer it all.
fn bounded(stream: impl Stream<Item = reqwest::Result<Bytes>>) -> impl Stream<Item = std::io::Result<Bytes>> {
    let mut size = 0usize;
    let mut line_is_empty = true;
    stream.map(move |chunk| {
        let chunk = chunk.map_err(std::io::Error::other)?;
        for byte in &chunk {
            size += 1;
            match byte {
                b'\n' if line_is_empty => size = 0,
                b'\n' => line_is_empty = true,
                b'\r' => {}
                _ => line_is_empty = false,
            }
            if size > MAX_EVENT_BYTES {
                return Err(std::io::Error::other(format!(
                    "an event is larger than {MAX_EVENT_BYTES} bytes"
                )));
            }
        }
        Ok(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_resolved_against_the_stream() {
        let stream = Url::parse("https://example.com:8443/mcp/sse?tenant=1").unwrap();
        let resolved = |endpoint: &str| resolve(&stream, endpoint).map(String::from).ok();
        assert_eq!(
            resolved("/messages?sessionId=1").as_deref(),
            Some("https://example.com:8443/messages?sessionId=1")
        );
        assert_eq!(resolved("messages").as_deref(), Some("https://example.com:8443/mcp/messages"));
        assert_eq!(resolved("?sessionId=2").as_deref(), Some("https://example.com:8443/mcp/sse?sessionId=2"));
        assert_eq!(resolved("https://example.com:8443/m").as_deref(), Some("https://example.com:8443/m"));
        for foreign in
            ["https://example.com/m", "http://example.com:8443/m", "//evil.example/m", "file:///etc/passwd"]
        {
            assert_eq!(resolved(foreign), None, "{foreign}");
        }
    }

    #[tokio::test]
    async fn an_endless_event_is_cut_off_and_many_small_ones_are_not() {
        let small = vec![Bytes::from_static(b"data: x\r\n\r\n"); 1_000];
        let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
        let events = futures_util::stream::iter(small.into_iter().chain(vec![chunk; 17]).map(Ok));
        let seen: Vec<_> = bounded(events).collect().await;
        assert_eq!(seen.iter().take_while(|chunk| chunk.is_ok()).count(), 1_000 + 16);
        assert!(seen[1_016].is_err());
    }
}
