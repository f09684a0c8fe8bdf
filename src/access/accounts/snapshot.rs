//! All users and keys of one moment, ready to be asked: no lock, no SQL.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use subtle::ConstantTimeEq;

use super::keys::{self, ID_LENGTH, Presented, StoredKey};
use super::types::{Role, UserId};
use super::users::StoredUser;
use crate::access::rules::Rules;
use crate::domain::{Principal, PrincipalKind};

/// Users and keys.
#[derive(Debug, Default)]
pub(in crate::access) struct Snapshot {
    users: HashMap<UserId, Arc<UserEntry>>,
    keys: HashMap<[u8; ID_LENGTH], Arc<KeyEntry>>,
}

/// A user as far as requests are concerned.
#[derive(Debug)]
pub(in crate::access) struct UserEntry {
    /// `user:<id>`.
    pub(in crate::access) principal: Principal,
    /// What the user may do.
    pub(in crate::access) grants: Arc<Rules>,
    /// Disabled users get in neither with tokens nor with keys.
    pub(in crate::access) is_disabled: bool,
    /// Tokens of another generation are not taken.
    pub(super) generation: i64,
}

/// A key as far as requests are concerned.
#[derive(Debug)]
pub(in crate::access) struct KeyEntry {
    hash: [u8; 32],
    /// `key:<id>`.
    pub(in crate::access) principal: Principal,
    /// What the key may do, within what its owner may.
    pub(in crate::access) grants: Arc<Rules>,
    owner: Option<Arc<UserEntry>>,
    expires_ms: Option<u64>,
    is_revoked: bool,
    used: Arc<Used>,
}

/// When a key was last taken, and how much of that is written down.
#[derive(Debug, Default)]
struct Used {
    last_ms: AtomicU64,
    written_ms: AtomicU64,
}

/// What became of a presented key.
#[derive(Debug)]
pub(in crate::access) enum KeyCheck {
    /// It is good.
    Valid {
        /// The key.
        key: Arc<KeyEntry>,
        /// Whose it is.
        owner: Arc<UserEntry>,
    },
    /// There is no such key.
    Unknown,
    /// It was revoked, or its owner was.
    Revoked,
    /// Its time is over.
    Expired,
}

impl KeyEntry {
    /// Whether it is good now.
    fn state(self: &Arc<Self>, now_ms: u64) -> KeyCheck {
        let Some(owner) = self.owner.as_ref().filter(|owner| !owner.is_disabled && !self.is_revoked) else {
            return KeyCheck::Revoked;
        };
        if self.expires_ms.is_some_and(|end| end <= now_ms) {
            return KeyCheck::Expired;
        }
        KeyCheck::Valid { key: Arc::clone(self), owner: Arc::clone(owner) }
    }
}

impl Snapshot {
    /// A snapshot of these. Uses of keys that `before` knows and the database does not are kept.
    pub(super) fn new(users: Vec<StoredUser>, keys: Vec<StoredKey>, before: &Self) -> Self {
        let users = users.into_iter().map(|stored| (stored.user.id, Arc::new(UserEntry::new(&stored))));
        let mut fresh = Self { users: users.collect(), keys: HashMap::with_capacity(keys.len()) };
        for stored in keys {
            fresh.add(stored, before);
        }
        fresh
    }

    /// The same with one more key, or with that key as it is now.
    pub(super) fn with_key(&self, stored: StoredKey) -> Self {
        let mut fresh = Self { users: self.users.clone(), keys: self.keys.clone() };
        fresh.add(stored, self);
        fresh
    }

    fn add(&mut self, stored: StoredKey, before: &Self) {
        let Ok(id) = <[u8; ID_LENGTH]>::try_from(stored.key.id.as_bytes()) else { return };
        let used = before.keys.get(&id).map(|entry| Arc::clone(&entry.used));
        let used = used.unwrap_or_default();
        let written = stored.key.last_used_ms.unwrap_or_default();
        used.last_ms.fetch_max(written, Ordering::Relaxed);
        used.written_ms.fetch_max(written, Ordering::Relaxed);
        let owner = self.users.get(&stored.key.owner).map(Arc::clone);
        self.keys.insert(id, Arc::new(KeyEntry::new(stored, owner, used)));
    }

