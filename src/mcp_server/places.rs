//! Which responses are streams that count against their caller's limit (`concurrent_streams`), and holding the place.
//!
//! Two kinds count, each by itself: streams that wait for news, and answers of calls. So a client that listens can still
//! call, however small the limit. A session has every answer as a stream, also the one message that answers a list: such
//! answers need no place, nor does whatever is answered as JSON.

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::endpoint::{CALLS, McpResponse, SESSION_ID};
use crate::access::{AccessError, AccessScope, StreamPermit};

/// The request of the versions without sessions that waits for news.
const LISTEN: &str = "subscriptions/listen";

/// What a caller asks to be told of a call while it runs.
const WISHES: [&str; 2] = ["progressToken", "io.modelcontextprotocol/logLevel"];

/// A place for the answer of `request`, which asks for `method`, should it be a stream that counts. Asked before anything
/// is done, so that a refused call has not begun.
///
/// # Errors
/// When the caller has as many streams as it may. The refusal has been written down.
pub(super) fn take(
    scope: &AccessScope,
    request: &Request<Bytes>,
    method: &str,
) -> Result<StreamPermit, AccessError> {
    if request.method() == Method::GET || method == LISTEN {
        return scope.open_news();
    }
    // Where nobody counts, nobody has to know either.
    let counts = scope.has_limits() && CALLS.contains(&method);
    let is_streamed = || request.headers().contains_key(SESSION_ID) || wants_to_be_told(request.body());
    if counts && is_streamed() { scope.open_stream() } else { Ok(StreamPermit::default()) }
}

/// Keeps `place` as long as `response` lives, if that is a stream.
pub(super) fn keep(place: StreamPermit, response: McpResponse) -> McpResponse {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
        return response;
    }
    response.map(|body| {
        let held = body.map_frame(move |frame| {
            let _place = &place;
            frame
        });
        held.boxed()
    })
}

/// Whether the message asks for news of its call: without a session, only such a call may be answered with a stream.
fn wants_to_be_told(message: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Message {
        params: Params,
    }
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Map<String, Value>,
    }
    let meta = serde_json::from_slice::<Message>(message).map(|message| message.params.meta);
    meta.is_ok_and(|meta| WISHES.iter().any(|wish| meta.contains_key(*wish)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_wants_to_be_told_may_be_a_stream() {
        for (params, wants) in [
            (r#"{"_meta": {"progressToken": 1}}"#, true),
            (r#"{"_meta": {"io.modelcontextprotocol/logLevel": "info"}}"#, true),
            (r#"{"_meta": {}}"#, false),
            (r#"{"progressToken": 1}"#, false),
            (r#"{"_meta": 1}"#, false),
            ("[]", false),
        ] {
            let message =
                format!(r#"{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {params}}}"#);
            assert_eq!(wants_to_be_told(message.as_bytes()), wants, "{params}");
        }
        assert!(!wants_to_be_told(br#"{"method": "tools/call"}"#));
    }
}
