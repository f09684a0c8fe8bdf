//! The way in: from a credential to an [`AccessScope`], or to a refusal that is written down.
//!
//! The rules in their order: credential, scope, limits, policies. Who is asking must be settled first, so for a caller
//! whom the gateway does not know itself the policies come before scope and limits; one whom a policy gives another name
//! is measured by that name as well.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::identity::{Credential, Door, Identified};
use super::limits::{LimitKind, Metered, Rates};
use super::scope::{AccessScope, Inner};
use super::trace::{Trace, Verdict};
use super::{Access, AccessError, Entry, chain};
use crate::audit::{AuditEvent, AuditOutcome, AuditSubject};
use crate::domain::{AccessAction, AccessRequest, HttpFacts, PrincipalKind, RequestId, TraceId};

/// Where the way in leaves the limits of a caller who has any, for the headers of the response: also of a refusal.
#[derive(Clone, Debug, Default)]
pub struct RateSlot(Arc<Mutex<Option<Rates>>>);

impl RateSlot {
    /// The limits, if there are any.
    #[must_use]
    pub fn get(&self) -> Option<Rates> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, rates: Rates) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rates);
    }
}

/// The facts of a request, made when somebody reads them.
struct Facts<F> {
    make: Option<F>,
    made: Option<Arc<HttpFacts>>,
}

impl<F: FnOnce() -> HttpFacts> Facts<F> {
    fn get(&mut self) -> Option<Arc<HttpFacts>> {
        if let Some(make) = self.make.take() {
            self.made = Some(Arc::new(make()));
        }
        self.made.clone()
    }
}

/// A request on its way in.
struct Visit<'a> {
    access: &'a Access,
    request_id: RequestId,
    door: Door,
    peer: Option<IpAddr>,
    trace_id: Option<TraceId>,
    rate_slot: Option<&'a RateSlot>,
    who: Identified,
    rates: Option<Rates>,
    trace: Trace,
}

impl Access {
    /// Lets a request in, or says why not. `facts` is called where there is a policy to read them, and for refusals.
    ///
    /// # Errors
    /// The refusal of the first rule that refuses. It has been written to the audit log.
    pub async fn enter(
        &self,
        entry: Entry<'_>,
        facts: impl FnOnce() -> HttpFacts,
    ) -> Result<AccessScope, AccessError> {
        let who = self.identity.recognize(&entry).await;
        self.admit(who, entry, Some(facts), Trace::default()).await
    }

    /// [`Self::enter`] for whoever started this process, or has a key to it: there is no HTTP request.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub async fn enter_locally(
        &self,
        door: Door,
        credential: Credential<'_>,
    ) -> Result<AccessScope, AccessError> {
        let entry = Entry {
            request_id: RequestId::generate(),
            door,
            credential,
            peer: None,
            trace_id: None,
            foreign_page: None,
            rate_slot: None,
        };
        let who = self.identity.recognize(&entry).await;
        self.admit(who, entry, None::<fn() -> HttpFacts>, Trace::default()).await
    }

    /// [`Self::enter`] for a caller who is known by now.
    pub(super) async fn admit(
        &self,
        who: Identified,
        entry: Entry<'_>,
        facts: Option<impl FnOnce() -> HttpFacts>,
        trace: Trace,
    ) -> Result<AccessScope, AccessError> {
        let Entry { request_id, door, peer, trace_id, rate_slot, .. } = entry;
        let mut facts = Facts { make: facts, made: None };
        let mut visit =
            Visit { access: self, request_id, door, peer, trace_id, rate_slot, who, rates: None, trace };
        let policies = self.policies.snapshot();
        if let Err(error) = visit.pass(&policies, &mut facts).await {
            if !visit.door.opens_without(&error) {
                visit.record(&error, facts.get().as_deref());
            }
            return Err(error);
        }
        let Visit { request_id, door, peer, trace_id, who, rates, trace, .. } = visit;
        let Identified { principal, is_known, grants, owner, .. } = who;
        let (http, audit) = (facts.made, self.audit.clone());
        Ok(AccessScope::new(Inner {
            request_id,
            door,
            principal,
            is_known,
            grants,
            owner,
            rates,
            policies,
            http,
            peer,
            trace_id,
            audit,
            trace,
        }))
    }
}

