//! A scripted OpenAI-compatible upstream inside the test process, with every byte under the test's control.
//!
//! Replies are taken from a queue, or made by a function of the request. Every request is recorded, bytes included, and
//! tells when the gateway closed its connection before the reply was complete. All upstreams live on one runtime of
//! their own, so that a test which blocks its thread does not stop them.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::script::{Body, Control, Reply, Step, frame};
use super::{PATIENCE, within};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// Makes a reply to a request.
type Script = Box<dyn Fn(&Recorded) -> Reply + Send + Sync>;

/// A running upstream; it stops when dropped.
pub(crate) struct Upstream {
    shared: Arc<Shared>,
    address: String,
    accepting: AbortHandle,
}

struct Shared {
    queue: Mutex<VecDeque<Reply>>,
    script: Option<Script>,
    models: Mutex<Value>,
    requests: Mutex<Vec<Arc<Recorded>>>,
    count: watch::Sender<usize>,
}

/// A request as it arrived.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The method.
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) path: String,
    /// Headers, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body's bytes.
    pub(crate) body: Vec<u8>,
    closed: watch::Sender<bool>,
}

impl Recorded {
    /// The header `name`.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the gateway sends JSON")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the gateway sends UTF-8")
    }

    /// The `messages` of the body.
    pub(crate) fn messages(&self) -> Vec<Value> {
        self.json()["messages"].as_array().expect("messages").clone()
    }

    /// The names of the tools that were offered.
    pub(crate) fn tool_names(&self) -> Vec<String> {
        let tools = self.json()["tools"].as_array().cloned().unwrap_or_default();
        tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn closed_by_gateway(&self) {
        let mut closed = self.closed.subscribe();
        let wait = async { closed.wait_for(|closed| *closed).await.map(|_| ()).unwrap() };
        within(PATIENCE, "the gateway's closing of an upstream request", wait).await;
    }
}

impl Upstream {
    /// An upstream that answers chat requests with what is queued.
    pub(crate) fn start() -> Self {
        Self::launch(None)
    }

    /// An upstream that answers every chat request by `script`.
    pub(crate) fn scripted(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::launch(Some(Box::new(script)))
    }

    /// An upstream that will answer with these replies, one after the other.
    pub(crate) fn replying(replies: impl IntoIterator<Item = Reply>) -> Self {
        let upstream = Self::start();
        replies.into_iter().for_each(|reply| upstream.reply(reply));
        upstream
    }

    fn launch(script: Option<Script>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let models = json!({"object": "list", "data": [
            {"id": "m1", "object": "model", "created": 1_700_000_000, "owned_by": "scripted"},
            {"id": "org/m2:free", "object": "model", "created": 1_700_000_001, "owned_by": "scripted"},
        ]});
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            script,
            models: Mutex::new(models),
            requests: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let accepting = RUNTIME.spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { shared, address, accepting }
    }

    /// Queues a reply.
    pub(crate) fn reply(&self, reply: Reply) {
        self.shared.queue.lock().unwrap().push_back(reply);
    }

    /// Queues replies.
    pub(crate) fn replies(&self, replies: impl IntoIterator<Item = Reply>) {
        replies.into_iter().for_each(|reply| self.reply(reply));
    }

    /// What `GET /models` answers from now on.
    pub(crate) fn set_models(&self, document: Value) {
        *self.shared.models.lock().unwrap() = document;
    }

    /// The address for `OPENAI_BASE_URL`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All chat requests so far.
    pub(crate) fn requests(&self) -> Vec<Arc<Recorded>> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The chat request number `index`, counted from 0; waits for it.
    pub(crate) async fn request(&self, index: usize) -> Arc<Recorded> {
        let mut count = self.shared.count.subscribe();
        within(PATIENCE, "the arrival of an upstream request", count.wait_for(|n| *n > index)).await.unwrap();
        Arc::clone(&self.shared.requests.lock().unwrap()[index])
    }

    /// The latest chat request.
    pub(crate) fn last(&self) -> Arc<Recorded> {
        Arc::clone(self.shared.requests.lock().unwrap().last().expect("a request has arrived"))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    // Dropped with this task, so that a stopped upstream is gone at once.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(serve(socket, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    socket.set_nodelay(true).unwrap();
    let (mut reading, mut writing) = socket.into_split();
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut reading, &mut buffer).await {
        let request = Arc::new(request);
        let reply = shared.answer(&request);
        let went_away = async {
            // The gateway sends nothing while it waits: a read that ends is the connection's end.
            let mut byte = [0];
            while reading.read(&mut byte).await.is_ok_and(|n| n > 0) {}
            request.closed.send_replace(true);
        };
        let goes_on = tokio::select! {
            biased;
            goes_on = send(&mut writing, reply, &request) => goes_on,
            () = went_away => false,
        };
        if !goes_on {
            return;
        }
    }
}

