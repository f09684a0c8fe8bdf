//! Users and keys as they are told, over HTTP and on the command line: without password and secret, times in RFC 3339.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::types::{ApiKey, Role, User, UserId};
use crate::access::grants::Limits;
use crate::domain::time::rfc3339;

/// A user as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct UserView<'a> {
    /// The number.
    pub id: UserId,
    /// The name.
    pub name: &'a str,
    /// What kind of user.
    pub role: Role,
    /// Whether it can log in and use its keys.
    pub disabled: bool,
    /// Whether there is a password to log in with.
    pub has_password: bool,
    /// What the user may do: what the role says, narrowed by the user's own grants.
    pub scopes: Vec<String>,
    /// Models it may ask; none: all.
    pub models: &'a [String],
    /// Tools it may see and call; none: all that the scopes allow.
    pub tools: &'a [String],
    /// How much.
    pub limits: &'a Limits,
    /// When it was made.
    pub created_at: Moment,
    /// When somebody last logged in.
    pub last_login_at: Option<Moment>,
}

/// A key as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct KeyView<'a> {
    /// The middle part of the key.
    pub id: &'a str,
    /// What its owner calls it.
    pub name: &'a str,
    /// The user it belongs to.
    pub user_id: UserId,
    /// What it may do, within what its owner may.
    pub scopes: &'a [String],
    /// Models it may ask; none: all.
    pub models: &'a [String],
    /// Tools it may see and call; none: all that the scopes allow.
    pub tools: &'a [String],
    /// How much.
    pub limits: &'a Limits,
    /// `active`, `expired` or `revoked`.
    pub status: &'static str,
    /// When it was made.
    pub created_at: Moment,
    /// When it ends.
    pub expires_at: Option<Moment>,
    /// When it was last taken.
    pub last_used_at: Option<Moment>,
    /// When it was revoked.
    pub revoked_at: Option<Moment>,
}

impl<'a> From<&'a User> for UserView<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            id: user.id,
            name: &user.name,
            role: user.role,
            disabled: user.is_disabled,
            has_password: user.has_password,
            scopes: user.effective_grants().scopes,
            models: &user.grants.models,
            tools: &user.grants.tools,
            limits: &user.grants.limits,
            created_at: Moment(user.created_ms),
            last_login_at: user.last_login_ms.map(Moment),
        }
    }
}

impl<'a> KeyView<'a> {
    /// The key as it is at `now_ms`.
    #[must_use]
    pub fn of(key: &'a ApiKey, now_ms: u64) -> Self {
        let status = match (key.revoked_ms, key.expires_ms) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now_ms => "expired",
            _ => "active",
        };
        Self {
            id: &key.id,
            name: &key.name,
            user_id: key.owner,
            scopes: &key.grants.scopes,
            models: &key.grants.models,
            tools: &key.grants.tools,
            limits: &key.grants.limits,
            status,
            created_at: Moment(key.created_ms),
            expires_at: key.expires_ms.map(Moment),
            last_used_at: key.last_used_ms.map(Moment),
            revoked_at: key.revoked_ms.map(Moment),
        }
    }
}

/// Milliseconds since 1970, told in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub u64);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&rfc3339(UNIX_EPOCH + Duration::from_millis(self.0)))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
