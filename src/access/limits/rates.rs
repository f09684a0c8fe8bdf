//! How much a caller has left, for the `x-ratelimit-*` headers, in the form of OpenAI's API.

use std::fmt::Write;
use std::time::Duration;

/// One limit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLine {
    /// How much there is in a minute.
    pub limit: u64,
    /// How much is left now.
    pub remaining: u64,
    /// How long until all of it is there again.
    pub reset: Duration,
}

/// The limits of one caller at one moment; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateReport {
    /// Requests in a minute.
    pub requests: Option<RateLine>,
    /// Tokens in a minute.
    pub tokens: Option<RateLine>,
}

impl RateLine {
    /// The reset as OpenAI writes it: `20ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`.
    #[must_use]
    pub fn reset_text(&self) -> String {
        duration_text(self.reset)
    }

    /// The one of which less is left.
    pub(super) fn tighter(self, other: Option<Self>) -> Self {
        other.filter(|other| other.remaining < self.remaining).unwrap_or(self)
    }
}

/// A duration as Go prints it, in whole milliseconds.
pub(super) fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms > 0 && ms < 1000 {
        return format!("{ms}ms");
    }
    let (seconds, fraction) = (ms / 1000, ms % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{seconds}");
    if fraction > 0 {
        let _ = write!(text, ".{}", format!("{fraction:03}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        for (ms, text) in [
            (0, "0s"),
            (20, "20ms"),
            (1_000, "1s"),
            (8_640, "8.64s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (90_005, "1m30.005s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(duration_text(Duration::from_millis(ms)), text);
        }
    }
}
