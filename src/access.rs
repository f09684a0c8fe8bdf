//! The `access` room: who is asking, and whether that is enough.
//!
//! Every request goes through one chain. First the built-in rule: it finds a principal by the presented key, or a reason
//! to turn the caller away. Then the policies, by order and name; `access/chain.rs` says how their answers add up. At the
//! end a caller needs a principal of either, or a policy that lets it in without one. The same policies then decide on the
//! model and on every tool call of that request, through the [`AccessScope`] it got.
//!
//! Chat endpoints are `open` by default: any key or none is accepted, and a key only keeps its holder's sessions apart
//! from everyone else's. With `access.chat = "required"` a caller must present the key in `WITGATE_API_KEY`, or be known
//! to a policy.

pub mod accounts;
mod chain;
mod error;
mod grants;
mod identity;
mod policy;
mod rules;
mod scope;
mod wasm_policy;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

pub use error::AccessError;
pub use grants::{BudgetPeriod, Grants, Limits, SCOPES, TokenBudget, is_scope};
pub use identity::{Credential, Door, Owner};
pub use policy::{AuthPolicy, FixedPolicies, PolicyError, PolicySet, PolicySource};
pub use rules::Rules;
pub use scope::AccessScope;
pub use wasm_policy::WasmPolicies;

use self::accounts::Accounts;
use self::identity::{Identified, Identity};
use crate::config::secret::Secret;
use crate::domain::{AccessAction, AccessRequest, HttpFacts, PrincipalKind, RequestId, TraceId};

/// The log's name for refusals, so that a log filter can single them out.
const REFUSED: &str = "witgate::access";

/// `[access]` in `gateway.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who may use `/chat` and `/v1`. Default `open`.
    pub chat: ChatAccess,
}

/// Who may use the chat endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatAccess {
    /// Everyone; a presented key is not checked.
    #[default]
    Open,
    /// Only callers with a valid key.
    Required,
}

/// Decides who a caller is and whether it may come in.
pub struct Access {
    identity: Identity,
    policies: Arc<dyn PolicySource>,
}

/// A request that wants to come in.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The request.
    pub request_id: RequestId,
    /// What it wants to enter.
    pub door: Door,
    /// What it presents.
    pub credential: Credential<'a>,
    /// The other side of the connection, where there is one.
    pub peer: Option<IpAddr>,
    /// The trace the client says it belongs to.
    pub trace_id: Option<TraceId>,
}

/// A configuration that nobody could get past.
#[derive(Debug, thiserror::Error)]
#[error(
    "access.chat = \"required\" needs a key to check: set WITGATE_API_KEY, add a plugin that authenticates callers, or set \
     access.chat = \"open\""
)]
pub struct NoKeyConfigured;

impl Access {
    /// An access check by `config` and `policies`; `static_key` is the value of `WITGATE_API_KEY`.
    ///
    /// # Errors
    /// When keys are required, and there is neither a key nor a policy.
    pub fn new(
        config: &Config,
        static_key: Option<&Secret>,
        policies: Arc<dyn PolicySource>,
    ) -> Result<Self, NoKeyConfigured> {
        let identity = Identity::new(config.chat, static_key);
        if !identity.chat_is_open() && !identity.has_key() && policies.snapshot().is_empty() {
            return Err(NoKeyConfigured);
        }
        Ok(Self { identity, policies })
    }

    /// Takes the keys of `accounts` too.
    #[must_use]
    pub fn with_accounts(mut self, accounts: Accounts) -> Self {
        self.identity.know(accounts);
        self
    }

    /// True when the chat endpoints take callers without a valid key, as far as the built-in rule is concerned.
    #[must_use]
    pub fn chat_is_open(&self) -> bool {
        self.identity.chat_is_open()
    }

    /// Lets a request in, or says why not. `facts` is called where there is a policy to read them.
    ///
    /// # Errors
    /// A policy's refusal or failure, else what the built-in rule says of a caller whom nobody let in.
    pub async fn enter(
        &self,
        entry: Entry<'_>,
        facts: impl FnOnce() -> HttpFacts,
    ) -> Result<AccessScope, AccessError> {
        let Entry { request_id, door, credential, peer, trace_id } = entry;
        let Identified { mut principal, mut is_known, mut grants, mut owner, mut refusal } =
            self.identity.identify(door, credential);
        let policies = self.policies.snapshot();
        let mut http = None;
        if !policies.is_empty() {
            let facts = Arc::new(facts());
            let mut request = AccessRequest {
                request_id: request_id.clone(),
                action: AccessAction::Endpoint,
                principal: is_known.then(|| principal.clone()),
                http: Some(Arc::clone(&facts)),
            };
            let verdict = chain::ask(&policies, &mut request).await?;
            http = Some(facts);
            if let Some(named) = verdict.named {
                grants = self.identity.grants_of(&named);
                (principal, is_known, owner) = (named, true, None);
            }
            // Being let in without a name is enough for the endpoints that can be open, and for no others.
            let is_authenticated = is_known && principal.kind != PrincipalKind::Anonymous;
            if is_authenticated || (door == Door::Chat && (is_known || verdict.let_in)) {
                refusal = None;
            }
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let scope = match door {
            Door::Chat => Some("chat"),
            Door::Guarded(scope) => Some(scope),
            Door::Known => None,
        };
        if let Some(scope) = scope.filter(|scope| !grants.has(scope)) {
            return Err(AccessError::MissingScope(scope));
        }
        let inner =
            scope::Inner { request_id, principal, is_known, grants, owner, policies, http, peer, trace_id };
        Ok(AccessScope::new(inner))
    }
}
