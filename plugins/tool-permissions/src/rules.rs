//! The rules, as the operator writes them, and whom they are about.

use serde::Deserialize;
use serde_json::Value;
use witgate_plugin::{Error, Principal, PrincipalKind};

use crate::pattern::Pattern;

/// The `[config]` table.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What holds where no rule applies.
    pub(crate) default: Defaults,
    /// In order; the first that applies decides.
    pub(crate) rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    default: Defaults,
    #[serde(default)]
    rules: Vec<Value>,
}

/// One rule: whom it is about, what it is about, and what then holds. A key that is left out sets no condition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Ids of principals.
    principals: Option<Vec<Pattern>>,
    /// Kinds of principals.
    kinds: Option<Vec<Kind>>,
    /// Scopes, of which the principal has one.
    scopes: Option<Vec<Pattern>>,
    /// Names of tools.
    pub(crate) tools: Option<Vec<Pattern>>,
    /// MCP servers or plugins that tools belong to.
    pub(crate) servers: Option<Vec<Pattern>>,
    /// Ids of models.
    pub(crate) models: Option<Vec<Pattern>>,
    /// Paths of endpoints.
    pub(crate) endpoints: Option<Vec<Pattern>>,
    /// HTTP methods at endpoints.
    pub(crate) methods: Option<Vec<Pattern>>,
    /// What holds where the rule applies.
    pub(crate) effect: Effect,
    /// What a client is told on `deny`.
    pub(crate) reason: Option<String>,
    /// The HTTP status of `deny`.
    pub(crate) status: Option<u16>,
}

/// What holds where a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effect {
    /// Allowed, as far as this policy is concerned.
    Allow,
    /// Refused.
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    User,
    Service,
    Anonymous,
}

/// What holds where no rule applies: one word for everything, or one for each kind of action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "WrittenDefaults")]
pub(crate) struct Defaults {
    /// For tool calls.
    pub(crate) tools: Fallback,
    /// For models.
    pub(crate) models: Fallback,
    /// For endpoints.
    pub(crate) endpoints: Fallback,
}

/// A default's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fallback {
    /// This policy has no opinion.
    #[default]
    Abstain,
    /// Refused.
    Deny,
    /// Allowed, as far as this policy is concerned.
    Allow,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`default` must be \"abstain\", \"deny\" or \"allow\", or a table of these with keys tools, models, endpoints"
)]
enum WrittenDefaults {
    Everything(Fallback),
    Each(EachDefault),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EachDefault {
    tools: Fallback,
    models: Fallback,
    endpoints: Fallback,
}

impl From<WrittenDefaults> for Defaults {
    fn from(written: WrittenDefaults) -> Self {
        match written {
            WrittenDefaults::Everything(word) => Self { tools: word, models: word, endpoints: word },
            WrittenDefaults::Each(EachDefault { tools, models, endpoints }) => {
                Self { tools, models, endpoints }
            }
        }
    }
}

impl Rules {
    /// The rules of the operator's file.
    ///
    /// # Errors
    /// Where they cannot be read: names the rule (counted from 1) and the key.
    pub(crate) fn load() -> Result<Self, Error> {
        let written: Written = witgate_plugin::config()?;
        let rules = written.rules.iter().enumerate().map(|(index, rule)| {
            Rule::read(rule).map_err(|why| {
                Error::Internal(format!(
                    "config.rules, rule {}: {why}; nothing is allowed until that is mended",
                    index + 1
                ))
            })
        });
        Ok(Self { default: written.default, rules: rules.collect::<Result<_, _>>()? })
    }
}

impl Rule {
    fn read(written: &Value) -> Result<Self, String> {
        let rule = Self::deserialize(written).map_err(|error| match faulty_key(written) {
            Some(key) => format!("`{key}`: {error}"),
            None => error.to_string(),
        })?;
        let lists = [
            ("principals", &rule.principals),
            ("scopes", &rule.scopes),
            ("tools", &rule.tools),
            ("servers", &rule.servers),
            ("models", &rule.models),
            ("endpoints", &rule.endpoints),
            ("methods", &rule.methods),
        ];
        for (key, list) in lists {
            let Some(patterns) = list else { continue };
            if patterns.is_empty() || patterns.iter().any(Pattern::is_empty) {
                return Err(format!(
                    "`{key}` has nothing in it that could match; leave the key out to match all"
                ));
            }
        }
        if rule.kinds.as_ref().is_some_and(Vec::is_empty) {
            return Err("`kinds` is empty; leave the key out to match all".into());
        }
        if rule.effect == Effect::Allow && (rule.reason.is_some() || rule.status.is_some()) {
            return Err("`reason` and `status` go with effect = \"deny\" only".into());
        }
        match rule.status {
            None | Some(401 | 403 | 404 | 429) => Ok(rule),
            Some(other) => Err(format!("`status` is {other}; it may be 401, 403, 404 or 429")),
        }
    }

    /// Whether the rule is about this caller.
    #[must_use]
    pub(crate) fn is_about(&self, principal: &Principal) -> bool {
        let kind = match principal.kind {
            PrincipalKind::User => Kind::User,
            PrincipalKind::Service => Kind::Service,
            PrincipalKind::Anonymous => Kind::Anonymous,
        };
        any(self.principals.as_deref(), &principal.id)
            && self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
            && self.scopes.as_deref().is_none_or(|scopes| {
                principal.scopes.iter().any(|own| scopes.iter().any(|scope| scope.matches(own)))
            })
    }

    /// Whether the rule names anonymous callers as those it is about.
    #[must_use]
    pub(crate) fn welcomes_anonymous(&self) -> bool {
        self.kinds.as_ref().is_some_and(|kinds| kinds.contains(&Kind::Anonymous))
    }

    /// Whether the rule says nothing of what it is about, and so is about everything.
    #[must_use]
    pub(crate) fn is_about_everything(&self) -> bool {
        let lists = [&self.tools, &self.servers, &self.models, &self.endpoints, &self.methods];
        lists.iter().all(|list| list.is_none())
    }
}

/// The key of a rule that cannot be read, where the fault lies in one.
fn faulty_key(written: &Value) -> Option<&String> {
    let keys = written.as_object()?.iter();
    let alone = |key: &str, value: &Value| {
        let mut rule = serde_json::json!({ "effect": "deny" });
        rule[key] = value.clone();
        Rule::deserialize(rule)
    };
    keys.filter(|(key, value)| alone(key, value).is_err()).map(|(key, _)| key).next()
}

/// Whether one of the patterns matches; a list that is left out matches all.
#[must_use]
pub(crate) fn any(patterns: Option<&[Pattern]>, text: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(text)))
}
