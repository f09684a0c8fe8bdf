//! Auth policy: which principal may use which tool, model and endpoint, by ordered rules in the operator's file.
//!
//! The first rule that applies decides. A mistake in the rules is an error at every decision, so nothing is allowed by
//! accident. See `README.md` for the rules.

mod pattern;
mod rules;
#[cfg(test)]
mod tests;

use witgate_plugin::{AccessAction, AccessRequest, AuthPolicy, Decision, Error, Principal, PrincipalKind};

use rules::{Effect, Fallback, Rule, Rules, any};

/// The policy.
struct ToolPermissions;

witgate_plugin::export!(ToolPermissions: auth);

impl AuthPolicy for ToolPermissions {
    fn authorize(request: &AccessRequest) -> Result<Decision, Error> {
        let rules = Rules::load()?;
        let nobody = Principal::new("anonymous", PrincipalKind::Anonymous);
        let principal = request.principal.as_ref().unwrap_or(&nobody);
        let applies = |rule: &&Rule| rule.is_about(principal) && covers(rule, request);
        let denied = |rule: Option<&Rule>| {
            let reason = rule.and_then(|rule| rule.reason.clone());
            let reason = reason.unwrap_or_else(|| refusal(request, &principal.id));
            Decision::deny(rule.and_then(|rule| rule.status).unwrap_or(403), reason)
        };
        Ok(match rules.rules.iter().find(applies) {
            Some(rule) if rule.effect == Effect::Deny => denied(Some(rule)),
            // At an endpoint, `allow` lets in a caller whom nobody knows: only where the operator wrote exactly that.
            Some(rule) if rule.welcomes_anonymous() || !is_unknown(request) => Decision::ALLOW,
            Some(_) => Decision::Abstain,
            None => match fallback(&rules, request) {
                Fallback::Abstain => Decision::Abstain,
                Fallback::Allow if is_unknown(request) => Decision::Abstain,
                Fallback::Allow => Decision::ALLOW,
                Fallback::Deny => denied(None),
            },
        })
    }
}

/// Whether somebody whom nobody knows stands at the door.
fn is_unknown(request: &AccessRequest) -> bool {
    request.principal.is_none() && matches!(request.action, AccessAction::Endpoint)
}

/// Whether a rule is about what is to be done. A rule that names only tools says nothing about models, and so on.
fn covers(rule: &Rule, request: &AccessRequest) -> bool {
    if rule.is_about_everything() {
        return true;
    }
    match &request.action {
        AccessAction::Tool(tool) => {
            (rule.tools.is_some() || rule.servers.is_some())
                && any(rule.tools.as_deref(), &tool.name)
                && any(rule.servers.as_deref(), &tool.server)
        }
        AccessAction::Model(model) => rule.models.is_some() && any(rule.models.as_deref(), model),
        AccessAction::Endpoint => {
            let (method, path) = endpoint(request);
            (rule.endpoints.is_some() || rule.methods.is_some())
                && any(rule.endpoints.as_deref(), path)
                && any(rule.methods.as_deref(), method)
        }
    }
}

/// Method and path; empty where the request did not come over HTTP.
fn endpoint(request: &AccessRequest) -> (&str, &str) {
    request.http.as_ref().map_or(("", ""), |http| (http.method.as_str(), http.path.as_str()))
}

fn fallback(rules: &Rules, request: &AccessRequest) -> Fallback {
    match request.action {
        AccessAction::Tool(_) => rules.default.tools,
        AccessAction::Model(_) => rules.default.models,
        AccessAction::Endpoint => rules.default.endpoints,
    }
}

fn refusal(request: &AccessRequest, who: &str) -> String {
    match &request.action {
        AccessAction::Tool(tool) => {
            format!("the tool `{}` of `{}` is not permitted for `{who}`", tool.name, tool.server)
        }
        AccessAction::Model(model) => format!("the model `{model}` is not permitted for `{who}`"),
        AccessAction::Endpoint => {
            let (method, path) = endpoint(request);
            format!("{method} {path} is not permitted for `{who}`")
        }
    }
}
