//! Forged access tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac::{self, Algorithm, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use serde_json::{Value, json};

use crate::harness::Gateway;
use crate::identity_http::login::token;
use crate::identity_http::{TOOLS, admin, builder, get};

/// What the gateway signs with.
pub(crate) const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";

async fn gateway() -> Gateway {
    let builder = builder().env("WITGATE_TOKEN_SECRET", SECRET);
    admin(builder.folder()).await;
    builder.start().await
}

fn decode(part: &str) -> Value {
    serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap()
}

fn encode(header: &Value, claims: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}

fn sign(algorithm: Algorithm, secret: &str, header: &Value, claims: &Value) -> String {
    let text = encode(header, claims);
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), text.as_bytes());
    format!("{text}.{}", BASE64.encode(tag))
}

/// `value` with `field` as `to`; without it where that is null.
fn with(value: &Value, field: &str, to: Value) -> Value {
    let mut changed = value.clone();
    let object = changed.as_object_mut().unwrap();
    if to.is_null() {
        drop(object.remove(field));
    } else {
        drop(object.insert(field.to_owned(), to));
    }
    changed
}

/// The token `real` of a gateway that signs with [`SECRET`], as it is after its time.
pub(crate) fn expired(real: &str) -> String {
    let parts: Vec<&str> = real.split('.').collect();
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    let end = claims["iat"].as_u64().unwrap() - 60;
    sign(HMAC_SHA256, SECRET, &header, &with(&claims, "exp", end.into()))
}

/// Nobody gets in with it, wherever it stands.
async fn leads_nowhere(gateway: &Gateway, token: &str, what: &str) {
    let requests = [
        gateway.request("GET", TOOLS).header("authorization", &format!("Bearer {token}")),
        gateway.request("GET", TOOLS).header("x-api-key", token),
        gateway.request("GET", &format!("{TOOLS}?apikey={token}")),
    ];
    for request in requests {
        let answer = request.send().await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        assert!(token.is_empty() || !answer.text().contains(token), "{what}");
    }
}

#[tokio::test]
async fn forged_tokens_lead_nowhere() {
    let gateway = gateway().await;
    let real = token(&gateway, "root").await;
    let parts: Vec<&str> = real.split('.').collect();
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    // The forge works: what follows fails for what was changed and for nothing else.
    get(&gateway, &sign(HMAC_SHA256, SECRET, &header, &claims), TOOLS).await.expect(200);

    for none in ["none", "None", "NONE", "nOnE", ""] {
        let unsigned = encode(&with(&header, "alg", none.into()), &claims);
        for signature in ["", "x", parts[2]] {
            leads_nowhere(&gateway, &format!("{unsigned}.{signature}"), "an algorithm that is none").await;
        }
        leads_nowhere(&gateway, &unsigned, "no signature at all").await;
    }
    for (name, algorithm) in
        [("HS384", HMAC_SHA384), ("HS512", HMAC_SHA512), ("RS256", HMAC_SHA256), ("ES256", HMAC_SHA256)]
    {
        let token = sign(algorithm, SECRET, &with(&header, "alg", name.into()), &claims);
        leads_nowhere(&gateway, &token, name).await;
    }
    let kid = header["kid"].as_str().unwrap();
    for (what, header, secret) in [
        ("a key id that nobody has", with(&header, "kid", "wgk-other".into()), SECRET),
        ("a key id that is a path", with(&header, "kid", "../../etc/passwd".into()), SECRET),
        ("no key id", with(&header, "kid", Value::Null), SECRET),
        ("another's secret", header.clone(), "another-secret-of-thirty-two-bytes-or-so"),
        ("the key id as the secret", header.clone(), kid),
        ("an empty secret", header.clone(), ""),
        (
            "a key that it brings along",
            with(&header, "jwk", json!({"kty": "oct", "k": BASE64.encode("x")})),
            "x",
        ),
        ("an address of keys", with(&header, "jku", "http://127.0.0.1:1/keys".into()), "x"),
    ] {
        leads_nowhere(&gateway, &sign(HMAC_SHA256, secret, &header, &claims), what).await;
    }
    let raised = encode(&header, &with(&claims, "sub", "2".into()));
    leads_nowhere(&gateway, &format!("{raised}.{}", parts[2]), "another user under the old signature").await;
    leads_nowhere(&gateway, &format!("{}.{}", parts[0], parts[1]), "a token in two parts").await;
    leads_nowhere(&gateway, &format!("{real}.{}", parts[2]), "a token in four parts").await;
    leads_nowhere(&gateway, &real[..real.len() - 2], "a signature that was cut").await;
}

#[tokio::test]
async fn tokens_count_for_their_time_and_place_only() {
    let gateway = gateway().await;
    let real = token(&gateway, "root").await;
    let parts: Vec<&str> = real.split('.').collect();
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    let now = claims["iat"].as_u64().unwrap();
    for (what, claims) in [
        ("expired", with(&claims, "exp", (now - 60).into())),
        ("expired long ago", with(&claims, "exp", 1.into())),
        ("not valid yet", with(&claims, "nbf", (now + 3600).into())),
        ("without an end", with(&claims, "exp", Value::Null)),
        ("with an end that is text", with(&claims, "exp", "9999999999".into())),
        ("from another issuer", with(&claims, "iss", "elsewhere".into())),
        ("for another audience", with(&claims, "aud", "elsewhere".into())),
        ("of nobody", with(&claims, "sub", "4711".into())),
        ("of no number", with(&claims, "sub", "root".into())),
    ] {
        leads_nowhere(&gateway, &sign(HMAC_SHA256, SECRET, &header, &claims), what).await;
    }
    let expired = sign(HMAC_SHA256, SECRET, &header, &with(&claims, "exp", (now - 60).into()));
    assert!(get(&gateway, &expired, TOOLS).await.words(401).contains("expired"));
}
