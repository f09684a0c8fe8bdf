//! What the gateway would answer, for tests on the machine you develop on.
//!
//! Each thread has a gateway of its own, and Rust runs each test on its own thread: tests do not see each other.
//!
//! ```
//! use witgate_plugin::{log, secret, testing};
//!
//! testing::set_secret("api-key", "abc");
//! assert_eq!(secret("api-key").as_deref(), Some("abc"));
//! log::warn!("look here");
//! assert_eq!(testing::log_lines(), ["look here"]);
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::Value;

#[cfg(feature = "http")]
use crate::http;
use crate::log::Level;

/// Sets the `[config]` table, as the text of a JSON object.
///
/// # Panics
/// Where the text is not a JSON object.
#[expect(clippy::panic, reason = "a test with a broken table has failed")]
pub fn set_config(json: &str) {
    match serde_json::from_str(json) {
        Ok(table @ Value::Object(_)) => with(|host| host.config = table),
        Ok(other) => panic!("the config must be a JSON object, not {other}"),
        Err(error) => panic!("the config is not JSON: {error}"),
    }
}

/// Grants a secret.
pub fn set_secret(name: &str, value: &str) {
    with(|host| host.secrets.insert(name.to_owned(), value.to_owned()));
}

/// Sets what [`reply_body`](crate::reply_body) returns.
pub fn set_reply_body(json: &str) {
    with(|host| host.reply_body = Some(json.to_owned()));
}

/// Sets what answers HTTP requests. Without it every request fails as not granted.
#[cfg(feature = "http")]
pub fn answer_http(answer: impl Fn(&http::Request) -> Result<http::Response, http::HttpError> + 'static) {
    with(|host| host.http = Some(std::rc::Rc::new(answer)));
}

#[cfg(feature = "http")]
pub(crate) fn http_answer(request: &http::Request) -> Result<http::Response, http::HttpError> {
    // The answer may itself log or read the configuration.
    match with(|host| host.http.clone()) {
        Some(answer) => answer(request),
        None => Err(http::HttpError::Denied("testing::answer_http was not called".into())),
    }
}

/// The messages that were logged, without levels and fields.
#[must_use]
pub fn log_lines() -> Vec<String> {
    with(|host| host.log.iter().map(|(_, message, _)| message.clone()).collect())
}

/// Everything that was logged: level, message, fields.
#[must_use]
pub fn log() -> Vec<LogLine> {
    with(|host| host.log.clone())
}

/// One line of the log: level, message, fields.
pub type LogLine = (Level, String, Vec<(String, String)>);

/// One thread's gateway.
pub(crate) struct Host {
    pub(crate) config: Value,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) reply_body: Option<String>,
    pub(crate) log: Vec<LogLine>,
    store: BTreeMap<String, Vec<u8>>,
    #[cfg(feature = "http")]
    http: Option<HttpAnswer>,
}

#[cfg(feature = "http")]
type HttpAnswer = std::rc::Rc<dyn Fn(&http::Request) -> Result<http::Response, http::HttpError>>;

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host {
        config: Value::Object(serde_json::Map::new()),
        secrets: BTreeMap::new(),
        reply_body: None,
        log: Vec::new(),
        store: BTreeMap::new(),
        #[cfg(feature = "http")]
        http: None,
    });
}

pub(crate) fn with<R>(use_host: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(use_host)
}

/// The key-value store of this thread. Nothing vanishes with time, and it is never full.
pub(crate) mod key_value {
    use super::with;
    use crate::kv::StoreError;

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        with(|host| host.store.get(key).cloned())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the gateway's own store can be full")]
    pub(crate) fn set(key: &str, value: &[u8], _ttl_seconds: Option<u32>) -> Result<(), StoreError> {
        with(|host| host.store.insert(key.to_owned(), value.to_owned()));
        Ok(())
    }

    pub(crate) fn set_new(key: &str, value: &[u8], ttl_seconds: Option<u32>) -> Result<bool, StoreError> {
        if get(key).is_some() {
            return Ok(false);
        }
        set(key, value, ttl_seconds).map(|()| true)
    }

    pub(crate) fn increment(key: &str, by: i64, ttl_seconds: Option<u32>) -> Result<i64, StoreError> {
        let old = match get(key) {
            None => 0,
            Some(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or(StoreError::NotANumber)?,
        };
        let new = old.saturating_add(by);
        set(key, new.to_string().as_bytes(), ttl_seconds).map(|()| new)
    }

    pub(crate) fn delete(key: &str) -> bool {
        with(|host| host.store.remove(key).is_some())
    }

    pub(crate) fn keys(prefix: &str) -> Vec<String> {
        with(|host| host.store.keys().filter(|key| key.starts_with(prefix)).take(1000).cloned().collect())
    }
}
