//! The chain: asks the policies one after the other and makes one verdict of their answers.
//!
//! A denial ends the chain and wins over everything. A principal that a policy names is the caller from there on, also
//! for the policies that follow; the last one named stays. No opinion changes nothing. A policy that fails, or is not
//! there although it should be, ends the chain as a refusal.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use serde::de::IgnoredAny;

use super::policy::{AuthPolicy, PolicyError, PolicySet};
use super::trace::{Trace, Verdict as Said};
use super::{AccessError, REFUSED};
use crate::domain::{AccessAction, AccessRequest, Decision, Denial, Principal};

/// The longest a policy may take. Policies have limits of their own; this one only keeps a faulty one from hanging
/// everybody.
const MAX_POLICY_TIME: Duration = Duration::from_secs(60);

/// The longest id a policy may give a principal, and the longest reason told to a client, in bytes.
const MAX_ID_BYTES: usize = 256;
const MAX_REASON_BYTES: usize = 500;

/// What policies may answer with; everything else becomes 403.
const DENIAL_STATUSES: [u16; 4] = [401, 403, 404, 429];

/// Who is asking as far as is known: the state that goes along the chain.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The principal that a policy named.
    pub(super) named: Option<Principal>,
    /// True when a policy let the caller in without naming it.
    pub(super) let_in: bool,
}

/// Asks all of `set` about `request`. At the endpoint, a principal that a policy names goes into `request`.
pub(super) async fn ask(
    set: &PolicySet,
    request: &mut AccessRequest,
    trace: &Trace,
) -> Result<Verdict, AccessError> {
    if let Some(name) = set.missing() {
        trace.note(format!("plugin:{name}"), Said::Denied, || "it has to be there and is not".to_owned());
        tracing::error!(
            target: REFUSED,
            request_id = %request.request_id,
            plugin = name,
            "a request was refused since the plugin `{name}` has to be there and is not: mend it, or remove it from the \
             plugins folder and from plugins.required"
        );
        return Err(AccessError::PluginMissing(name.to_owned()));
    }
    let mut verdict = Verdict::default();
    for policy in set.policies() {
        let answer = tokio::time::timeout(MAX_POLICY_TIME, policy.authorize(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(PolicyError::new("it did not answer in time")));
        note(trace, policy.name(), &answer);
        match answer {
            Ok(Decision::Abstain) => {}
            Ok(Decision::Allow(None)) => verdict.let_in = true,
            Ok(Decision::Deny(denial)) => return Err(denied(policy.as_ref(), request, &denial)),
            Ok(Decision::Allow(Some(principal))) => {
                // Who is asking is settled at the endpoint; an answer about a model or a tool cannot change it. A
                // policy that hands back the caller it was shown has named nobody.
                let is_same = request.principal.as_ref().is_some_and(|known| known.id == principal.id);
                if request.action != AccessAction::Endpoint || is_same {
                    verdict.let_in = true;
                    continue;
                }
                let principal = owned(policy.name(), principal)
                    .map_err(|error| failed(policy.name(), request, &error))?;
                request.principal = Some(principal.clone());
                verdict.named = Some(principal);
            }
            Err(error) => return Err(failed(policy.name(), request, &error)),
        }
    }
    Ok(verdict)
}

/// Takes down what a policy answered.
fn note(trace: &Trace, policy: &str, answer: &Result<Decision, PolicyError>) {
    if !trace.is_listening() {
        return;
    }
    let (said, why) = match answer {
        Ok(Decision::Abstain) => (Said::NoOpinion, "it abstains".to_owned()),
        Ok(Decision::Allow(None)) => (Said::Allowed, "it allows it".to_owned()),
        Ok(Decision::Allow(Some(principal))) => {
            (Said::Allowed, format!("it names the caller `{}`", principal.id))
        }
        Ok(Decision::Deny(denial)) => (Said::Denied, format!("it refuses: {}", denial.reason)),
        Err(error) => (Said::Denied, format!("it failed, which refuses: {error}")),
    };
    trace.note(format!("plugin:{policy}"), said, || why);
}

/// The principal under a name that only this policy can give.
fn owned(policy: &str, mut principal: Principal) -> Result<Principal, PolicyError> {
    let id = &principal.id;
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
        return Err(PolicyError::new(format!(
            "it named a principal whose id is not 1 to {MAX_ID_BYTES} bytes of text without control characters"
        )));
    }
    if principal.claims_json.is_empty() {
        principal.claims_json.push_str("{}");
    }
    if let Err(error) = serde_json::from_str::<HashMap<Cow<'_, str>, IgnoredAny>>(&principal.claims_json) {
        return Err(PolicyError::new(format!(
            "it named a principal whose claims are no JSON object: {error}"
        )));
    }
    principal.id = format!("{policy}:{}", principal.id);
    Ok(principal)
}

fn denied(policy: &dyn AuthPolicy, request: &AccessRequest, denial: &Denial) -> AccessError {
    let status = if DENIAL_STATUSES.contains(&denial.status) { denial.status } else { 403 };
    let mut reason = denial.reason.trim().replace(char::is_control, " ");
    reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
    if reason.is_empty() {
        reason.push_str("access denied");
    }
    let (what, which) = named(&request.action);
    tracing::info!(
        target: REFUSED,
        request_id = %request.request_id,
        policy = policy.name(),
        principal = request.principal.as_ref().map(|principal| principal.id.as_str()),
        status,
        "the access policy `{}` refused {what}{which}: {reason}",
        policy.name()
    );
    AccessError::Denied(Denial { status, reason, policy: policy.name().to_owned() })
}

fn failed(policy: &str, request: &AccessRequest, error: &PolicyError) -> AccessError {
    let (what, which) = named(&request.action);
    tracing::error!(
        target: REFUSED,
        request_id = %request.request_id,
        policy,
        "the access policy `{policy}` failed, so {what}{which} was refused: {error}"
    );
    AccessError::PolicyFailed { policy: policy.to_owned(), retry_after: error.retry_after }
}

/// An action in words for the log, without its arguments.
fn named(action: &AccessAction) -> (&'static str, String) {
    match action {
        AccessAction::Endpoint => ("a request", String::new()),
        AccessAction::Model(id) => ("the model ", format!("`{id}`")),
        AccessAction::Tool { name, .. } => ("the tool ", format!("`{name}`")),
    }
}
