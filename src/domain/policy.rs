//! Access decisions: what a policy is asked, and what it may answer.
//!
//! The shapes are those of the plugin interface `auth` (`wit/auth.wit`), in the gateway's own types.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::ids::RequestId;
use super::principal::Principal;

/// What somebody wants to do.
#[derive(Clone, Debug)]
pub struct AccessRequest {
    /// The client's request.
    pub request_id: RequestId,
    /// What is to be done.
    pub action: AccessAction,
    /// Who is asking, where that is known by now.
    pub principal: Option<Principal>,
    /// The HTTP request it came with; `None` where there is none (standard input and output).
    pub http: Option<Arc<HttpFacts>>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessAction {
    /// Use the endpoint that the HTTP request names.
    Endpoint,
    /// Ask the model with this id.
    Model(String),
    /// Call a tool.
    Tool {
        /// The tool's name in the gateway.
        name: String,
        /// The MCP server or plugin that has it.
        server: String,
        /// The arguments: JSON text of an object.
        arguments: String,
    },
}

/// The parts of an HTTP request that decisions may rest on. Holds credentials: never log it, and show a policy only the
/// headers its operator granted.
#[derive(Clone)]
pub struct HttpFacts {
    /// Method in capitals.
    pub method: String,
    /// Path as sent, without the query.
    pub path: String,
    /// Query as sent, without the question mark.
    pub query: Option<String>,
    /// The host the client addressed.
    pub authority: Option<String>,
    /// Headers in order: lower-case name and value; values that are not UTF-8 are left out.
    pub headers: Vec<(String, String)>,
    /// The other side of the connection.
    pub peer: Option<IpAddr>,
}

/// A policy's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed as far as this policy is concerned; with a principal, the caller is authenticated as that.
    Allow(Option<Principal>),
    /// Not allowed, whatever other policies say.
    Deny(Denial),
    /// No opinion.
    Abstain,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denial {
    /// HTTP status for the client: 401, 403, 404, 429, or 503 where a policy failed.
    pub status: u16,
    /// Why, in words for the client.
    pub reason: String,
    /// The policy that refused, for logs.
    pub policy: String,
}

impl HttpFacts {
    /// The query with `[redacted]` in the place of every key, for policies that were not granted the key itself.
    #[must_use]
    pub fn query_without_keys(&self) -> Option<Cow<'_, str>> {
        let is_key = |name: &str| percent_decoded(name).eq_ignore_ascii_case(b"apikey");
        let query = self.query.as_deref()?;
        if !query.split('&').any(|pair| pair.split_once('=').is_some_and(|(name, _)| is_key(name))) {
            return Some(Cow::Borrowed(query));
        }
        let shown = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if is_key(name) => format!("{name}=[redacted]"),
            _ => pair.to_owned(),
        };
        Some(Cow::Owned(query.split('&').map(shown).collect::<Vec<_>>().join("&")))
    }
}

/// A name can be spelled in many ways: `%61pikey` is `apikey`.
fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

impl std::fmt::Debug for HttpFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpFacts")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_the_query_are_hidden_in_every_spelling() {
        let seen = |query: &str| {
            let facts = HttpFacts {
                method: "GET".to_owned(),
                path: "/v1/models".to_owned(),
                query: Some(query.to_owned()),
                authority: None,
                headers: Vec::new(),
                peer: None,
            };
            facts.query_without_keys().unwrap().into_owned()
        };
        assert_eq!(seen("a=1&apikey=k&b"), "a=1&apikey=[redacted]&b");
        assert_eq!(seen("%61pikey=k&APIKEY=k=k"), "%61pikey=[redacted]&APIKEY=[redacted]");
        assert_eq!(seen("apikey&apikeys=1&x=apikey&%zz=%6"), "apikey&apikeys=1&x=apikey&%zz=%6");
    }
}
