//! A small client of a running gateway: the simple chat API, streamed, and the list of models.
//!
//! It speaks plain HTTP like any other client, also to a gateway in the same process, so that `witgate chat` exercises
//! what everyone else uses. Dropping a [`Reply`] closes the connection, which is how an answer is interrupted.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures_util::{Stream, StreamExt};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, Response, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use sse_stream::SseByteStream;

use crate::config::secret::Secret;

/// Longest time to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest silence in an answer. A turn with slow tools may say nothing for as long as `chat.turn_timeout_ms`, whose
/// default this is, and then some.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(660);

/// Longest time for a question that needs no model.
const SHORT_TIMEOUT: Duration = Duration::from_secs(20);

/// Most bytes read of a body that only explains an error.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// A gateway somewhere.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<Secret>,
}

/// A message for the gateway.
#[derive(Clone, Debug, Default)]
pub(super) struct Message<'a> {
    /// The user's words.
    pub(super) text: &'a str,
    /// The session to go on with.
    pub(super) session: Option<&'a str>,
    /// The model; `None` means the gateway's default.
    pub(super) model: Option<&'a str>,
}

/// What happens in an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ReplyEvent {
    /// More text.
    Delta(String),
    /// A tool starts.
    ToolCall {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// JSON text.
        arguments: String,
    },
    /// A tool has answered.
    ToolResult {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// It failed.
        is_error: bool,
        /// Its text.
        content: String,
    },
    /// The answer is complete.
    Done {
        /// The whole text.
        response: String,
        /// The session for the next message.
        session: String,
    },
}

/// The events of an answer; ends after `Done` or an error.
pub(super) type Reply = Pin<Box<dyn Stream<Item = anyhow::Result<ReplyEvent>> + Send>>;

impl Client {
    /// A client of the gateway at `url`. `key` goes with every request.
    ///
    /// # Errors
    /// When the address is not an http or https URL, or the key cannot be sent in a header.
    pub(super) fn new(url: &str, key: Option<Secret>) -> anyhow::Result<Self> {
        install_tls_provider();
        let base = parse_url(url)?;
        if let Some(key) = &key {
            authorization(key)?;
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            // A redirected POST would arrive as a GET without its body.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("witgate/", env!("CARGO_PKG_VERSION")));
        // A proxy cannot reach this machine's own loopback.
        let http = if is_loopback(base.host_str().unwrap_or_default()) { http.no_proxy() } else { http };
        Ok(Self { http: http.build().context("cannot set up HTTP")?, base, key })
    }

    /// True when a key would travel unencrypted to another machine.
    pub(super) fn exposes_key(&self) -> bool {
        self.key.is_some()
            && self.base.scheme() == "http"
            && !is_loopback(self.base.host_str().unwrap_or_default())
    }

    /// Sends a message and returns its answer as it is written.
    ///
    /// # Errors
    /// When the gateway cannot be reached or refuses the message, in its own words.
    pub(super) async fn send(&self, message: &Message<'_>) -> anyhow::Result<Reply> {
        let mut body = json!({ "message": message.text, "stream": true });
        let optional = [("session_id", message.session), ("model", message.model)];
        for (field, value) in optional.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            body[field] = Value::from(value);
        }
        let request = self.http.post(self.at("chat")).header("content-type", "application/json");
        let response = self.ask(request.body(body.to_string())).await?;
        Ok(events(SseByteStream::new(response.bytes_stream())))
    }

    /// The ids of all models.
    ///
    /// # Errors
    /// When the gateway cannot be reached or answers something else.
    pub(super) async fn models(&self) -> anyhow::Result<Vec<String>> {
        let body = self.get("v1/models").await?;
        let ids = body["data"]
            .as_array()
            .ok_or_else(|| anyhow!("{} is not a list of models", self.at("v1/models")))?;
        Ok(ids.iter().filter_map(|model| model["id"].as_str().map(str::to_owned)).collect())
    }

    /// The gateway's version.
    ///
    /// # Errors
    /// When nobody is there, or something that is no gateway.
    pub(super) async fn version(&self) -> anyhow::Result<String> {
        let body = self.get("").await?;
        let version = body["version"].as_str().filter(|_| body["name"] == env!("CARGO_PKG_NAME"));
        version.map(str::to_owned).ok_or_else(|| anyhow!("{} is not a gateway", self.base))
    }

    /// The MCP servers with their state and number of tools, a line each.
    ///
    /// # Errors
    /// When the gateway cannot be reached or is not ready at all.
    pub(super) async fn servers(&self) -> anyhow::Result<Vec<String>> {
        let body = self.get("readyz").await?;
        let servers = body["components"]["mcp_servers"]["servers"].as_array();
        let line = |server: &Value| {
            let word = |field: &str| server[field].as_str().unwrap_or("?").to_owned();
            format!("{}: {}, {} tools", word("name"), word("state"), server["tools"])
        };
        Ok(servers.into_iter().flatten().map(line).collect())
    }

    /// How many messages the session `id` has.
    ///
    /// # Errors
    /// When there is no such session, or the gateway cannot be reached.
    pub(super) async fn session_length(&self, id: &str) -> anyhow::Result<usize> {
        let body = self.get(&format!("chat/sessions/{id}")).await?;
        Ok(body["messages"].as_array().map_or(0, Vec::len))
    }

