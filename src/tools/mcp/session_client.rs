//! rmcp's HTTP client with a correction: an error answer without an id is the answer to the request it was sent for.
//!
//! Servers turn a request down before they read it with `{"error": ..., "id": null}`; the TypeScript SDK does so, with
//! status 400, for a session it does not know, which is every session after its restart. rmcp finds nobody such an
//! answer belongs to and lets the request wait for ever. Here the one is given its id, and the other is taken for what it
//! is: an expired session, which the transport opens anew.
//!
//! It also notes on each log line on whose answer's stream it came (`notices.rs` needs to know), and counts the sessions that
//! were opened: a new one may be with another version of the server, whose lists are others.

use std::collections::HashMap;
use std::sync::Arc;

use ::http::{HeaderName, HeaderValue};
use futures_util::{StreamExt, TryStreamExt};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::transport::common::client_side_sse::BoxedSseResponse;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use serde_json::{Map, Value};

use super::client::Signals;
use super::notices::META_ANSWERS;

type HttpError = StreamableHttpError<reqwest::Error>;
type Headers = HashMap<HeaderName, HeaderValue>;

/// See the module.
#[derive(Clone)]
pub(super) struct SessionClient {
    pub(super) client: reqwest::Client,
    pub(super) signals: Arc<Signals>,
}

impl StreamableHttpClient for SessionClient {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let asked = Asked::new(&message, session_id.is_some());
        let answer = self.client.post_message(uri, message, session_id, auth_header, custom_headers).await?;
        asked.correct(answer, &self.signals)
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: Headers,
        max_sse_event_size: usize,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let asked = Asked::new(&message, session_id.is_some());
        let answer = self.client.post_message_with_max_sse_event_size(
            uri,
            message,
            session_id,
            auth_header,
            custom_headers,
            max_sse_event_size,
        );
        asked.correct(answer.await?, &self.signals)
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<(), HttpError> {
        self.client.delete_session(uri, session_id, auth_header, custom_headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<BoxedSseResponse, HttpError> {
        self.client.get_stream(uri, session_id, last_event_id, auth_header, custom_headers).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: Headers,
        max_sse_event_size: usize,
    ) -> Result<BoxedSseResponse, HttpError> {
        let stream = self.client.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            custom_headers,
            max_sse_event_size,
        );
        stream.await
    }
}

/// What a message needs to be answered.
struct Asked {
    id: Option<RequestId>,
    in_session: bool,
    opens_session: bool,
}

impl Asked {
    fn new(message: &ClientJsonRpcMessage, in_session: bool) -> Self {
        let id = match message {
            ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let opens_session = matches!(
            message,
            ClientJsonRpcMessage::Request(request)
                if matches!(request.request, ClientRequest::InitializeRequest(_))
        );
        Self { id, in_session, opens_session }
    }

    fn correct(
        self,
        answer: StreamableHttpPostResponse,
        signals: &Signals,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        if self.opens_session {
            signals.sessions.send_modify(|opened| *opened += 1);
        }
        match (answer, self.id) {
            (StreamableHttpPostResponse::Json(ServerJsonRpcMessage::Error(error), session), Some(id))
                if error.id.is_none() =>
            {
                if self.in_session && is_about_the_session(&error.error) {
                    return Err(StreamableHttpError::SessionExpired);
                }
                let error = ServerJsonRpcMessage::error(error.error, Some(id));
                Ok(StreamableHttpPostResponse::Json(error, session))
            }
            (StreamableHttpPostResponse::Sse(events, session), Some(id)) => {
                let id = serde_json::to_value(id).unwrap_or_default();
                let events = events.map_ok(move |mut event| {
                    event.data = event.data.map(|data| noted(data, &id));
                    event
                });
                let events = events.boxed();
                Ok(StreamableHttpPostResponse::Sse(events, session))
            }
            (answer, _) => Ok(answer),
        }
    }
}

/// Notes on a log line that it came on the stream that answers request `id`, which is lost behind the transport.
fn noted(data: String, id: &Value) -> String {
    if !data.contains("\"notifications/message\"") {
        return data;
    }
    let Ok(mut message) = serde_json::from_str::<Value>(&data) else { return data };
    if message["method"] != "notifications/message" {
        return data;
    }
    let Some(params) = message["params"].as_object_mut() else { return data };
    match params.entry("_meta").or_insert_with(|| Value::Object(Map::new())) {
        Value::Object(meta) => {
            meta.insert(META_ANSWERS.to_owned(), id.clone());
            message.to_string()
        }
        _ => data,
    }
}

/// Servers put it in their own words; the codes are the ones of the TypeScript SDK, of its examples and what follows them.
fn is_about_the_session(error: &ErrorData) -> bool {
    let message = error.message.to_ascii_lowercase();
    matches!(error.code.0, -32_000 | -32_001)
        && (message.contains("session") || message.contains("not initialized"))
}
