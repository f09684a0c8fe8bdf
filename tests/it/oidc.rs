//! Tokens of outside issuers over HTTP: what is taken, and all that is not.

mod discovery;
mod issuer;

use ring::hmac;
use serde_json::{Value, json};

use self::issuer::{Issuer, Key, now_s, unsigned};
use crate::harness::client::Answer;
use crate::harness::gateway::Builder;
use crate::harness::{Gateway, Upstream, eventually};

const MODELS: &str = "/v1/models";
const TOOLS: &str = "/api/v1/mcp/tools";
const CALL: &str = "/api/v1/mcp/tools/call";
const STATIC: &str = "wk-the-static-key";

/// A gateway that takes tokens of `issuer`, whose chat is for known callers only.
fn builder(issuer: &Issuer, more: &str) -> Builder {
    let config = format!("[access]\nchat = \"required\"\n{}{more}", issuer.table("staff"));
    Gateway::builder().sqlite().env("WITGATE_API_KEY", STATIC).config(&config)
}

async fn get(gateway: &Gateway, token: &str, path: &str) -> Answer {
    gateway.request("GET", path).header("authorization", &format!("Bearer {token}")).send().await
}

/// Refused at both kinds of doors with these words, which hold nothing of the token.
async fn refused(gateway: &Gateway, token: &str, words: &str) {
    for path in [MODELS, TOOLS] {
        let answer = get(gateway, token, path).await;
        assert!(answer.header("www-authenticate").is_some());
        let told = answer.words(401);
        assert!(told.contains(words), "{words:?} is not in {told:?}");
        assert!(!told.contains("u-1") && !told.contains(token), "{told}");
    }
}

/// `claims` with `name` as `value`; without it where that is null.
fn with(mut claims: Value, name: &str, value: Value) -> Value {
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

#[tokio::test]
async fn tokens_of_every_algorithm_are_taken() {
    let issuer = Issuer::start(&[Key::Rsa, Key::P256, Key::P384, Key::Ed25519]);
    let names = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
    let all = &format!("algorithms = {}", json!(names));
    let upstream = Upstream::start();
    let gateway = builder(&issuer, all).upstream(&upstream).start().await;
    assert_eq!(issuer.fetches(), 0, "nobody is asked before there is a token");
    for key in [Key::Rsa, Key::P256, Key::P384, Key::Ed25519] {
        let token = issuer.good(key);
        get(&gateway, &token, MODELS).await.expect(200);
        assert!(
            get(&gateway, &token, TOOLS).await.expect(200).as_array().is_some_and(|tools| !tools.is_empty())
        );
    }
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let token =
            Key::Rsa.token(&json!({"alg": algorithm, "kid": "rsa", "typ": "at+jwt"}), &issuer.claims());
        get(&gateway, &token, TOOLS).await.expect(200);
        // The same, said to be signed in another way.
        let other = if algorithm == "RS256" { "PS256" } else { "RS256" };
        let header = unsigned(&json!({"alg": other, "kid": "rsa", "typ": "at+jwt"}), &json!({}));
        let ((header, _), (_, rest)) = (header.split_once('.').unwrap(), token.split_once('.').unwrap());
        refused(&gateway, &format!("{header}.{rest}"), "signature").await;
    }
    // The key decides on its algorithm, not the token: one of P-384 is no other curve's.
    for (key, said) in [(Key::P384, "ES256"), (Key::P256, "ES384")] {
        let kid = format!("{key:?}").to_lowercase();
        let token = key.token(&json!({"alg": said, "kid": kid}), &issuer.claims());
        refused(&gateway, &token, "").await;
    }
    assert_eq!(issuer.fetches(), 1);
    // What the issuer's table does not name is not taken, whoever signed it.
    let other = builder(&issuer, "").start().await;
    refused(&other, &issuer.good(Key::P384), "").await;
}

