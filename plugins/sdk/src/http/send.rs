//! Sending a request with `wasi:http`: one deadline for all of it, one limit for the body.

use std::time::Duration;

use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::poll::{self, Pollable};
use wasip2::io::streams::{OutputStream, StreamError};

use super::url::Url;
use super::{HttpError, Request, Response};

/// What is read at once.
const CHUNK: u64 = 64 * 1024;

pub(super) fn send(request: &Request) -> Result<Response, HttpError> {
    let url = Url::parse(&request.url)?;
    let deadline = Deadline::after(request.timeout);
    let outgoing = outgoing(request, &url)?;
    let body = if request.body.is_empty() {
        None
    } else {
        Some(outgoing.body().map_err(|()| broken("request body"))?)
    };
    let answer = outgoing_handler::handle(outgoing, Some(options(request.timeout)?)).map_err(told)?;
    if let Some(body) = body {
        let stream = body.write().map_err(|()| broken("request body"))?;
        write(&stream, &request.body, &deadline)?;
        // The stream is a child of the body, which ends last.
        drop(stream);
        OutgoingBody::finish(body, None).map_err(told)?;
    }
    read(wait(&answer, &deadline)?, request, &deadline)
}

fn outgoing(request: &Request, url: &Url<'_>) -> Result<OutgoingRequest, HttpError> {
    let headers = Fields::new();
    for (name, value) in &request.headers {
        headers
            .append(name, value.as_bytes())
            .map_err(|error| HttpError::Failed(format!("header `{name}` cannot be sent: {error:?}")))?;
    }
    let outgoing = OutgoingRequest::new(headers);
    let method = match request.method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    };
    let scheme = if url.secure { Scheme::Https } else { Scheme::Http };
    outgoing
        .set_method(&method)
        .map_err(|()| HttpError::Failed(format!("no such method: {}", request.method)))?;
    outgoing.set_scheme(Some(&scheme)).map_err(|()| broken("scheme"))?;
    outgoing
        .set_authority(Some(url.authority))
        .map_err(|()| HttpError::Url(format!("no such host: {}", url.authority)))?;
    outgoing
        .set_path_with_query(Some(&url.path_with_query))
        .map_err(|()| HttpError::Url(format!("no such path: {}", url.path_with_query)))?;
    Ok(outgoing)
}

fn options(timeout: Duration) -> Result<RequestOptions, HttpError> {
    let options = RequestOptions::new();
    let timeout = Some(nanoseconds(timeout));
    options
        .set_connect_timeout(timeout)
        .and_then(|()| options.set_first_byte_timeout(timeout))
        .and_then(|()| options.set_between_bytes_timeout(timeout))
        .map_err(|()| broken("timeout"))?;
    Ok(options)
}

fn write(stream: &OutputStream, mut body: &[u8], deadline: &Deadline) -> Result<(), HttpError> {
    while !body.is_empty() {
        deadline.wait_for(&stream.subscribe())?;
        let room = stream.check_write().map_err(closed)?;
        let (now, later) = body.split_at(body.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        stream.write(now).map_err(closed)?;
        body = later;
    }
    stream.flush().map_err(closed)?;
    deadline.wait_for(&stream.subscribe())?;
    stream.check_write().map(|_| ()).map_err(closed)
}

fn wait(answer: &FutureIncomingResponse, deadline: &Deadline) -> Result<IncomingResponse, HttpError> {
    deadline.wait_for(&answer.subscribe())?;
    match answer.get() {
        Some(Ok(answer)) => answer.map_err(told),
        _ => Err(broken("response")),
    }
}

fn read(incoming: IncomingResponse, request: &Request, deadline: &Deadline) -> Result<Response, HttpError> {
    let headers = incoming
        .headers()
        .entries()
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase(), String::from_utf8(value).ok()?)))
        .collect();
    let mut response = Response { status: incoming.status(), headers, body: Vec::new(), was_cut: false };
    let body = incoming.consume().map_err(|()| broken("response body"))?;
    response.was_cut = read_body(&body, &mut response.body, request, deadline)?;
    Ok(response)
}

/// Reads a body up to its end, or to the limit where it is to be cut there; tells whether it was.
fn read_body(
    body: &IncomingBody,
    bytes: &mut Vec<u8>,
    request: &Request,
    deadline: &Deadline,
) -> Result<bool, HttpError> {
    let stream = body.stream().map_err(|()| broken("response body"))?;
    let pollable = stream.subscribe();
    loop {
        deadline.wait_for(&pollable)?;
        match stream.read(CHUNK) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(false),
            Err(error) => return Err(closed(error)),
        }
        if bytes.len() > request.max_bytes {
            bytes.truncate(request.max_bytes);
            return if request.cut { Ok(true) } else { Err(HttpError::TooLarge(request.max_bytes)) };
        }
    }
}

/// The end of the time a request may take.
struct Deadline(Pollable);

impl Deadline {
    fn after(timeout: Duration) -> Self {
        Self(monotonic_clock::subscribe_duration(nanoseconds(timeout)))
    }

    fn wait_for(&self, ready: &Pollable) -> Result<(), HttpError> {
        if ready.ready() || poll::poll(&[ready, &self.0]).contains(&0) {
            Ok(())
        } else {
            Err(HttpError::Timeout)
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn broken(part: &str) -> HttpError {
    HttpError::Failed(format!("the gateway did not take or give the {part}"))
}

fn closed(error: StreamError) -> HttpError {
    match error {
        StreamError::Closed => HttpError::Failed("the connection was closed".into()),
        StreamError::LastOperationFailed(error) => HttpError::Failed(error.to_debug_string()),
    }
}

/// What the gateway says of a request that failed.
fn told(error: ErrorCode) -> HttpError {
    match error {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => {
            HttpError::Denied(format!("{error:?}"))
        }
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => HttpError::Timeout,
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong => {
            HttpError::Url(format!("{error:?}"))
        }
        other => HttpError::Failed(format!("{other:?}")),
    }
}
