//! What tokens and configurations say, and what is remembered of them.

use serde_json::{Value, json};

use super::keys::KeySet;
use super::*;
use crate::access::Config;

fn config(toml: &str) -> Result<IssuerConfig, String> {
    let base =
        "[[issuers]]\nname = \"staff\"\nissuer = \"https://login.test/realms/a/\"\naudience = \"gw\"\n";
    let config: Result<Config, _> = toml::from_str(&format!("{base}{toml}"));
    config.map(|config| config.issuers[0].clone()).map_err(|error| error.to_string())
}

fn claims(value: Value) -> Claims {
    match value {
        Value::Object(map) => Claims(map),
        other => panic!("{other} is no object"),
    }
}

#[test]
fn a_table_has_sound_defaults() {
    let config = config("").unwrap();
    assert_eq!(config.algorithms, [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]);
    assert_eq!(config.discovery_url.as_str(), "https://login.test/realms/a/.well-known/openid-configuration");
    assert_eq!((config.user_claim.as_str(), config.leeway_s), ("sub", 60));
    assert!(config.default_scopes.is_empty() && config.scope_map.is_empty());
}

#[test]
fn only_this_machine_may_be_asked_without_tls() {
    for good in ["https://a.test/k", "http://127.0.0.1:1/k", "http://[::1]/k", "http://localhost:1/k"] {
        assert!(super::config::is_safe(&good.parse().unwrap()), "{good}");
    }
    for bad in ["http://a.test", "http://localhost.test", "http://10.0.0.1", "ftp://127.0.0.1", "file:///k"] {
        assert!(!super::config::is_safe(&bad.parse().unwrap()), "{bad}");
    }
    assert!(config("jwks_url = \"https://a:b@login.test/k\"").unwrap_err().contains("`jwks_url`"));
}

#[test]
fn scopes_come_from_the_map_and_the_defaults() {
    let toml = "default_scopes = [\"chat\"]\nscopes_claim = \"realm_access.roles\"\n\
                scope_map = { a = [\"chat\", \"tools:list\"], b = [\"tools:call:read_*\"] }";
    let config = config(toml).unwrap();
    let of = |value| claims(value).scopes(&config);
    assert_eq!(
        of(json!({"realm_access": {"roles": ["b", "a", 7, "admin"]}})),
        ["chat", "tools:call:read_*", "tools:list"]
    );
    assert_eq!(
        of(json!({"realm_access.roles": "a"})),
        ["chat", "tools:list"],
        "a name with dots comes first"
    );
    // Not where the scopes of others are.
    assert_eq!(of(json!({"scope": "a b", "scp": ["a"]})), ["chat"]);
    assert_eq!(of(json!({"realm_access": 7})), ["chat"]);
}

#[test]
fn times_have_the_tolerance_at_both_ends() {
    let config = config("leeway_s = 10").unwrap();
    let check =
        |exp: Value, nbf: u64| claims(json!({"aud": "gw", "exp": exp, "nbf": nbf})).check(&config, 1000);
    assert_eq!(check(json!(991), 1010), Ok(1001));
    assert_eq!(check(json!(990), 0), Err(TokenRefusal::Expired));
    assert_eq!(check(json!(2000), 1011), Err(TokenRefusal::NotYetValid));
    assert_eq!(check(json!(991.9), 0), Ok(1001));
    assert_eq!(check(json!(u64::MAX), 0), Ok(u64::MAX));
    assert_eq!(check(json!(1e300), 0), Ok(u64::MAX));
    for none in [json!(null), json!("2000"), json!(-5), json!([2000])] {
        assert_eq!(check(none, 0), Err(TokenRefusal::NoEnd));
    }
}

#[test]
fn a_token_is_remembered_until_its_end_and_with_its_keys_only() {
    let set = || {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        KeySet::parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap()
    };
    let config = config("leeway_s = 0").unwrap();
    let said = claims(json!({"aud": "gw", "exp": 2000, "sub": "u"}));
    let verified = Arc::new(Verified::new(said, &config, 1000).unwrap());
    assert_eq!(verified.principal.id, "oidc:staff:u");
    let keys = set();
    keys.remember([1; 32], verified);
    assert!(keys.verified(&[1; 32], 1999).is_some());
    assert!(keys.verified(&[2; 32], 1999).is_none());
    assert!(set().verified(&[1; 32], 1999).is_none());
    assert!(keys.verified(&[1; 32], 2000).is_none());
    assert!(keys.verified(&[1; 32], 1999).is_none(), "it is forgotten");
}

#[test]
fn only_tokens_of_known_issuers_are_looked_at() {
    let issuers = Issuers::new(&[config("").unwrap()]).unwrap();
    let token = |claims: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
    let known = r#"{"iss":"https://login.test/realms/a/"}"#;
    assert!(issuers.recognize(&token(known)).is_some());
    let twice = r#"{"iss":"https://login.test/realms/a/","iss":"https://login.test/realms/a/"}"#;
    for other in [r#"{"iss":"https://login.test/realms/a"}"#, r#"{"iss":["x"]}"#, "{}", "7", "", twice] {
        assert!(issuers.recognize(&token(other)).is_none(), "{other}");
    }
    let good = token(known);
    let long = format!("{good}{}", "x".repeat(MAX_TOKEN_BYTES));
    for other in ["", ".", "..", "a.b.c", &format!("{good}.x"), good.split_once('.').unwrap().1, &long] {
        assert!(issuers.recognize(other).is_none());
    }
    assert!(Issuers::new(&[]).is_none());
}

#[test]
fn a_set_needs_a_key_that_verifies() {
    for bad in ["", "[]", "{}", r#"{"keys": []}"#, r#"{"keys": [{"kty": "oct", "k": "eA"}]}"#] {
        assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    let many = json!({"keys": vec![json!({}); 65]}).to_string();
    assert!(KeySet::parse(many.as_bytes()).is_err_and(|problem| problem.contains("64")));
}
