//! Identifiers: unguessable where they grant access, traceable where they join log lines.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Characters of an id's random part: letters and digits only, so an id survives URLs, shells and double clicks.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Length of the random part of an id; 24 characters of 62 are 142 bits.
const RANDOM_LENGTH: usize = 24;

/// The longest id accepted from a client, in bytes.
const MAX_ID_BYTES: usize = 128;

/// A new id `prefix` + 24 characters from the operating system's random source (142 bits, unguessable).
///
/// Falls back to a process-seeded generator only where the operating system has no randomness to give.
#[must_use]
pub fn random_id(prefix: &str) -> String {
    let mut id = String::with_capacity(prefix.len() + RANDOM_LENGTH);
    id.push_str(prefix);
    push_random(&mut id, RANDOM_LENGTH, |pool| {
        if getrandom::fill(pool).is_err() {
            fastrand::fill(pool);
        }
    });
    id
}

/// `length` letters and digits for a secret, 5.95 bits each. `None` where the operating system has no randomness to give:
/// a secret must not be made of anything else.
#[must_use]
pub fn random_secret(length: usize) -> Option<String> {
    let mut text = String::with_capacity(length);
    let mut is_random = true;
    push_random(&mut text, length, |pool| is_random &= getrandom::fill(pool).is_ok());
    is_random.then_some(text)
}

fn push_random(text: &mut String, length: usize, mut fill: impl FnMut(&mut [u8])) {
    let end = text.len() + length;
    let mut pool = [0u8; 64];
    while text.len() < end {
        fill(&mut pool);
        for byte in pool {
            // Rejecting the top of the range keeps every character equally likely.
            if byte < 248 && text.len() < end {
                text.push(char::from(ALPHABET[usize::from(byte % 62)]));
            }
        }
    }
}

/// True for ids a client may name: 1 to 128 bytes of letters, digits, `-`, `_`, `.` and `:`.
#[must_use]
pub fn is_sane(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX_ID_BYTES
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A fresh random id.
            #[must_use]
            pub fn generate() -> Self {
                Self(random_id($prefix))
            }

            /// The id a client sent, if it is sane (see [`is_sane`]).
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                is_sane(text).then(|| Self(text.to_owned()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id!(
    /// Names one HTTP request in the `x-request-id` header and in every log line of that request.
    RequestId,
    "req_"
);
string_id!(
    /// Names one chat session; unguessable, and useless to anyone but its owner.
    SessionId,
    "ses_"
);

/// Names the trace that a request belongs to, across services: 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TraceId(String);

impl TraceId {
    /// The trace of a `traceparent` header, if that is valid. Source: W3C Trace Context, section 3.2.
    #[must_use]
    pub fn from_traceparent(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
        let is_sound = is_hex(version, 2) && version != "ff" && is_hex(flags, 2);
        let names_both = is_hex(trace, 32) && !is_zero(trace) && is_hex(parent, 16) && !is_zero(parent);
        // Later versions may have more to say; this one has not.
        let has_more = parts.next().is_some();
        (is_sound && names_both && (version != "00" || !has_more)).then(|| Self(trace.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_differ_and_are_sane() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| random_id("x_")).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| is_sane(id) && id.len() == 2 + RANDOM_LENGTH));
    }

    #[test]
    fn secrets_have_the_length_that_was_asked_for() {
        let (one, other) = (random_secret(100).unwrap(), random_secret(100).unwrap());
        assert!(one.len() == 100 && one != other && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn insane_ids_are_refused() {
        for bad in ["", "a b", "a\n", "ä", "../x", &"x".repeat(129)] {
            assert!(SessionId::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn traces_are_read_as_the_standard_says() {
        let trace = |header: &str| TraceId::from_traceparent(header).map(|id| id.as_str().to_owned());
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        assert_eq!(trace(&format!("cc-{id}-00f067aa0ba902b7-01-more")).as_deref(), Some(id));
        for bad in [
            String::new(),
            id.to_owned(),
            format!("00-{id}-00f067aa0ba902b7"),
            format!("00-{id}-00f067aa0ba902b7-01-more"),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{id}-00f067aa0ba902b7-1"),
        ] {
            assert_eq!(trace(&bad), None, "{bad}");
        }
    }
}
