//! Users and API keys: kept in SQLite, asked from memory.
//!
//! Promises: what was answered is on the disk; a request is checked against an immutable snapshot without a lock and
//! without SQL; a change is in force once it was answered, and one by another process on the same database (the command
//! line) within about a second. Passwords are kept as argon2id, keys as SHA-256, neither is ever logged.

mod database;
mod error;
mod fields;
mod first_admin;
mod keys;
mod login;
mod password;
mod snapshot;
mod throttle;
mod types;
mod users;
mod view;
mod worker;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub use self::error::{AccountError, LoginError, OpenError};
pub use self::first_admin::FIRST_ADMIN;
pub use self::types::{
    ApiKey, CreatedKey, GrantsPatch, Listing, Login, MAX_PAGE, NewApiKey, NewUser, Page, Role, User, UserId,
    UserPatch,
};
pub use self::view::{KeyView, Moment, UserView};

use self::fields::{check_grants, check_name};
use self::keys::{Presented, StoredKey};
use self::password::Passwords;
use self::snapshot::Snapshot;
pub(super) use self::snapshot::{KeyCheck, KeyEntry, UserEntry};
use self::throttle::Throttle;
use self::worker::Worker;
use crate::access::tokens::{TokenCheck, TokenSettings, Tokens};
use crate::config::secret::Secret;

/// How often changes by other processes are looked for.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// How often the last uses of keys are written down, in turns of [`FOLLOW_EVERY`].
const FLUSH_EVERY: u32 = 30;

/// How often the age of the key of the tokens is looked at, in the same turns.
const ROTATE_EVERY: u32 = 3600;

/// The file with the keys of the tokens, beside the database.
const KEYS_FILE: &str = "access-keys.json";

/// What time it is, in milliseconds since 1970; tests bring their own.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A handle to the users and keys; a clone is another handle to the same.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    path: Option<PathBuf>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    worker: Arc<Worker<Store>>,
    passwords: Passwords,
    throttle: Throttle,
    /// `None` where nobody can log in.
    tokens: Option<Arc<Tokens>>,
    /// False as long as the first admin is being prepared.
    admin_settled: watch::Sender<bool>,
    clock: Clock,
    /// Ends with the last handle, before the worker does.
    _follow: AbortOnDropHandle<()>,
}

