//! A small store of the plugin's own. It outlives calls, replies and reloads, but not the gateway.
//!
//! Its size is bounded; the operator's file says how much. Of several calls at once each sees what the others wrote.

pub use crate::bindings::response::witgate::plugin::key_value::StoreError;

#[cfg(target_arch = "wasm32")]
use crate::bindings::response::witgate::plugin::key_value as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::key_value as host;

/// The value of a key.
#[must_use]
pub fn get(key: &str) -> Option<Vec<u8>> {
    host::get(key)
}

/// The value of a key as text, none where it is not UTF-8.
#[must_use]
pub fn get_text(key: &str) -> Option<String> {
    get(key).and_then(|value| String::from_utf8(value).ok())
}

/// Sets a key. With `ttl_seconds` it vanishes after that time.
///
/// # Errors
/// Where key or value are too long, or the store is full.
pub fn set(key: &str, value: impl AsRef<[u8]>, ttl_seconds: Option<u32>) -> Result<(), StoreError> {
    host::set(key, value.as_ref(), ttl_seconds)
}

/// Sets a key that is not there yet, and tells whether it was set. Of several calls at once only one sets it.
///
/// # Errors
/// As with [`set`].
pub fn set_new(key: &str, value: impl AsRef<[u8]>, ttl_seconds: Option<u32>) -> Result<bool, StoreError> {
    host::set_new(key, value.as_ref(), ttl_seconds)
}

/// Adds to a counter and returns it. A missing key counts from 0, and `ttl_seconds` is set when it is made.
///
/// # Errors
/// As with [`set`], and where the value is not a number.
pub fn increment(key: &str, by: i64, ttl_seconds: Option<u32>) -> Result<i64, StoreError> {
    host::increment(key, by, ttl_seconds)
}

/// Removes a key, and tells whether it was there.
pub fn delete(key: &str) -> bool {
    host::delete(key)
}

/// Keys that begin with a prefix, in order, at most 1000.
#[must_use]
pub fn keys(prefix: &str) -> Vec<String> {
    host::keys(prefix)
}

/// A store that cannot take more is the plugin's own fault.
impl From<StoreError> for crate::Error {
    fn from(error: StoreError) -> Self {
        Self::Internal(format!("key-value store: {error:?}"))
    }
}
