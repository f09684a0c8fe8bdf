//! A client that trusts nothing: whatever the gateway sends is checked before a test sees it.
//!
//! Every answer has a request id, errors have the form of their path, documents under `/v1` fit their schema, and streams
//! keep the rules that SDKs rely on (see [`StreamReply`]).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Once;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::sse::{Dialect, Item, Parser};
use super::{PATIENCE, schema, within};

/// Where chat requests go.
const COMPLETIONS: &str = "/v1/chat/completions";

/// Talks to one gateway.
pub(crate) struct Client {
    http: reqwest::Client,
    address: SocketAddr,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// A request being made.
pub(crate) struct Request {
    path: String,
    builder: reqwest::RequestBuilder,
}

impl Client {
    /// A client of the gateway at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        Self { http: reqwest::Client::builder().no_proxy().build().unwrap(), address }
    }

    /// The gateway's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request of any kind.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        let url = format!("http://{}{path}", self.address);
        let builder = self.http.request(method.parse().unwrap(), url);
        Request { path: path.to_owned(), builder }
    }

    /// A `GET` whose answer is taken as it is.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send().await
    }

    /// A `POST` of JSON whose answer is taken as it is.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path).json(body).send().await
    }

    /// A chat request to be changed before it is sent.
    pub(crate) fn completion(&self, body: &Value) -> Request {
        self.request("POST", COMPLETIONS).json(body)
    }

    /// A whole chat reply.
    pub(crate) async fn complete(&self, body: &Value) -> Value {
        self.post(COMPLETIONS, body).await.expect(200)
    }

    /// A chat reply streamed to its end.
    pub(crate) async fn stream(&self, body: &Value) -> StreamReply {
        self.completion(body).stream().await.collect().await
    }

    /// A chat request that fails with a status; its error object.
    pub(crate) async fn refused(&self, body: &Value, status: u16) -> Value {
        self.post(COMPLETIONS, body).await.expect(status)["error"].take()
    }

    /// A message to the simple chat API, in a session if there is one: the answer and the session's id.
    pub(crate) async fn say(&self, message: &str, session: Option<&str>) -> (String, String) {
        let answer =
            self.post("/chat", &json!({"message": message, "session_id": session})).await.expect(200);
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        (text("response"), text("session_id"))
    }
}

impl Request {
    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.builder = self.builder.header(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// A JSON body.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// A body of any kind.
    pub(crate) fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.builder = self.builder.body(body);
        self
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(self) -> Answer {
        let Self { path, builder } = self;
        within(PATIENCE, &path, async {
            let response = builder.send().await.unwrap_or_else(|e| panic!("{path}: {e:?}"));
            Answer::read(&path, response).await
        })
        .await
    }

    /// Sends it and returns the body as text, whatever it is: for failures that may come as a status or in a stream.
    pub(crate) async fn send_any(self) -> String {
        let response = within(PATIENCE, &self.path, self.builder.send()).await.unwrap();
        within(PATIENCE, &self.path, response.text()).await.unwrap()
    }

    /// Sends it and returns as soon as the stream has begun.
    pub(crate) async fn stream(self) -> Stream {
        let Self { path, builder } = self;
        within(PATIENCE, &path, async {
            let response = builder.send().await.unwrap_or_else(|e| panic!("{path}: {e:?}"));
            if response.status() != 200 {
                let answer = Answer::read(&path, response).await;
                panic!("no stream but {}: {}", answer.status, answer.text());
            }
            Stream::begin(&path, response)
        })
        .await
    }
}

impl Answer {
    async fn read(path: &str, response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.expect("a whole body").to_vec();
        let answer = Self { status, headers, body };
        answer.check(path);
        answer
    }

    fn check(&self, path: &str) {
        assert!(self.headers.contains_key("x-request-id"), "no request id: {self:?}");
        if path.starts_with("/v1/") {
            schema::check(&self.json());
        } else if self.status >= 400 && !path.starts_with("/readyz") {
            let document = self.json();
            let is_rpc = path.contains("/mcp") && document["error"]["message"].is_string();
            assert!(document["detail"].is_string() || is_rpc, "errors here have a `detail`: {document}");
        }
    }

