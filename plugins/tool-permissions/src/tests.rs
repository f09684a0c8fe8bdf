//! What the policy decides, through the same door as the gateway.

use serde_json::{Value, json};
use witgate_plugin::auth::{HttpRequest, ToolAccess};
use witgate_plugin::{
    AccessAction, AccessRequest, AuthPolicy, Decision, Error, Principal, PrincipalKind, testing,
};

use super::ToolPermissions;

fn rules(config: &Value) {
    testing::set_config(&config.to_string());
}

fn decide(action: AccessAction, principal: Option<Principal>) -> Result<Decision, Error> {
    let http =
        HttpRequest { method: "POST".into(), path: "/v1/chat/completions".into(), ..HttpRequest::default() };
    ToolPermissions::authorize(&AccessRequest { principal, http: Some(http), ..AccessRequest::new(action) })
}

fn tool(name: &str, server: &str) -> AccessAction {
    AccessAction::Tool(ToolAccess { name: name.into(), server: server.into(), arguments_json: "{}".into() })
}

fn user(id: &str, scopes: &[&str]) -> Option<Principal> {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    Some(Principal { scopes, ..Principal::new(id, PrincipalKind::User) })
}

fn word(decision: Result<Decision, Error>) -> String {
    match decision {
        Ok(Decision::Allow(None)) => "allow".into(),
        Ok(Decision::Allow(Some(_))) => "allow as somebody else".into(),
        Ok(Decision::Abstain) => "abstain".into(),
        Ok(Decision::Deny(denial)) => format!("{} {}", denial.status, denial.reason),
        Err(Error::Internal(why)) => format!("error {why}"),
        Err(other) => format!("another error: {other}"),
    }
}

#[test]
fn without_rules_there_is_no_opinion() {
    for action in [AccessAction::Endpoint, AccessAction::Model("m".into()), tool("t", "s")] {
        assert_eq!(word(decide(action, None)), "abstain");
    }
}

#[test]
fn the_first_rule_that_applies_decides() {
    rules(&json!({ "default": "deny", "rules": [
        { "principals": ["mallory"], "effect": "deny", "reason": "not you", "status": 404 },
        { "tools": ["read_*", "list_*"], "effect": "allow" },
        { "scopes": ["tools:*"], "servers": ["sqlite"], "effect": "allow" },
        { "kinds": ["user"], "models": ["small-*"], "endpoints": ["/v1/*"], "effect": "allow" },
    ]}));
    let alice = || user("alice", &[]);
    assert_eq!(word(decide(tool("read_query", "sqlite"), alice())), "allow");
    assert_eq!(
        word(decide(tool("write_query", "sqlite"), alice())),
        "403 the tool `write_query` of `sqlite` is not permitted for `alice`"
    );
    assert_eq!(word(decide(tool("write_query", "sqlite"), user("bob", &["chat", "tools:call"]))), "allow");
    assert!(word(decide(tool("write_file", "files"), user("bob", &["tools:call"]))).starts_with("403"));
    assert_eq!(word(decide(tool("read_query", "sqlite"), user("mallory", &[]))), "404 not you");
    assert_eq!(word(decide(AccessAction::Model("small-1".into()), alice())), "allow");
    assert_eq!(
        word(decide(AccessAction::Model("large-1".into()), alice())),
        "403 the model `large-1` is not permitted for `alice`"
    );
    assert_eq!(word(decide(AccessAction::Endpoint, alice())), "allow");
    assert_eq!(
        word(decide(AccessAction::Endpoint, None)),
        "403 POST /v1/chat/completions is not permitted for `anonymous`"
    );
}

#[test]
fn an_unknown_caller_counts_as_anonymous() {
    rules(&json!({ "rules": [{ "kinds": ["anonymous"], "tools": ["*"], "effect": "deny" }] }));
    assert!(word(decide(tool("t", "s"), None)).starts_with("403"));
    assert_eq!(word(decide(tool("t", "s"), user("alice", &[]))), "abstain");
    rules(&json!({ "rules": [{ "principals": ["anonymous"], "effect": "deny" }] }));
    assert!(word(decide(AccessAction::Endpoint, None)).starts_with("403"));
}

