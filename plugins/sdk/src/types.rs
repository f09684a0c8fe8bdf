//! Types that all kinds of plugins share, with short ways to make them.

use std::fmt::Display;

pub use crate::bindings::response::witgate::plugin::types::{
    Error, FinishReason, Principal, PrincipalKind, RequestContext as Context, ToolCall, Usage,
};

/// For tests: request `test` for model `test` at `/v1/chat/completions`, first attempt, no session, no principal.
impl Default for Context {
    fn default() -> Self {
        Self {
            request_id: "test".into(),
            endpoint: "/v1/chat/completions".into(),
            model: "test".into(),
            session_id: None,
            principal: None,
            attempt: 1,
        }
    }
}

impl Principal {
    /// A principal of a kind, without scopes and claims.
    #[must_use]
    pub fn new(id: impl Into<String>, kind: PrincipalKind) -> Self {
        Self { id: id.into(), kind, scopes: Vec::new(), claims_json: "{}".into() }
    }

    /// Whether the principal has a scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|own| own == scope)
    }
}

impl ToolCall {
    /// A call that the plugin makes up. `arguments_json` is a JSON object as text; the gateway gives the call its id.
    #[must_use]
    pub fn new(name: impl Into<String>, arguments_json: impl Into<String>) -> Self {
        Self { id: String::new(), name: name.into(), arguments_json: arguments_json.into() }
    }
}

impl Error {
    /// The caller may not do this.
    pub fn denied(why: impl Display) -> Self {
        Self::Denied(why.to_string())
    }

    /// The input is not what the plugin can work with.
    pub fn invalid_input(why: impl Display) -> Self {
        Self::InvalidInput(why.to_string())
    }

    /// A service the plugin depends on failed.
    pub fn upstream(why: impl Display) -> Self {
        Self::Upstream(why.to_string())
    }

    /// Anything else.
    pub fn internal(why: impl Display) -> Self {
        Self::Internal(why.to_string())
    }
}

/// JSON that does not read as expected is an invalid input.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::InvalidInput(error.to_string())
    }
}