#[tokio::test]
async fn scopes_are_those_of_the_map_and_no_others() {
    let issuer = Issuer::start(&[Key::Ed25519]);
    let gateway = builder(&issuer, "").start().await;
    let token = |scope: Value| issuer.token(Key::Ed25519, &with(issuer.claims(), "scope", scope));
    let call = async |token: &str| {
        let body = json!({"tool_name": "list_tables", "arguments": {}});
        let request = gateway.request("POST", CALL).header("authorization", &format!("Bearer {token}"));
        request.json(&body).send().await
    };
    let lists = token("gateway".into());
    get(&gateway, &lists, TOOLS).await.expect(200);
    assert!(call(&lists).await.words(403).contains("tools:call"));
    let calls = token(json!(["caller", "x"]));
    assert_eq!(call(&calls).await.expect(200)["success"], true);
    assert!(get(&gateway, &calls, TOOLS).await.words(403).contains("tools:list"));
    // Our own words mean nothing in their mouth.
    for scope in ["tools:list chat admin", "", "GATEWAY", "gateway,caller"] {
        assert!(
            get(&gateway, &token(scope.into()), TOOLS).await.words(403).contains("tools:list"),
            "{scope}"
        );
    }
    // The other usual name, where the first is not there.
    let scp = with(with(issuer.claims(), "scope", Value::Null), "scp", json!(["gateway"]));
    get(&gateway, &issuer.token(Key::Ed25519, &scp), TOOLS).await.expect(200);
    assert!(get(&gateway, &lists, "/api/v1/users").await.words(403).contains("admin"));
}

#[tokio::test]
async fn the_caller_is_the_issuers_user() {
    let issuer = Issuer::start(&[Key::P256]);
    let gateway = builder(&issuer, "").start().await;
    get(&gateway, &issuer.good(Key::P256), "/api/v1/users").await.words(403);
    let file = gateway.folder().join("data/audit/audit.jsonl");
    eventually("the refusal is written down", async || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"oidc:staff:u-1\""))
    })
    .await;
}

#[tokio::test]
async fn what_is_not_signed_as_it_must_be_is_refused() {
    let issuer = Issuer::start(&[Key::Rsa, Key::P256, Key::Ed25519]);
    let gateway = builder(&issuer, "").start().await;
    let claims = issuer.claims();
    for name in ["none", "None", "", "HS256", "HS512", "RS999", "PS256"] {
        let message = unsigned(&json!({"alg": name, "kid": "rsa"}), &claims);
        for signature in ["", "eA"] {
            refused(&gateway, &format!("{message}.{signature}"), "algorithm").await;
        }
    }
    // What is public must not serve as a secret.
    let pem = include_bytes!("../data/oidc/rsa.pub.pem");
    let jwk = Key::Rsa.jwk("rsa").to_string();
    let modulus = Key::Rsa.jwk("rsa")["n"].as_str().unwrap().to_owned();
    for secret in [&pem[..], pem.trim_ascii_end(), jwk.as_bytes(), modulus.as_bytes()] {
        for alg in ["HS256", "RS256"] {
            let message = unsigned(&json!({"alg": alg, "typ": "JWT", "kid": "rsa"}), &claims);
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
            let tag: &[u8] = tag.as_ref();
            let tag = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, tag);
            let words = if alg == "HS256" { "algorithm" } else { "signature" };
            refused(&gateway, &format!("{message}.{tag}"), words).await;
        }
    }
    // A key for another algorithm than the token's.
    let mixed = Key::Rsa.token(&json!({"alg": "RS256", "kid": "p256"}), &claims);
    refused(&gateway, &mixed, "algorithm").await;
    // Somebody else's key under a name that is published.
    let other = Key::OtherRsa.token(&json!({"alg": "RS256", "kid": "rsa"}), &claims);
    refused(&gateway, &other, "signature").await;
    let brought =
        json!({"alg": "RS256", "kid": "rsa", "jwk": Key::OtherRsa.jwk("rsa"), "jku": "http://127.0.0.1:1/"});
    refused(&gateway, &Key::OtherRsa.token(&brought, &claims), "signature").await;
    // Other contents under a good signature.
    let (good, rich) = (issuer.good(Key::Rsa), with(claims.clone(), "scope", "gateway caller".into()));
    let changed = unsigned(&json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"}), &rich);
    refused(&gateway, &format!("{changed}.{}", good.rsplit_once('.').unwrap().1), "signature").await;
    for header in [
        json!({"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": false}),
        json!({"alg": "RS256", "kid": "rsa", "typ": "logout+jwt"}),
    ] {
        refused(&gateway, &Key::Rsa.token(&header, &claims), "form").await;
    }
    refused(&gateway, &Key::Rsa.token(&json!({"alg": "RS256"}), &claims), "kid").await;
    get(&gateway, &good, TOOLS).await.expect(200);
}

