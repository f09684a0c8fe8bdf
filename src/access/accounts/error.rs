//! Why something about accounts could not be done.

use std::time::Duration;

use super::types::UserId;
use crate::access::tokens::KeyFileError;

/// Why a user or a key could not be made, changed or found. The words are for whoever asked; a [`Self::Store`] is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// No user has this number.
    #[error("there is no user {0}")]
    NoUser(UserId),
    /// No user has this name.
    #[error("there is no user named `{0}`")]
    NoUserNamed(String),
    /// No key has this id.
    #[error("there is no key `{0}`")]
    NoKey(String),
    /// Names are unique.
    #[error("there is a user named `{0}` already")]
    NameTaken(String),
    /// A field has a value that cannot be.
    #[error("{field}: {problem}")]
    Invalid {
        /// `name`, `password`, `scopes`, `grants`, `expires` or `role`.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A key cannot do more than its owner.
    #[error("scopes: the owner does not have the scope `{0}`, so its key cannot have it")]
    ScopeNotHeld(String),
    /// What somebody proved before is not so any longer.
    #[error("the user's access tokens have ended meanwhile: log in again")]
    TokensEnded,
    /// The user has as many keys as anybody may have.
    #[error(
        "a user has at most {most} keys that are good, and those that are not revoked have lists of at most {kib} KiB \
         together: revoke some first"
    )]
    TooManyKeys {
        /// Keys.
        most: u64,
        /// The size of their scopes, models and tools.
        kib: u64,
    },
    /// Somebody has to be able to let everybody back in.
    #[error("this is the last admin who can log in: make somebody else an admin first")]
    LastAdmin,
    /// More passwords are being checked than the machine should bear.
    #[error("too many passwords are being checked at the moment; try again in {0:?}")]
    Busy(Duration),
    /// The database failed; for the operator only.
    #[error("the database of users and keys failed: {0}")]
    Store(String),
}

impl AccountError {
    pub(super) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { field, problem: problem.into() }
    }
}

impl From<rusqlite::Error> for AccountError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.to_string())
    }
}

/// Why somebody could not log in. Never tells whether there is such a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Name and password do not belong together, or that user cannot log in.
    #[error("the user name or the password is wrong")]
    Refused,
    /// Too many attempts for this name or from this address.
    #[error("too many failed logins; try again in {} seconds", .0.as_secs().max(1))]
    TooManyAttempts(Duration),
    /// More passwords are being checked than the machine should bear.
    #[error("too many logins at the moment; try again in {} seconds", .0.as_secs().max(1))]
    Busy(Duration),
    /// The database failed; for the operator only.
    #[error("{0}")]
    Store(String),
}

/// Why the accounts could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Database(#[from] crate::database::OpenError),
    /// The keys that access tokens are signed with.
    #[error(transparent)]
    Tokens(#[from] KeyFileError),
}
