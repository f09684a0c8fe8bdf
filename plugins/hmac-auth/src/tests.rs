//! The vectors of RFC 9421, and what is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use witgate_plugin::auth::HttpRequest;
use witgate_plugin::{AccessAction, AccessRequest, AuthPolicy, Decision, Error, PrincipalKind, testing};

use super::{HmacAuth, decide};
use crate::config::Scheme;
use crate::signature::{self, Signature};

const SECRET: &str = "a secret of sixteen bytes or more";
const NOW: i64 = 1_800_000_000;

/// The request of RFC 9421, appendix B.2.
fn rfc_request(signature_input: &str, signature: &str) -> HttpRequest {
    let headers = [
        ("host", "example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("content-length", "18"),
        ("signature-input", signature_input),
        ("signature", signature),
    ];
    HttpRequest {
        method: "POST".into(),
        path: "/foo".into(),
        query: Some("param=Value&Pet=dog".into()),
        authority: Some("example.com".into()),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        peer: None,
    }
}

fn only(http: &HttpRequest) -> Signature {
    signature::signatures(http).unwrap().pop().unwrap()
}

#[test]
fn rfc_9421_b_2_5_hmac_sha256() {
    let http = rfc_request(
        r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
    );
    let secret = STANDARD
        .decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==");
    let signature = only(&http);
    let base = signature.base(&http, Scheme::Https).unwrap();
    assert_eq!(
        base,
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
         \"@authority\": example.com\n\
         \"content-type\": application/json\n\
         \"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\""
    );
    let secret = secret.unwrap();
    assert!(signature.is_of(&base, &secret));
    assert!(!signature.is_of(&base.replace("02:07:55", "02:07:56"), &secret));
    assert!(!signature.is_of(&base, &secret[1..]));
}

#[test]
fn rfc_9421_derived_components() {
    // Sections 2.2.1 to 2.2.7; the base of an empty list is that of B.2.1.
    let value = |component: &str, http: &HttpRequest| {
        let http = HttpRequest {
            headers: vec![
                ("signature-input".into(), format!("s=(\"{component}\")")),
                ("signature".into(), "s=:AA==:".into()),
            ],
            ..http.clone()
        };
        let base = only(&http).base(&http, Scheme::Https).unwrap();
        let line = base.lines().next().unwrap().to_owned();
        line.strip_prefix(&format!("\"{component}\": ")).unwrap().to_owned()
    };
    let http = HttpRequest {
        method: "POST".into(),
        path: "/path".into(),
        query: Some("param=value&foo=bar&baz=bat%2Dman".into()),
        authority: Some("WWW.example.com:443".into()),
        ..HttpRequest::default()
    };
    assert_eq!(value("@method", &http), "POST");
    assert_eq!(value("@authority", &http), "www.example.com");
    assert_eq!(value("@scheme", &http), "https");
    assert_eq!(value("@path", &http), "/path");
    assert_eq!(value("@query", &http), "?param=value&foo=bar&baz=bat%2Dman");
    assert_eq!(value("@request-target", &http), "/path?param=value&foo=bar&baz=bat%2Dman");
    assert_eq!(value("@target-uri", &http), "https://www.example.com/path?param=value&foo=bar&baz=bat%2Dman");
    let bare = HttpRequest { query: None, path: String::new(), authority: Some("a:8443".into()), ..http };
    assert_eq!(value("@query", &bare), "?");
    assert_eq!(value("@path", &bare), "/");
    assert_eq!(value("@target-uri", &bare), "https://a:8443/");
}

#[test]
fn values_of_one_field_are_joined_as_in_section_2_1() {
    let headers = [
        ("x-list", " a "),
        ("x-empty", ""),
        ("x-list", "b, c"),
        ("signature-input", r#"s=("x-list" "x-empty")"#),
        ("signature", "s=:AA==:"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let http = HttpRequest { headers, ..HttpRequest::default() };
    let base = only(&http).base(&http, Scheme::Http).unwrap();
    assert_eq!(base, "\"x-list\": a, b, c\n\"x-empty\": \n\"@signature-params\": (\"x-list\" \"x-empty\")");
}

#[test]
fn a_request_that_another_library_signed_is_authenticated() {
    // Written by http-message-signatures 3.0 for Python, with the key, time and nonce seen here.
    let headers = [
        ("content-type", "application/json"),
        ("content-digest", "sha-256=:GO6lMgBTdPoGV3uF+LWYn0PAntaisDmATGCLiqWxktM=:"),
        (
            "signature-input",
            r#"sig1=("@method" "@authority" "@path" "@query" "@target-uri" "@request-target" "content-type" "content-digest");created=1800000000;keyid="k1";alg="hmac-sha256";nonce="n-1""#,
        ),
        ("signature", "sig1=:/mNEKC+A6mES3rBfLcRfPf8tR5KuSKh8gBBexaAup0g=:"),
    ];
    let http = HttpRequest {
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        query: Some("a=1&b=%20x".into()),
        authority: Some("localhost:8080".into()),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        peer: None,
    };
    configure(&json!({}));
    assert_eq!(word(decide(&http, NOW)), "allow alice");
    let forged = HttpRequest { path: "/v1/models".into(), ..http };
    refused(&forged, "not one of a known key");
}

/// Sets the configuration, with one key `k1` for alice.
fn configure(changes: &Value) {
    let mut config = json!({
        "keys": { "k1": { "secret": "k1", "principal": "alice", "kind": "user", "scopes": ["chat"] } },
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    testing::set_config(&config.to_string());
    testing::set_secret("k1", SECRET);
}

/// A signed `POST /v1/chat/completions`.
struct Signer {
    components: &'static str,
    parameters: String,
    secret: &'static str,
    http: HttpRequest,
}

impl Signer {
    fn new() -> Self {
        let http = HttpRequest {
            method: "POST".into(),
            path: "/v1/chat/completions".into(),
            authority: Some("localhost:8080".into()),
            headers: vec![("content-digest".into(), "sha-256=:AAAA:".into())],
            ..HttpRequest::default()
        };
        let components = r#""@method" "@authority" "@path" "content-digest""#;
        Self {
            components,
            parameters: format!(r#";created={NOW};keyid="k1";nonce="n1""#),
            secret: SECRET,
            http,
        }
    }

    fn with(parameters: impl Into<String>) -> Self {
        Self { parameters: parameters.into(), ..Self::new() }
    }

    fn covering(components: &'static str) -> Self {
        Self { components, ..Self::new() }
    }

    fn sign(mut self) -> HttpRequest {
        let input = format!("sig1=({}){}", self.components, self.parameters);
        self.http.headers.push(("signature-input".into(), input));
        self.http.headers.push(("signature".into(), "sig1=:AA==:".into()));
        let base = signature::signatures(&self.http)
            .ok()
            .and_then(|mut all| all.pop())
            .and_then(|signature| signature.base(&self.http, Scheme::Http).ok())
            .unwrap_or_default();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(base.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        self.http.headers.last_mut().unwrap().1 = format!("sig1=:{signature}:");
        self.http
    }
}

fn word(decision: Result<Decision, Error>) -> String {
    match decision {
        Ok(Decision::Allow(Some(principal))) => format!("allow {}", principal.id),
        Ok(Decision::Allow(None)) => "allow".into(),
        Ok(Decision::Abstain) => "abstain".into(),
        Ok(Decision::Deny(denial)) => format!("{} {}", denial.status, denial.reason),
        Err(error) => format!("error {error}"),
    }
}

fn refused(http: &HttpRequest, why: &str) {
    let got = word(decide(http, NOW));
    assert!(got.starts_with("401 ") && got.contains(why), "{got}\nexpected: {why}");
}

#[test]
fn a_signed_request_is_authenticated() {
    configure(&json!({}));
    let Ok(Decision::Allow(Some(principal))) = decide(&Signer::new().sign(), NOW) else { panic!("refused") };
    assert_eq!(principal.id, "alice");
    assert_eq!(principal.kind, PrincipalKind::User);
    assert_eq!(principal.scopes, ["chat"]);
    assert_eq!(principal.claims_json, r#"{"keyid":"k1"}"#);
}

#[test]
fn any_change_of_what_is_signed_is_noticed() {
    configure(&json!({}));
    let changes: [fn(&mut HttpRequest); 5] = [
        |http| http.method = "PUT".into(),
        |http| http.path = "/v1/models".into(),
        |http| http.authority = Some("evil.example".into()),
        |http| http.headers[0].1 = "sha-256=:BBBB:".into(),
        |http| http.headers[1].1 = http.headers[1].1.replace("n1", "n2"),
    ];
    for change in changes {
        let mut http = Signer::new().sign();
        change(&mut http);
        refused(&http, "not one of a known key");
    }
    let mut http = Signer::new().sign();
    http.query = Some("x=1".into());
    refused(&http, "must cover `@query`");
    assert_eq!(word(decide(&Signer::new().sign(), NOW)), "allow alice", "none of these used up the nonce");
}

#[test]
fn unknown_keys_and_wrong_secrets_look_the_same() {
    configure(&json!({}));
    let wrong = Signer { secret: "another secret of enough bytes", ..Signer::new() }.sign();
    refused(&wrong, "not one of a known key");
    let parameters = |keyid: &str| format!(r#";created={NOW}{keyid};nonce="n""#);
    refused(&Signer::with(parameters(r#";keyid="k2""#)).sign(), "not one of a known key");
    refused(&Signer::with(parameters("")).sign(), "not one of a known key");
}

#[test]
fn a_nonce_is_good_once() {
    configure(&json!({}));
    let http = Signer::new().sign();
    assert_eq!(word(decide(&http, NOW)), "allow alice");
    refused(&http, "nonce was used before");
    let other = Signer::with(format!(r#";created={NOW};keyid="k1";nonce="n2""#)).sign();
    assert_eq!(word(decide(&other, NOW)), "allow alice");
    let none = || Signer::with(format!(r#";created={NOW};keyid="k1""#)).sign();
    refused(&none(), "must have a nonce");
    configure(&json!({ "require_nonce": false }));
    assert_eq!(word(decide(&none(), NOW)), "allow alice");
}

#[test]
fn old_and_early_signatures_are_refused() {
    configure(&json!({ "require_nonce": false }));
    let at = |parameters: String| Signer::with(parameters + r#";keyid="k1""#).sign();
    let aged = |seconds: i64| at(format!(";created={}", NOW - seconds));
    assert_eq!(word(decide(&aged(330), NOW)), "allow alice");
    refused(&aged(331), "too old");
    assert_eq!(word(decide(&aged(-30), NOW)), "allow alice");
    refused(&aged(-31), "in the future");
    let expiring = |seconds: i64| at(format!(";created={NOW};expires={}", NOW + seconds));
    assert_eq!(word(decide(&expiring(-30), NOW)), "allow alice");
    refused(&expiring(-31), "too old");
    refused(&at(String::new()), "when it was created");
    refused(&at(";created=\"now\"".into()), "whole number of seconds");
    refused(&at(";created=999999999999999".into()), "in the future");
    refused(&at(";created=-999999999999999".into()), "too old");
}

#[test]
fn what_must_be_covered() {
    configure(&json!({}));
    refused(&Signer::covering(r#""@method" "@path" "content-digest""#).sign(), "must cover `@authority`");
    refused(&Signer::covering(r#""@method" "@authority" "@path""#).sign(), "must cover `content-digest`");
    refused(&Signer::covering("").sign(), "must cover `@method`");
    let whole = Signer::covering(r#""@method" "@target-uri" "content-digest""#).sign();
    assert_eq!(word(decide(&whole, NOW)), "allow alice");
    configure(&json!({ "components": ["@method", "x-team"], "body_digest": false, "require_nonce": false }));
    refused(&Signer::covering(r#""@method""#).sign(), "must cover `x-team`");
    refused(
        &Signer::covering(r#""@method" "x-team""#).sign(),
        "there is no such header, or the plugin may not",
    );
}

#[test]
fn malformed_signatures_are_refused_with_the_reason() {
    configure(&json!({}));
    let table = [
        (r#"sig1=("@method""#, "sig1=:AA==:", "`Signature-Input` cannot be read"),
        (r#"sig1="@method""#, "sig1=:AA==:", "in parentheses"),
        (r#"sig1=("@method")"#, "sig1=:A:A:", "`Signature` cannot be read"),
        (r#"sig1=("@method")"#, "sig2=:AA==:", "signature `sig1`: `Signature` must hold its bytes"),
        (r#"sig1=("@method")"#, "sig1=1", "must hold its bytes"),
        (r#"sig1=("@method" "@method")"#, "sig1=:AA==:", "`@method` is there twice"),
        (r#"sig1=("Date")"#, "sig1=:AA==:", "lower case"),
        (r#"sig1=("")"#, "sig1=:AA==:", "lower case"),
        (r#"sig1=("x-dict";key="a")"#, "sig1=:AA==:", "parameter `key` is not supported"),
        (r#"sig1=("@method");alg="rsa-v1_5-sha256""#, "sig1=:AA==:", "must be hmac-sha256"),
        (r#"sig1=("@method");keyid=5"#, "sig1=:AA==:", "`keyid` must be a string"),
        ("a=(), b=(), c=(), d=(), e=()", "a=:AA==:", "more than 4 signatures"),
    ];
    for (input, value, expected) in table {
        let headers = vec![("signature-input".into(), input.into()), ("signature".into(), value.into())];
        refused(&HttpRequest { headers, ..HttpRequest::default() }, expected);
    }
    for (name, value) in [("signature-input", "a=()"), ("signature", "a=:AA==:")] {
        let headers = vec![(name.into(), value.into())];
        refused(&HttpRequest { headers, ..HttpRequest::default() }, "there is `Signature");
    }
    refused(
        &Signer::covering(r#""@method" "@authority" "@path" "content-digest" "@status""#).sign(),
        "`@status` is not supported",
    );
    let long = format!(r#";created={NOW};keyid="k1";nonce="{}""#, "n".repeat(257));
    refused(&Signer::with(long).sign(), "`nonce` is longer");
}

#[test]
fn one_good_signature_of_several_is_enough() {
    configure(&json!({}));
    let mut http = Signer::new().sign();
    for (name, more) in [("signature-input", "other=()"), ("signature", "other=:AA==:")] {
        http.headers.insert(0, (name.into(), more.into()));
    }
    assert_eq!(word(decide(&http, NOW)), "allow alice");
}

#[test]
fn unsigned_requests() {
    configure(&json!({}));
    refused(&HttpRequest::default(), "must be signed");
    configure(&json!({ "required": false }));
    assert_eq!(word(decide(&HttpRequest::default(), NOW)), "abstain");
    let http = Signer { secret: "another secret of enough bytes", ..Signer::new() }.sign();
    refused(&http, "not one of a known key");
    configure(&json!({ "required": false, "tag": "witgate" }));
    assert_eq!(word(decide(&http, NOW)), "abstain", "the signature is for somebody else");
    let tagged = Signer::with(format!(r#";created={NOW};keyid="k1";nonce="n1";tag="witgate""#)).sign();
    assert_eq!(word(decide(&tagged, NOW)), "allow alice");
}

#[test]
fn only_endpoints_are_authenticated() {
    configure(&json!({}));
    let http = Some(Signer::new().sign());
    let model = AccessRequest { http, ..AccessRequest::new(AccessAction::Model("m".into())) };
    assert_eq!(word(HmacAuth::authorize(&model)), "abstain");
    let unsigned =
        AccessRequest { http: Some(HttpRequest::default()), ..AccessRequest::new(AccessAction::Endpoint) };
    assert!(word(HmacAuth::authorize(&unsigned)).starts_with("401"));
}

#[test]
fn a_redacted_query_cannot_be_checked() {
    configure(&json!({}));
    let mut signer = Signer::covering(r#""@method" "@authority" "@path" "@query" "content-digest""#);
    signer.http.query = Some("apikey=[redacted]".into());
    refused(&signer.sign(), "a credential that the policy may not see");
}

#[test]
fn mistakes_in_the_configuration_close_the_door() {
    let key = |change: Value| {
        let mut key = json!({ "secret": "k1", "principal": "alice" });
        for (name, value) in change.as_object().unwrap() {
            key[name] = value.clone();
        }
        json!({ "keys": { "k1": key }, "require_nonce": false })
    };
    let table = [
        (json!({ "keys": {} }), "`keys` is empty"),
        (json!({ "require": true }), "unknown field `require`"),
        (json!({ "max_age_seconds": 0 }), "max_age_seconds"),
        (json!({ "clock_skew_seconds": 9999 }), "clock_skew_seconds"),
        (key(json!({ "principal": "" })), "`keys.k1.principal` is empty"),
        (key(json!({ "secret": "k9" })), "no secret `k9`"),
        (key(json!({ "secret": "short" })), "`short` is shorter than 16 bytes"),
        (key(json!({ "encoding": "base64" })), "`k1` is not base64"),
        (key(json!({ "kind": "anonymous" })), "unknown variant `anonymous`"),
    ];
    testing::set_secret("short", "short");
    for (config, expected) in table {
        configure(&config);
        let got = word(decide(&Signer::new().sign(), NOW));
        assert!(got.starts_with("error") && got.contains(expected), "{config}\n{got}");
        assert!(!got.contains(SECRET));
    }
}