    /// The header `name`.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.text()))
    }

    /// The body as JSON, if the status is this.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// The words of an error with this status, in whichever form.
    pub(crate) fn words(&self, status: u16) -> String {
        let document = self.expect(status);
        let words = document.get("detail").unwrap_or(&document["error"]["message"]);
        words.as_str().unwrap().to_owned()
    }
}

/// A stream that has begun. Dropping it closes the connection.
pub(crate) struct Stream {
    response: reqwest::Response,
    parser: Parser,
    dialect: Dialect,
    items: VecDeque<Item>,
}

impl Stream {
    fn begin(path: &str, response: reqwest::Response) -> Self {
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert!(header("content-type").is_some_and(|v| v.starts_with("text/event-stream")), "{response:?}");
        assert_eq!(header("cache-control"), Some("no-cache"));
        assert_eq!(header("x-accel-buffering"), Some("no"));
        assert_eq!(header("content-encoding"), None, "a compressed stream arrives in lumps");
        assert!(header("x-request-id").is_some());
        let dialect = if path.starts_with("/v1/") { Dialect::DataOnly } else { Dialect::Named };
        Self { response, parser: Parser::new(dialect), dialect, items: VecDeque::new() }
    }

    /// What comes next; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        while self.items.is_empty() {
            let chunk = within(PATIENCE, "the next event of the stream", self.response.chunk()).await;
            match chunk.expect("the stream ends in good order") {
                Some(bytes) => self.items.extend(self.parser.push(&bytes)),
                None => {
                    self.parser.end();
                    return None;
                }
            }
        }
        self.items.pop_front()
    }

    /// The next event's data, comments skipped.
    pub(crate) async fn next_data(&mut self) -> Option<String> {
        loop {
            if let Item::Event { data, .. } = self.next().await? {
                return Some(data);
            }
        }
    }

    /// Reads on until the text so far contains `text`.
    pub(crate) async fn read_until(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let Some(item) = self.next().await else { panic!("the stream ended before {text:?}: {seen}") };
            let Item::Event { data, .. } = item else { continue };
            let event: Value = serde_json::from_str(&data).unwrap_or_default();
            let delta = match self.dialect {
                Dialect::DataOnly => &event["choices"][0]["delta"]["content"],
                Dialect::Named => &event["text"],
            };
            seen.push_str(delta.as_str().unwrap_or_default());
        }
    }

    /// Reads on to the next comment.
    pub(crate) async fn next_comment(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Item::Comment(comment)) => return comment,
                Some(Item::Event { .. }) => {}
                None => panic!("the stream ended before a comment"),
            }
        }
    }

    /// Reads what is left of a stream whose beginning was read by hand; it must end with `[DONE]`.
    pub(crate) async fn collect_rest_until_done(mut self) {
        let mut last = None;
        while let Some(data) = self.next_data().await {
            last = Some(data);
        }
        assert_eq!(last.as_deref(), Some("[DONE]"));
    }

    /// Everything up to the end, of a stream of the OpenAI-compatible API.
    pub(crate) async fn collect(mut self) -> StreamReply {
        let mut reply = StreamReply::default();
        while let Some(item) = self.next().await {
            reply.add(item);
        }
        reply.check();
        reply
    }

    /// Everything up to the end, of a stream of named events: name and data.
    pub(crate) async fn collect_named(mut self) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        while let Some(item) = self.next().await {
            if let Item::Event { name, data } = item {
                let value = serde_json::from_str(&data).expect("the data of an event is JSON");
                events.push((name.expect("events here have names"), value));
            }
        }
        let last = events.last().map(|(name, _)| name.as_str());
        let is_last = matches!(last, Some("done" | "result" | "error"));
        assert!(is_last, "a stream ends with `done`, `result` or `error`: {events:?}");
        events
    }
}

/// A complete chat stream. Checked: one id, creation time and model; per choice one role, on its first delta, and one
/// finish reason, on its last; usage only without choices; `[DONE]` or an error at the end and nothing after it.
#[derive(Debug, Default)]
pub(crate) struct StreamReply {
    /// The chunks, those of tool progress excluded.
    pub(crate) chunks: Vec<Value>,
    /// The gateway's own chunks (`x-gateway-events: 1`): the value of `gateway`.
    pub(crate) progress: Vec<Value>,
    /// The comments.
    pub(crate) comments: Vec<String>,
    /// The error in mid-stream.
    pub(crate) error: Option<Value>,
    done: bool,
}

