//! The single grants of a plugin's file: files, headers, environment variables. (Those of the network are in `egress`.)
//!
//! Promises: whatever parses has one meaning. What a grant does not name is not granted.

use std::path::PathBuf;

use serde::Deserialize;

/// A text with `*` for any run of characters, also none. Upper and lower case differ.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(String);

impl Pattern {
    /// Matches everything.
    #[must_use]
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether all of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            // The leftmost place leaves the most for the parts that follow.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty text matches nothing; * matches everything".to_owned());
        }
        Ok(Self(text))
    }
}

/// A folder of this machine that a plugin may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGrant {
    /// Where it is on this machine; a relative path starts from the working folder.
    pub host: PathBuf,
    /// What the plugin calls it: an absolute path.
    pub guest: GuestPath,
    /// What may be done with it. Default `read`.
    #[serde(default)]
    pub mode: FileMode,
}

/// What may be done with granted files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileMode {
    /// Reading and listing.
    #[default]
    Read,
    /// Reading, listing, writing, making and removing.
    Write,
}

/// An absolute path as plugins see it, without `.`, `..` and a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct GuestPath(String);

impl GuestPath {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GuestPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = text.strip_suffix('/').filter(|path| path.len() > 1).unwrap_or(&text);
        let inner = path.strip_prefix('/');
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        match inner {
            Some(inner) if inner.is_empty() || inner.split('/').all(is_plain) => Ok(Self(path.to_owned())),
            _ => Err(format!("{text:?} is not an absolute path without . and .., for example \"/data\"")),
        }
    }
}

/// A part of HTTP requests that an auth policy may see.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum HeaderGrant {
    /// A header, in lower case.
    Header(String),
    /// A key in the query, written `?apikey`.
    QueryKey(String),
}

impl TryFrom<String> for HeaderGrant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_token = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte))
        };
        match text.strip_prefix('?') {
            Some(key) if is_token(key) => Ok(Self::QueryKey(key.to_owned())),
            None if is_token(&text) => Ok(Self::Header(text.to_ascii_lowercase())),
            _ => Err(format!(
                "{text:?} is neither the name of a header, for example \"authorization\", nor of a key in the query, \
                 for example \"?apikey\""
            )),
        }
    }
}

/// A variable of a plugin's environment: `NAME` takes the gateway's value, `NAME=value` sets one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct EnvGrant {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

impl TryFrom<String> for EnvGrant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.as_str(), None),
        };
        if name.is_empty() || name.contains('\0') || value.is_some_and(|value| value.contains('\0')) {
            // The text is not shown: a value may be a secret.
            return Err("must be NAME, for the gateway's own variable, or NAME=value".to_owned());
        }
        Ok(Self { name: name.to_owned(), value: value.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        let matches = |pattern: &str, text: &str| Pattern(pattern.to_owned()).matches(text);
        for (pattern, text) in [
            ("*", ""),
            ("*", "gpt-4"),
            ("gpt-*", "gpt-4"),
            ("gpt-*", "gpt-"),
            ("*-mini", "gpt-4-mini"),
            ("/v1/*", "/v1/chat/completions"),
            ("a*b*c", "a-b-b-c"),
            ("a*a", "aa"),
            ("gpt-4", "gpt-4"),
            ("*é*", "café au lait"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("gpt-*", "GPT-4"),
            ("gpt-4", "gpt-4o"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("/v1/*", "/v2/x"),
            ("*b", "bc"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn guest_paths_are_absolute_and_plain() {
        let path = |text: &str| GuestPath::try_from(text.to_owned());
        assert_eq!(path("/data/").unwrap().as_str(), "/data");
        assert_eq!(path("/").unwrap().as_str(), "/");
        for text in ["", "data", "/a/../b", "/./a", "//", "///", "/a//b", "/a\0"] {
            assert!(path(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn headers_and_query_keys_are_told_apart() {
        let header = |text: &str| HeaderGrant::try_from(text.to_owned());
        assert_eq!(header("X-Api-Key"), Ok(HeaderGrant::Header("x-api-key".to_owned())));
        assert_eq!(header("?apiKey"), Ok(HeaderGrant::QueryKey("apiKey".to_owned())));
        assert!(header("*").is_err() && header("?").is_err() && header("a b").is_err());
    }
}
