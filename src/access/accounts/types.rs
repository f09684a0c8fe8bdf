//! Users, keys and what is asked of them, as plain data. Times are milliseconds since 1970, UTC.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::access::grants::{Grants, Limits, SCOPES};
use crate::config::secret::Secret;

/// A user's number. Numbers are never given twice.
pub type UserId = i64;

/// What kind of user somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May do everything.
    Admin,
    /// May chat, see tools and call them.
    User,
    /// Cannot log in and only owns keys; may do what its grants say and nothing else.
    Service,
}

impl Role {
    /// The scopes a user of this role has unless its grants say less; of a service none.
    #[must_use]
    pub fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Admin => &SCOPES,
            Self::User => &["chat", "tools:list", "tools:call"],
            Self::Service => &[],
        }
    }

    /// `admin`, `user` or `service`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Service => "service",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Admin, Self::User, Self::Service].into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A user as it is stored, without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The number.
    pub id: UserId,
    /// The unique name.
    pub name: String,
    /// What kind of user.
    pub role: Role,
    /// What is said beyond the role. Empty scopes: all that the role has (a service: none).
    pub grants: Grants,
    /// Disabled users cannot log in, and neither their tokens nor their keys are taken.
    pub is_disabled: bool,
    /// Whether there is a password to log in with.
    pub has_password: bool,
    /// When it was made.
    pub created_ms: u64,
    /// When somebody last logged in with the password.
    pub last_login_ms: Option<u64>,
}

impl User {
    /// What the user may do: the role, narrowed by its own grants.
    #[must_use]
    pub fn effective_grants(&self) -> Grants {
        let mut grants = self.grants.clone();
        let role = self.role.scopes();
        if self.role == Role::Service {
            return grants;
        }
        if grants.scopes.is_empty() {
            grants.scopes = role.iter().map(|scope| (*scope).to_owned()).collect();
        } else {
            let of_role = Grants::of_scopes(role);
            grants.scopes.retain(|scope| of_role.covers(scope));
        }
        grants
    }
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// 1 to 128 characters, none of them a control character, no blanks at the ends.
    pub name: String,
    /// At least 8 characters; `None`: cannot log in until one is set. Services have none.
    pub password: Option<Secret>,
    /// What kind of user.
    pub role: Role,
    /// See [`User::grants`].
    pub grants: Grants,
}

/// What is to change of somebody's grants; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct GrantsPatch {
    /// Other scopes, in place of all there were; the lists in the same way.
    pub scopes: Option<Vec<String>>,
    /// Other models.
    pub models: Option<Vec<String>>,
    /// Other tools.
    pub tools: Option<Vec<String>>,
    /// Other limits, in place of all there were.
    pub limits: Option<Limits>,
}

impl GrantsPatch {
    /// True where nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scopes.is_none() && self.models.is_none() && self.tools.is_none() && self.limits.is_none()
    }

    /// The grants after the change.
    #[must_use]
    pub fn over(self, before: Grants) -> Grants {
        Grants {
            scopes: self.scopes.unwrap_or(before.scopes),
            models: self.models.unwrap_or(before.models),
            tools: self.tools.unwrap_or(before.tools),
            limits: self.limits.unwrap_or(before.limits),
        }
    }
}

/// What is to change of a user; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct UserPatch {
    /// Another name.
    pub name: Option<String>,
    /// Another role. The user's tokens end.
    pub role: Option<Role>,
    /// Other grants.
    pub grants: GrantsPatch,
    /// Disabled or enabled. The user's tokens end when it is disabled.
    pub is_disabled: Option<bool>,
    /// Another password. The user's tokens end.
    pub password: Option<Secret>,
    /// The change is made only where the user's tokens are still those of this generation.
    pub generation: Option<i64>,
}

/// An API key as it is stored, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// 12 letters and digits: the middle part of the key.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// The user it belongs to; may be gone, and then the key is revoked.
    pub owner: UserId,
    /// What it may do, within what its owner may.
    pub grants: Grants,
    /// When it was made.
    pub created_ms: u64,
    /// From when on it is not taken any longer.
    pub expires_ms: Option<u64>,
    /// When it was last taken; to the minute.
    pub last_used_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// 1 to 128 characters, none of them a control character, no blanks at the ends.
    pub name: String,
    /// At least one scope, none that the owner has not.
    pub grants: Grants,
    /// In the future; `None`: never.
    pub expires_ms: Option<u64>,
}

/// A key that was just made. The text of it exists nowhere else.
#[derive(Clone, Debug)]
pub struct CreatedKey {
    /// `wg_<id>_<secret>`.
    pub key: Secret,
    /// What is stored of it.
    pub info: ApiKey,
}

/// Somebody logged in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The access token, a JWT.
    pub token: Secret,
    /// Seconds until it expires.
    pub expires_in: u64,
    /// Who that is.
    pub user: User,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many to leave out at the beginning.
    pub offset: u64,
    /// How many at most; more than [`MAX_PAGE`] get that many.
    pub limit: u64,
}

/// The longest part of a list that is given out at once.
pub const MAX_PAGE: u64 = 1000;

impl Default for Page {
    fn default() -> Self {
        Self { offset: 0, limit: 100 }
    }
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// Users by number; keys with the newest first.
    pub items: Vec<T>,
    /// How many there are altogether.
    pub total: u64,
}
