//! Grants in the form they are asked in: patterns compiled once, and no allocation while names are matched.
//!
//! A chat request asks about every tool there is, so a question has to be cheap: names without `*` are found by their
//! hash, and the others cost one walk along the name each.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;

use super::AccessError;
use super::grants::{CALL, Grants, WildMatchStar, call_pattern};

/// What somebody may do, ready to be asked. Reads as the [`Grants`] it was made of.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    grants: Grants,
    calls: Calls,
    /// `None`: every tool, as far as the list goes.
    tools: Option<Patterns>,
    models: Option<Patterns>,
    /// What the owner of a key may do: whatever is asked, both must allow it.
    within: Option<Arc<Self>>,
}

/// Which tools the scopes let somebody call.
#[derive(Clone, Debug, Default)]
enum Calls {
    #[default]
    None,
    Some(Patterns),
    All,
}

/// Why a tool may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToolRefusal {
    /// There is no scope for calls at all.
    NoScope,
    /// There are scopes for calls, and none that fits this tool.
    Scope,
    /// The list of tools does not have it.
    List,
}

impl From<Grants> for Rules {
    fn from(grants: Grants) -> Self {
        let calls = if grants.scopes.iter().any(|scope| scope == CALL) {
            Calls::All
        } else if grants.has(CALL) {
            Calls::Some(grants.scopes.iter().filter_map(|scope| call_pattern(scope)).collect())
        } else {
            Calls::None
        };
        let tools = Patterns::of_list(&grants.tools);
        let models = Patterns::of_list(&grants.models);
        Self { grants, calls, tools, models, within: None }
    }
}

impl Deref for Rules {
    type Target = Grants;

    fn deref(&self) -> &Grants {
        &self.grants
    }
}

impl Rules {
    /// The same, as far as `outer` allows it too: a key and its owner. The lists and limits that can be read stay those of
    /// the key, and the scopes are those of the key that its owner has.
    #[must_use]
    pub fn within(self, outer: Arc<Self>) -> Self {
        let mut grants = self.grants;
        let calls = self.calls;
        // A pattern that only overlaps with one of the owner's is not in this list, and is asked all the same.
        grants.scopes.retain(|scope| outer.covers(scope));
        Self { grants, calls, within: Some(outer), ..self }
    }

    /// True for a caller with `scope`; who may call some tools has `tools:call`.
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        let outer_has = self.within.as_ref().is_none_or(|outer| outer.has(scope));
        let is_held = match (scope, &self.calls) {
            (CALL, Calls::None) => false,
            (CALL, Calls::Some(_) | Calls::All) => true,
            _ => self.grants.has(scope),
        };
        outer_has && is_held
    }

    /// Whether the tool with these two names may be called.
    ///
    /// # Errors
    /// [`AccessError::MissingScope`] for callers who may call no tool at all, [`AccessError::ToolNotAllowed`] for others.
    pub fn call(&self, name: &str, qualified_name: &str) -> Result<(), AccessError> {
        match self.tool_refusal(name, qualified_name) {
            None => Ok(()),
            Some(refusal) => Err(refusal.error(name)),
        }
    }

    /// Why the tool with these two names may not be called; `None` where it may.
    pub(super) fn tool_refusal(&self, name: &str, qualified_name: &str) -> Option<ToolRefusal> {
        match &self.calls {
            Calls::None => return Some(ToolRefusal::NoScope),
            Calls::Some(patterns) if !patterns.fit_either(name, qualified_name) => {
                return Some(ToolRefusal::Scope);
            }
            Calls::Some(_) | Calls::All => {}
        }
        if let Some(refusal) = self.within.as_ref().and_then(|outer| outer.tool_refusal(name, qualified_name))
        {
            return Some(refusal);
        }
        (!self.lists_tool(name, qualified_name)).then_some(ToolRefusal::List)
    }

    /// Whether the tool with these two names may be seen: those that may be called, or, for callers who may call none, all
    /// in their list.
    #[must_use]
    pub fn sees_tool(&self, name: &str, qualified_name: &str) -> bool {
        match self.calls {
            Calls::None => {
                let outer_sees = |outer: &Arc<Self>| outer.sees_tool(name, qualified_name);
                self.lists_tool(name, qualified_name) && self.within.as_ref().is_none_or(outer_sees)
            }
            Calls::Some(_) | Calls::All => self.tool_refusal(name, qualified_name).is_none(),
        }
    }

    /// Whether the model `id` may be asked and seen.
    #[must_use]
    pub fn sees_model(&self, id: &str) -> bool {
        self.within.as_ref().is_none_or(|outer| outer.sees_model(id))
            && self.models.as_ref().is_none_or(|patterns| patterns.fit(id))
    }

    fn lists_tool(&self, name: &str, qualified_name: &str) -> bool {
        self.tools.as_ref().is_none_or(|patterns| patterns.fit_either(name, qualified_name))
    }
}

impl ToolRefusal {
    /// The rule's name.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Self::NoScope | Self::Scope => "scope",
            Self::List => "tool-list",
        }
    }

    /// The same for the caller.
    pub(super) fn error(self, name: &str) -> AccessError {
        match self {
            Self::NoScope => AccessError::MissingScope(CALL),
            Self::Scope | Self::List => AccessError::ToolNotAllowed(name.to_owned()),
        }
    }
}

