//! What time it is.

/// Seconds since 1970 in UTC, from the gateway's clock.
#[cfg(target_arch = "wasm32")]
pub(crate) fn now() -> i64 {
    i64::try_from(wasip2::clocks::wall_clock::now().seconds).unwrap_or(i64::MAX)
}

/// Seconds since 1970 in UTC.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
