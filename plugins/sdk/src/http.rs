//! HTTP requests to other servers, over `wasi:http`. Needs the crate's feature `http`.
//!
//! The operator must grant the hosts: `network = ["api.example.com:443"]` in the plugin's file. A component that uses this
//! module is refused at load where nothing is granted, and a request to any other host fails as [`HttpError::Denied`].
//!
//! ```
//! use witgate_plugin::{Error, http};
//!
//! # witgate_plugin::testing::answer_http(|_| Ok(http::Response::new(200, r#"{ "temperature": 21 }"#)));
//! #[derive(serde::Deserialize)]
//! struct Weather {
//!     temperature: i32,
//! }
//!
//! let response = http::get("https://api.example.com/weather?city=Bern").header("accept", "application/json").send()?;
//! let weather: Weather = response.success()?.json()?;
//! assert_eq!(weather.temperature, 21);
//! # Ok::<(), Error>(())
//! ```
//!
//! A request ends after [`DEFAULT_TIMEOUT`] and takes at most [`DEFAULT_MAX_BYTES`] of a body, unless the builder says
//! otherwise. The plugin's own call timeout, which the operator sets, ends it as well. Redirects are not followed: a
//! response with a status of 3xx is a response. Bodies come as the server sends them, without decompression.

#[cfg(target_arch = "wasm32")]
mod send;
mod url;

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::Error;

/// How long a request may take from connecting to the last byte, where nothing else is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest body that is read, where nothing else is said.
pub const DEFAULT_MAX_BYTES: usize = 1 << 20;

/// A `GET` of a URL.
#[must_use]
pub fn get(url: impl Into<String>) -> Request {
    Request::new("GET", url)
}

/// A `POST` to a URL.
#[must_use]
pub fn post(url: impl Into<String>) -> Request {
    Request::new("POST", url)
}

/// A request that is yet to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method in capitals.
    pub method: String,
    /// Absolute URL with `http` or `https`.
    pub url: String,
    /// Headers, in the order they were added.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// Longest time from connecting to the last byte.
    pub timeout: Duration,
    /// Longest body of the response.
    pub max_bytes: usize,
    /// Whether a longer body is cut there, or an error.
    pub cut: bool,
}

impl Request {
    /// A request with any method.
    #[must_use]
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Self {
            method: method.to_uppercase(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            max_bytes: DEFAULT_MAX_BYTES,
            cut: false,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a value as JSON, with its content type.
    ///
    /// # Errors
    /// Where the value cannot be written as JSON.
    pub fn json<T: Serialize>(self, value: &T) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(Error::internal)?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Sets the longest time from connecting to the last byte.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Refuses a longer body: the request then fails as [`HttpError::TooLarge`].
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self.cut = false;
        self
    }

    /// Reads no more than this much of the body, and leaves the rest: [`Response::was_cut`] tells.
    #[must_use]
    pub fn cut_at(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self.cut = true;
        self
    }

    /// Sends it and reads the whole response.
    ///
    /// # Errors
    /// Where no complete response came. A status of 4xx or 5xx is a response; see [`Response::success`].
    pub fn send(self) -> Result<Response, HttpError> {
        url::Url::parse(&self.url)?;
        #[cfg(target_arch = "wasm32")]
        return send::send(&self);
        #[cfg(not(target_arch = "wasm32"))]
        crate::testing::http_answer(&self)
    }
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers with names in lower case, in the order they came; values that are no UTF-8 are left out.
    pub headers: Vec<(String, String)>,
    /// The body, or its beginning where it was cut.
    pub body: Vec<u8>,
    /// Whether the body goes on after what is here. Only with [`Request::cut_at`].
    pub was_cut: bool,
}

impl Response {
    /// A response without headers; for tests.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), was_cut: false }
    }

    /// The first header of a name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The response itself where its status is 2xx.
    ///
    /// # Errors
    /// Any other status, as [`HttpError::Status`].
    pub fn success(self) -> Result<Self, HttpError> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(HttpError::Status(self.status)) }
    }

    /// The body as text.
    ///
    /// # Errors
    /// Where it is no UTF-8.
    pub fn text(self) -> Result<String, HttpError> {
        String::from_utf8(self.body)
            .map_err(|error| HttpError::Failed(format!("the body is no UTF-8: {error}")))
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// Where it does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| HttpError::Failed(format!("the body is not the JSON expected: {error}")))
    }
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpError {
    /// The URL is none, or not of `http` or `https`.
    Url(String),
    /// The operator's file does not grant this host, or it has an address that plugins may not reach.
    Denied(String),
    /// It took longer than allowed.
    Timeout,
    /// The body is longer than allowed: limit in bytes.
    TooLarge(usize),
    /// The status is none of 2xx. Only from [`Response::success`].
    Status(u16),
    /// Anything else: no such host, no connection, broken off.
    Failed(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(out, "not a URL to fetch: {why}"),
            Self::Denied(why) => write!(out, "not granted by the plugin's file, see `network` there: {why}"),
            Self::Timeout => write!(out, "no complete answer in time"),
            Self::TooLarge(limit) => write!(out, "the answer is longer than {limit} bytes"),
            Self::Status(status) => write!(out, "the server answered with status {status}"),
            Self::Failed(why) => write!(out, "{why}"),
        }
    }
}

impl std::error::Error for HttpError {}

/// A server that does not answer as expected is an upstream error; a wrong URL is an invalid input.
impl From<HttpError> for Error {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Url(_) => Self::InvalidInput(error.to_string()),
            _ => Self::Upstream(error.to_string()),
        }
    }
}

/// A tool's call that needs a server fails with it.
impl From<HttpError> for crate::ToolError {
    fn from(error: HttpError) -> Self {
        Error::from(error).into()
    }
}
