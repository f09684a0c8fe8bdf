//! API keys in the database, and their text: `wg_<id>_<secret>`.
//!
//! Only the SHA-256 of the secret is kept: it has 238 bits of chance in it, so nothing slower is needed to keep it from
//! being guessed. Every function on the database runs within a transaction of its caller.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};

use super::error::AccountError;
use super::types::{ApiKey, CreatedKey, Listing, MAX_PAGE, NewApiKey, Page, UserId};
use super::users::{self, from_json, integer, to_json, unsigned};
use crate::access::grants::Grants;
use crate::config::secret::Secret;
use crate::domain::ids::random_secret;

/// What every key begins with.
pub(super) const PREFIX: &str = "wg_";

/// Characters of the id, and of the secret.
pub(super) const ID_LENGTH: usize = 12;
const SECRET_LENGTH: usize = 40;

/// Keys of one user that may be good at the same time.
const MAX_GOOD: u64 = 1000;

/// Bytes of grants that the keys of one user may have together. Each of them is in memory, in a form for quick answers.
const MAX_GRANTS_BYTES: u64 = 1024 * 1024;

/// Ended keys of one user that are told from those that never were. The ones that ended longer ago are forgotten.
const MAX_ENDED: u64 = 1000;

/// What a row of `api_keys` holds.
#[derive(Debug)]
pub(super) struct StoredKey {
    pub(super) key: ApiKey,
    pub(super) hash: [u8; 32],
}

/// A presented key, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presented<'a> {
    pub(super) id: [u8; ID_LENGTH],
    pub(super) secret: &'a str,
}

impl<'a> Presented<'a> {
    /// `None` for everything that does not look like one of our keys.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let fits = secret.len() == SECRET_LENGTH && is_plain(id) && is_plain(secret);
        let id = id.as_bytes().try_into().ok()?;
        fits.then_some(Self { id, secret })
    }
}

/// What is kept of a secret.
pub(super) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

const COLUMNS: &str = "id, name, owner, grants, created_ms, expires_ms, last_used_ms, revoked_ms, hash";

/// Sees to it that one more key of `owner` is not too much. True where keys that ended long ago were forgotten for it.
pub(super) fn make_room(
    connection: &Connection,
    owner: UserId,
    grants: &Grants,
    now_ms: u64,
) -> Result<bool, AccountError> {
    let sql = "SELECT count(*) FILTER (WHERE expires_ms IS NULL OR expires_ms > ?2),
                      ifnull(sum(length(CAST(grants AS BLOB))), 0)
               FROM api_keys WHERE owner = ?1 AND revoked_ms IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let held = statement.query_row(params![owner, integer(now_ms)], |row| Ok((row.get(0)?, row.get(1)?)));
    let (good, bytes): (i64, i64) = held?;
    if unsigned(good) >= MAX_GOOD || unsigned(bytes) + to_json(grants)?.len() as u64 > MAX_GRANTS_BYTES {
        return Err(AccountError::TooManyKeys { most: MAX_GOOD, kib: MAX_GRANTS_BYTES / 1024 });
    }
    let sql = "DELETE FROM api_keys WHERE number IN (
                   SELECT number FROM api_keys WHERE owner = ?1 AND (revoked_ms IS NOT NULL OR expires_ms <= ?2)
                   ORDER BY ifnull(revoked_ms, expires_ms) DESC, number DESC LIMIT -1 OFFSET ?3)";
    let row = params![owner, integer(now_ms), integer(MAX_ENDED)];
    Ok(connection.prepare_cached(sql)?.execute(row)? > 0)
}

/// Makes a key of `owner`, who must have all scopes that the key is to have.
pub(super) fn insert(
    connection: &Connection,
    owner: UserId,
    new: &NewApiKey,
    now_ms: u64,
) -> Result<(CreatedKey, StoredKey), AccountError> {
    let held = users::get(connection, owner)?.user.effective_grants();
    if let Some(scope) = new.grants.scopes.iter().find(|scope| !held.covers(scope)) {
        return Err(AccountError::ScopeNotHeld(scope.clone()));
    }
    let random =
        |length| random_secret(length).ok_or_else(|| AccountError::Store("no randomness".to_owned()));
    let (id, secret) = (random(ID_LENGTH)?, random(SECRET_LENGTH)?);
    let hash = hash(&secret);
    let sql = "INSERT INTO api_keys (id, hash, name, owner, grants, created_ms, expires_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let row = params![
        id,
        hash,
        new.name,
        owner,
        to_json(&new.grants)?,
        integer(now_ms),
        new.expires_ms.map(integer)
    ];
    connection.prepare_cached(sql)?.execute(row)?;
    let info = ApiKey {
        id: id.clone(),
        name: new.name.clone(),
        owner,
        grants: new.grants.clone(),
        created_ms: now_ms,
        expires_ms: new.expires_ms,
        last_used_ms: None,
        revoked_ms: None,
    };
    let created = CreatedKey { key: Secret::new(format!("{PREFIX}{id}_{secret}")), info: info.clone() };
    Ok((created, StoredKey { key: info, hash }))
}

