//! Several messages in one post, as JSON-RPC has it and versions up to 2025-03-26 of the protocol.
//!
//! The messages are answered one after the other, each as if it had come by itself, and each counts as a request of its
//! caller. What is sent back is one array with the answers; what a call tells while it runs is left out.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, header};
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
        // One that is told and not asked has no answer, whatever becomes of it.
        let mut is_told = false;
        let message = body.slice_ref(message.get().as_bytes());
        let response = match glimpse_of(&message) {
            Err(refused) => refused,
            Ok(Glimpse { method, id }) if method == "initialize" => {
                error(StatusCode::BAD_REQUEST, -32600, "initialize has to come by itself", &id)
            }
            // The first one was counted when the batch came in.
            Ok(Glimpse { id, .. }) => {
                is_told = id.is_null();
                match if at == 0 { Ok(()) } else { scope.take_request() } {
                    Err(refused) => limit_reached(&refused, &id),
                    Ok(()) => {
                        let request = Request::from_parts(head.clone(), message);
                        server.answer_one(scope.clone(), of, request).await
                    }
                }
            }
        };
        let answer = answers_of(response).await;
        if !is_told {
            answers.extend(answer);
        }
    }
    if answers.is_empty() { accepted() } else { answered(&Value::Array(answers)) }
}

/// The answers in a response, which is one message or a stream of some. What comes before them is dropped as it comes.
async fn answers_of(response: McpResponse) -> Vec<Value> {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let mut body = response.into_body();
    let (mut answers, mut rest) = (Vec::new(), BytesMut::new());
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        while is_stream && let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            answers.extend(rest.split_to(end + 1).strip_prefix(b"data:").and_then(answer_in));
        }
    }
    if !is_stream {
        answers.extend(serde_json::from_slice::<Value>(&rest));
    }
    answers
}

/// The answer that an event carries; what is told while it is made is none.
fn answer_in(data: &[u8]) -> Option<Value> {
    let message: Value = serde_json::from_slice(data).ok()?;
    (message.get("result").is_some() || message.get("error").is_some()).then_some(message)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http::Response;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn answers_are_found_however_they_are_cut() {
        let events = "data:\nid:1\n\ndata: {\"method\":\"notifications/message\",\"params\":{\"data\":\"é\"}}\n\n\
                      data: {\"id\":1,\"result\":{\"text\":\"é\\n\"}}\r\n\r\n: still here\n\ndata: {\"id\":2,\"error\":{}}\n\n";
        for length in [1, 7, 1000] {
            let frames: Vec<Result<Frame<Bytes>, Infallible>> = events
                .as_bytes()
                .chunks(length)
                .map(|part| Ok(Frame::data(Bytes::copy_from_slice(part))))
                .collect();
            let response = Response::builder().header("content-type", "text/event-stream");
            let body = StreamBody::new(stream::iter(frames)).boxed();
            let answers = answers_of(response.body(body).unwrap()).await;
            let expected = serde_json::json!([{"id": 1, "result": {"text": "é\n"}}, {"id": 2, "error": {}}]);
            assert_eq!(Value::Array(answers), expected, "{length}");
        }
    }
}
