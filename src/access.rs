//! The `access` room: who is asking, and whether that is enough.
//!
//! Every request goes through one chain. First the built-in rule: it finds a principal by the presented key, or a reason
//! to turn the caller away. Then its scopes and limits, and then the policies, by order and name; `access/chain.rs` says
//! how their answers add up. At the end a caller needs a principal of either, or a policy that lets it in without one. The
//! same rules then decide on the model and on every tool call of that request, through the [`AccessScope`] it got.
//!
//! Chat endpoints are `open` by default: what looks like a key or token of the gateway or of a configured issuer has to be
//! good; any other string only keeps its holder's sessions apart from everyone else's. With `access.chat = "required"` a
//! caller must present a key or an access token, or be known to a policy.

pub mod accounts;
mod again;
mod chain;
mod enter;
mod error;
mod explain;
mod grants;
mod identity;
mod limits;
mod oidc;
mod policy;
mod rules;
mod scope;
mod tokens;
mod trace;
mod wasm_policy;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

pub use enter::RateSlot;
pub use error::AccessError;
pub use explain::Asker;
pub use grants::{BudgetPeriod, Grants, Limits, SCOPES, TokenBudget, is_scope};
pub use identity::{Credential, Door, Owner};
pub use limits::{
    DefaultLimits, LimitKind, LimitReached, RateLine, RateReport, Rates, StreamPermit, UsageBook,
};
pub use oidc::{IssuerConfig, TokenRefusal};
pub use policy::{AuthPolicy, FixedPolicies, PolicyError, PolicySet, PolicySource};
pub use rules::Rules;
pub use scope::AccessScope;
pub use tokens::{KeyFileError, TokenSettings};
pub use trace::{Step, Trace, Verdict};
pub use wasm_policy::WasmPolicies;

use self::accounts::Accounts;
use self::identity::Identity;
#[cfg(test)]
use self::limits::Clock;
use self::limits::{Meter, SystemClock};
use crate::audit::AuditLog;
use crate::config::secret::Secret;
use crate::domain::{RequestId, TraceId};

/// The file of [`UsageBook`] in the data folder.
pub const USAGE_FILE: &str = "usage.db";

/// The log's name for refusals, so that a log filter can single them out.
const REFUSED: &str = "witgate::access";

/// `[access]` in `gateway.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who may use `/chat` and `/v1`. Default `open`.
    pub chat: ChatAccess,
    /// What callers may do whom nobody knows, and those whom a policy names without scopes. Default `chat` and
    /// `tools:call`.
    #[serde(deserialize_with = "scopes")]
    pub anonymous_scopes: Vec<String>,
    /// How much callers may do whose own grants do not say. Default: no limits.
    pub limits: DefaultLimits,
    /// Seconds until an access token expires, 60 to 604800. Default 3600.
    pub token_ttl_s: u64,
    /// Days after which access tokens are signed with a new key; 0: never. Default 30.
    pub token_key_rotation_days: u64,
    /// Outside issuers whose tokens are taken. Default: none.
    #[serde(deserialize_with = "oidc::issuers")]
    pub issuers: Vec<IssuerConfig>,
}

impl Default for Config {
    fn default() -> Self {
        let TokenSettings { ttl_s, rotation_days, .. } = TokenSettings::default();
        Self {
            chat: ChatAccess::default(),
            anonymous_scopes: ["chat", "tools:call"].map(str::to_owned).to_vec(),
            limits: DefaultLimits::default(),
            token_ttl_s: ttl_s,
            token_key_rotation_days: rotation_days,
            issuers: Vec::new(),
        }
    }
}

impl Config {
    /// How access tokens are made; `secret` is the value of `WITGATE_TOKEN_SECRET`.
    #[must_use]
    pub fn tokens(&self, secret: Option<Secret>) -> TokenSettings {
        TokenSettings { ttl_s: self.token_ttl_s, rotation_days: self.token_key_rotation_days, secret }
    }
}

