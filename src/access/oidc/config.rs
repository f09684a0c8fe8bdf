//! `[[access.issuers]]`: whose tokens are taken, and what they are worth here.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::{Deserialize, Deserializer, de};
use url::{Host, Url};

use crate::access::grants::{SCOPES, is_scope};

/// Where the claim with the scopes is looked for unless a key says otherwise: RFC 8693's name, and that of others.
const SCOPES_CLAIMS: [&str; 2] = ["scope", "scp"];

/// The largest difference between clocks that can be set, in seconds.
const MAX_LEEWAY_S: u64 = 600;

/// One outside issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct IssuerConfig {
    /// Our name for it: part of the ids of its callers.
    pub name: String,
    /// What its tokens have as `iss`, to the letter.
    pub issuer: String,
    /// Whom tokens have to be for: one of these is in `aud`.
    pub audience: Vec<String>,
    /// Where its keys are; `None`: where its `/.well-known/openid-configuration` says.
    pub(super) jwks_url: Option<Url>,
    /// The algorithms that are taken.
    pub(super) algorithms: Vec<Algorithm>,
    /// The claims that may hold scopes; the first one that is there counts.
    pub(super) scopes_claims: Vec<String>,
    /// What the issuer's words give of ours.
    pub scope_map: BTreeMap<String, Vec<String>>,
    /// What every token of it gives.
    pub default_scopes: Vec<String>,
    /// The claim that tells users apart.
    pub user_claim: String,
    /// Tolerated differences between clocks, in seconds.
    pub leeway_s: u64,
    /// Where the issuer can be asked for its configuration.
    pub(super) discovery_url: Url,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    issuer: String,
    audience: Audience,
    jwks_url: Option<String>,
    algorithms: Option<Vec<String>>,
    scopes_claim: Option<String>,
    #[serde(default)]
    scope_map: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    default_scopes: Vec<String>,
    user_claim: Option<String>,
    leeway_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`audience` has to be a text or a list of texts")]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<Written> for IssuerConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let name = written.name.clone();
        Self::checked(written).map_err(|fault| format!("the issuer `{name}`: {fault}"))
    }
}

impl IssuerConfig {
    /// The scopes of OAuth that give tools here and make nobody an admin. Roles are none: nobody can ask for them.
    pub(in crate::access) fn scopes_for_tools(&self) -> impl Iterator<Item = &str> {
        let are_scopes = self.scopes_claims.iter().any(|claim| SCOPES_CLAIMS.contains(&claim.as_str()));
        let gives_tools = |ours: &[String]| {
            ours.iter().any(|scope| scope.starts_with("tools:")) && !ours.iter().any(|scope| scope == "admin")
        };
        let words = self.scope_map.iter().filter(move |(_, ours)| are_scopes && gives_tools(ours));
        words.map(|(word, _)| word.as_str())
    }

    fn checked(written: Written) -> Result<Self, String> {
        let is_name_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if written.name.is_empty() || written.name.len() > 64 || !written.name.chars().all(is_name_letter) {
            return Err("`name` has to be 1 to 64 of a-z, 0-9 and -".to_owned());
        }
        let url = address("issuer", &written.issuer)?;
        let mut discovery_url = url;
        let path = discovery_url.path().trim_end_matches('/');
        let path = format!("{path}/.well-known/openid-configuration");
        discovery_url.set_path(&path);
        let audience = match written.audience {
            Audience::One(one) => vec![one],
            Audience::Many(many) => many,
        };
        if audience.is_empty() || audience.iter().any(String::is_empty) {
            return Err("`audience` has to name what the tokens are for, as the issuer calls it".to_owned());
        }
        let jwks_url = written.jwks_url.map(|text| address("jwks_url", &text)).transpose()?;
        let algorithms = match written.algorithms {
            None => vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            Some(names) if names.is_empty() => return Err("`algorithms` has to name one at least".to_owned()),
            Some(names) => names.iter().map(|name| algorithm(name)).collect::<Result<_, _>>()?,
        };
        for (key, scopes) in &written.scope_map {
            check_scopes(&format!("scope_map.{key:?}"), scopes)?;
        }
        check_scopes("default_scopes", &written.default_scopes)?;
        let claim = |key, name: Option<String>| match name {
            Some(name) if name.is_empty() => Err(format!("`{key}` has to name a claim")),
            name => Ok(name),
        };
        let leeway_s = written.leeway_s.unwrap_or(60);
        if leeway_s > MAX_LEEWAY_S {
            return Err(format!("`leeway_s` is {leeway_s} and has to be 0 to {MAX_LEEWAY_S}"));
        }
        Ok(Self {
            name: written.name,
            issuer: written.issuer,
            audience,
            jwks_url,
            algorithms,
            scopes_claims: match claim("scopes_claim", written.scopes_claim)? {
                Some(name) => vec![name],
                None => SCOPES_CLAIMS.map(str::to_owned).to_vec(),
            },
            scope_map: written.scope_map,
            default_scopes: written.default_scopes,
            user_claim: claim("user_claim", written.user_claim)?.unwrap_or_else(|| "sub".to_owned()),
            leeway_s,
            discovery_url,
        })
    }
}

/// The list in `[access]`: no name and no issuer twice.
pub(in crate::access) fn issuers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IssuerConfig>, D::Error> {
    let issuers = Vec::<IssuerConfig>::deserialize(deserializer)?;
    for (at, issuer) in issuers.iter().enumerate() {
        let before = &issuers[..at];
        let fault = if before.iter().any(|other| other.name == issuer.name) {
            "there are two with this `name`"
        } else if before.iter().any(|other| other.issuer == issuer.issuer) {
            "there is another one with this `issuer`; list all of its audiences in one"
        } else {
            continue;
        };
        return Err(de::Error::custom(format!("the issuer `{}`: {fault}", issuer.name)));
    }
    Ok(issuers)
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    let known: Option<Algorithm> = name.parse().ok();
    known.filter(|algorithm| algorithm.family() != AlgorithmFamily::Hmac).ok_or_else(|| {
        format!(
            "`algorithms` has {name:?}; taken are RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA"
        )
    })
}

fn check_scopes(key: &str, scopes: &[String]) -> Result<(), String> {
    match scopes.iter().find(|scope| !is_scope(scope)) {
        None => Ok(()),
        Some(bad) => Err(format!(
            "`{key}`: there is no scope `{bad}`; there are {} and tools:call:<pattern>",
            SCOPES.join(", ")
        )),
    }
}

/// An address that keys may come from.
fn address(key: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| {
        format!("`{key}` is not an address ({error}); write it like https://login.example.com/realms/staff")
    })?;
    if !is_safe(&url) {
        return Err(format!("`{key}` has to begin with https:// (http:// is taken for this machine only)"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!("`{key}` must not hold a user, a password or a #"));
    }
    Ok(url)
}

/// True for addresses that nobody in between can answer for.
pub(super) fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        },
        _ => false,
    }
}
