//! What a verified token says: until when it is good, for whom, whose it is, and what that is worth here.

use serde_json::{Map, Value};

use super::config::IssuerConfig;
use super::refusal::TokenRefusal;

/// The longest id of a user.
const MAX_USER_BYTES: usize = 256;

/// What a token says.
pub(super) struct Claims(pub(super) Map<String, Value>);

impl Claims {
    /// Checks `exp`, `nbf` and `aud` (RFC 7519, section 4.1). Returns when it ends, tolerance included.
    pub(super) fn check(&self, issuer: &IssuerConfig, now_s: u64) -> Result<u64, TokenRefusal> {
        let end_s = self.time("exp").ok_or(TokenRefusal::NoEnd)?.saturating_add(issuer.leeway_s);
        if now_s >= end_s {
            return Err(TokenRefusal::Expired);
        }
        if self.0.contains_key("nbf") {
            let start_s = self.time("nbf").ok_or(TokenRefusal::Form)?;
            if start_s > now_s.saturating_add(issuer.leeway_s) {
                return Err(TokenRefusal::NotYetValid);
            }
        }
        let is_ours =
            |value: &Value| value.as_str().is_some_and(|text| issuer.audience.iter().any(|a| a == text));
        let is_for_us = match self.0.get("aud") {
            Some(Value::Array(many)) => many.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if is_for_us { Ok(end_s) } else { Err(TokenRefusal::Audience) }
    }

    /// Whose it is.
    pub(super) fn user(&self, issuer: &IssuerConfig) -> Result<String, TokenRefusal> {
        let user = match self.find(&issuer.user_claim) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => return Err(TokenRefusal::NoUser),
        };
        if user.is_empty() || user.len() > MAX_USER_BYTES || user.chars().any(char::is_control) {
            return Err(TokenRefusal::NoUser);
        }
        Ok(user)
    }

    /// Our scopes for it: what its words stand for, and what every token of the issuer gives.
    pub(super) fn scopes(&self, issuer: &IssuerConfig) -> Vec<String> {
        let theirs: Vec<&str> = match issuer.scopes_claims.iter().find_map(|claim| self.find(claim)) {
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let mapped = theirs.into_iter().filter_map(|word| issuer.scope_map.get(word)).flatten();
        let mut scopes: Vec<String> = Vec::new();
        for scope in issuer.default_scopes.iter().chain(mapped) {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        scopes
    }

    /// The claim called `name`, or the one it leads to: `realm_access.roles` is `roles` in `realm_access`.
    fn find(&self, name: &str) -> Option<&Value> {
        if let Some(found) = self.0.get(name) {
            return Some(found);
        }
        let mut parts = name.split('.');
        let first = self.0.get(parts.next()?)?;
        parts.try_fold(first, |within, part| within.get(part))
    }

    /// A time in seconds since 1970; issuers may write fractions.
    fn time(&self, name: &str) -> Option<u64> {
        let value = self.0.get(name)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates, and is not negative"
        )]
        let of_fraction = |time: f64| (time >= 0.0).then_some(time as u64);
        value.as_u64().or_else(|| value.as_f64().and_then(of_fraction))
    }
}
