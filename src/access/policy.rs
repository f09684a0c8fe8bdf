//! The port of access policies, and the set of them that one request is decided by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{AccessRequest, Decision};

/// First parts of the ids the gateway itself gives; a policy of such a name could make its callers look like others.
const RESERVED_NAMES: [&str; 8] = ["anonymous", "cli", "key", "oidc", "policy", "token", "user", "witgate"];

/// Decides who may do what. Called for every request at an endpoint, for the model it asks for, and for every tool call.
#[async_trait]
pub trait AuthPolicy: Send + Sync {
    /// The name in logs and before the ids of the principals it makes; unique, without colons.
    fn name(&self) -> &str;

    /// Lower ones are asked first; equal ones by name.
    fn order(&self) -> i64;

    /// Decides. Must end within a time of its own; the chain's own limit is only there so that nothing hangs.
    ///
    /// # Errors
    /// When there is no decision: the request is then refused.
    async fn authorize(&self, request: &AccessRequest) -> Result<Decision, PolicyError>;
}

/// Why a policy could not decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PolicyError {
    /// What happened, for the operator's log only.
    pub message: String,
    /// When the policy is willing to be asked again.
    pub retry_after: Option<Duration>,
}

impl PolicyError {
    /// A failure in words for the operator.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry_after: None }
    }
}

/// Where the policies come from. They may change at any time; a request asks once and keeps what it got.
pub trait PolicySource: Send + Sync {
    /// The policies there are now. Must be cheap: it is called for every request.
    fn snapshot(&self) -> Arc<PolicySet>;
}

/// The policies of one moment, in the order they are asked.
#[derive(Default)]
pub struct PolicySet {
    policies: Vec<Arc<dyn AuthPolicy>>,
    /// A plugin that has to be there and is not: everybody is refused.
    missing: Option<String>,
}

impl PolicySet {
    /// A set of `policies`. `missing` names plugins that have to be there and could not be loaded: as long as there are
    /// any, every request is refused, since nobody knows what they would have said.
    #[must_use]
    pub fn new(mut policies: Vec<Arc<dyn AuthPolicy>>, mut missing: Vec<String>) -> Self {
        policies.sort_by(|a, b| (a.order(), a.name()).cmp(&(b.order(), b.name())));
        for policy in &policies {
            let name = policy.name();
            if name.is_empty() || name.contains(':') || RESERVED_NAMES.contains(&name) {
                tracing::error!(
                    policy = name,
                    "an access policy cannot be called `{name}`: that begins ids of the gateway's own; all requests \
                     are refused until it is renamed or removed"
                );
                missing.push(name.to_owned());
            }
        }
        missing.sort();
        Self { policies, missing: missing.into_iter().next() }
    }

    /// True when there is nobody to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.missing.is_none()
    }

    /// The policies in the order they are asked.
    pub(super) fn policies(&self) -> &[Arc<dyn AuthPolicy>] {
        &self.policies
    }

    /// The first plugin that has to be there and is not.
    pub(super) fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.policies.iter().map(|policy| policy.name()).collect();
        f.debug_struct("PolicySet").field("policies", &names).field("missing", &self.missing).finish()
    }
}

/// Policies that never change.
#[derive(Debug, Default)]
pub struct FixedPolicies(pub Arc<PolicySet>);

impl PolicySource for FixedPolicies {
    fn snapshot(&self) -> Arc<PolicySet> {
        Arc::clone(&self.0)
    }
}