    /// Checks a key. One whose id nobody has costs as much as one with a wrong secret.
    pub(super) fn check(&self, presented: Presented<'_>, now_ms: u64) -> KeyCheck {
        let hash = keys::hash(presented.secret);
        let entry = self.keys.get(&presented.id);
        let expected = entry.map_or(&[0; 32], |entry| &entry.hash);
        let is_right = bool::from(hash.ct_eq(expected));
        let Some(entry) = entry.filter(|_| is_right) else { return KeyCheck::Unknown };
        let state = entry.state(now_ms);
        if matches!(state, KeyCheck::Valid { .. }) {
            entry.used.last_ms.fetch_max(now_ms, Ordering::Relaxed);
        }
        state
    }

    /// The state of the key with this id, without its secret: for those who look after keys.
    pub(super) fn state(&self, id: &str, now_ms: u64) -> KeyCheck {
        let id = <&[u8; ID_LENGTH]>::try_from(id.as_bytes()).ok();
        id.and_then(|id| self.keys.get(id)).map_or(KeyCheck::Unknown, |entry| entry.state(now_ms))
    }

    /// The user with this number.
    pub(super) fn user(&self, id: UserId) -> Option<Arc<UserEntry>> {
        self.users.get(&id).cloned()
    }

    /// When the key of this id was last taken.
    pub(super) fn last_used(&self, id: &str) -> Option<u64> {
        let entry = self.keys.get(<&[u8; ID_LENGTH]>::try_from(id.as_bytes()).ok()?)?;
        Some(entry.used.last_ms.load(Ordering::Relaxed)).filter(|time| *time > 0)
    }

    /// Uses that are not written down yet.
    pub(super) fn unwritten(&self) -> Vec<(String, u64)> {
        let pending = self.keys.iter().filter_map(|(id, entry)| {
            let last = entry.used.last_ms.load(Ordering::Relaxed);
            let is_new = last > entry.used.written_ms.load(Ordering::Relaxed);
            is_new.then(|| (String::from_utf8_lossy(id).into_owned(), last))
        });
        pending.collect()
    }

    /// These uses are written down.
    pub(super) fn written(&self, times: &[(String, u64)]) {
        for (id, time) in times {
            if let Some(entry) =
                <[u8; ID_LENGTH]>::try_from(id.as_bytes()).ok().and_then(|id| self.keys.get(&id))
            {
                entry.used.written_ms.fetch_max(*time, Ordering::Relaxed);
            }
        }
    }
}

impl UserEntry {
    fn new(stored: &StoredUser) -> Self {
        let user = &stored.user;
        let grants = user.effective_grants();
        let kind = if user.role == Role::Service { PrincipalKind::Service } else { PrincipalKind::User };
        let mut principal = Principal::new(format!("user:{}", user.id), kind);
        principal.scopes.clone_from(&grants.scopes);
        principal.claims_json = claims(&[("name", &user.name), ("role", user.role.as_str())]);
        Self {
            principal,
            grants: Arc::new(grants.into()),
            is_disabled: user.is_disabled,
            generation: stored.generation,
        }
    }
}

impl KeyEntry {
    fn new(stored: StoredKey, owner: Option<Arc<UserEntry>>, used: Arc<Used>) -> Self {
        let StoredKey { key, hash } = stored;
        let rules = Rules::from(key.grants);
        let rules = match &owner {
            Some(owner) => rules.within(Arc::clone(&owner.grants)),
            None => rules,
        };
        let mut principal = Principal::new(format!("key:{}", key.id), PrincipalKind::Service);
        principal.scopes.clone_from(&rules.scopes);
        let of_owner = format!("user:{}", key.owner);
        principal.claims_json = claims(&[("name", &key.name), ("owner", &of_owner)]);
        Self {
            hash,
            principal,
            grants: Arc::new(rules),
            owner,
            expires_ms: key.expires_ms,
            is_revoked: key.revoked_ms.is_some(),
            used,
        }
    }
}

fn claims(pairs: &[(&str, &str)]) -> String {
    let object: serde_json::Map<String, serde_json::Value> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    serde_json::Value::Object(object).to_string()
}
