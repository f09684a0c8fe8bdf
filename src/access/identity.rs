//! The built-in rule: who is behind a credential, before any policy is asked.
//!
//! Keys are compared in constant time and kept as hashes; no key is ever logged.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::accounts::{Accounts, KeyCheck, KeyEntry, UserCheck, UserEntry};
use super::grants::Grants;
use super::oidc::{IssuerConfig, Issuers};
use super::rules::Rules;
use super::{AccessError, ChatAccess, Entry, ForeignPage};
use crate::config::secret::Secret;
use crate::domain::{Principal, PrincipalKind};

/// What the static key may do: everything but `admin`.
const STATIC_KEY_SCOPES: [&str; 5] = ["chat", "tools:list", "tools:call", "plugins", "metrics"];

/// The operator of this machine, and what it may do over standard input and output. `witgate access` has the same name.
const OPERATOR: &str = "cli";
const OPERATOR_SCOPES: [&str; 2] = ["tools:list", "tools:call"];

/// Which part of the gateway a request wants to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `/chat` and `/v1`: open to everyone, or not, as `access.chat` says.
    Chat,
    /// Always for authenticated callers, and only for those with this scope.
    Guarded(&'static str),
    /// The MCP server: always for authenticated callers, and only for those who may list tools.
    Mcp,
    /// `/openapi.json`: for everybody, and with the tools for authenticated callers who may list them.
    Document,
    /// Always for authenticated callers, whatever their scopes.
    Known,
    /// `witgate tools call`, for those who may call tools.
    CommandLine,
}

impl Door {
    /// The scope that opens it; `None` where being known is enough.
    #[must_use]
    pub fn scope(self) -> Option<&'static str> {
        match self {
            Self::Chat => Some("chat"),
            Self::Guarded(scope) => Some(scope),
            Self::CommandLine => Some("tools:call"),
            Self::Mcp | Self::Document => Some("tools:list"),
            Self::Known => None,
        }
    }

    /// By which of the APIs a request comes in that enters here, for the audit log.
    pub(super) fn via(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Mcp => "mcp",
            Self::CommandLine => "cli",
            Self::Guarded(_) | Self::Document | Self::Known => "rest",
        }
    }

    /// Whether who gets this answer comes in all the same, with less: that is no refusal.
    #[must_use]
    pub fn opens_without(self, missing: &AccessError) -> bool {
        self == Self::Document && matches!(missing, AccessError::Missing | AccessError::MissingScope(_))
    }
}

/// What a caller presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Nothing.
    None,
    /// A bearer token or an API key.
    Key(&'a str),
    /// Something that is no text.
    Unreadable,
    /// Having started this process: whoever can do that can read the data folder.
    Operator,
}

/// Knows the gateway's own keys.
pub(super) struct Identity {
    chat: ChatAccess,
    static_key: Option<[u8; 32]>,
    static_grants: Arc<Rules>,
    operator_grants: Arc<Rules>,
    accounts: Option<Accounts>,
    issuers: Option<Issuers>,
    /// Of callers whom nobody checked, and of those whom a policy names without scopes.
    unchecked_grants: Arc<Rules>,
    /// Of web pages of strangers, for which nobody vouches.
    page_grants: Arc<Rules>,
}

/// The user behind a key.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The id of the user's own principal, `user:<number>`.
    pub id: String,
    /// What the user may do; the key's grants are within these.
    pub grants: Arc<Rules>,
}

/// Somebody whom nobody knows, apart from all others by the page or the name it comes by.
fn by_way_of(page: &ForeignPage, who: &Identified) -> Principal {
    let tag = tag(&hash(&format!("{}\0{}", page.address, who.principal.id)));
    Principal::new(format!("anonymous:{tag}"), PrincipalKind::Anonymous)
}

/// What the built-in rule says.
#[derive(Debug)]
pub(super) struct Identified {
    /// Who the caller is; for a caller who is refused, who it would be if a policy let it in without a name.
    pub(super) principal: Principal,
    /// Whether the principal was checked; others are somebody or other.
    pub(super) is_known: bool,
    /// What the caller may do.
    pub(super) grants: Arc<Rules>,
    /// Whose key it is.
    pub(super) owner: Option<Owner>,
    /// Why the caller is turned away, unless a policy knows better.
    pub(super) refusal: Option<AccessError>,
}

impl Identified {
    /// True for a caller who has presented nothing.
    fn is_nobody(&self) -> bool {
        !self.is_known && self.principal.id == Principal::anonymous().id
    }
}

