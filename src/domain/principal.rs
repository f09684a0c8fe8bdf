//! Who is asking: the identity every session, tool call and log line is tied to.

use serde::Serialize;

/// What kind of caller a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// Nobody presented a credential that was checked.
    Anonymous,
    /// A person who logged in.
    User,
    /// A program with an API key.
    Service,
}

/// The caller of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// Stable id, for example `anonymous` or `key:static`; never a secret.
    pub id: String,
    /// What kind of caller this is.
    pub kind: PrincipalKind,
    /// What the caller may do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// More about the caller: JSON text of an object, for example a token's claims. `{}` where nothing is known.
    #[serde(skip)]
    pub claims_json: String,
}

impl Principal {
    /// The caller who presented nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new("anonymous", PrincipalKind::Anonymous)
    }

    /// A caller known by `id`.
    pub fn new(id: impl Into<String>, kind: PrincipalKind) -> Self {
        Self { id: id.into(), kind, scopes: Vec::new(), claims_json: "{}".to_owned() }
    }
}
