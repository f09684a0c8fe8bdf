//! Users in the database. Every function runs within a transaction of its caller.

use icu_normalizer::ComposingNormalizerBorrowed;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::AccountError;
use super::types::{Listing, MAX_PAGE, Page, Role, User, UserId, UserPatch};
use crate::access::grants::Grants;

/// What a row of `users` holds beyond the [`User`].
#[derive(Debug)]
pub(super) struct StoredUser {
    pub(super) user: User,
    /// Tokens of another generation are not taken.
    pub(super) generation: i64,
}

/// A name as it is kept and compared: however its characters were composed (an `é` of one code point or of two), it is
/// the same name. (Unicode NFC, as the profile of RFC 8265 for user names has it.)
pub(super) fn canonical(name: &str) -> String {
    ComposingNormalizerBorrowed::new_nfc().normalize(name).into_owned()
}

const COLUMNS: &str =
    "id, name, role, grants, disabled, password IS NOT NULL, created_ms, last_login_ms, token_generation";

/// Makes a user; `password` is its hash.
pub(super) fn insert(
    connection: &Connection,
    name: &str,
    password: Option<&str>,
    role: Role,
    grants: &Grants,
    now_ms: u64,
) -> Result<User, AccountError> {
    if id_of(connection, name)?.is_some() {
        return Err(AccountError::NameTaken(name.to_owned()));
    }
    let sql = "INSERT INTO users (name, password, role, grants, token_generation, created_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let row = params![name, password, role.as_str(), to_json(grants)?, generation()?, integer(now_ms)];
    connection.prepare_cached(sql)?.execute(row)?;
    Ok(get(connection, connection.last_insert_rowid())?.user)
}

pub(super) fn get(connection: &Connection, id: UserId) -> Result<StoredUser, AccountError> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    rows.next()?.ok_or(AccountError::NoUser(id)).and_then(read)
}

/// Every user.
pub(super) fn all(connection: &Connection) -> Result<Vec<StoredUser>, AccountError> {
    let sql = format!("SELECT {COLUMNS} FROM users");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_and_then([], read)?.collect()
}