    /// Its plugins, as it tells of them.
    ///
    /// # Errors
    /// When the gateway does not answer, or has no such list.
    pub(super) async fn plugins(&self) -> anyhow::Result<Vec<Value>> {
        let mut body = self.get("api/v1/plugins").await?;
        match body["plugins"].take() {
            Value::Array(plugins) => Ok(plugins),
            _ => bail!("{} did not answer with its plugins; is it an older gateway?", self.base),
        }
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let asked = async {
            let response = self.ask(self.http.get(self.at(path))).await?;
            let body = response.bytes().await.context("the answer broke off")?;
            serde_json::from_slice(&body)
                .with_context(|| format!("{} did not answer JSON; is it a gateway?", self.at(path)))
        };
        let limit = SHORT_TIMEOUT.as_secs();
        let late = || anyhow!("no answer from {} within {limit} s", self.base);
        tokio::time::timeout(SHORT_TIMEOUT, asked).await.map_err(|_| late())?
    }

    async fn ask(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = match &self.key {
            Some(key) => request.header(AUTHORIZATION, authorization(key)?),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let base = self.base.as_str().trim_end_matches('/');
        if error.is_connect() {
            return anyhow!("cannot connect to {base}: {}; is the gateway running?", innermost(error));
        }
        anyhow!("the connection to {base} failed: {}", innermost(error))
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        url
    }
}

fn parse_url(url: &str) -> anyhow::Result<Url> {
    let parsed = Url::parse(url).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    let mut base = parsed.ok_or_else(|| {
        anyhow!("`{url}` is not the address of a gateway; an example is http://localhost:8000")
    })?;
    if !base.username().is_empty() || base.password().is_some() {
        bail!(
            "the address of a gateway has no user name or password in it; name the key's variable with --key-env"
        );
    }
    base.set_query(None);
    base.set_fragment(None);
    Ok(base)
}

/// The TLS of outgoing connections. Fails only when a provider is there already, which is as good.
pub(super) fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// True for names and addresses that only this machine can reach.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn authorization(key: &Secret) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))
        .map_err(|_| anyhow!("the gateway's key has characters that cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// What a response that is no success says.
async fn refusal(mut response: Response) -> anyhow::Error {
    let status = response.status();
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(bytes)) = response.chunk().await {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_ERROR_BYTES {
                break;
            }
        }
    };
    // Whatever has arrived by then has to do.
    let _ = tokio::time::timeout(SHORT_TIMEOUT, read).await;
    let words = serde_json::from_slice::<Value>(&body).ok().and_then(|body| {
        let words = body["detail"].as_str().or_else(|| body["error"]["message"].as_str());
        words.map(str::to_owned)
    });
    match (words, status.as_u16()) {
        (Some(words), 401) => {
            anyhow!("{words} ({status}); put the gateway's key into a variable and name it with --key-env")
        }
        (Some(words), _) => anyhow!("{words} ({status})"),
        (None, _) => anyhow!("the answer was {status} without an explanation; is this a gateway?"),
    }
}

#[derive(Deserialize)]
struct WireDelta {
    text: String,
}

#[derive(Deserialize)]
struct WireToolCall {
    id: String,
    name: String,
    arguments: Value,
}

#[derive(Deserialize)]
struct WireToolResult {
    id: String,
    name: String,
    #[serde(default)]
    is_error: bool,
    #[serde(default)]
    content: Value,
}

#[derive(Deserialize)]
struct WireDone {
    response: String,
    session_id: String,
}

#[derive(Deserialize)]
struct WireError {
    detail: String,
}

fn events<S>(stream: S) -> Reply
where
    S: Stream<Item = Result<sse_stream::Sse, sse_stream::Error>> + Send + 'static,
{
    let parsed = stream.filter_map(async |event| match event {
        Ok(event) => parse_event(event.event.as_deref().unwrap_or_default(), &event.data?).transpose(),
        Err(error) => Some(Err(anyhow!("the answer broke off: {}", innermost(&error)))),
    });
    let broken =
        futures_util::stream::once(async { Err(anyhow!("the answer broke off before it was complete")) });
    // The first `Done` or error is the last event; an end without either is an error of its own.
    let ended = parsed.chain(broken).scan(false, |over, event| {
        let last = !matches!(event, Ok(ref event) if !matches!(event, ReplyEvent::Done { .. }));
        let item = (!*over).then_some(event);
        *over |= last;
        std::future::ready(item)
    });
    Box::pin(ended)
}

/// The event `name` with its JSON; `None` for events this client does not know, which newer gateways may send.
fn parse_event(name: &str, data: &str) -> anyhow::Result<Option<ReplyEvent>> {
    let unreadable = || format!("the gateway sent a `{name}` event that this client does not understand");
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Array(blocks) => block_texts(&blocks),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    Ok(Some(match name {
        "delta" => ReplyEvent::Delta(serde_json::from_str::<WireDelta>(data).with_context(unreadable)?.text),
        "tool_call" => {
            let call: WireToolCall = serde_json::from_str(data).with_context(unreadable)?;
            ReplyEvent::ToolCall { id: call.id, name: call.name, arguments: text(call.arguments) }
        }
        "tool_result" => {
            let result: WireToolResult = serde_json::from_str(data).with_context(unreadable)?;
            let WireToolResult { id, name, is_error, content } = result;
            ReplyEvent::ToolResult { id, name, is_error, content: text(content) }
        }
        "done" => {
            let done: WireDone = serde_json::from_str(data).with_context(unreadable)?;
            ReplyEvent::Done { response: done.response, session: done.session_id }
        }
        "error" => bail!(serde_json::from_str::<WireError>(data).with_context(unreadable)?.detail),
        _ => return Ok(None),
    }))
}

/// The text of MCP content blocks; blocks without one are named in brackets.
fn block_texts(blocks: &[Value]) -> String {
    let text = |block: &Value| match (block["text"].as_str(), block["type"].as_str()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(kind)) => format!("[{kind}]"),
        (None, None) => block.to_string(),
    };
    blocks.iter().map(text).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
