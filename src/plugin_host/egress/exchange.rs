//! One request on one connection of its own. No redirect is followed, no cookie kept, nothing decompressed: a guest sees
//! what the peer sent, and a redirect that it follows is a new request, checked like every other.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::EgressLimits;
use super::body::{RequestBody, ResponseBody, received_error};
use super::connect::{Tls, connect};
use super::target::Target;

/// Most header lines of an answer.
const MAX_HEADERS: usize = 128;

/// Largest head of an answer, in bytes; also the most that is read ahead of a guest.
const MAX_HEAD_BYTES: usize = 64 * 1_024;

/// What goes on for as long as an answer is read.
pub(super) type Driver = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// How long to wait for what: the guest's wishes within the host's bounds.
pub(super) fn bounded(limits: &EgressLimits, options: Option<RequestOptions>) -> EgressLimits {
    let options = options.unwrap_or_default();
    let within = |wish: Option<std::time::Duration>, max| wish.map_or(max, |wish| wish.min(max));
    EgressLimits {
        connect_timeout: within(options.connect_timeout, limits.connect_timeout),
        first_byte_timeout: within(options.first_byte_timeout, limits.first_byte_timeout),
        between_bytes_timeout: within(options.between_bytes_timeout, limits.between_bytes_timeout),
        ..*limits
    }
}

/// Sends `request` to `target` at one of `addresses` and returns the answer's head, with its body to come.
pub(super) async fn exchange(
    target: &Target,
    addresses: &[SocketAddr],
    request: Request<WasiBody>,
    limits: &EgressLimits,
    tls: &Tls,
    place: OwnedSemaphorePermit,
) -> Result<(Response<WasiBody>, Driver), Error> {
    let deadline = Instant::now() + limits.total_timeout;
    let too_large = Arc::new(AtomicBool::new(false));
    let request = prepared(target, request, limits, too_large.clone())?;
    let connection = connect(target, addresses, limits.connect_timeout, tls).await?;
    let (mut sender, driver) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(connection))
        .await
        .map_err(|error| received_error(&error))?;

    let mut driver = Some(Box::pin(driver));
    let mut sent = pin!(sender.send_request(request));
    let head = poll_fn(|cx| {
        if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        let Some(connection) = driver.as_mut() else { return Poll::Pending };
        match connection.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // The connection is done; what it brought is there now.
            Poll::Ready(Ok(())) => {
                driver = None;
                sent.as_mut().poll(cx)
            }
        }
    });
    let patience = limits.first_byte_timeout.min(deadline.saturating_duration_since(Instant::now()));
    let response = timeout(patience, head).await.map_err(|_| Error::HttpResponseTimeout)?;
    let response = response.map_err(|error| {
        if too_large.load(Ordering::Relaxed) {
            Error::HttpRequestBodySize(Some(limits.max_request_bytes))
        } else {
            received_error(&error)
        }
    })?;

    let announced = hyper::body::Body::size_hint(response.body()).lower();
    if announced > limits.max_response_bytes {
        return Err(Error::HttpResponseBodySize(Some(announced)));
    }
    let response = response.map(|body| {
        ResponseBody::new(body, limits.max_response_bytes, limits.between_bytes_timeout, deadline, place)
            .boxed_unsync()
    });
    let driver: Driver = Box::pin(async move {
        // Whoever reads the body learns of the error there.
        if let Some(Err(error)) = match driver {
            Some(driver) => Some(driver.await),
            None => None,
        } {
            tracing::debug!("a plugin's connection ended early: {error}");
        }
        Ok(())
    });
    Ok((response, driver))
}

/// The request as it goes on the wire.
fn prepared(
    target: &Target,
    request: Request<WasiBody>,
    limits: &EgressLimits,
    too_large: Arc<AtomicBool>,
) -> Result<Request<RequestBody>, Error> {
    let (mut parts, body) = request.into_parts();
    // A tunnel would carry anything; a trace would tell what the host adds.
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Error::HttpRequestMethodInvalid);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.is_empty() { "/" } else { path };
    parts.uri = Uri::builder().path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)?;
    let host = HeaderValue::from_str(&target.host_header()).map_err(|_| Error::HttpRequestUriInvalid)?;
    parts.headers.insert(HOST, host);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let declared = parts.headers.get(CONTENT_LENGTH).map(declared_length).transpose()?;
    if let Some(declared) = declared.filter(|declared| *declared > limits.max_request_bytes) {
        return Err(Error::HttpRequestBodySize(Some(declared)));
    }
    let body = RequestBody::new(body, limits.max_request_bytes, declared, too_large);
    Ok(Request::from_parts(parts, body))
}

fn declared_length(value: &HeaderValue) -> Result<u64, Error> {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(Error::HttpRequestBodySize(None))
}
