//! Auth policy: authenticates requests that are signed with a shared secret, by HTTP Message Signatures (RFC 9421) with
//! `hmac-sha256`.
//!
//! A signature is good where it covers what the operator demands, was made lately, with a key that is known, and with a
//! nonce that was not seen before. That the body is the one of the signed `Content-Digest` is checked by the gateway. See
//! `README.md`.

mod clock;
mod config;
mod signature;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};
use witgate_plugin::auth::HttpRequest;
use witgate_plugin::{AccessAction, AccessRequest, AuthPolicy, Decision, Error, kv};

use config::Config;
use signature::{ALGORITHM, Signature};

/// What a client is told whose key or signature is wrong; not which of the two.
const NO_MATCH: &str = "the signature is not one of a known key over this request";

/// The policy.
struct HmacAuth;

witgate_plugin::export!(HmacAuth: auth);

impl AuthPolicy for HmacAuth {
    fn authorize(request: &AccessRequest) -> Result<Decision, Error> {
        // The endpoint comes first; models and tools of the same request were authenticated with it.
        let (AccessAction::Endpoint, Some(http)) = (&request.action, &request.http) else {
            return Ok(Decision::Abstain);
        };
        decide(http, clock::now())
    }
}

/// Decides on a request at a moment in seconds since 1970.
fn decide(http: &HttpRequest, now: i64) -> Result<Decision, Error> {
    let config = Config::load()?;
    let deny = |why: &str| Decision::deny(401, format!("signature refused: {why}"));
    let signatures = match signature::signatures(http) {
        Ok(signatures) => signatures,
        Err(why) => return Ok(deny(&why)),
    };
    let ours = |signature: &&Signature| config.tag.is_none() || signature.tag == config.tag;
    let mut refusal = None;
    for signature in signatures.iter().filter(ours) {
        match check(signature, http, &config, now)? {
            Ok(decision) => return Ok(decision),
            Err(why) => refusal = refusal.or(Some(why)),
        }
    }
    Ok(match refusal {
        Some(why) => deny(&why),
        None if config.required => Decision::deny(
            401,
            "the request must be signed: HTTP Message Signatures (RFC 9421) with hmac-sha256",
        ),
        None => Decision::Abstain,
    })
}

/// The decision a signature leads to, or why it is refused.
fn check(
    signature: &Signature,
    http: &HttpRequest,
    config: &Config,
    now: i64,
) -> Result<Result<Decision, String>, Error> {
    if let Err(why) = acceptable(signature, http, config, now) {
        return Ok(Err(format!("`{}`: {why}", signature.label)));
    }
    let base = match signature.base(http, config.scheme) {
        Ok(base) => base,
        Err(why) => return Ok(Err(why)),
    };
    let known = signature.keyid.as_ref().and_then(|keyid| config.keys.get_key_value(keyid));
    let Some((keyid, key)) = known else { return Ok(Err(NO_MATCH.into())) };
    if !signature.is_of(&base, &key.bytes()?) {
        return Ok(Err(NO_MATCH.into()));
    }
    if let Some(nonce) = &signature.nonce
        && !first_use(keyid, nonce, config)?
    {
        return Ok(Err("its nonce was used before".into()));
    }
    Ok(Ok(Decision::allow_as(key.principal(keyid))))
}

/// Everything about a signature but whether it is right.
fn acceptable(signature: &Signature, http: &HttpRequest, config: &Config, now: i64) -> Result<(), String> {
    if signature.algorithm.as_deref().is_some_and(|algorithm| algorithm != ALGORITHM) {
        return Err(format!("its algorithm must be {ALGORITHM}"));
    }
    let has_query = http.query.is_some();
    let missing = config.components.iter().find(|name| {
        let needless = name.as_str() == "@query" && !has_query;
        !needless && !signature.covers(name)
    });
    if let Some(name) = missing {
        return Err(format!("it must cover `{name}`"));
    }
    let has_body = matches!(http.method.as_str(), "POST" | "PUT" | "PATCH");
    if config.body_digest && has_body && !signature.covers("content-digest") {
        return Err("it must cover `content-digest`".into());
    }
    let skew = i64::from(config.clock_skew_seconds);
    let created = signature.created.ok_or("it must say when it was created")?;
    if created > now.saturating_add(skew) {
        return Err("it was created in the future; check the clock".into());
    }
    let end = created.saturating_add(i64::from(config.max_age_seconds));
    let end = signature.expires.map_or(end, |expires| end.min(expires));
    if now > end.saturating_add(skew) {
        return Err("it is too old".into());
    }
    if config.require_nonce && signature.nonce.as_ref().is_none_or(String::is_empty) {
        return Err("it must have a nonce".into());
    }
    Ok(())
}

/// Remembers a nonce for as long as a signature with it could be good. Its hash is kept, so that all are equally long.
fn first_use(keyid: &str, nonce: &str, config: &Config) -> Result<bool, Error> {
    let length = u64::try_from(keyid.len()).unwrap_or(u64::MAX).to_be_bytes();
    let hash = Sha256::new().chain_update(length).chain_update(keyid).chain_update(nonce).finalize();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let lifetime =
        config.max_age_seconds.saturating_add(config.clock_skew_seconds.saturating_mul(2)).saturating_add(1);
    Ok(kv::set_new(&format!("nonce:{hash}"), [], Some(lifetime))?)
}