impl StreamReply {
    fn add(&mut self, item: Item) {
        let data = match item {
            Item::Comment(comment) => return self.comments.push(comment),
            Item::Event { data, .. } => data,
        };
        assert!(!self.done && self.error.is_none(), "after the end came {data}");
        if data == "[DONE]" {
            self.done = true;
            return;
        }
        let mut document: Value = serde_json::from_str(&data).expect("the data of an event is JSON");
        schema::check(&document);
        if document.get("error").is_some() {
            self.error = Some(document["error"].take());
        } else if document.get("gateway").is_some() {
            assert_eq!(document["choices"], json!([]), "{document}");
            self.progress.push(document["gateway"].take());
        } else {
            self.chunks.push(document);
        }
    }

    fn check(&self) {
        assert_ne!(self.done, self.error.is_some(), "a stream ends with [DONE] or an error: {self:?}");
        for key in ["id", "created", "model"] {
            let first = self.chunks.first().map(|chunk| &chunk[key]);
            assert!(self.chunks.iter().all(|chunk| Some(&chunk[key]) == first), "{key} changes: {self:#?}");
        }
        let mut deltas: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
        for choice in self.chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
            let (count, finished) = deltas.entry(choice["index"].as_u64().unwrap()).or_default();
            assert!(!*finished, "a choice goes on after its finish reason: {self:#?}");
            assert_eq!(choice["delta"].get("role").is_some(), *count == 0, "one role, first: {self:#?}");
            *count += 1;
            *finished = !choice["finish_reason"].is_null();
        }
        if self.done {
            assert!(deltas.values().all(|(_, finished)| *finished), "no finish reason: {self:#?}");
            assert!(!deltas.is_empty(), "not one choice: {self:#?}");
        }
        for chunk in self.chunks.iter().filter(|chunk| chunk["usage"].is_object()) {
            assert_eq!(chunk["choices"], json!([]), "usage comes without choices");
        }
    }

    fn deltas(&self, index: u64) -> impl Iterator<Item = &Value> {
        let choices = self.chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
        choices.filter(move |choice| choice["index"] == index).map(|choice| &choice["delta"])
    }

    /// The text of the first choice.
    pub(crate) fn text(&self) -> String {
        self.text_of(0, "content")
    }

    /// The text that the deltas of choice `index` have under `key`.
    pub(crate) fn text_of(&self, index: u64, key: &str) -> String {
        self.deltas(index).filter_map(|delta| delta[key].as_str()).collect()
    }

    /// The finish reason of the first choice.
    pub(crate) fn finish(&self) -> String {
        let choices = self.chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
        let mut reasons = choices.filter_map(|choice| choice["finish_reason"].as_str());
        reasons.next().unwrap_or_default().to_owned()
    }

    /// The usage.
    pub(crate) fn usage(&self) -> Option<&Value> {
        let mut usages = self.chunks.iter().map(|chunk| &chunk["usage"]).filter(|usage| usage.is_object());
        let usage = usages.next();
        assert!(usages.next().is_none(), "usage comes once: {self:#?}");
        usage
    }

    /// The tool calls of the first choice: id, name, arguments.
    pub(crate) fn calls(&self) -> Vec<(String, String, String)> {
        let mut calls: Vec<(String, String, String)> = Vec::new();
        for part in self.deltas(0).filter_map(|delta| delta["tool_calls"].as_array()).flatten() {
            let index = usize::try_from(part["index"].as_u64().unwrap()).unwrap();
            assert!(index <= calls.len(), "calls are numbered without gaps: {self:#?}");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            if index == calls.len() {
                assert_eq!(part["type"], "function", "{part}");
                calls.push((text(&part["id"]), text(&part["function"]["name"]), String::new()));
            }
            calls[index].2.push_str(&text(&part["function"]["arguments"]));
        }
        calls
    }
}