impl Identity {
    pub(super) fn new(chat: ChatAccess, unchecked: &[String], static_key: Option<&Secret>) -> Self {
        let grants = |scopes| Arc::new(Grants { scopes, ..Grants::default() }.into());
        let is_harmless = |scope: &&String| *scope == "chat";
        Self {
            chat,
            static_key: static_key.map(|key| hash(key.expose())),
            accounts: None,
            issuers: None,
            static_grants: Arc::new(Grants::of_scopes(&STATIC_KEY_SCOPES).into()),
            operator_grants: Arc::new(Grants::of_scopes(&OPERATOR_SCOPES).into()),
            unchecked_grants: grants(unchecked.to_vec()),
            page_grants: grants(unchecked.iter().filter(is_harmless).cloned().collect()),
        }
    }

    /// Takes the keys of `accounts` too.
    pub(super) fn know(&mut self, accounts: Accounts) {
        self.accounts = Some(accounts);
    }

    /// Takes the tokens of these issuers too.
    pub(super) fn with_issuers(self, issuers: &[IssuerConfig]) -> Self {
        Self { issuers: Issuers::new(issuers), ..self }
    }

    pub(super) fn chat_is_open(&self) -> bool {
        self.chat == ChatAccess::Open
    }

    /// The users and keys, where there are any.
    pub(super) fn accounts(&self) -> Option<&Accounts> {
        self.accounts.as_ref()
    }

    /// The holder of a key that is good.
    pub(super) fn of_key(key: &KeyEntry, owner: &UserEntry) -> Identified {
        let (principal, grants) = (key.principal.clone(), Arc::clone(&key.grants));
        let owner = Owner { id: owner.principal.id.clone(), grants: Arc::clone(&owner.grants) };
        Identified { principal, is_known: true, grants, owner: Some(owner), refusal: None }
    }

    /// What a principal that a policy named may do: what its scopes say, or what everybody may.
    pub(super) fn grants_of(&self, principal: &Principal) -> Arc<Rules> {
        if principal.scopes.is_empty() {
            return Arc::clone(&self.unchecked_grants);
        }
        Arc::new(Grants { scopes: principal.scopes.clone(), ..Grants::default() }.into())
    }

    /// [`Self::identify`], for tokens of outside issuers and for web pages too. Only the first may have to wait.
    pub(super) async fn recognize(&self, entry: &Entry<'_>) -> Identified {
        let who = self.identify(entry.door, entry.credential);
        let who = match entry.foreign_page {
            Some(page) if !who.is_known && page.is_certain => self.of_page(page, who),
            Some(page) if who.is_nobody() => Identified { principal: by_way_of(page, &who), ..who },
            _ => who,
        };
        let presented = match (&self.issuers, entry.credential) {
            (Some(issuers), Credential::Key(text)) if !who.is_known => issuers.recognize(text),
            _ => None,
        };
        let Some(presented) = presented else { return who };
        // A token that names an issuer of ours is meant for us: a bad one is refused where strangers may come in, too.
        match Box::pin(presented.verify()).await {
            Ok(known) => known,
            Err(refusal) => Identified { refusal: Some(refusal.into()), ..who },
        }
    }

    /// The page of a stranger, in place of the unchecked caller it would be otherwise. It runs in the browser of somebody
    /// who may know nothing of it: so it sees no conversation but its own, and has no tools.
    fn of_page(&self, page: &ForeignPage, who: Identified) -> Identified {
        let grants = Arc::clone(&self.page_grants);
        Identified { principal: by_way_of(page, &who), grants, ..who }
    }

    /// Who presents `credential` at `door`, as far as the gateway's own keys and tokens go.
    ///
    /// An unchecked key still tells its holder from others: the principal's id is derived from the key's hash, so
    /// that sessions started with one key are not visible with another.
    pub(super) fn identify(&self, door: Door, credential: Credential<'_>) -> Identified {
        if credential == Credential::Operator {
            let mut principal = Principal::new(OPERATOR, PrincipalKind::User);
            principal.scopes = OPERATOR_SCOPES.map(str::to_owned).to_vec();
            return Identified::known(&principal, &self.operator_grants, None);
        }
        let presented = match credential {
            Credential::Key(key) if !key.is_empty() => Some(hash(key)),
            _ => None,
        };
        if let (Some(presented), Some(expected)) = (presented, self.static_key)
            && bool::from(presented.ct_eq(&expected))
        {
            let mut principal = Principal::new("key:static", PrincipalKind::Service);
            principal.scopes = STATIC_KEY_SCOPES.map(str::to_owned).to_vec();
            let grants = Arc::clone(&self.static_grants);
            return Identified { principal, is_known: true, grants, owner: None, refusal: None };
        }
        let refused = match credential {
            Credential::Key(text) => match self.of_accounts(text) {
                Some(Ok(identified)) => return identified,
                Some(Err(refusal)) => Some(refusal),
                None => None,
            },
            _ => None,
        };
        let principal = match presented {
            Some(presented) => {
                Principal::new(format!("anonymous:{}", tag(&presented)), PrincipalKind::Anonymous)
            }
            None => Principal::anonymous(),
        };
        let refusal = refused.or(match (door, credential, presented) {
            // What nobody can read is a mistake, even where nobody would have checked it.
            (Door::Chat, Credential::Unreadable, _) => Some(AccessError::Invalid),
            (Door::Chat, ..) if self.chat_is_open() => None,
            (_, Credential::Unreadable, _) | (_, _, Some(_)) => Some(AccessError::Invalid),
            (_, _, None) => Some(AccessError::Missing),
        });
        let grants = Arc::clone(&self.unchecked_grants);
        Identified { principal, is_known: false, grants, owner: None, refusal }
    }

