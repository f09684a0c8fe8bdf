//! What one request may do: made once when it comes in, asked again for its model and for each of its tool calls.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::AccessError;
use super::chain;
use super::enter::words;
use super::grants::{Grants, SCOPES};
use super::identity::{Door, Owner};
use super::limits::{LimitKind, Rates, StreamKind, StreamPermit};
use super::policy::PolicySet;
use super::rules::{Rules, ToolRefusal};
use super::trace::{Trace, Verdict};
use crate::audit::{AuditEvent, AuditLog, AuditOutcome, AuditSubject};
use crate::domain::{AccessAction, AccessRequest, HttpFacts, Principal, RequestId, TraceId};

/// A request that was let in: who is asking, and the policies that decide on what it does further. A clone is the same.
#[derive(Clone)]
pub struct AccessScope(Arc<Inner>);

#[derive(Clone)]
pub(super) struct Inner {
    pub(super) request_id: RequestId,
    pub(super) door: Door,
    pub(super) principal: Principal,
    /// Whether policies are shown the principal: one that nobody checked is none.
    pub(super) is_known: bool,
    /// What the gateway's own rules let the caller do, to be read; [`Self::has`] is to be asked.
    pub(super) grants: Arc<Rules>,
    /// Whose key it is, where the caller came with a key of a user.
    pub(super) owner: Option<Owner>,
    /// The caller's limits; `None` where there are none.
    pub(super) rates: Option<Rates>,
    /// The policies of the moment the request came in.
    pub(super) policies: Arc<PolicySet>,
    /// `None` where there is no policy to read it.
    pub(super) http: Option<Arc<HttpFacts>>,
    /// The other side of the connection.
    pub(super) peer: Option<IpAddr>,
    /// The trace it belongs to.
    pub(super) trace_id: Option<TraceId>,
    /// Where refusals are written down.
    pub(super) audit: AuditLog,
    /// Who wants to know what each rule says.
    pub(super) trace: Trace,
}

impl AccessScope {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// The same request of a caller who may do something else by now.
    pub(super) fn with_grants(self, grants: Arc<Rules>, owner: Option<Owner>) -> Self {
        Self::new(Inner { grants, owner, ..Arc::unwrap_or_clone(self.0) })
    }

    /// Where it came in.
    pub(super) fn door(&self) -> Door {
        self.0.door
    }

    /// A scope without rules and policies: for tests and benchmarks.
    #[must_use]
    pub fn unrestricted(request_id: RequestId, principal: Principal) -> Self {
        Self::new(Inner {
            request_id,
            door: Door::Chat,
            principal,
            is_known: true,
            grants: Arc::new(Grants::of_scopes(&SCOPES).into()),
            owner: None,
            rates: None,
            policies: Arc::new(PolicySet::default()),
            http: None,
            peer: None,
            trace_id: None,
            audit: AuditLog::none(),
            trace: Trace::default(),
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

    /// True for a caller with `scope`, as far as the gateway's own rules go; who may call some tools has `tools:call`.
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        self.0.grants.has(scope)
    }

    /// True where the caller's requests, tokens or streams are counted.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.0.rates.is_some()
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

    /// Whether the caller may see a model; `own_ids` are its ids at its upstreams. No policy is asked.
    #[must_use]
    pub fn sees_model<T: AsRef<str>>(&self, own_ids: &[T]) -> bool {
        own_ids.iter().all(|id| self.0.grants.sees_model(id.as_ref()))
    }

    /// Whether the gateway's own rules let the caller call the tool with these names; [`Self::tool`] asks the policies.
    /// For choosing what to offer: nothing is written down.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn may_call(&self, name: &str, qualified_name: &str) -> Result<(), AccessError> {
        self.0.grants.call(name, qualified_name)
    }

    /// [`Self::may_call`] for a call that is about to be made: a refusal is written down as one by `via`.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn check_call(&self, via: &'static str, name: &str, qualified_name: &str) -> Result<(), AccessError> {
        let (rules, trace) = (&self.0.grants, &self.0.trace);
        let refusal = rules.tool_refusal(name, qualified_name);
        let in_scope = !matches!(refusal, Some(ToolRefusal::NoScope | ToolRefusal::Scope));
        let scope_said = if in_scope { Verdict::Allowed } else { Verdict::Denied };
        trace.note("scope", scope_said, || {
            format!("calling `{name}` needs `tools:call`; the caller has {}", words(&rules.scopes))
        });
        if in_scope && !rules.tools.is_empty() {
            let list_said = if refusal.is_none() { Verdict::Allowed } else { Verdict::Denied };
            trace.note("tool-list", list_said, || {
                format!(
                    "the caller's tools are {}; this is `{name}`, or `{qualified_name}`",
                    words(&rules.tools)
                )
            });
        }
        let Some(refusal) = refusal else { return Ok(()) };
        let error = refusal.error(name);
        self.record(via, refusal.rule(), name, None, &error);
        Err(error)
    }

    /// True when [`Self::tool`] has somebody to ask.
    #[must_use]
    pub fn has_policies(&self) -> bool {
        !self.0.policies.is_empty()
    }

