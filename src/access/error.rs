//! Why a caller was turned away.

use std::borrow::Cow;
use std::time::Duration;

use super::limits::{LimitKind, LimitReached};
use super::oidc::TokenRefusal;
use crate::domain::Denial;

/// Why a caller was turned away. The words are for the caller and tell nothing about the inside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No credential was presented.
    #[error(
        "an API key or an access token is required: send it as `Authorization: Bearer <key>` or `X-API-KEY: <key>`"
    )]
    Missing,
    /// The presented credential is not valid.
    #[error("the API key or access token is not valid")]
    Invalid,
    /// The presented key was good once.
    #[error("the API key was revoked; ask for another one")]
    Revoked,
    /// The presented key's time is over.
    #[error("the API key has expired; ask for another one")]
    Expired,
    /// The presented token was taken away before its time.
    #[error("the access token is no longer valid: log in again")]
    TokenEnded,
    /// The presented token's time is over.
    #[error("the access token has expired: log in again")]
    TokenExpired,
    /// The presented token comes from an outside issuer and is not taken.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// The caller is known and may not do this.
    #[error("this needs the scope `{0}`, which your credential does not have")]
    MissingScope(&'static str),
    /// The caller may call tools, and not this one: to the caller there is no such tool.
    #[error("there is no tool named `{0}`")]
    ToolNotAllowed(String),
    /// The caller may not ask this model: to the caller there is no such model. Empty for the default model.
    #[error("{}", no_such_model(.0))]
    ModelNotAllowed(String),
    /// The caller has had as much as it may have for now.
    #[error(transparent)]
    LimitReached(#[from] LimitReached),
    /// A policy said no.
    #[error("{0}")]
    Denied(Denial),
    /// A plugin that has to be there is not: nobody knows what it would have decided.
    #[error("the plugin `{0}` has to be there and could not be loaded; try again later or ask the operator")]
    PluginMissing(String),
    /// A policy could not decide, which counts as a no.
    #[error("the access policy `{policy}` failed; try again or ask the operator")]
    PolicyFailed {
        /// The policy.
        policy: String,
        /// When to try again, where the policy says so.
        retry_after: Option<Duration>,
    },
}

impl AccessError {
    /// True for a credential that was good once, or that claims to come from a known issuer: whoever has it is told, also
    /// where strangers may come in.
    pub(super) fn is_of_ended(&self) -> bool {
        matches!(self, Self::Revoked | Self::Expired | Self::TokenEnded | Self::TokenExpired | Self::Token(_))
    }

    /// The HTTP status that tells it: 401, 403, 404, 429 or 503.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Missing
            | Self::Invalid
            | Self::Revoked
            | Self::Expired
            | Self::TokenEnded
            | Self::TokenExpired => 401,
            Self::Token(refusal) => refusal.status(),
            Self::MissingScope(_) => 403,
            Self::ToolNotAllowed(_) | Self::ModelNotAllowed(_) => 404,
            Self::LimitReached(_) => 429,
            Self::Denied(denial) => denial.status,
            Self::PluginMissing(_) | Self::PolicyFailed { .. } => 503,
        }
    }

    /// A short name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing_api_key",
            Self::Invalid => "invalid_api_key",
            Self::Revoked => "revoked_api_key",
            Self::Expired => "expired_api_key",
            Self::TokenEnded => "revoked_token",
            Self::TokenExpired => "expired_token",
            Self::Token(refusal) => refusal.code(),
            Self::MissingScope(_) | Self::Denied(_) => "access_denied",
            Self::ToolNotAllowed(_) => "tool_not_found",
            Self::ModelNotAllowed(_) => "model_not_found",
            Self::LimitReached(reached) if matches!(reached.kind, LimitKind::Budget(_)) => {
                "insufficient_quota"
            }
            Self::LimitReached(_) => "rate_limit_exceeded",
            Self::PluginMissing(_) => "plugin_missing",
            Self::PolicyFailed { .. } => "access_policy_failed",
        }
    }

    /// The name of the rule that refused, for the audit log.
    #[must_use]
    pub fn rule(&self) -> Cow<'static, str> {
        match self {
            Self::Missing
            | Self::Invalid
            | Self::Revoked
            | Self::Expired
            | Self::TokenEnded
            | Self::TokenExpired
            | Self::Token(_) => "credential".into(),
            Self::MissingScope(_) => "scope".into(),
            Self::ToolNotAllowed(_) => "tool-list".into(),
            Self::ModelNotAllowed(_) => "model-list".into(),
            Self::LimitReached(reached) => reached.rule().into(),
            Self::Denied(denial) => format!("plugin:{}", denial.policy).into(),
            Self::PluginMissing(policy) | Self::PolicyFailed { policy, .. } => {
                format!("plugin:{policy}").into()
            }
        }
    }
}

fn no_such_model(id: &str) -> String {
    match id {
        "" => {
            "the default model is not there for you; name one of those that GET /v1/models lists".to_owned()
        }
        id => format!("the model `{id}` does not exist; GET /v1/models lists the models there are"),
    }
}
