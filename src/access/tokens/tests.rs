//! Tokens: what is taken, what is not, and what becomes of the keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn now_ms() -> u64 {
    jsonwebtoken::get_current_timestamp() * 1000
}

fn tokens() -> Tokens {
    Tokens::open(TokenSettings::default(), None, now_ms()).unwrap()
}

fn signed(tokens: &Tokens, now_ms: u64) -> String {
    tokens.sign(7, -3, now_ms).unwrap().expose().to_owned()
}

/// A token with these contents, signed as the header says or with nothing at all.
fn forged(header: &serde_json::Value, claims: &serde_json::Value, key: Option<&EncodingKey>) -> String {
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature =
        key.map(|key| jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::HS256).unwrap());
    format!("{message}.{}", signature.unwrap_or_default())
}

#[test]
fn a_token_comes_back_as_what_it_was_made_of() {
    let tokens = tokens();
    let token = signed(&tokens, now_ms());
    assert_eq!(tokens.check(&token), Some(TokenCheck::Valid { user: 7, generation: -3 }));
    assert_ne!(token, signed(&tokens, now_ms()), "each has an id of its own");
    assert_eq!(tokens.check(&signed(&tokens, now_ms() - 2 * 3_600_000)), Some(TokenCheck::Expired));
    assert_eq!(tokens.check(&signed(&tokens, now_ms() + 60_000)), Some(TokenCheck::Invalid), "not yet");
    let other = super::tests::tokens();
    assert_eq!(other.check(&token), Some(TokenCheck::Invalid), "of a gateway with other keys");
    for foreign in ["", "a.b.c", "sk-1", "..", "eyJhbGciOiJIUzI1NiJ9.e30.x"] {
        assert_eq!(tokens.check(foreign), None, "{foreign}");
    }
}

#[test]
fn nothing_but_our_own_signature_counts() {
    let tokens = tokens();
    let keys = tokens.keys.load();
    let key = &keys.keys[0];
    let now = now_ms() / 1000;
    let claims = json!({"iss": ISSUER, "aud": ISSUER, "sub": "7", "iat": now, "nbf": now, "exp": now + 600,
        "jti": "x", "generation": 0});
    let header = |alg: &str| json!({"alg": alg, "typ": "JWT", "kid": key.id});
    let check = |token: &str| tokens.check(token);
    let good = forged(&header("HS256"), &claims, Some(&key.encoding));
    assert!(matches!(check(&good), Some(TokenCheck::Valid { .. })));
    for algorithm in ["none", "None", "", "HS384", "HS512", "RS256", "ES256", "EdDSA"] {
        for key in [None, Some(&key.encoding)] {
            let token = forged(&header(algorithm), &claims, key);
            assert!(matches!(check(&token), None | Some(TokenCheck::Invalid)), "{algorithm}");
        }
    }
    let unsigned = forged(&header("HS256"), &claims, None);
    assert_eq!(check(&unsigned), Some(TokenCheck::Invalid));
    let empty = EncodingKey::from_secret(b"");
    assert_eq!(check(&forged(&header("HS256"), &claims, Some(&empty))), Some(TokenCheck::Invalid));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other = head.rsplit_once('.').unwrap().0;
    let root = URL_SAFE_NO_PAD.encode(claims.to_string().replace("\"7\"", "\"1\""));
    assert_eq!(check(&format!("{other}.{root}.{signature}")), Some(TokenCheck::Invalid));
    for (claim, value) in [
        ("iss", json!("other")),
        ("aud", json!("other")),
        ("sub", json!("root")),
        ("nbf", json!(now + 600)),
        ("exp", json!("never")),
        ("exp", json!(null)),
        ("generation", json!("0")),
    ] {
        let mut wrong = claims.clone();
        wrong[claim] = value;
        let token = forged(&header("HS256"), &wrong, Some(&key.encoding));
        assert_eq!(check(&token), Some(TokenCheck::Invalid), "{claim}");
        wrong.as_object_mut().unwrap().remove(claim);
        let token = forged(&header("HS256"), &wrong, Some(&key.encoding));
        assert_eq!(check(&token), Some(TokenCheck::Invalid), "without {claim}");
    }
}