impl Accounts {
    /// Opens the database file `path`; makes it and its folder where they are missing. Nobody can log in here: for the
    /// command line. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the folder cannot be created or written, or the file is damaged, is not ours, or is from a newer version.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        Self::start(Some(path.to_owned()), None, system_clock()).await
    }

    /// As [`Self::open`], and with access tokens for those who log in. Their keys lie in `access-keys.json` beside the
    /// database.
    ///
    /// # Errors
    /// As [`Self::open`], and when there can be no keys.
    pub async fn open_with_tokens(path: &Path, tokens: TokenSettings) -> Result<Self, OpenError> {
        Self::start(Some(path.to_owned()), Some(tokens), system_clock()).await
    }

    /// Users, keys and tokens that are forgotten at the end. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When no thread can be started.
    pub async fn in_memory() -> Result<Self, OpenError> {
        Self::start(None, Some(TokenSettings::default()), system_clock()).await
    }

    async fn start(
        path: Option<PathBuf>,
        tokens: Option<TokenSettings>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let (at, published, now_ms) = (path.clone(), Arc::clone(&snapshot), clock());
        let opening = tokio::task::spawn_blocking(move || {
            let mut store = Store { connection: database::open(at.as_deref())?, published, version: 0 };
            let loaded = store.reload();
            loaded.map_err(|error| database::DATABASE.unreadable(at.as_deref(), error.to_string()))?;
            let keys = at.as_ref().map(|path| path.with_file_name(KEYS_FILE));
            let tokens =
                tokens.map(|settings| Tokens::open(settings, keys.as_deref(), now_ms)).transpose()?;
            let worker = Worker::start(store)
                .map_err(|error| database::DATABASE.thread_failed(at.as_deref(), &error))?;
            Ok::<_, OpenError>((worker, tokens))
        });
        let opened = opening.await;
        let (worker, tokens) =
            opened.map_err(|error| database::DATABASE.unreadable(path.as_deref(), error.to_string()))??;
        let (worker, tokens) = (Arc::new(worker), tokens.map(Arc::new));
        let follow = follow(Arc::downgrade(&worker), tokens.clone(), Arc::clone(&clock));
        Ok(Self(Arc::new(Inner {
            path,
            snapshot,
            worker,
            passwords: Passwords::new(),
            throttle: Throttle::new(),
            tokens,
            admin_settled: watch::channel(true).0,
            clock,
            _follow: AbortOnDropHandle::new(tokio::spawn(follow)),
        })))
    }

    /// The database file, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Makes a user.
    ///
    /// # Errors
    /// When the name is taken or a field cannot be.
    pub async fn create_user(&self, new: NewUser) -> Result<User, AccountError> {
        check_name(&new.name)?;
        check_grants(&new.grants)?;
        let NewUser { name, password, role, grants } = new;
        let hash = match password {
            Some(_) if role == Role::Service => {
                return Err(AccountError::invalid("password", "a service cannot log in and has none"));
            }
            Some(password) => {
                password::check_rules(&password)?;
                Some(self.0.passwords.hash(password).await?)
            }
            None => None,
        };
        let now_ms = self.now_ms();
        let name = users::canonical(&name);
        self.write(move |sql| users::insert(sql, &name, hash.as_deref(), role, &grants, now_ms)).await
    }

    /// The users, by number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn users(&self, page: Page) -> Result<Listing<User>, AccountError> {
        self.read(move |sql| users::list(sql, page)).await
    }

    /// One user.
    ///
    /// # Errors
    /// When there is none of that number.
    pub async fn user(&self, id: UserId) -> Result<User, AccountError> {
        self.read(move |sql| Ok(users::get(sql, id)?.user)).await
    }

    /// One user, and which of its tokens are taken: another number once they have ended.
    ///
    /// # Errors
    /// When there is none of that number.
    pub async fn user_and_generation(&self, id: UserId) -> Result<(User, i64), AccountError> {
        let found = self.read(move |sql| users::get(sql, id)).await?;
        Ok((found.user, found.generation))
    }

    /// The user of that name.
    ///
    /// # Errors
    /// When there is none.
    pub async fn user_named(&self, name: &str) -> Result<User, AccountError> {
        let name = users::canonical(name);
        let find = move |sql: &Connection| match users::id_of(sql, &name)? {
            Some(id) => Ok(users::get(sql, id)?.user),
            None => Err(AccountError::NoUserNamed(name)),
        };
        self.read(find).await
    }

    /// Changes what `patch` names.
    ///
    /// # Errors
    /// When there is no such user, the name is taken, a field cannot be, or nobody would be left who can log in as admin. Then
    /// nothing has changed.
    pub async fn update_user(&self, id: UserId, mut patch: UserPatch) -> Result<User, AccountError> {
        if let Some(name) = &mut patch.name {
            check_name(name)?;
            *name = users::canonical(name);
        }
        patch.grants.check()?;
        let hash = match patch.password.take() {
            Some(password) => {
                password::check_rules(&password)?;
                Some(self.0.passwords.hash(password).await?)
            }
            None => None,
        };
        self.write(move |sql| users::update(sql, id, &patch, hash.as_deref())).await
    }

    /// Deletes a user. Its tokens end, its keys are revoked.
    ///
    /// # Errors
    /// When there is no such user, or nobody would be left who can log in as admin.
    pub async fn delete_user(&self, id: UserId) -> Result<(), AccountError> {
        let now_ms = self.now_ms();
        self.write(move |sql| users::delete(sql, id, now_ms)).await
    }

    /// Gives a user another password. Its tokens end.
    ///
    /// # Errors
    /// When there is no such user, it is a service, or the password is too short or too long.
    pub async fn set_password(&self, id: UserId, password: Secret) -> Result<(), AccountError> {
        let patch = UserPatch { password: Some(password), ..UserPatch::default() };
        self.update_user(id, patch).await.map(|_user| ())
    }

    /// Makes a key of a user. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// When there is no such user, it has as many keys as it may have, a scope is not the user's, or a field cannot be.
    pub async fn create_key(&self, owner: UserId, new: NewApiKey) -> Result<CreatedKey, AccountError> {
        check_name(&new.name)?;
        check_grants(&new.grants)?;
        if new.grants.scopes.is_empty() {
            let known = crate::access::grants::SCOPES.join(", ");
            return Err(AccountError::invalid("scopes", format!("at least one is needed of {known}")));
        }
        let now_ms = self.now_ms();
        if new.expires_ms.is_some_and(|end| end <= now_ms) {
            return Err(AccountError::invalid("expires_at", "this time is over"));
        }
        let create = move |store: &mut Store| {
            let ((created, stored), has_forgotten) = store.transact(|sql| {
                let has_forgotten = keys::make_room(sql, owner, &new.grants, now_ms)?;
                Ok((keys::insert(sql, owner, &new, now_ms)?, has_forgotten))
            })?;
            if has_forgotten {
                store.reload()?;
            } else {
                store.publish_key(stored);
            }
            Ok(created)
        };
        self.0.worker.call(create).await
    }

    /// The keys of `owner` or of everybody, the newest first, revoked and expired ones too.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keys(&self, owner: Option<UserId>, page: Page) -> Result<Listing<ApiKey>, AccountError> {
        let mut listing = self.read(move |sql| keys::list(sql, owner, page)).await?;
        listing.items.iter_mut().for_each(|key| self.complete(key));
        Ok(listing)
    }

    /// One key.
    ///
    /// # Errors
    /// When there is none of that id.
    pub async fn key(&self, id: &str) -> Result<ApiKey, AccountError> {
        let id = id.to_owned();
        let mut key = self.read(move |sql| Ok(keys::get(sql, &id)?.key)).await?;
        self.complete(&mut key);
        Ok(key)
    }

    /// Revokes a key; one that is revoked already stays as it is.
    ///
    /// # Errors
    /// When there is none of that id.
    pub async fn revoke_key(&self, id: &str) -> Result<ApiKey, AccountError> {
        let (id, now_ms) = (id.to_owned(), self.now_ms());
        let mut key = self.write(move |sql| keys::revoke(sql, &id, now_ms)).await?;
        self.complete(&mut key);
        Ok(key)
    }

    /// Writes down when keys were last used.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn flush(&self) -> Result<(), AccountError> {
        self.0.worker.call(Store::flush).await
    }

    /// Checks a presented key. `None`: it does not look like one of ours.
    pub(super) fn check_key(&self, text: &str) -> Option<KeyCheck> {
        let presented = Presented::parse(text)?;
        Some(self.0.snapshot.load().check(presented, self.now_ms()))
    }

    /// The state of the key with this id, whoever presents it.
    pub(super) fn key_state(&self, id: &str) -> KeyCheck {
        self.0.snapshot.load().state(id, self.now_ms())
    }

    /// The user with this number, as requests see it.
    pub(super) fn user_entry(&self, id: UserId) -> Option<Arc<UserEntry>> {
        self.0.snapshot.load().user(id)
    }

    /// Checks a presented token. `None`: it is none of ours.
    pub(super) fn check_token(&self, text: &str) -> Option<UserCheck> {
        Some(match self.0.tokens.as_ref()?.check(text)? {
            TokenCheck::Valid { user, generation } => {
                let snapshot = self.0.snapshot.load();
                let user =
                    snapshot.user(user).filter(|user| user.generation == generation && !user.is_disabled);
                user.map_or(UserCheck::Ended, UserCheck::Valid)
            }
            TokenCheck::Expired => UserCheck::Expired,
            TokenCheck::Invalid => UserCheck::Invalid,
        })
    }

    pub(super) fn now_ms(&self) -> u64 {
        (self.0.clock)()
    }

    /// Adds what is not written down yet.
    fn complete(&self, key: &mut ApiKey) {
        key.last_used_ms = key.last_used_ms.max(self.0.snapshot.load().last_used(&key.id));
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let read = move |store: &mut Store| {
            let transaction = store.connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
            work(&transaction)
        };
        self.0.worker.call(read).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let write = move |store: &mut Store| {
            let done = store.transact(work)?;
            store.reload()?;
            Ok(done)
        };
        self.0.worker.call(write).await
    }
}

