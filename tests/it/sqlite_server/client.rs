//! A bare MCP client over the standard streams of the real binary: JSON lines, nothing between.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Guards against hangs; nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sqlite-server"));
    command.env_remove("DB_PATH").env_remove("RUST_LOG");
    command
}

/// A running server and a client of it.
pub(crate) struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    next_id: u64,
    /// Sent with every request, where the protocol version has no handshake.
    meta: Option<Value>,
}

/// A tool's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) texts: Vec<String>,
    pub(crate) structured: Value,
    pub(crate) is_error: bool,
}

impl Client {
    /// Starts the server and shakes hands in `version`.
    pub(crate) fn start(arguments: &[&str], version: &str) -> Self {
        let mut client = Self::spawn(arguments);
        let hello = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
        let answer = client.request("initialize", hello);
        assert_eq!(answer["result"]["protocolVersion"], version);
        assert_eq!(answer["result"]["serverInfo"]["name"], "sqlite-server");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    /// Starts the server for a protocol version without a handshake: each request says who is asking.
    pub(crate) fn start_stateless(arguments: &[&str], version: &str) -> Self {
        let mut client = Self::spawn(arguments);
        client.meta = Some(json!({
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }));
        let answer = client.request("server/discover", json!({}));
        let versions = answer["result"]["supportedVersions"].as_array().unwrap();
        assert!(versions.contains(&json!(version)), "{answer}");
        client
    }

    /// A server over a database in memory.
    pub(crate) fn in_memory() -> Self {
        Self::start(&[":memory:"], "2025-06-18")
    }

    fn spawn(arguments: &[&str]) -> Self {
        let mut child = binary()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, next_id: 1, meta: None }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{message}").unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a request and returns its id.
    pub(crate) fn post(&mut self, method: &str, mut params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if let Some(meta) = &self.meta {
            params["_meta"] = meta.clone();
        }
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// The next message, which must be the answer to `id`.
    pub(crate) fn receive(&mut self, id: u64) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).unwrap();
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["id"], id, "{message}");
        message
    }

    pub(crate) fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.post(method, params);
        self.receive(id)
    }

    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Answer {
        let mut params = json!({"name": tool});
        params["arguments"] = arguments;
        let message = self.request("tools/call", params);
        Answer::read(&message)
    }

    /// Calls one of the tools that take a query; it must work.
    pub(crate) fn ok(&mut self, tool: &str, query: &str) -> Answer {
        let answer = self.call(tool, json!({"query": query}));
        assert!(!answer.is_error, "{tool} {query}: {answer:?}");
        answer
    }

    /// Calls one of the tools that take a query; it must fail, and this is how it says so.
    pub(crate) fn refused(&mut self, tool: &str, query: &str) -> String {
        let answer = self.call(tool, json!({"query": query}));
        assert!(answer.is_error, "{tool} did not refuse {query}: {answer:?}");
        answer.texts.concat()
    }

    /// The rows a query gives.
    pub(crate) fn rows(&mut self, query: &str) -> Value {
        self.ok("read_query", query).structured["rows"].clone()
    }

    /// Closes the server's input and waits for its end.
    pub(crate) fn close(mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.wait()
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not end");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Already gone, where the test closed it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub(crate) fn read(message: &Value) -> Self {
        let result = &message["result"];
        assert!(result.is_object(), "{message}");
        let texts = result["content"].as_array().unwrap();
        Self {
            texts: texts.iter().map(|block| block["text"].as_str().unwrap().to_owned()).collect(),
            structured: result["structuredContent"].clone(),
            is_error: result["isError"] == true,
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.texts[0]
    }
}