#[test]
fn keys_are_kept_followed_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access-keys.json");
    let open = || Tokens::open(TokenSettings::default(), Some(&path), now_ms()).unwrap();
    let valid = Some(TokenCheck::Valid { user: 7, generation: -3 });
    let (first, second) = (open(), open());
    let old = signed(&first, now_ms());
    assert_eq!(second.check(&old), valid, "one file, the same keys");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    first.rotate(now_ms() + 29 * DAY_MS).unwrap();
    assert_eq!(first.keys.load().keys.len(), 1, "not yet");
    first.rotate(now_ms() + 30 * DAY_MS).unwrap();
    assert_eq!(first.keys.load().keys.len(), 2);
    let new = signed(&first, now_ms());
    assert_ne!(
        jsonwebtoken::decode_header(&new).unwrap().kid,
        jsonwebtoken::decode_header(&old).unwrap().kid
    );
    assert_eq!(
        (first.check(&old), first.check(&new)),
        (valid, Some(TokenCheck::Valid { user: 7, generation: -3 }))
    );
    assert_eq!(second.check(&new), Some(TokenCheck::Invalid));
    second.follow().unwrap();
    assert!(matches!(second.check(&new), Some(TokenCheck::Valid { .. })), "what another process made");
    first.rotate(now_ms() + 61 * DAY_MS).unwrap();
    assert_eq!(first.check(&old), Some(TokenCheck::Invalid), "its tokens have expired long ago");
    assert!(matches!(first.check(&new), Some(TokenCheck::Valid { .. })));
}

/// The turn of one gateway that shares the file with another comes right after the other's, and finds nothing to do.
#[test]
fn a_turn_without_anything_to_do_loses_nothing_of_anothers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access-keys.json");
    let open = || Tokens::open(TokenSettings::default(), Some(&path), now_ms()).unwrap();
    let (first, second) = (open(), open());
    let later = now_ms() + 30 * DAY_MS;
    first.rotate(later).unwrap();
    second.rotate(later).unwrap();
    second.follow().unwrap();
    assert!(matches!(second.check(&signed(&first, now_ms())), Some(TokenCheck::Valid { .. })));
    assert!(matches!(first.check(&signed(&second, now_ms())), Some(TokenCheck::Valid { .. })), "one key");
}

#[test]
fn two_turns_at_once_make_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access-keys.json");
    let open = || Tokens::open(TokenSettings::default(), Some(&path), now_ms()).unwrap();
    let (first, second) = (open(), open());
    let later = now_ms() + 30 * DAY_MS;
    // Another process is at it.
    let lock = first.file.as_ref().unwrap().lock().unwrap().unwrap();
    let before = std::fs::read(&path).unwrap();
    second.rotate(later).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    drop(lock);
    std::thread::scope(|threads| {
        for tokens in [&first, &second] {
            threads.spawn(move || tokens.rotate(later).unwrap());
        }
    });
    for tokens in [&first, &second] {
        tokens.follow().unwrap();
        assert_eq!(tokens.keys.load().keys.len(), 2);
    }
    assert!(matches!(second.check(&signed(&first, now_ms())), Some(TokenCheck::Valid { .. })));
}

#[test]
fn a_damaged_file_is_an_error_without_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access-keys.json");
    for content in [
        "{\"keys\": []}",
        "{\"keys\": [{\"id\": \"wgk-a\", \"secret\": \"s3cret\", \"created_ms\": 1}]}",
        "s3cret",
    ] {
        std::fs::write(&path, content).unwrap();
        let error = Tokens::open(TokenSettings::default(), Some(&path), now_ms()).err().unwrap().to_string();
        assert!(error.contains("access-keys.json") && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_secret_of_the_operator_signs_in_place_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access-keys.json");
    let open = |secret: &str| {
        let secret = Some(secret.into());
        Tokens::open(TokenSettings { secret, ..TokenSettings::default() }, Some(&path), now_ms())
    };
    let error = open(&"x".repeat(31)).err().unwrap().to_string();
    assert!(
        error.contains("WITGATE_TOKEN_SECRET") && error.contains("31") && !error.contains("xxx"),
        "{error}"
    );
    let (one, same, other) = (open(&"x".repeat(32)), open(&"x".repeat(32)), open(&"y".repeat(32)));
    let token = signed(&one.unwrap(), now_ms());
    assert!(matches!(same.unwrap().check(&token), Some(TokenCheck::Valid { .. })));
    assert_eq!(other.unwrap().check(&token), Some(TokenCheck::Invalid));
    assert!(!path.exists());
    let short = TokenSettings { ttl_s: 59, ..TokenSettings::default() };
    let error = Tokens::open(short, None, now_ms()).err().unwrap().to_string();
    assert!(error.contains("access.token_ttl_s"), "{error}");
}
