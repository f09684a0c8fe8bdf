//! An upstream that speaks the OpenAI chat completions protocol over HTTP: one try of one request.
//!
//! Promises: every wait ends, every body is bounded, dropping a future or stream drops the request, and the key goes to
//! the configured address only (redirects are not followed). Trying again is `retry`'s business.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use tokio::time::timeout;

use self::client::Redactor;
use self::stream::Events;
use super::retry::{Failure, Health};
use super::{ChunkStream, Config, ConfigError, ModelInfo, ToolMode, UpstreamConfig};
use crate::config::secret::Secret;
use crate::domain::{Completion, RequestId};

mod client;
mod convert;
mod models;
mod stream;
mod wire;

pub(super) use self::client::http_client;

/// One configured upstream.
pub(super) struct OpenAiUpstream {
    name: Arc<str>,
    tool_mode: ToolMode,
    /// The address for people: no query, no credentials.
    address: String,
    chat_url: Url,
    models_url: Url,
    headers: HeaderMap,
    redactor: Arc<Redactor>,
    client: Client,
    first_byte_timeout: Duration,
    idle_timeout: Duration,
    max_response_bytes: usize,
    health: Health,
}

impl fmt::Debug for OpenAiUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiUpstream")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl OpenAiUpstream {
    /// An upstream as configured, with the key its variable holds.
    pub(super) fn new(
        config: &UpstreamConfig,
        defaults: &Config,
        key: Option<&Secret>,
        client: Client,
    ) -> Result<Self, ConfigError> {
        let fault = |problem: String| ConfigError(format!("llm.upstreams `{}`: {problem}", config.name));
        let base = client::base_url(&config.base_url).map_err(fault)?;
        let below = |path: &[&str]| {
            let mut url = base.clone();
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().extend(path);
            }
            url
        };
        let address = format!("{}{}", base.origin().ascii_serialization(), base.path().trim_end_matches('/'));
        Ok(Self {
            name: config.name.as_str().into(),
            tool_mode: config.tool_mode,
            address,
            chat_url: below(&["chat", "completions"]),
            models_url: below(&["models"]),
            headers: client::headers(config, key).map_err(fault)?,
            redactor: Arc::new(Redactor::new(config, key)),
            client,
            first_byte_timeout: Duration::from_millis(
                config.first_byte_timeout_ms.unwrap_or(defaults.first_byte_timeout_ms),
            ),
            idle_timeout: Duration::from_millis(config.idle_timeout_ms.unwrap_or(defaults.idle_timeout_ms)),
            max_response_bytes: defaults.max_response_bytes,
            health: Health::new(defaults.retry_budget),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The base address, without query and credentials.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn tool_mode(&self) -> ToolMode {
        self.tool_mode
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// The whole reply to the encoded request `body`.
    pub(super) async fn complete(&self, body: Bytes, request_id: &RequestId) -> Result<Completion, Failure> {
        let response = self.send(body, "application/json", request_id).await?;
        let media_type = media_type(&response);
        if media_type == "text/event-stream" {
            let mut events = self.events(response);
            let mut chunks = Vec::new();
            let mut bytes = 0;
            let mut wait = self.first_byte_timeout;
            while let Some(chunk) = events.next(wait).await? {
                wait = self.idle_timeout;
                bytes += chunk.raw.len();
                if bytes > self.max_response_bytes {
                    return Err(self.too_large());
                }
                chunks.push(chunk);
            }
            return convert::fold(&chunks).map_err(|_| wire::garbage(&self.name, &media_type, b""));
        }
        let body = self.read_body(response, self.first_byte_timeout).await?;
        self.completion(&media_type, &body)
    }

    /// The reply to the encoded request `body`, chunk by chunk; returns when the first chunk is here.
    pub(super) async fn stream(
        &self,
        body: Bytes,
        include_usage: bool,
        request_id: &RequestId,
    ) -> Result<ChunkStream, Failure> {
        let response = self.send(body, "text/event-stream", request_id).await?;
        let media_type = media_type(&response);
        match media_type.as_str() {
            "application/json" => {
                let body = self.read_body(response, self.first_byte_timeout).await?;
                let completion = self.completion(&media_type, &body)?;
                let chunks = convert::chunks_of(&completion.raw, include_usage)
                    .map_err(|_| wire::garbage(&self.name, &media_type, &completion.raw))?;
                Ok(Box::pin(futures_util::stream::iter(chunks.into_iter().map(Ok))))
            }
            // Small servers send no type, or the one their library makes up.
            "text/event-stream" | "text/plain" | "application/octet-stream" | "" => {
                self.events(response).start(self.first_byte_timeout, self.idle_timeout).await
            }
            _ => {
                let body = self.read_body(response, self.idle_timeout).await.unwrap_or_default();
                Err(wire::garbage(&self.name, &media_type, &self.redactor.clean(&body)))
            }
        }
    }

    /// The models the upstream lists; `Ok(None)` when it has no such list.
    pub(super) async fn list_models(&self, wait: Duration) -> Result<Option<Vec<ModelInfo>>, Failure> {
        let fetch = async {
            let request = self
                .client
                .get(self.models_url.clone())
                .headers(self.headers.clone())
                .build()
                .map_err(|e| self.transport(&e))?;
            let response = self.client.execute(request).await.map_err(|e| self.transport(&e))?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = self.read_body(response, wait).await?;
            match status.as_u16() {
                200 => models::parse(&self.name, &self.redactor.clean(&body)).map(Some),
                404 | 405 | 501 => Ok(None),
                _ => Err(wire::failure(&self.name, status.as_u16(), &headers, &self.redactor.clean(&body))),
            }
        };
        timeout(wait, fetch)
            .await
            .unwrap_or_else(|_| Err(wire::timed_out(&self.name, "its list of models", wait)))
    }

    /// Sends the request and waits for a success status.
    async fn send(
        &self,
        body: Bytes,
        accept: &'static str,
        request_id: &RequestId,
    ) -> Result<Response, Failure> {
        let mut headers = self.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        let sent = self.client.post(self.chat_url.clone()).headers(headers).body(body).send();
        let response = timeout(self.first_byte_timeout, sent)
            .await
            .map_err(|_| wire::timed_out(&self.name, "the beginning of an answer", self.first_byte_timeout))?
            .map_err(|error| self.transport(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // The status is what counts: a body that does not come is as good as none.
        let body = self.read_body(response, self.idle_timeout).await.unwrap_or_default();
        let body = self.redactor.clean(&body);
        wire::log_refusal(&self.name, request_id, status, &body);
        Err(wire::failure(&self.name, status, &headers, &body))
    }

    /// The body as a completion, or what it is instead.
    fn completion(&self, media_type: &str, body: &Bytes) -> Result<Completion, Failure> {
        match Completion::parse(body.clone()) {
            Ok(completion) => Ok(completion),
            Err(_) => {
                let body = self.redactor.clean(body);
                Err(match wire::error_in(&body) {
                    Some(error) => wire::reported(&self.name, &error),
                    None => wire::garbage(&self.name, media_type, &body),
                })
            }
        }
    }

    /// The whole body. `first` is the wait for its first part.
    async fn read_body(&self, response: Response, first: Duration) -> Result<Bytes, Failure> {
        let mut parts = response.bytes_stream();
        let mut wait = first;
        let mut whole = Bytes::new();
        let mut joined = BytesMut::new();
        loop {
            let part = timeout(wait, parts.next())
                .await
                .map_err(|_| wire::timed_out(&self.name, "the rest of its answer", wait))?;
            let Some(part) = part else { break };
            let part = part.map_err(|error| self.transport(&error))?;
            wait = self.idle_timeout;
            if whole.len() + joined.len() + part.len() > self.max_response_bytes {
                return Err(self.too_large());
            }
            // Most bodies come in one part, which is then used as it is.
            if whole.is_empty() && joined.is_empty() {
                whole = part;
                continue;
            }
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&part);
        }
        Ok(if joined.is_empty() { whole } else { joined.freeze() })
    }

    fn events(&self, response: Response) -> Events {
        let (name, redactor) = (Arc::clone(&self.name), Arc::clone(&self.redactor));
        Events::new(name, redactor, response.bytes_stream(), self.max_response_bytes)
    }

    fn too_large(&self) -> Failure {
        wire::too_large(&self.name, self.max_response_bytes)
    }

    fn transport(&self, error: &reqwest::Error) -> Failure {
        let cause =
            std::iter::successors(error.source(), |cause: &&dyn std::error::Error| (*cause).source()).last();
        let cause = cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string);
        if error.is_connect() {
            wire::unreachable(&self.name, &self.address, &cause, error.is_timeout())
        } else {
            wire::broken(&self.name, &cause)
        }
    }
}

/// The media type of a response in lower case, without parameters; empty when there is none.
fn media_type(response: &Response) -> String {
    let value =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