    /// Who presents a key or a token of ours. Only who was given one has something that looks like one, so a bad one is
    /// refused everywhere. `None`: it looks like neither.
    fn of_accounts(&self, text: &str) -> Option<Result<Identified, AccessError>> {
        let accounts = self.accounts.as_ref()?;
        if let Some(checked) = accounts.check_key(text) {
            return Some(match checked {
                KeyCheck::Valid { key, owner } => Ok(Self::of_key(&key, &owner)),
                KeyCheck::Unknown => Err(AccessError::Invalid),
                KeyCheck::Revoked => Err(AccessError::Revoked),
                KeyCheck::Expired => Err(AccessError::Expired),
            });
        }
        accounts.check_token(text).map(|checked| match checked {
            UserCheck::Valid(user) => Ok(Identified::known(&user.principal, &user.grants, None)),
            UserCheck::Ended => Err(AccessError::TokenEnded),
            UserCheck::Expired => Err(AccessError::TokenExpired),
            UserCheck::Invalid => Err(AccessError::Invalid),
        })
    }
}

impl Identified {
    fn known(principal: &Principal, grants: &Arc<Rules>, owner: Option<Owner>) -> Self {
        let (principal, grants) = (principal.clone(), Arc::clone(grants));
        Self { principal, is_known: true, grants, owner, refusal: None }
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The beginning of a hash as text.
fn tag(hash: &[u8; 32]) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(chat: ChatAccess, key: Option<&str>) -> Identity {
        let key = key.map(|k| Secret::new(k.to_owned()));
        Identity::new(chat, &[], key.as_ref())
    }

    fn credential(key: Option<&str>) -> Credential<'_> {
        key.map_or(Credential::None, Credential::Key)
    }

    #[test]
    fn open_access_keeps_keys_apart() {
        let identity = identity(ChatAccess::Open, Some("k"));
        let of = |key| {
            let found = identity.identify(Door::Chat, credential(key));
            assert_eq!(found.refusal, None);
            found.principal.id
        };
        assert_eq!(of(None), "anonymous");
        assert_eq!(of(Some("")), "anonymous");
        assert_eq!(of(Some("k")), "key:static");
        assert_ne!(of(Some("a")), of(Some("b")));
        assert_eq!(of(Some("a")), of(Some("a")));
    }

    #[test]
    fn required_access_turns_away() {
        let identity = identity(ChatAccess::Required, Some("k"));
        let refusal = |credential| identity.identify(Door::Chat, credential).refusal;
        assert_eq!(refusal(Credential::None), Some(AccessError::Missing));
        assert_eq!(refusal(Credential::Key("")), Some(AccessError::Missing));
        assert_eq!(refusal(Credential::Key("x")), Some(AccessError::Invalid));
        assert_eq!(refusal(Credential::Unreadable), Some(AccessError::Invalid));
        assert_eq!(refusal(Credential::Key("k")), None);
    }

    #[test]
    fn guarded_doors_are_never_open() {
        let door = Door::Guarded("plugins");
        let with_key = identity(ChatAccess::Open, Some("k"));
        let refusal = |key| with_key.identify(door, credential(key)).refusal;
        assert_eq!(refusal(None), Some(AccessError::Missing));
        assert_eq!(refusal(Some("x")), Some(AccessError::Invalid));
        assert_eq!(refusal(Some("k")), None);
        let without = identity(ChatAccess::Open, None);
        assert_eq!(without.identify(door, credential(Some("x"))).refusal, Some(AccessError::Invalid));
    }
}
