//! What a caller may do, as far as the gateway's own rules go: scopes, lists of models and tools, limits.
//!
//! A scope is a word such as `chat`, or `tools:call:<pattern>` where `*` in the pattern stands for any characters. Names
//! of tools are matched in both their forms, `read_query` and `sqlite__read_query`.

use serde::{Deserialize, Serialize};
use wildmatch::WildMatchPattern;

/// Every scope there is. `tools:call` may be narrowed to `tools:call:<pattern>`.
pub const SCOPES: [&str; 6] = ["chat", "tools:list", "tools:call", "plugins", "metrics", "admin"];

pub(super) const CALL: &str = "tools:call";

/// What somebody may do, and how much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// See [`SCOPES`].
    pub scopes: Vec<String>,
    /// Models that may be asked, `*` standing for any characters; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Tools that may be seen and called, in the same way; empty: all that the scopes allow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// How much.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// How much somebody may do; what is `None` has no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens of models in a minute, counted when a turn ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Streams that are open at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_streams: Option<u32>,
    /// Tokens of models in a longer time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_budget: Option<TokenBudget>,
}

/// Tokens for a longer time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBudget {
    /// How many, prompts and replies together.
    pub tokens: u64,
    /// For how long.
    pub per: BudgetPeriod,
}

/// When a budget begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetPeriod {
    /// At midnight UTC.
    Day,
    /// On the first of the month, UTC.
    Month,
    /// Never.
    Ever,
}

impl Limits {
    /// These limits, and those of `defaults` where these have none.
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        Self {
            requests_per_minute: self.requests_per_minute.or(defaults.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.or(defaults.tokens_per_minute),
            concurrent_streams: self.concurrent_streams.or(defaults.concurrent_streams),
            token_budget: self.token_budget.or(defaults.token_budget),
        }
    }

    /// True when nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Grants {
    /// These scopes, and everything else without limit.
    #[must_use]
    pub fn of_scopes(scopes: &[&str]) -> Self {
        Self { scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(), ..Self::default() }
    }

    /// True for a caller with `scope`; who may call some tools has `tools:call`.
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| held == scope || (scope == CALL && call_pattern(held).is_some()))
    }

    /// True when whoever has these scopes may hand on `scope`: they hold it, or a pattern that all of its names fit.
    #[must_use]
    pub fn covers(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| match (call_pattern(held), call_pattern(scope)) {
            // A star in the narrower pattern can only have been taken by a star in the wider one.
            (Some(wide), Some(narrow)) => is_within(narrow, wide),
            (None, Some(_)) => held == CALL,
            _ => held == scope,
        })
    }
}

/// Whether `scope` is one of [`SCOPES`], or `tools:call:` and a pattern.
#[must_use]
pub fn is_scope(scope: &str) -> bool {
    SCOPES.contains(&scope) || call_pattern(scope).is_some_and(|pattern| !pattern.is_empty())
}

/// The pattern of a scope `tools:call:<pattern>`.
pub(super) fn call_pattern(scope: &str) -> Option<&str> {
    scope.strip_prefix(CALL)?.strip_prefix(':')
}

/// Whether every name that fits `narrow` fits `wide` too.
fn is_within(narrow: &str, wide: &str) -> bool {
    if wide.contains('*') { WildMatchStar::new(wide).matches(narrow) } else { wide == narrow }
}

/// A question mark is no wildcard: names of models may hold one.
pub(super) type WildMatchStar = WildMatchPattern<'*', '\0'>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_held_can_be_handed_on() {
        let held = Grants::of_scopes(&["chat", "tools:call:read_*", "tools:call:now"]);
        for good in
            ["chat", "tools:call:read_*", "tools:call:read_a*b", "tools:call:read_x", "tools:call:now"]
        {
            assert!(held.covers(good), "{good}");
        }
        for bad in ["tools:call", "tools:call:*", "tools:call:re*", "tools:call:n*w", "admin", "tools:list"] {
            assert!(!held.covers(bad), "{bad}");
        }
        assert!(Grants::of_scopes(&["tools:call"]).covers("tools:call:*"));
    }

    #[test]
    fn scopes_are_known_words() {
        for good in ["chat", "tools:call", "tools:call:read_*", "admin"] {
            assert!(is_scope(good), "{good}");
        }
        for bad in ["", "tools", "tools:call:", "chat:x", "Chat", "tools:list:a"] {
            assert!(!is_scope(bad), "{bad}");
        }
    }
}