impl Visit<'_> {
    async fn pass(
        &mut self,
        policies: &super::PolicySet,
        facts: &mut Facts<impl FnOnce() -> HttpFacts>,
    ) -> Result<(), AccessError> {
        let is_ours = self.who.is_known && self.who.refusal.is_none();
        if is_ours {
            self.note_credential();
            self.check_rules()?;
        }
        let mut is_renamed = false;
        if !policies.is_empty() {
            let mut request = AccessRequest {
                request_id: self.request_id.clone(),
                action: AccessAction::Endpoint,
                principal: self.who.is_known.then(|| self.who.principal.clone()),
                http: facts.get(),
            };
            let verdict = chain::ask(policies, &mut request, &self.trace).await?;
            if let Some(named) = verdict.named {
                is_renamed = true;
                self.who.grants = self.access.identity.grants_of(&named);
                (self.who.principal, self.who.is_known, self.who.owner) = (named, true, None);
            }
            // Being let in without a name is enough for the endpoints that can be open, and for no others.
            let is_authenticated = self.who.is_known && self.who.principal.kind != PrincipalKind::Anonymous;
            let is_ended = self.who.refusal.as_ref().is_some_and(AccessError::is_of_ended);
            let is_let_in = self.door == Door::Chat && (self.who.is_known || verdict.let_in) && !is_ended;
            if is_authenticated || is_let_in {
                self.who.refusal = None;
            }
        }
        if is_ours && !is_renamed {
            return Ok(());
        }
        self.note_credential();
        match self.who.refusal.take() {
            Some(refusal) => Err(refusal),
            None => self.check_rules(),
        }
    }

    fn note_credential(&self) {
        let id = &self.who.principal.id;
        match &self.who.refusal {
            Some(refusal) => self.trace.note("credential", Verdict::Denied, || refusal.to_string()),
            None if self.who.is_known => {
                self.trace.note("credential", Verdict::Allowed, || format!("the caller is `{id}`"));
            }
            None => self.trace.note("credential", Verdict::Allowed, || {
                "nobody knows the caller, and access.chat or a policy lets such callers in".to_owned()
            }),
        }
    }

    /// The gateway's own rules for the endpoint: the scope, and the requests in a minute.
    fn check_rules(&mut self) -> Result<(), AccessError> {
        if let Some(scope) = self.door.scope() {
            let scopes = || format!("it needs `{scope}`; the caller has {}", words(&self.who.grants.scopes));
            if !self.who.grants.has(scope) {
                self.trace.note("scope", Verdict::Denied, scopes);
                return Err(AccessError::MissingScope(scope));
            }
            self.trace.note("scope", Verdict::Allowed, scopes);
        }
        self.rates = self.rates();
        let Some(rates) = &self.rates else { return Ok(()) };
        if let Some(slot) = self.rate_slot {
            slot.set(rates.clone());
        }
        let taken = rates.take_request();
        rates.note(&self.trace, LimitKind::Requests, &taken);
        Ok(taken?)
    }

    /// The counts this request goes into.
    fn rates(&self) -> Option<Rates> {
        let (meter, defaults, who) = (&self.access.meter, &self.access.limits, &self.who);
        let id = Metered::Known(&who.principal.id);
        let (own, defaults_of_kind) = match who.principal.kind {
            _ if !who.is_known => (Metered::Stranger(self.peer), &defaults.anonymous),
            PrincipalKind::Anonymous => (id, &defaults.anonymous),
            PrincipalKind::User => (id, &defaults.user),
            PrincipalKind::Service => (id, &defaults.service),
        };
        let own = (own, who.grants.limits.or(defaults_of_kind));
        match &who.owner {
            None => meter.rates(&[own]),
            Some(owner) => {
                meter.rates(&[own, (Metered::Known(&owner.id), owner.grants.limits.or(&defaults.user))])
            }
        }
    }

    fn record(&self, error: &AccessError, facts: Option<&HttpFacts>) {
        let local = if self.door == Door::CommandLine { "command line" } else { "stdio" };
        let target = facts.map_or(local.to_owned(), |facts| format!("{} {}", facts.method, facts.path));
        self.access.audit.record(AuditEvent {
            subject: AuditSubject {
                peer: self.peer,
                trace_id: self.trace_id.clone(),
                ..(&self.who.principal).into()
            },
            request_id: self.request_id.clone(),
            via: self.door.via(),
            action: "denied",
            target,
            server: None,
            arguments: None,
            outcome: AuditOutcome::Denied { rule: error.rule().into_owned(), status: error.status() },
            duration: None,
            result_bytes: None,
        });
    }
}

/// A list in words.
pub(super) fn words(list: &[String]) -> String {
    match list {
        [] => "none".to_owned(),
        list => list.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", "),
    }
}