/// Names, some with `*` for any characters.
#[derive(Clone, Debug, Default)]
struct Patterns {
    exact: HashSet<Box<str>>,
    wild: Vec<WildMatchStar>,
}

impl Patterns {
    /// `None` for an empty list, which stands for everything.
    fn of_list(list: &[String]) -> Option<Self> {
        (!list.is_empty()).then(|| list.iter().map(String::as_str).collect())
    }

    fn fit(&self, name: &str) -> bool {
        self.exact.contains(name) || self.wild.iter().any(|pattern| pattern.matches(name))
    }

    fn fit_either(&self, name: &str, other: &str) -> bool {
        self.fit(name) || self.fit(other)
    }
}

impl<'a> FromIterator<&'a str> for Patterns {
    fn from_iter<I: IntoIterator<Item = &'a str>>(patterns: I) -> Self {
        let mut found = Self::default();
        for pattern in patterns {
            // No name has the character that stands for a single wildcard, so a pattern with it fits nothing.
            if pattern.contains('*') && !pattern.contains('\0') {
                found.wild.push(WildMatchStar::new(pattern));
            } else {
                found.exact.insert(pattern.into());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_scopes(scopes: &[&str]) -> Rules {
        Grants::of_scopes(scopes).into()
    }

    #[test]
    fn patterns_narrow_calls() {
        let rules = of_scopes(&["tools:call:read_*", "tools:call:clock__*"]);
        assert!(rules.has("tools:call") && !rules.has("tools:list"));
        assert_eq!(rules.call("read_query", "sqlite__read_query"), Ok(()));
        assert_eq!(rules.call("now", "clock__now"), Ok(()));
        let refusal = rules.call("drop", "sqlite__drop").unwrap_err();
        assert_eq!(refusal, AccessError::ToolNotAllowed("drop".to_owned()));
        assert!(!rules.sees_tool("drop", "sqlite__drop"));
        assert_eq!(of_scopes(&["chat"]).call("a", "s__a"), Err(AccessError::MissingScope("tools:call")));
    }

    #[test]
    fn lists_narrow_further() {
        assert!(of_scopes(&["tools:list"]).sees_tool("a", "s__a"));
        let listed = |scopes: &[&str]| {
            let mut grants = Grants::of_scopes(scopes);
            grants.tools = vec!["s__*".to_owned()];
            grants.models = vec!["gpt-*".to_owned(), "a?b".to_owned()];
            Rules::from(grants)
        };
        let rules = listed(&["tools:list"]);
        assert!(rules.sees_tool("a", "s__a") && !rules.sees_tool("a", "t__a"));
        assert_eq!(rules.tool_refusal("a", "s__a"), Some(ToolRefusal::NoScope));
        let rules = listed(&["tools:list", "tools:call:a*"]);
        assert!(rules.call("a", "t__a").is_err() && rules.call("a", "s__a").is_ok());
        assert_eq!(rules.tool_refusal("a", "t__a"), Some(ToolRefusal::List));
        assert_eq!(rules.tool_refusal("b", "s__b"), Some(ToolRefusal::Scope));
        assert!(rules.sees_model("gpt-5") && rules.sees_model("a?b") && !rules.sees_model("axb"));
    }

    #[test]
    fn a_key_does_nothing_that_its_owner_may_not() {
        let mut owner = Grants::of_scopes(&["tools:call:read_*", "chat"]);
        owner.models = vec!["small*".to_owned()];
        let owner = Arc::new(Rules::from(owner));
        let key = |scopes: &[&str]| of_scopes(scopes).within(Arc::clone(&owner));
        let wide = key(&["tools:call", "tools:list", "admin"]);
        assert!(wide.has("tools:call") && !wide.has("admin") && !wide.has("chat") && !wide.has("tools:list"));
        assert!(wide.call("read_a", "s__read_a").is_ok() && wide.call("drop", "s__drop").is_err());
        assert!(wide.sees_tool("read_a", "s__read_a") && !wide.sees_tool("drop", "s__drop"));
        assert!(wide.sees_model("small-1") && !wide.sees_model("large"));
        let overlapping = key(&["tools:call:*_a"]);
        assert!(overlapping.has("tools:call") && overlapping.call("read_a", "s__read_a").is_ok());
        assert!(overlapping.call("drop_a", "x").is_err() && overlapping.call("read_b", "x").is_err());
        let lister = key(&["tools:list"]);
        assert!(lister.sees_tool("read_a", "s__read_a") && !lister.sees_tool("drop", "s__drop"));
    }

    #[test]
    fn stars_stand_for_any_characters_and_nothing_else_does() {
        let fits = |pattern: &str, name: &str| [pattern].into_iter().collect::<Patterns>().fit(name);
        for (pattern, name) in
            [("*", ""), ("*", "a"), ("a*", "a"), ("*a", "ba"), ("a*c*e", "abcde"), ("ä*", "äx"), ("", "")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("a", "A"), ("a*", "ba"), ("a*c", "ab"), ("", "a"), ("a?*", "abc"), ("\0*", "a")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