/// What became of a presented token.
#[derive(Debug)]
pub(super) enum UserCheck {
    /// It is good, and this is whose it is.
    Valid(Arc<UserEntry>),
    /// It was taken away before its time: the user is gone, disabled, has another role or another password.
    Ended,
    /// Its time is over.
    Expired,
    /// It is not what we made.
    Invalid,
}

/// What the worker's thread has.
struct Store {
    connection: Connection,
    published: Arc<ArcSwap<Snapshot>>,
    /// Of the database, when the snapshot was made; commits of our own do not change it.
    version: i64,
}

impl Store {
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, AccountError>,
    ) -> Result<T, AccountError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Makes and publishes a snapshot of all there is.
    fn reload(&mut self) -> Result<(), AccountError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let users = users::all(&transaction)?;
        let keys = keys::all(&transaction)?;
        self.version = keys::data_version(&transaction)?;
        drop(transaction);
        let fresh = Snapshot::new(users, keys, &self.published.load());
        self.published.store(Arc::new(fresh));
        Ok(())
    }

    /// Publishes one key more, without reading all the others.
    fn publish_key(&mut self, stored: StoredKey) {
        let fresh = self.published.load().with_key(stored);
        self.published.store(Arc::new(fresh));
    }

    /// Takes in what another process committed.
    fn follow(&mut self) -> Result<(), AccountError> {
        if keys::data_version(&self.connection)? != self.version {
            self.reload()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), AccountError> {
        let snapshot = self.published.load_full();
        let times = snapshot.unwritten();
        if !times.is_empty() {
            self.transact(|sql| keys::used(sql, &times))?;
            snapshot.written(&times);
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the last uses of keys could not be written down: {error}");
        }
    }
}

/// Ends with the worker, which it does not keep alive.
async fn follow(worker: Weak<Worker<Store>>, tokens: Option<Arc<Tokens>>, clock: Clock) {
    let mut turns: u32 = 0;
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let Some(worker) = worker.upgrade() else { return };
        turns = turns.wrapping_add(1);
        let (is_flush, is_rotation) = (turns.is_multiple_of(FLUSH_EVERY), turns.is_multiple_of(ROTATE_EVERY));
        let (tokens, now_ms) = (tokens.clone(), clock());
        let look = move |store: &mut Store| {
            store.follow()?;
            if is_flush {
                store.flush()?;
            }
            let Some(tokens) = tokens else { return Ok(()) };
            let done = if is_rotation { tokens.rotate(now_ms) } else { tokens.follow() };
            done.map_err(|error| AccountError::Store(error.to_string()))
        };
        if let Err(error) = worker.call(look).await {
            tracing::warn!(%error, "changes of users and keys could not be looked for: {error}");
        }
    }
}

fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