fn scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let scopes = Vec::<String>::deserialize(deserializer)?;
    match scopes.iter().find(|scope| !is_scope(scope)) {
        None => Ok(scopes),
        Some(bad) => Err(de::Error::custom(format!(
            "there is no scope `{bad}`; there are {} and tools:call:<pattern>",
            SCOPES.join(", ")
        ))),
    }
}

/// Who may use the chat endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatAccess {
    /// Everyone; a presented string is checked only where it looks like a key or token that was given out.
    #[default]
    Open,
    /// Only callers with a valid key.
    Required,
}

/// Decides who a caller is and whether it may come in.
pub struct Access {
    identity: Identity,
    policies: Arc<dyn PolicySource>,
    limits: DefaultLimits,
    meter: Meter,
    audit: AuditLog,
    issuers: Vec<IssuerConfig>,
}

/// A web page that nobody vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignPage {
    /// Its address, or the name that it gave this machine.
    pub address: String,
    /// False where it may as well be a program: a page sends no origin when it reads what has its own address.
    pub is_certain: bool,
}

/// A request that wants to come in.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The request.
    pub request_id: RequestId,
    /// What it wants to enter.
    pub door: Door,
    /// What it presents.
    pub credential: Credential<'a>,
    /// The other side of the connection, where there is one.
    pub peer: Option<IpAddr>,
    /// The trace the client says it belongs to.
    pub trace_id: Option<TraceId>,
    /// The web page of a stranger that sent it, where one did or may have.
    pub foreign_page: Option<&'a ForeignPage>,
    /// Where the caller's limits are left, for the headers of the response.
    pub rate_slot: Option<&'a RateSlot>,
}

impl Access {
    /// An access check by `config` and `policies`; `static_key` is the value of `WITGATE_API_KEY`.
    #[must_use]
    pub fn new(config: &Config, static_key: Option<&Secret>, policies: Arc<dyn PolicySource>) -> Self {
        let identity =
            Identity::new(config.chat, &config.anonymous_scopes, static_key).with_issuers(&config.issuers);
        let meter = Meter::new(Arc::new(SystemClock::new()), None);
        let (limits, issuers) = (config.limits.clone(), config.issuers.clone());
        Self { identity, policies, limits, meter, audit: AuditLog::none(), issuers }
    }

    /// The outside issuers whose tokens are taken.
    #[must_use]
    pub fn issuers(&self) -> &[IssuerConfig] {
        &self.issuers
    }

    /// What a client may ask the issuers for that gives it tools and makes it no admin, in their words and without
    /// repetition.
    #[must_use]
    pub fn scopes_for_tools(&self) -> Vec<&str> {
        let mut scopes: Vec<&str> = self.issuers.iter().flat_map(IssuerConfig::scopes_for_tools).collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }

    /// Takes the keys and tokens of `accounts` too.
    #[must_use]
    pub fn with_accounts(mut self, accounts: Accounts) -> Self {
        self.identity.know(accounts);
        self
    }

    /// True when the chat endpoints take callers without a valid key, as far as the built-in rule is concerned.
    #[must_use]
    pub fn chat_is_open(&self) -> bool {
        self.identity.chat_is_open()
    }

    /// Keeps what is spent of token budgets in `book`; without one, a restart begins them anew.
    #[must_use]
    pub fn with_usage(self, book: UsageBook) -> Self {
        Self { meter: Meter::new(Arc::new(SystemClock::new()), Some(book)), ..self }
    }

    /// Writes refusals to `audit`.
    #[must_use]
    pub fn with_audit(self, audit: AuditLog) -> Self {
        Self { audit, ..self }
    }

    /// Measures time by `clock`.
    #[cfg(test)]
    fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { meter: Meter::new(clock, None), ..self }
    }

    /// Writes down what was spent, before the end. Waits for the disk.
    pub fn flush(&self) {
        self.meter.flush();
    }
}
