//! Raw messages over streamable HTTP: lists, calls, sessions, and who is turned away.

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway};

const KEY: &str = "the-key-of-a-test";

const CALL: &str = "2025-11-25";

/// A client that writes its messages by hand.
struct Rpc<'a> {
    gateway: &'a Gateway,
    path: &'static str,
    session: Option<String>,
    version: &'static str,
}

impl<'a> Rpc<'a> {
    /// Without a session.
    fn plain(gateway: &'a Gateway, path: &'static str) -> Self {
        Self { gateway, path, session: None, version: CALL }
    }

    /// With a session of `version`, as clients have it.
    async fn open(gateway: &'a Gateway, path: &'static str, version: &'static str) -> Self {
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

    async fn post(&self, message: &Value) -> Answer {
        self.send(self.gateway.request("POST", self.path).json(message)).await
    }

    async fn send(&self, mut request: crate::harness::client::Request) -> Answer {
        request = request
            .header("authorization", &format!("Bearer {KEY}"))
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session).header("mcp-protocol-version", self.version);
        }
        request.send().await
    }

    /// What a request is answered: its result, or its error as `{"error": ...}`.
    async fn ask(&self, method: &str, params: &Value) -> Value {
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

fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// The messages of an answer, which is one of them or a stream.
fn messages(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    if answer.headers["content-type"] == "application/json" {
        return vec![serde_json::from_str(&text).unwrap()];
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.filter(|data| !data.is_empty()).map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn last(answer: &Answer) -> Value {
    messages(answer).pop().unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

async fn gateway() -> Gateway {
    Gateway::builder().env("WITGATE_API_KEY", KEY).sqlite().start().await
}

#[tokio::test]
async fn tools_are_listed_and_called_in_a_session() {
    let gateway = gateway().await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let rpc = Rpc::open(&gateway, "/mcp", version).await;
        let list = rpc.ask("tools/list", &json!({})).await;
        assert!(names(&list).contains(&"read_query"), "{list}");
        let tool =
            list["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "read_query").unwrap();
        assert_eq!(tool["inputSchema"]["required"], json!(["query"]));
        assert_eq!(tool["annotations"]["readOnlyHint"], true);
        assert!(tool["outputSchema"]["properties"]["rows"].is_object(), "{tool}");
        let call = json!({"name": "read_query", "arguments": {"query": "SELECT 41 + 1 AS answer"}});
        let result = rpc.ask("tools/call", &call).await;
        assert_eq!(result["structuredContent"]["rows"][0]["answer"], 42, "{result}");
        assert_eq!(result["isError"], false);
        assert_eq!(result["content"][0]["type"], "text");
    }
}

#[tokio::test]
async fn tools_are_listed_and_called_without_a_session() {
    let gateway = gateway().await;
    for path in ["/mcp", "/api/v1/mcp", "/mcp/sqlite"] {
        let rpc = Rpc::plain(&gateway, path);
        assert_eq!(names(&rpc.ask("tools/list", &json!({})).await).len(), 6, "{path}");
        let call = json!({"name": "read_query", "arguments": {"query": "SELECT 1 AS one"}});
        assert_eq!(rpc.ask("tools/call", &call).await["structuredContent"]["rows"][0]["one"], 1);
    }
    // As simple as it gets.
    let answer = gateway
        .request("POST", &format!("/api/v1/mcp?apikey={KEY}"))
        .json(&request(1, "tools/list", &json!({})))
        .send()
        .await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(names(&answer.expect(200)["result"]).len(), 6);
}
