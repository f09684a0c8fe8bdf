//! Several messages in one post, as JSON-RPC has it and versions up to 2025-03-26 of the protocol.
//!
//! The messages are answered one after the other, each as if it had come by itself, and each counts as a request of its
//! caller. What is sent back is one array with the answers; what a call tells while it runs is left out.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use serde_json::value::RawValue;

use super::McpServer;
use super::endpoint::{Glimpse, McpResponse, accepted, answered, error, glimpse_of, limit_reached};
use crate::access::AccessScope;

/// Most messages of one batch.
const MAX_MESSAGES: usize = 32;

/// The versions that know batches, or are taken for one that does.
const VERSIONS: [&[u8]; 2] = [b"2024-11-05", b"2025-03-26"];

/// Whether `request` is a batch of a client that may send one.
pub(super) fn is_one(request: &Request<Bytes>) -> bool {
    let is_array = request.body().trim_ascii_start().first() == Some(&b'[');
    request.method() == Method::POST && is_array && knows_batches(request.headers())
}

fn knows_batches(headers: &HeaderMap) -> bool {
    headers.get_all("mcp-protocol-version").iter().all(|version| VERSIONS.contains(&version.as_bytes()))
}

/// Answers a batch.
pub(super) async fn answer(
    server: &McpServer,
    scope: AccessScope,
    of: Option<&str>,
    request: Request<Bytes>,
) -> McpResponse {
    let (head, body) = request.into_parts();
    let refusal = |code, message: &str| error(StatusCode::BAD_REQUEST, code, message, &Value::Null);
    let messages: Vec<&RawValue> = match serde_json::from_slice(&body) {
        Ok(messages) => messages,
        Err(problem) => return refusal(-32700, &format!("the body is not JSON: {problem}")),
    };
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        let message = format!("a batch has 1 to {MAX_MESSAGES} messages; this one has {}", messages.len());
        return refusal(-32600, &message);
    }
    let mut answers = Vec::new();
    for (at, message) in messages.into_iter().enumerate() {
        let message = body.slice_ref(message.get().as_bytes());
        let response = match glimpse_of(&message) {
            Err(refused) => refused,
            Ok(Glimpse { method, id }) if method == "initialize" => {
                error(StatusCode::BAD_REQUEST, -32600, "initialize has to come by itself", &id)
            }
            // The first one was counted when the batch came in.
            Ok(Glimpse { id, .. }) => match if at == 0 { Ok(()) } else { scope.take_request() } {
                Err(refused) => limit_reached(&refused, &id),
                Ok(()) => {
                    let request = Request::from_parts(head.clone(), message);
                    server.answer_one(scope.clone(), of, request).await
                }
            },
        };
        answers.extend(answers_of(response).await);
    }
    if answers.is_empty() { accepted() } else { answered(&Value::Array(answers)) }
}

/// The answers in a response, which is one message or a stream of some.
async fn answers_of(response: McpResponse) -> Vec<Value> {
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    if let Ok(answer) = serde_json::from_slice::<Value>(&body) {
        return vec![answer];
    }
    let text = String::from_utf8_lossy(&body);
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let messages = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    messages.filter(|message| message.get("result").is_some() || message.get("error").is_some()).collect()
}
