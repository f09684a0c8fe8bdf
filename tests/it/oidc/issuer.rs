//! An issuer of tokens inside the test process: publishes keys over HTTP, and signs what it is told to.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RsaKeyPair,
};
use serde_json::{Value, json};

/// A pair of keys of the test data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Key {
    Rsa,
    OtherRsa,
    P256,
    P384,
    Ed25519,
}

/// A running issuer. Its thread ends with the process.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    published: Arc<Mutex<Published>>,
}

#[derive(Default)]
struct Published {
    keys: Value,
    /// The status of every answer; 0 closes the connection instead.
    status: u16,
    /// What was asked for.
    paths: Vec<String>,
}

impl Key {
    fn pkcs8(self) -> &'static [u8] {
        match self {
            Self::Rsa => include_bytes!("../../data/oidc/rsa.pk8"),
            Self::OtherRsa => include_bytes!("../../data/oidc/rsa-other.pk8"),
            Self::P256 => include_bytes!("../../data/oidc/p256.pk8"),
            Self::P384 => include_bytes!("../../data/oidc/p384.pk8"),
            Self::Ed25519 => include_bytes!("../../data/oidc/ed25519.pk8"),
        }
    }

    fn rsa(self) -> RsaKeyPair {
        RsaKeyPair::from_pkcs8(self.pkcs8()).unwrap()
    }

    fn ecdsa(self) -> EcdsaKeyPair {
        let how = match self {
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            _ => &ECDSA_P256_SHA256_FIXED_SIGNING,
        };
        EcdsaKeyPair::from_pkcs8(how, self.pkcs8(), &SystemRandom::new()).unwrap()
    }

    fn ed25519(self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(self.pkcs8()).unwrap()
    }

    /// The algorithm it is used with unless a test says otherwise.
    pub(crate) fn algorithm(self) -> &'static str {
        match self {
            Self::Rsa | Self::OtherRsa => "RS256",
            Self::P256 => "ES256",
            Self::P384 => "ES384",
            Self::Ed25519 => "EdDSA",
        }
    }

    /// As it is published.
    pub(crate) fn jwk(self, kid: &str) -> Value {
        let text = |bytes: &[u8]| BASE64.encode(bytes);
        match self {
            Self::Rsa | Self::OtherRsa => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(self.rsa().public());
                json!({"kty": "RSA", "use": "sig", "kid": kid, "n": text(&public.n), "e": text(&public.e)})
            }
            Self::P256 | Self::P384 => {
                let (curve, length) = if self == Self::P256 { ("P-256", 32) } else { ("P-384", 48) };
                let pair = self.ecdsa();
                let (x, y) = pair.public_key().as_ref()[1..].split_at(length);
                let alg = self.algorithm();
                json!({"kty": "EC", "crv": curve, "alg": alg, "kid": kid, "x": text(x), "y": text(y)})
            }
            Self::Ed25519 => {
                let x = text(self.ed25519().public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
            }
        }
    }

    /// The signature of `message` as the algorithm wants it.
    fn sign(self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa | Self::OtherRsa => {
                let how: &dyn signature::RsaEncoding = match algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let pair = self.rsa();
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(how, &random, message, &mut signed).unwrap();
                signed
            }
            Self::P256 | Self::P384 => self.ecdsa().sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519 => self.ed25519().sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this header and these claims.
    pub(crate) fn token(self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signature = self.sign(header["alg"].as_str().unwrap_or_default(), message.as_bytes());
        format!("{message}.{}", BASE64.encode(signature))
    }
}

/// The part of a token that is signed.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Issuer {
    /// One that publishes these keys, their kind in small letters as their id.
    pub(crate) fn start(keys: &[Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/realms/staff", listener.local_addr().unwrap());
        let issuer = Self { url, published: Arc::default() };
        issuer.publish(keys);
        issuer.answer(200);
        let serving = issuer.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(socket));
            }
        });
        issuer
    }

    fn serve(&self, mut socket: std::net::TcpStream) {
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if !matches!(socket.read(&mut byte), Ok(1)) {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let mut published = self.published.lock().unwrap();
        let body = match path.as_str() {
            "/realms/staff/.well-known/openid-configuration" => {
                json!({"issuer": self.url, "jwks_uri": format!("{}/certs", self.url)})
            }
            _ => json!({"keys": published.keys}),
        };
        published.paths.push(path);
        let (status, body) = (published.status, body.to_string());
        drop(published);
        if status != 0 {
            let head =
                format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
            let moved =
                if status == 302 { format!("location: {}/certs\r\n", self.url) } else { String::new() };
            // Who does not wait for the answer has gone.
            let _ = socket.write_all(format!("{head}{moved}\r\n{body}").as_bytes());
        }
    }

    /// Publishes these keys from now on.
    pub(crate) fn publish(&self, keys: &[Key]) {
        self.publish_as(keys.iter().map(|key| key.jwk(&format!("{key:?}").to_lowercase())).collect());
    }

    /// Publishes just this.
    pub(crate) fn publish_as(&self, keys: Value) {
        self.published.lock().unwrap().keys = keys;
    }

    /// Answers with this status from now on; 0: not at all.
    pub(crate) fn answer(&self, status: u16) {
        self.published.lock().unwrap().status = status;
    }

    /// How often the keys were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.published.lock().unwrap().paths.iter().filter(|path| path.ends_with("/certs")).count()
    }

    /// Claims that are good.
    pub(crate) fn claims(&self) -> Value {
        let now = now_s();
        json!({"iss": self.url, "aud": "witgate", "sub": "u-1", "iat": now, "nbf": now, "exp": now + 600,
            "scope": "openid gateway"})
    }

    /// A token with these claims, signed with `key` under its own id.
    pub(crate) fn token(&self, key: Key, claims: &Value) -> String {
        let kid = format!("{key:?}").to_lowercase();
        key.token(&json!({"alg": key.algorithm(), "typ": "JWT", "kid": kid}), claims)
    }

    /// A good token.
    pub(crate) fn good(&self, key: Key) -> String {
        self.token(key, &self.claims())
    }

    /// Its table for `gateway.toml`.
    pub(crate) fn table(&self, name: &str) -> String {
        format!(
            "[[access.issuers]]\nname = \"{name}\"\nissuer = \"{}\"\naudience = [\"other\", \"witgate\"]\n\
             scope_map = {{ gateway = [\"chat\", \"tools:list\"], caller = [\"tools:call\"] }}\n",
            self.url
        )
    }
}