pub(super) fn get(connection: &Connection, id: &str) -> Result<StoredKey, AccountError> {
    let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    rows.next()?.ok_or_else(|| AccountError::NoKey(id.to_owned())).and_then(read)
}

/// Every key. Of revoked ones nobody asks any longer what they might do.
pub(super) fn all(connection: &Connection) -> Result<Vec<StoredKey>, AccountError> {
    let columns = COLUMNS.replace("grants", "CASE WHEN revoked_ms IS NULL THEN grants ELSE '{}' END");
    let sql = format!("SELECT {columns} FROM api_keys");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_and_then([], read)?.collect()
}

/// The keys of `owner` or of everybody, the newest first.
pub(super) fn list(
    connection: &Connection,
    owner: Option<UserId>,
    page: Page,
) -> Result<Listing<ApiKey>, AccountError> {
    let sql = "SELECT count(*) FROM api_keys WHERE ?1 IS NULL OR owner = ?1";
    let total: i64 = connection.prepare_cached(sql)?.query_row([owner], |row| row.get(0))?;
    let sql = format!(
        "SELECT {COLUMNS} FROM api_keys WHERE ?1 IS NULL OR owner = ?1 ORDER BY number DESC LIMIT ?2 OFFSET ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let page = params![owner, integer(page.limit.min(MAX_PAGE)), integer(page.offset)];
    let items = statement.query_and_then(page, |row| Ok::<_, AccountError>(read(row)?.key))?;
    Ok(Listing { items: items.collect::<Result<_, _>>()?, total: unsigned(total) })
}

/// Revokes a key; one that is revoked already stays as it is.
pub(super) fn revoke(connection: &Connection, id: &str, now_ms: u64) -> Result<ApiKey, AccountError> {
    let sql = "UPDATE api_keys SET revoked_ms = ?2 WHERE id = ?1 AND revoked_ms IS NULL";
    connection.prepare_cached(sql)?.execute(params![id, integer(now_ms)])?;
    Ok(get(connection, id)?.key)
}

/// Writes down when keys were last taken. Another process may know of a later time.
pub(super) fn used(connection: &Connection, times: &[(String, u64)]) -> Result<(), AccountError> {
    let sql = "UPDATE api_keys SET last_used_ms = max(ifnull(last_used_ms, 0), ?2) WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    for (id, time) in times {
        statement.execute(params![id, integer(*time)])?;
    }
    Ok(())
}

/// Changes with every commit of another connection.
pub(super) fn data_version(connection: &Connection) -> Result<i64, AccountError> {
    let version =
        connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0)).optional()?;
    Ok(version.unwrap_or_default())
}

fn read(row: &Row<'_>) -> Result<StoredKey, AccountError> {
    let time = |column: usize| -> rusqlite::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(column)?.map(unsigned))
    };
    let key = ApiKey {
        id: row.get(0)?,
        name: row.get(1)?,
        owner: row.get(2)?,
        grants: from_json(&row.get::<_, String>(3)?)?,
        created_ms: time(4)?.unwrap_or_default(),
        expires_ms: time(5)?,
        last_used_ms: time(6)?,
        revoked_ms: time(7)?,
    };
    Ok(StoredKey { key, hash: row.get(8)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_form() {
        let (id, secret) = ("a".repeat(12), "B".repeat(40));
        let good = format!("wg_{id}_{secret}");
        assert_eq!(Presented::parse(&good).unwrap().secret, secret);
        for bad in ["", "wg_", "sk-x", &good[1..], &good[..55], &format!("{good}x"), &good.replace('B', "-")]
        {
            assert!(Presented::parse(bad).is_none(), "{bad}");
        }
        assert!(Presented::parse(&format!("wg_{}_{secret}", "ä".repeat(6))).is_none());
    }
}
