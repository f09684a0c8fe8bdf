//! The clock.

use jiff::Timestamp;

/// This moment, by the gateway's clock.
#[cfg(target_arch = "wasm32")]
pub(crate) fn now() -> Timestamp {
    let seconds = i64::try_from(wasip2::clocks::wall_clock::now().seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// This moment.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