#[tokio::test]
async fn what_a_token_says_has_to_fit() {
    let issuer = Issuer::start(&[Key::Ed25519]);
    let gateway = builder(&issuer, "").start().await;
    let now = now_s();
    let changes = [
        ("exp", json!(now - 61), "expired"),
        ("exp", Value::Null, "exp"),
        ("exp", json!("tomorrow"), "exp"),
        ("exp", json!(-1), "exp"),
        ("nbf", json!(now + 600), "not valid yet"),
        ("nbf", json!("x"), "form"),
        ("aud", json!("another"), "audience"),
        ("aud", json!(["a", "Witgate"]), "audience"),
        ("aud", Value::Null, "audience"),
        ("sub", Value::Null, "user"),
        ("sub", json!(""), "user"),
        ("sub", json!("a\nb"), "user"),
        ("x", json!("x".repeat(17_000)), "large"),
        // Of nobody we know: as any other text.
        ("iss", json!("http://127.0.0.1:1"), "not valid"),
        ("iss", json!(format!("{}/", issuer.url)), "not valid"),
        ("iss", json!([issuer.url]), "not valid"),
        ("iss", Value::Null, "not valid"),
    ];
    for (name, value, words) in changes {
        refused(&gateway, &issuer.token(Key::Ed25519, &with(issuer.claims(), name, value)), words).await;
    }
    for (name, value) in [
        ("exp", json!(now - 30)),
        ("exp", json!(now as f64 + 60.5)),
        ("nbf", json!(now + 30)),
        ("nbf", Value::Null),
        ("aud", json!(["a", "witgate"])),
        ("sub", json!(7)),
    ] {
        let token = issuer.token(Key::Ed25519, &with(issuer.claims(), name, value.clone()));
        assert_eq!(get(&gateway, &token, TOOLS).await.status, 200, "{name} {value}");
    }
    // Without an id of a key there is one key only.
    get(&gateway, &Key::Ed25519.token(&json!({"alg": "EdDSA"}), &issuer.claims()), TOOLS).await.expect(200);
}

#[tokio::test]
async fn open_chat_takes_strangers_and_no_bad_tokens_of_known_issuers() {
    let issuer = Issuer::start(&[Key::Ed25519]);
    let upstream = Upstream::start();
    let gateway = Gateway::builder().upstream(&upstream).config(&issuer.table("staff")).start().await;
    let token = |name, value| issuer.token(Key::Ed25519, &with(issuer.claims(), name, value));
    get(&gateway, &token("iss", json!("https://elsewhere.test")), MODELS).await.expect(200);
    get(&gateway, &issuer.good(Key::Ed25519), MODELS).await.expect(200);
    let expired = get(&gateway, &token("exp", json!(1)), MODELS).await;
    assert_eq!(expired.expect(401)["error"]["code"], "expired_token");
    let other = get(&gateway, &token("aud", json!("x")), MODELS).await;
    assert_eq!(other.expect(401)["error"]["code"], "invalid_token");
    get(&gateway, "anything", MODELS).await.expect(200);
}

#[tokio::test]
async fn new_keys_count_at_once_and_old_ones_end() {
    let issuer = Issuer::start(&[Key::Rsa]);
    let gateway = builder(&issuer, "").start().await;
    let old = issuer.good(Key::Rsa);
    get(&gateway, &old, TOOLS).await.expect(200);
    issuer.publish(&[Key::P256]);
    get(&gateway, &issuer.good(Key::P256), TOOLS).await.expect(200);
    assert_eq!(issuer.fetches(), 2);
    // Verified and remembered a moment ago, and its key is gone.
    refused(&gateway, &old, "does not publish").await;
    // Whoever makes up keys does not make us ask again and again.
    for kid in 0..20 {
        let made_up =
            Key::OtherRsa.token(&json!({"alg": "RS256", "kid": format!("k{kid}")}), &issuer.claims());
        refused(&gateway, &made_up, "does not publish").await;
    }
    assert!(issuer.fetches() <= 4, "{}", issuer.fetches());
    get(&gateway, &issuer.good(Key::P256), TOOLS).await.expect(200);
}