    /// Whether the caller may ask a model now. `asked` is what it was asked for by, empty for the default model;
    /// `own_ids` are its ids at its upstreams, so that no other name leads to it.
    ///
    /// # Errors
    /// When a rule or a policy refuses it, or a policy fails. The refusal has been written down.
    pub async fn model<T: AsRef<str>>(&self, asked: &str, own_ids: &[T]) -> Result<(), AccessError> {
        let decided = self.decide_model(asked, own_ids).await;
        if let Err(error) = &decided {
            let target = own_ids.first().map_or(asked, AsRef::as_ref);
            self.record(self.0.door.via(), &error.rule(), target, None, error);
        }
        decided
    }

    async fn decide_model<T: AsRef<str>>(&self, asked: &str, own_ids: &[T]) -> Result<(), AccessError> {
        let trace = &self.0.trace;
        if let Some(rates) = &self.0.rates {
            let tokens = rates.check_tokens();
            rates.note(trace, LimitKind::Tokens, &tokens);
            tokens?;
            let budget = rates.check_budget();
            rates.note(trace, LimitKind::Budget(super::BudgetPeriod::Ever), &budget);
            budget?;
        }
        let models = &self.0.grants.models;
        let why = || {
            let ids: Vec<String> = own_ids.iter().map(|id| id.as_ref().to_owned()).collect();
            format!("the caller's models are {}; this is {}", words(models), words(&ids))
        };
        if !self.sees_model(own_ids) {
            trace.note("model-list", Verdict::Denied, why);
            return Err(AccessError::ModelNotAllowed(asked.to_owned()));
        }
        if !models.is_empty() {
            trace.note("model-list", Verdict::Allowed, why);
        }
        if self.has_policies() {
            for id in own_ids {
                self.decide(AccessAction::Model(id.as_ref().to_owned())).await?;
            }
        }
        Ok(())
    }

    /// Whether the policies let the caller call the tool `name` of `server` with `arguments`, JSON text of an object. The
    /// text must be what the tool is called with, to the letter: a policy that reads something else decides on something
    /// else. [`Self::check_call`] comes before.
    ///
    /// # Errors
    /// When a policy refuses it or fails. The refusal has been written down as one by `via`.
    pub async fn tool(
        &self,
        via: &'static str,
        name: &str,
        server: &str,
        arguments: &str,
    ) -> Result<(), AccessError> {
        if !self.has_policies() {
            return Ok(());
        }
        let (tool, owner, arguments) = (name.to_owned(), server.to_owned(), arguments.to_owned());
        let decided = self.decide(AccessAction::Tool { name: tool, server: owner, arguments }).await;
        if let Err(error) = &decided {
            self.record(via, &error.rule(), name, Some(server), error);
        }
        decided
    }

    /// Counts a request more: one message of several that came at once.
    ///
    /// # Errors
    /// When there have been too many. The refusal has been written down.
    pub fn take_request(&self) -> Result<(), AccessError> {
        let Some(rates) = &self.0.rates else { return Ok(()) };
        rates.take_request().map_err(|reached| {
            let error = AccessError::from(reached);
            self.record(self.0.door.via(), &error.rule(), "request", None, &error);
            error
        })
    }

    /// A place for a streamed response, to be kept as long as the response lives.
    ///
    /// # Errors
    /// When the caller has as many streams as it may. The refusal has been written down.
    pub fn open_stream(&self) -> Result<StreamPermit, AccessError> {
        self.open(StreamKind::Answer)
    }

    /// A place for a stream that answers nothing and waits for news. It is not among those of [`Self::open_stream`], so that
    /// whoever listens can still ask; there may be as many of them.
    ///
    /// # Errors
    /// As for [`Self::open_stream`].
    pub fn open_news(&self) -> Result<StreamPermit, AccessError> {
        self.open(StreamKind::News)
    }

    fn open(&self, kind: StreamKind) -> Result<StreamPermit, AccessError> {
        let Some(rates) = &self.0.rates else { return Ok(StreamPermit::default()) };
        let opened = rates.open_stream(kind);
        opened.map_err(|reached| {
            let error = AccessError::from(reached);
            self.record(self.0.door.via(), &error.rule(), "stream", None, &error);
            error
        })
    }

    /// True when somebody wants to know how many tokens this request takes: then they have to be counted.
    #[must_use]
    pub fn counts_tokens(&self) -> bool {
        self.0.rates.as_ref().is_some_and(Rates::counts_tokens)
    }

    /// Takes down that this request used `tokens`, prompts and replies together.
    pub fn charge_tokens(&self, tokens: u64) {
        if let Some(rates) = &self.0.rates
            && tokens > 0
        {
            rates.charge_tokens(tokens);
        }
    }

    async fn decide(&self, action: AccessAction) -> Result<(), AccessError> {
        let mut request = AccessRequest {
            request_id: self.0.request_id.clone(),
            action,
            principal: self.0.is_known.then(|| self.0.principal.clone()),
            http: self.0.http.clone(),
        };
        chain::ask(&self.0.policies, &mut request, &self.0.trace).await.map(|_verdict| ())
    }

    pub(super) fn record(
        &self,
        via: &'static str,
        rule: &str,
        target: &str,
        server: Option<&str>,
        error: &AccessError,
    ) {
        self.0.audit.record(AuditEvent {
            subject: self.subject(),
            request_id: self.0.request_id.clone(),
            via,
            action: "denied",
            target: target.to_owned(),
            server: server.filter(|server| !server.is_empty()).map(str::to_owned),
            arguments: None,
            outcome: AuditOutcome::Denied { rule: rule.to_owned(), status: error.status() },
            duration: None,
            result_bytes: None,
        });
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