pub(super) fn list(connection: &Connection, page: Page) -> Result<Listing<User>, AccountError> {
    let total: i64 =
        connection.prepare_cached("SELECT count(*) FROM users")?.query_row([], |row| row.get(0))?;
    let sql = format!("SELECT {COLUMNS} FROM users ORDER BY id LIMIT ?1 OFFSET ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let page = [integer(page.limit.min(MAX_PAGE)), integer(page.offset)];
    let items = statement.query_and_then(page, |row| Ok::<_, AccountError>(read(row)?.user))?;
    Ok(Listing { items: items.collect::<Result<_, _>>()?, total: unsigned(total) })
}

pub(super) fn id_of(connection: &Connection, name: &str) -> Result<Option<UserId>, AccountError> {
    let mut statement = connection.prepare_cached("SELECT id FROM users WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// The user of that name with the hash of its password.
pub(super) fn with_password(
    connection: &Connection,
    name: &str,
) -> Result<Option<(StoredUser, Option<String>)>, AccountError> {
    let sql = "SELECT id, password FROM users WHERE name = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let found: Option<(UserId, Option<String>)> =
        statement.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    found.map(|(id, password)| Ok((get(connection, id)?, password))).transpose()
}

/// Changes what `patch` names; `password` is the hash of its password. The user's tokens end with its role and its
/// password, and when it is disabled.
pub(super) fn update(
    connection: &Connection,
    id: UserId,
    patch: &UserPatch,
    password: Option<&str>,
) -> Result<User, AccountError> {
    let StoredUser { mut user, generation: mut tokens } = get(connection, id)?;
    if patch.generation.is_some_and(|wanted| wanted != tokens) {
        return Err(AccountError::TokensEnded);
    }
    let could_log_in = is_able_admin(&user);
    if let Some(name) = &patch.name
        && *name != user.name
    {
        if id_of(connection, name)?.is_some() {
            return Err(AccountError::NameTaken(name.clone()));
        }
        user.name.clone_from(name);
    }
    let role = patch.role.unwrap_or(user.role);
    let is_disabled = patch.is_disabled.unwrap_or(user.is_disabled);
    if role == Role::Service && password.is_some() {
        return Err(AccountError::invalid("password", "a service cannot log in and has none"));
    }
    if role != user.role || (is_disabled && !user.is_disabled) || password.is_some() {
        tokens = generation()?;
    }
    (user.role, user.is_disabled) = (role, is_disabled);
    user.grants = patch.grants.clone().over(user.grants);
    // A service has no password to log in with.
    user.has_password = role != Role::Service && (user.has_password || password.is_some());
    if could_log_in && !is_able_admin(&user) {
        keep_an_admin(connection, id)?;
    }
    let sql = "UPDATE users SET name = ?2, role = ?3, grants = ?4, disabled = ?5, token_generation = ?6,
               password = CASE WHEN ?7 THEN ifnull(?8, password) END WHERE id = ?1";
    let row = params![
        id,
        user.name,
        user.role.as_str(),
        to_json(&user.grants)?,
        user.is_disabled,
        tokens,
        user.has_password,
        password
    ];
    connection.prepare_cached(sql)?.execute(row)?;
    Ok(user)
}

/// Gives the user another password, by its hash, and ends its tokens.
pub(super) fn set_password(connection: &Connection, id: UserId, hash: &str) -> Result<(), AccountError> {
    if get(connection, id)?.user.role == Role::Service {
        return Err(AccountError::invalid("password", "a service cannot log in and has none"));
    }
    let sql = "UPDATE users SET password = ?2, token_generation = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, hash, generation()?])?;
    Ok(())
}

pub(super) fn logged_in(connection: &Connection, id: UserId, now_ms: u64) -> Result<(), AccountError> {
    let sql = "UPDATE users SET last_login_ms = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, integer(now_ms)])?;
    Ok(())
}

/// Deletes the user and revokes its keys.
pub(super) fn delete(connection: &Connection, id: UserId, now_ms: u64) -> Result<(), AccountError> {
    if is_able_admin(&get(connection, id)?.user) {
        keep_an_admin(connection, id)?;
    }
    let sql = "UPDATE api_keys SET revoked_ms = ?2 WHERE owner = ?1 AND revoked_ms IS NULL";
    connection.prepare_cached(sql)?.execute(params![id, integer(now_ms)])?;
    connection.prepare_cached("DELETE FROM users WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// True where somebody can log in as an admin and has not lost the scope, other than the user `except`.
pub(super) fn has_admin(connection: &Connection, except: Option<UserId>) -> Result<bool, AccountError> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE role = 'admin' AND id IS NOT ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    for admin in statement.query_and_then([except], read)? {
        if is_able_admin(&admin?.user) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn keep_an_admin(connection: &Connection, without: UserId) -> Result<(), AccountError> {
    if has_admin(connection, Some(without))? { Ok(()) } else { Err(AccountError::LastAdmin) }
}

fn is_able_admin(user: &User) -> bool {
    let is_able = user.role == Role::Admin && !user.is_disabled && user.has_password;
    is_able && user.effective_grants().has("admin")
}

fn read(row: &Row<'_>) -> Result<StoredUser, AccountError> {
    let role: String = row.get(2)?;
    let role = Role::parse(&role).ok_or_else(|| AccountError::Store(format!("there is no role `{role}`")))?;
    let user = User {
        id: row.get(0)?,
        name: row.get(1)?,
        role,
        grants: from_json(&row.get::<_, String>(3)?)?,
        is_disabled: row.get(4)?,
        has_password: row.get(5)?,
        created_ms: unsigned(row.get(6)?),
        last_login_ms: row.get::<_, Option<i64>>(7)?.map(unsigned),
    };
    Ok(StoredUser { user, generation: row.get(8)? })
}

/// A number that no token has yet.
fn generation() -> Result<i64, AccountError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| AccountError::Store(format!("no randomness: {error}")))?;
    Ok(i64::from_le_bytes(bytes))
}

pub(super) fn to_json(grants: &Grants) -> Result<String, AccountError> {
    serde_json::to_string(grants).map_err(|error| AccountError::Store(error.to_string()))
}

pub(super) fn from_json(text: &str) -> Result<Grants, AccountError> {
    serde_json::from_str(text).map_err(|error| AccountError::Store(format!("grants cannot be read: {error}")))
}

pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
