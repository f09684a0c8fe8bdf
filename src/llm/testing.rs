//! A scripted upstream for this room's tests: it answers each request with the next answer, byte for byte.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Config, Models};
use crate::config::secret::Secret;
use crate::domain::{CompletionRequest, RawMessage, RequestId};

/// Far more than anything here takes; guards against hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A part of an answer.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Send(String),
    Pause(u64),
    /// Waits until the client hangs up.
    Hang,
}

/// A running scripted upstream.
pub(super) struct Upstream {
    pub(super) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    hung_up: watch::Receiver<usize>,
    _task: AbortOnDropHandle<()>,
}

impl Upstream {
    /// Answers chat requests with `answers` in turn, the last one for ever; lists `models` at `/models`, or 404.
    pub(super) async fn new(models: Option<&[&str]>, answers: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (hang_up, hung_up) = watch::channel(0);
        let list = match models {
            Some(ids) => {
                let data: Vec<Value> =
                    ids.iter().map(|id| json!({"id": id, "created": 7, "owned_by": "them"})).collect();
                reply(200, "", &json!({"object": "list", "data": data}).to_string())
            }
            None => reply(404, "", ""),
        };
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, list, answers, hang_up) =
                    (Arc::clone(&seen), list.clone(), answers.clone(), hang_up.clone());
                connections.spawn(async move {
                    let _ = serve(stream, &seen, list, &answers, &hang_up).await;
                });
            }
        });
        Self { url, requests, hung_up, _task: AbortOnDropHandle::new(task) }
    }

    /// The chat requests so far, heads and bodies.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until a client has hung up on a hanging answer.
    pub(super) async fn hung_up(&mut self) {
        tokio::time::timeout(LIMIT, self.hung_up.wait_for(|count| *count > 0)).await.unwrap().unwrap();
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<String>>,
    list: Vec<Step>,
    answers: &[Vec<Step>],
    hang_up: &watch::Sender<usize>,
) -> std::io::Result<()> {
    let request = read_request(&mut stream).await?;
    let steps = if request.starts_with("GET ") {
        list
    } else {
        let mut seen = seen.lock().unwrap();
        seen.push(request);
        answers[(seen.len() - 1).min(answers.len() - 1)].clone()
    };
    for step in steps {
        match step {
            Step::Send(text) => stream.write_all(text.as_bytes()).await?,
            Step::Pause(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Hang => {
                let _ = stream.read(&mut [0; 64]).await;
                hang_up.send_modify(|count| *count += 1);
            }
        }
    }
    stream.shutdown().await
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse().unwrap() {
                return Ok(text);
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A whole answer. `headers` are lines that end with CRLF.
pub(super) fn reply(status: u16, headers: &str, body: &str) -> Vec<Step> {
    let kind = if headers.contains("content-type") { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{kind}{headers}\r\n"
    );
    vec![Step::Send(head + body)]
}

/// The head of a streamed answer, which ends when the connection does.
pub(super) fn stream_head() -> Step {
    Step::Send(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n"
            .to_owned(),
    )
}

/// A streamed answer of these `data` values.
pub(super) fn events(data: &[&str]) -> Vec<Step> {
    let events = data.iter().map(|data| Step::Send(format!("data: {data}\n\n")));
    [stream_head()].into_iter().chain(events).collect()
}

/// A completion that says `text`.
pub(super) fn completion(text: &str) -> String {
    json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [{
        "index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
    .to_string()
}

/// A chunk with `text`; an empty one ends the choice.
pub(super) fn chunk(text: &str) -> String {
    let (delta, reason) =
        if text.is_empty() { (json!({}), json!("stop")) } else { (json!({"content": text}), Value::Null) };
    json!({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}).to_string()
}

/// A patient configuration with quick retries, and one upstream for each (name, address), which serves model `m`.
pub(super) fn config(upstreams: &[(&str, &str)]) -> Config {
    let upstreams: Vec<Value> =
        upstreams.iter().map(|(name, url)| json!({"name": name, "base_url": url, "models": ["m"]})).collect();
    serde_json::from_value(json!({"retry_base_ms": 1, "upstreams": upstreams})).unwrap()
}

pub(super) fn models(config: Config) -> Models {
    Models::new(config, |_| None::<Secret>).unwrap()
}

/// A request that says `text`.
pub(super) fn request(text: &str, stream: bool) -> CompletionRequest {
    CompletionRequest { stream, ..CompletionRequest::of_messages("m", vec![RawMessage::user(text)]) }
}

pub(super) fn request_id() -> RequestId {
    RequestId::parse("req_test").unwrap()
}
