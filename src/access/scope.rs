//! What one request may do: made once when it comes in, asked again for its model and for each of its tool calls.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::AccessError;
use super::chain;
use super::grants::{Grants, SCOPES};
use super::identity::Owner;
use super::policy::PolicySet;
use super::rules::Rules;
use crate::audit::AuditSubject;
use crate::domain::{AccessAction, AccessRequest, HttpFacts, Principal, RequestId, TraceId};

/// A request that was let in: who is asking, and the policies that decide on what it does further. A clone is the same.
#[derive(Clone)]
pub struct AccessScope(Arc<Inner>);

pub(super) struct Inner {
    pub(super) request_id: RequestId,
    pub(super) principal: Principal,
    /// Whether policies are shown the principal: one that nobody checked is none.
    pub(super) is_known: bool,
    /// What the gateway's own rules let the caller do.
    pub(super) grants: Arc<Rules>,
    /// Whose key it is, where the caller came with a key of a user.
    pub(super) owner: Option<Owner>,
    /// The policies of the moment the request came in.
    pub(super) policies: Arc<PolicySet>,
    /// `None` where there is no policy to read it.
    pub(super) http: Option<Arc<HttpFacts>>,
    /// The other side of the connection.
    pub(super) peer: Option<IpAddr>,
    /// The trace it belongs to.
    pub(super) trace_id: Option<TraceId>,
}

impl AccessScope {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// A scope without policies: for callers who are the operator, and for tests.
    #[must_use]
    pub fn unrestricted(request_id: RequestId, principal: Principal) -> Self {
        let policies = Arc::new(PolicySet::default());
        let grants = Arc::new(Grants::of_scopes(&SCOPES).into());
        Self::new(Inner {
            request_id,
            principal,
            is_known: true,
            grants,
            owner: None,
            policies,
            http: None,
            peer: None,
            trace_id: None,
        })
    }

    /// Who is asking.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// The request.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.0.request_id
    }

    /// What the gateway's own rules let the caller do.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.0.grants
    }

    /// The user whose key the caller came with; what the user is limited to counts for all its keys together.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.0.owner.as_ref()
    }

    /// The caller for the audit log.
    #[must_use]
    pub fn subject(&self) -> AuditSubject {
        AuditSubject { peer: self.0.peer, trace_id: self.0.trace_id.clone(), ..self.principal().into() }
    }

    /// Whether the caller may see the tool with these names (canonical, `server__tool`); no policy is asked.
    #[must_use]
    pub fn sees_tool(&self, name: &str, qualified_name: &str) -> bool {
        self.0.grants.sees_tool(name, qualified_name)
    }

    /// Whether the caller may see the model `id`; no policy is asked.
    #[must_use]
    pub fn sees_model(&self, id: &str) -> bool {
        self.0.grants.sees_model(id)
    }

    /// Whether the gateway's own rules let the caller call the tool with these names; [`Self::tool`] asks the policies.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn may_call(&self, name: &str, qualified_name: &str) -> Result<(), AccessError> {
        self.0.grants.call(name, qualified_name)
    }

    /// True when [`Self::tool`] has somebody to ask.
    #[must_use]
    pub fn has_policies(&self) -> bool {
        !self.0.policies.is_empty()
    }

    /// Whether the caller may ask the model `id`.
    ///
    /// # Errors
    /// When a rule or a policy refuses it, or a policy fails.
    pub async fn model(&self, id: &str) -> Result<(), AccessError> {
        if !self.sees_model(id) {
            return Err(AccessError::ModelNotAllowed(id.to_owned()));
        }
        if !self.has_policies() {
            return Ok(());
        }
        self.decide(AccessAction::Model(id.to_owned())).await
    }

    /// Whether the caller may call the tool `name` of `server` with `arguments`, JSON text of an object. The text must be
    /// what the tool is called with, to the letter: a policy that reads something else decides on something else.
    ///
    /// # Errors
    /// When a policy refuses it or fails.
    pub async fn tool(&self, name: &str, server: &str, arguments: &str) -> Result<(), AccessError> {
        if !self.has_policies() {
            return Ok(());
        }
        let (name, server, arguments) = (name.to_owned(), server.to_owned(), arguments.to_owned());
        self.decide(AccessAction::Tool { name, server, arguments }).await
    }

    async fn decide(&self, action: AccessAction) -> Result<(), AccessError> {
        let mut request = AccessRequest {
            request_id: self.0.request_id.clone(),
            action,
            principal: self.0.is_known.then(|| self.0.principal.clone()),
            http: self.0.http.clone(),
        };
        chain::ask(&self.0.policies, &mut request).await.map(|_verdict| ())
    }
}

impl fmt::Debug for AccessScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessScope")
            .field("request_id", &self.0.request_id)
            .field("principal", &self.0.principal)
            .field("policies", &self.0.policies)
            .finish_non_exhaustive()
    }
}
