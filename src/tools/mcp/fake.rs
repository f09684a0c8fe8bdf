//! A server made by a test, behind pipes in memory: what it answers, and when, is up to the test. Time may stand still.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::transport::async_rw::AsyncRwTransport;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::McpConfig;
use super::client::{self, Handler, Opening, Running};
use super::server::{Live, Server};
use crate::config::mcp_servers::{McpServerConfig, McpTransport};
use crate::domain::ToolDefinition;

/// Protocol versions with `initialize`, or without.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Era {
    Old,
    New,
}

/// A connection to the server, as the supervisor has it.
pub(super) struct Fake {
    pub(super) server: Arc<Server>,
    pub(super) live: Arc<Live>,
    pub(super) say: Say,
    asked: Arc<Mutex<Vec<Value>>>,
    _running: Running,
}

/// What the server says.
#[derive(Clone)]
pub(super) struct Say(mpsc::UnboundedSender<Value>);

impl Say {
    pub(super) fn now(&self, mut message: Value) {
        message["jsonrpc"] = "2.0".into();
        let _ = self.0.send(message);
    }

    /// Answers `request` with `{"result": ...}` or `{"error": ...}`.
    pub(super) fn answer(&self, request: &Value, mut answer: Value) {
        answer["id"] = request["id"].clone();
        self.now(answer);
    }

    pub(super) fn after(&self, pause: Duration, request: &Value, answer: Value) {
        let (say, request) = (self.clone(), request.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            say.answer(&request, answer);
        });
    }
}

impl Fake {
    /// `answers` is shown each message and says whether it took care of it; what it leaves is answered as usual.
    pub(super) async fn start(
        era: Era,
        capabilities: Value,
        answers: impl Fn(&Value, &Say) -> bool + Send + 'static,
    ) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (sender, mut said) = mpsc::unbounded_channel::<Value>();
        let (say, asked) = (Say(sender), Arc::new(Mutex::new(Vec::new())));
        let (read, mut write) = tokio::io::split(theirs);
        let (voice, heard) = (say.clone(), asked.clone());
        tokio::spawn(async move {
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let message: Value = serde_json::from_str(&line).unwrap();
                heard.lock().unwrap().push(message.clone());
                if !answers(&message, &voice) {
                    usual(&message, &voice, era, &capabilities);
                }
            }
        });
        tokio::spawn(async move {
            while let Some(message) = said.recv().await {
                if write.write_all(format!("{message}\n").as_bytes()).await.is_err() {
                    break;
                }
            }
        });
        let server = Arc::new(Server::new(config(), Arc::new(McpConfig::default()), TaskTracker::new()));
        let handler = Handler::new(server.clone());
        let signals = handler.signals();
        let (read, write) = tokio::io::split(ours);
        let opening = if era == Era::Old { Opening::Initialize } else { Opening::Discover };
        let transport = AsyncRwTransport::new_client(read, write);
        let running = client::open(handler, transport, opening).await.unwrap();
        let live = Arc::new(Live::new(&server, running.peer().clone(), signals));
        server.ready(live.clone(), Vec::<ToolDefinition>::new(), Duration::ZERO);
        Self { server, live, say, asked, _running: running }
    }

    /// How often it was asked for `method`.
    pub(super) fn times(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|message| message["method"] == method).count()
    }

    /// The last message with `method`.
    pub(super) fn last(&self, method: &str) -> Option<Value> {
        self.asked.lock().unwrap().iter().rfind(|message| message["method"] == method).cloned()
    }
}

/// It is reached by HTTP as far as its configuration goes.
fn config() -> McpServerConfig {
    McpServerConfig {
        name: "fake".to_owned(),
        transport: McpTransport::StreamableHttp {
            url: "http://fake.invalid/mcp".to_owned(),
            headers: Vec::new(),
        },
        disabled: false,
        timeout_ms: None,
        tool_timeouts_ms: BTreeMap::new(),
        disabled_tools: Vec::new(),
        problem: None,
    }
}

fn usual(message: &Value, say: &Say, era: Era, capabilities: &Value) {
    let complete = |mut result: Value| {
        for (field, value) in
            [("resultType", json!("complete")), ("ttlMs", json!(0)), ("cacheScope", json!("private"))]
        {
            result[field] = value;
        }
        json!({"result": result})
    };
    let answer = match (message["method"].as_str().unwrap_or_default(), era) {
        ("initialize", Era::Old) => json!({"result": {
            "protocolVersion": "2025-06-18", "capabilities": capabilities,
            "serverInfo": {"name": "fake", "version": "1"},
        }}),
        ("server/discover", Era::New) => {
            complete(json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities}))
        }
        ("tools/list", _) => complete(json!({"tools": []})),
        ("ping" | "resources/subscribe", Era::Old) => json!({"result": {}}),
        ("subscriptions/listen", Era::New) => {
            let params = json!({
                "notifications": message["params"]["notifications"],
                "_meta": {"io.modelcontextprotocol/subscriptionId": message["id"]},
            });
            say.now(json!({"method": "notifications/subscriptions/acknowledged", "params": params}));
            return;
        }
        _ if message["id"].is_null() => return,
        _ => json!({"error": {"code": -32601, "message": "no such method"}}),
    };
    say.answer(message, answer);
}
