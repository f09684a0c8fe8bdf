//! Deciding who may do what.

use crate::bindings::auth::exports::witgate::plugin::auth::Guest;
use crate::types::{Error, Principal};

pub use crate::bindings::auth::exports::witgate::plugin::auth::{
    AccessAction, AccessRequest, Decision, Denial, HttpRequest, ToolAccess,
};

/// Decides who may do what. Export it with `export!(TYPE: auth)`.
pub trait AuthPolicy {
    /// Called for every request at an endpoint, for the model it asks for, and for every tool call.
    ///
    /// # Errors
    /// An error, as well as a panic, counts as a refusal.
    fn authorize(request: &AccessRequest) -> Result<Decision, Error>;
}

impl<T: AuthPolicy> Guest for T {
    fn authorize(request: AccessRequest) -> Result<Decision, Error> {
        crate::runtime::start();
        T::authorize(&request)
    }
}

impl Decision {
    /// Allowed, as far as this policy is concerned; the caller stays who it is.
    pub const ALLOW: Self = Self::Allow(None);

    /// Allowed, and the caller is authenticated as this principal.
    #[must_use]
    pub fn allow_as(principal: Principal) -> Self {
        Self::Allow(Some(principal))
    }

    /// Not allowed. `status` is the HTTP status for the client (401, 403, 404 or 429; others become 403), `reason` is for
    /// the client as well.
    #[must_use]
    pub fn deny(status: u16, reason: impl Into<String>) -> Self {
        Self::Deny(Denial { status, reason: reason.into() })
    }
}

impl AccessRequest {
    /// A request for an action, without a principal and without HTTP; for tests.
    #[must_use]
    pub fn new(action: AccessAction) -> Self {
        Self { request_id: "test".into(), action, principal: None, http: None }
    }
}

impl HttpRequest {
    /// The value of a header that the operator's file grants. `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// `GET /` without headers, from nowhere; for tests.
impl Default for HttpRequest {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            path: "/".into(),
            query: None,
            authority: None,
            headers: Vec::new(),
            peer: None,
        }
    }
}