impl Shared {
    fn answer(&self, request: &Arc<Recorded>) -> Reply {
        if request.path.ends_with("/models") {
            return Reply::json(200, &self.models.lock().unwrap());
        }
        let mut requests = self.requests.lock().unwrap();
        requests.push(Arc::clone(request));
        let reply = match &self.script {
            Some(script) => script(request),
            None => self.queue.lock().unwrap().pop_front().unwrap_or_else(|| {
                Reply::error(400, "the test has scripted no further reply for its upstream")
            }),
        };
        self.count.send_replace(requests.len());
        reply
    }
}

async fn read_request(reading: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> Option<Recorded> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if reading.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..head_end).collect()).unwrap();
    let mut lines = head.lines();
    let mut start = lines.next()?.split(' ');
    let (method, path) = (start.next()?.to_owned(), start.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let find = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, v)| v.as_str());
    assert!(find("transfer-encoding").is_none(), "the gateway knows the length of what it sends");
    let length: usize = find("content-length").map_or(0, |text| text.parse().unwrap());
    while buffer.len() < length {
        if reading.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.drain(..length).collect();
    Some(Recorded { method, path, headers, body, closed: watch::Sender::new(false) })
}

/// Sends a reply; false when the connection cannot be used again.
async fn send(writing: &mut OwnedWriteHalf, reply: Reply, request: &Recorded) -> bool {
    let Reply { status, mut headers, body } = reply;
    let steps = match body {
        Body::Message(message) => {
            let asked = request.json();
            let model = asked["model"].as_str().unwrap_or("m1");
            if asked["stream"] == true {
                headers.push(("content-type".into(), "text/event-stream".into()));
                let include_usage = asked["stream_options"]["include_usage"] == true;
                let chunks = message.chunks(model, include_usage);
                let mut steps: Vec<Step> = chunks.iter().map(|event| Step::Bytes(frame(event))).collect();
                steps.push(Step::Bytes(b"data: [DONE]\n\n".to_vec()));
                steps
            } else {
                headers.push(("content-type".into(), "application/json".into()));
                return send_whole(writing, status, &headers, message.document(model).to_string().as_bytes())
                    .await;
            }
        }
        Body::Whole(bytes) => return send_whole(writing, status, &headers, &bytes).await,
        Body::Silence => return std::future::pending().await,
        Body::NoHttp(bytes) => {
            let _ = writing.write_all(&bytes).await;
            return false;
        }
        Body::Steps(steps) => steps,
    };
    headers.push(("transfer-encoding".into(), "chunked".into()));
    send_steps(writing, head(status, &headers), steps).await.is_some()
}

async fn send_whole(
    writing: &mut OwnedWriteHalf,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> bool {
    let mut headers = headers.to_vec();
    headers.push(("content-length".into(), body.len().to_string()));
    let mut bytes = head(status, &headers);
    bytes.extend_from_slice(body);
    writing.write_all(&bytes).await.is_ok()
}

fn head(status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    text.into_bytes()
}

/// Sends a chunked body; `None` when the connection is at its end.
async fn send_steps(writing: &mut OwnedWriteHalf, head: Vec<u8>, steps: Vec<Step>) -> Option<()> {
    writing.write_all(&head).await.ok()?;
    for step in steps {
        match step {
            Step::Bytes(bytes) => write_chunk(writing, &bytes).await?,
            Step::Sleep(time) => tokio::time::sleep(time).await,
            Step::Hang => std::future::pending::<()>().await,
            Step::Close => return None,
            Step::Controlled(mut controls) => {
                while let Some(control) = controls.recv().await {
                    let Control::Event(event) = control;
                    let bytes = frame(&event);
                    write_chunk(writing, &bytes).await?;
                }
            }
        }
    }
    writing.write_all(b"0\r\n\r\n").await.ok()
}

async fn write_chunk(writing: &mut OwnedWriteHalf, bytes: &[u8]) -> Option<()> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    writing.write_all(&chunk).await.ok()?;
    writing.flush().await.ok()
}