#[tokio::test]
async fn an_issuer_that_is_down_harms_nobody_else() {
    let (down, up) = (Issuer::start(&[Key::Rsa]), Issuer::start(&[Key::Ed25519]));
    let gateway = builder(&down, &up.table("other")).start().await;
    let good = down.good(Key::Rsa);
    for status in [0, 500, 302] {
        down.answer(status);
        let answer = get(&gateway, &good, TOOLS).await;
        assert!(answer.header("retry-after").is_some());
        assert!(answer.words(503).contains("keys"));
        get(&gateway, &up.good(Key::Ed25519), TOOLS).await.expect(200);
        get(&gateway, STATIC, TOOLS).await.expect(200);
    }
    gateway.until_logged(&["the issuer `staff` cannot be had"]).await;
    assert_eq!(gateway.log().matches("the issuer `staff` cannot be had").count(), 1, "told once");
    down.answer(200);
    eventually("its tokens are taken once it is back", async || {
        get(&gateway, &good, TOOLS).await.status == 200
    })
    .await;
    // And they stay so when it goes again.
    down.answer(0);
    get(&gateway, &good, TOOLS).await.expect(200);
    refused(&gateway, &down.good(Key::P256), "does not publish").await;
    get(&gateway, &down.good(Key::Rsa), TOOLS).await.expect(200);
}

#[tokio::test]
async fn issuers_have_keys_of_their_own() {
    let (a, b) = (Issuer::start(&[Key::Rsa]), Issuer::start(&[Key::OtherRsa]));
    b.publish_as(json!([Key::OtherRsa.jwk("rsa")]));
    let gateway = builder(&a, &b.table("other")).start().await;
    let header = json!({"alg": "RS256", "kid": "rsa"});
    get(&gateway, &Key::Rsa.token(&header, &a.claims()), TOOLS).await.expect(200);
    get(&gateway, &Key::OtherRsa.token(&header, &b.claims()), TOOLS).await.expect(200);
    refused(&gateway, &Key::OtherRsa.token(&header, &a.claims()), "signature").await;
    refused(&gateway, &Key::Rsa.token(&header, &b.claims()), "signature").await;
}

#[tokio::test]
async fn odd_keys_do_not_spoil_the_others() {
    let issuer = Issuer::start(&[]);
    let mut for_secrets = Key::Rsa.jwk("rsa");
    for_secrets["use"] = "enc".into();
    issuer.publish_as(json!([
        7, {}, {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "short"},
        for_secrets, Key::Ed25519.jwk("ed25519"),
    ]));
    let gateway = builder(&issuer, "").start().await;
    get(&gateway, &issuer.good(Key::Ed25519), TOOLS).await.expect(200);
    refused(&gateway, &issuer.good(Key::Rsa), "does not publish").await;
}

#[tokio::test]
async fn faults_in_the_table_are_named() {
    let table = |line: &str| {
        let base =
            "[[access.issuers]]\nname = \"staff\"\nissuer = \"https://login.test\"\naudience = \"a\"\n";
        let key = line.split(' ').next().unwrap();
        let kept = base.lines().filter(|have| !have.starts_with(key)).collect::<Vec<_>>().join("\n");
        format!("{kept}\n{line}\n")
    };
    for (line, words) in [
        ("name = \"Staff\"", "`name`"),
        ("issuer = \"http://login.test\"", "`issuer`"),
        ("issuer = \"login\"", "`issuer`"),
        ("audience = []", "`audience`"),
        ("audience = 7", "`audience`"),
        ("jwks_url = \"http://10.0.0.1/keys\"", "`jwks_url`"),
        ("algorithms = [\"HS256\"]", "`algorithms`"),
        ("algorithms = [\"none\"]", "`algorithms`"),
        ("algorithms = []", "`algorithms`"),
        ("default_scopes = [\"root\"]", "`default_scopes`"),
        ("scope_map = { x = [\"root\"] }", "scope_map"),
        ("leeway_s = 100000", "`leeway_s`"),
        ("colour = \"red\"", "colour"),
    ] {
        let mut process = Gateway::builder().config(&table(line)).spawn();
        assert!(!process.wait().await.success(), "{line}");
        eventually(&format!("{line} is told with {words}"), async || process.log_text().contains(words))
            .await;
    }
    let mut twice = Gateway::builder().config(&table("leeway_s = 1").repeat(2)).spawn();
    assert!(!twice.wait().await.success());
    eventually("the name that is there twice is told", async || twice.log_text().contains("`name`")).await;
}