#[test]
fn nobody_unknown_is_let_in_by_accident() {
    for config in
        [json!({ "default": "allow" }), json!({ "rules": [{ "principals": ["*"], "effect": "allow" }] })]
    {
        rules(&config);
        assert_eq!(word(decide(AccessAction::Endpoint, None)), "abstain", "{config}");
        assert_eq!(word(decide(AccessAction::Endpoint, user("alice", &[]))), "allow");
        assert_eq!(word(decide(tool("t", "s"), None)), "allow");
    }
    rules(&json!({ "rules": [{ "kinds": ["anonymous"], "effect": "allow" }] }));
    assert_eq!(word(decide(AccessAction::Endpoint, None)), "allow");
}

#[test]
fn a_rule_about_one_thing_says_nothing_about_others() {
    rules(
        &json!({ "rules": [{ "methods": ["DELETE"], "effect": "deny" }, { "models": ["*"], "effect": "deny" }] }),
    );
    assert_eq!(word(decide(AccessAction::Endpoint, None)), "abstain");
    assert_eq!(word(decide(tool("t", "s"), None)), "abstain");
    assert!(word(decide(AccessAction::Model("m".into()), None)).starts_with("403"));
}

#[test]
fn defaults_may_differ_by_kind() {
    rules(&json!({ "default": { "tools": "deny", "models": "allow" } }));
    assert!(word(decide(tool("t", "s"), None)).starts_with("403"));
    assert_eq!(word(decide(AccessAction::Model("m".into()), None)), "allow");
    assert_eq!(word(decide(AccessAction::Endpoint, None)), "abstain");
}

#[test]
fn a_request_without_http_matches_no_named_endpoint() {
    rules(&json!({ "default": "deny", "rules": [{ "endpoints": ["/v1/*"], "effect": "allow" }] }));
    let decision = ToolPermissions::authorize(&AccessRequest::new(AccessAction::Endpoint));
    assert!(word(decision).starts_with("403"));
}

#[test]
fn mistakes_close_the_door_and_are_named() {
    let table = [
        (json!({ "rule": [] }), "unknown field `rule`"),
        (json!({ "default": "no" }), "`default` must be \"abstain\", \"deny\" or \"allow\""),
        (json!({ "default": { "tool": "deny" } }), "`default` must be"),
        (
            json!({ "rules": [{ "effect": "allow" }, { "tool": ["x"], "effect": "allow" }] }),
            "rule 2: `tool`: unknown field `tool`",
        ),
        (json!({ "rules": [{ "tools": ["x"] }] }), "rule 1: missing field `effect`"),
        (
            json!({ "rules": [{ "tools": "x", "effect": "allow" }] }),
            "rule 1: `tools`: invalid type: string \"x\"",
        ),
        (json!({ "rules": [{ "tools": [], "effect": "deny" }] }), "rule 1: `tools` has nothing in it"),
        (json!({ "rules": [{ "models": [""], "effect": "deny" }] }), "rule 1: `models` has nothing in it"),
        (json!({ "rules": [{ "kinds": [], "effect": "deny" }] }), "rule 1: `kinds` is empty"),
        (
            json!({ "rules": [{ "kinds": ["robot"], "effect": "deny" }] }),
            "rule 1: `kinds`: unknown variant `robot`",
        ),
        (json!({ "rules": [{ "effect": "deny", "status": 500 }] }), "`status` is 500; it may be"),
        (json!({ "rules": [{ "effect": "allow", "reason": "x" }] }), "go with effect = \"deny\" only"),
    ];
    for (config, expected) in table {
        rules(&config);
        let got = word(decide(tool("x", "s"), None));
        assert!(got.starts_with("error") && got.contains(expected), "{config}\n{got}");
    }
}
