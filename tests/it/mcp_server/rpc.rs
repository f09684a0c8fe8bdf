//! A client that writes its messages by hand.

use serde_json::{Value, json};

use crate::harness::client::Request;
use crate::harness::{Answer, Gateway};

pub(super) const KEY: &str = "the-key-of-a-test";

const LATEST: &str = "2025-11-25";

/// A client that writes its messages by hand.
pub(super) struct Rpc<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) path: &'static str,
    pub(super) session: Option<String>,
    pub(super) version: &'static str,
}

impl<'a> Rpc<'a> {
    /// Without a session.
    pub(super) fn plain(gateway: &'a Gateway, path: &'static str) -> Self {
        Self { gateway, path, session: None, version: LATEST }
    }

    /// With a session of `version`, as clients have it.
    pub(super) async fn open(gateway: &'a Gateway, path: &'static str, version: &'static str) -> Self {
        let mut rpc = Self { gateway, path, session: None, version };
        let params = json!({
            "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
        });
        let answer = rpc.post(&request(0, "initialize", &params)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        rpc.session = Some(answer.headers["mcp-session-id"].to_str().unwrap().to_owned());
        let result = last(&answer)["result"].take();
        assert_eq!(result["protocolVersion"], version);
        assert_eq!(result["serverInfo"]["name"], "witgate");
        let told = rpc.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        assert_eq!(told.status, 202);
        rpc
    }

    pub(super) async fn post(&self, message: &Value) -> Answer {
        self.send(self.gateway.request("POST", self.path).json(message)).await
    }

    pub(super) async fn send(&self, request: Request) -> Answer {
        self.dress(request).send().await
    }

    /// With the headers of this client.
    pub(super) fn dress(&self, mut request: Request) -> Request {
        request = request
            .header("authorization", &format!("Bearer {KEY}"))
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session).header("mcp-protocol-version", self.version);
        }
        request
    }

    /// What a request is answered: its result, or its error as `{"error": ...}`.
    pub(super) async fn ask(&self, method: &str, params: &Value) -> Value {
        let answer = self.post(&request(7, method, params)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut message = last(&answer);
        assert_eq!(message["id"], 7);
        match message.get_mut("result") {
            Some(result) => result.take(),
            None => json!({"error": message["error"]}),
        }
    }
}

pub(super) fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// The messages of an answer, which is one of them or a stream.
pub(super) fn messages(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    if answer.headers["content-type"] == "application/json" {
        return vec![serde_json::from_str(&text).unwrap()];
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.filter(|data| !data.is_empty()).map(|data| serde_json::from_str(data).unwrap()).collect()
}

pub(super) fn last(answer: &Answer) -> Value {
    messages(answer).pop().unwrap()
}

pub(super) fn names(list: &Value) -> Vec<&str> {
    list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

pub(super) async fn gateway() -> Gateway {
    Gateway::builder().env("WITGATE_API_KEY", KEY).sqlite().start().await
}
