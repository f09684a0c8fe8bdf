//! Passwords: argon2id in the strength that OWASP's Password Storage Cheat Sheet asks for (19 MiB, 2 passes).
//!
//! Hashing is slow and takes memory on purpose. It runs on threads for blocking work, few at a time, and only so many may
//! wait: a flood of logins costs those who log in, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use super::error::AccountError;
use crate::config::secret::Secret;

/// Characters that a password needs at least.
const MIN_PASSWORD_CHARS: usize = 8;

/// The longest password that is looked at, in bytes.
const MAX_BYTES: usize = 1024;

/// Hashes in work at the same time.
const AT_ONCE: usize = 2;

/// Hashes that may wait for their turn.
const MAX_WAITING: usize = 32;

/// The longest wait for a turn.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// A hash that no password has, as costly to compare with as the others.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5cyBzYWx0IC4uLg$\
                       AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// When to come again where there is no place.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Makes and checks hashes.
#[derive(Clone, Debug)]
pub(super) struct Passwords {
    working: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// The cost of every check so far.
    #[cfg(test)]
    pub(super) checks: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self {
            working: Arc::new(Semaphore::new(AT_ONCE)),
            places: Arc::new(Semaphore::new(AT_ONCE + MAX_WAITING)),
            #[cfg(test)]
            checks: Arc::default(),
        }
    }

    /// Takes all places, until the answer is dropped.
    #[cfg(test)]
    pub(super) fn fill(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_many_owned((AT_ONCE + MAX_WAITING) as u32).ok()
    }

    /// The hash of a password, in the PHC string format.
    pub(super) async fn hash(&self, password: Secret) -> Result<String, AccountError> {
        self.work(move || make(password.expose())).await?
    }

    /// Whether `password` is the one of `hash`. Without a hash the answer is no, after the same work.
    pub(super) async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool, AccountError> {
        #[cfg(test)]
        let checks = Arc::clone(&self.checks);
        let check = move || {
            let text = password.expose().as_bytes();
            let is_possible = hash.is_some() && text.len() <= MAX_BYTES;
            let text = text.get(..MAX_BYTES).unwrap_or(text);
            let parsed = PasswordHash::new(hash.as_deref().unwrap_or(NOBODYS));
            let parsed = parsed.map_err(|error| broken(&error.to_string()))?;
            let is_right = Argon2::default().verify_password(text, &parsed).is_ok();
            #[cfg(test)]
            checks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(parsed.params.to_string());
            Ok(is_right && is_possible)
        };
        self.work(check).await?
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccountError> {
        let busy = || AccountError::Busy(RETRY_AFTER);
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.working).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(busy()) };
        // The turn goes along: a caller that gives up does not make room for more than the machine should do.
        let working = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        working.await.map_err(|error| broken(&error.to_string()))
    }
}

/// Whether this can be a password at all.
pub(super) fn check_rules(password: &Secret) -> Result<(), AccountError> {
    let text = password.expose();
    if text.chars().count() < MIN_PASSWORD_CHARS {
        let problem = format!("a password needs at least {MIN_PASSWORD_CHARS} characters");
        return Err(AccountError::invalid("password", problem));
    }
    check_length(password)
}

/// Whether this is short enough to be looked at.
pub(super) fn check_length(password: &Secret) -> Result<(), AccountError> {
    if password.expose().len() > MAX_BYTES {
        let problem = format!("a password has at most {MAX_BYTES} bytes");
        return Err(AccountError::invalid("password", problem));
    }
    Ok(())
}

fn make(password: &str) -> Result<String, AccountError> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| broken(&error.to_string()))
}

fn broken(problem: &str) -> AccountError {
    AccountError::Store(format!("a password could not be hashed: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_fits_its_hash() {
        let passwords = Passwords::new();
        let hash = passwords.hash("pässword 1".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify("pässword 1".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("pässword 2".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("x".into(), None).await.unwrap());
        assert!(!passwords.verify("x".repeat(MAX_BYTES + 1).into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_flood_is_turned_away() {
        let passwords = Passwords::new();
        let turns = passwords.fill().unwrap();
        let refusal = passwords.verify("x".into(), None).await.unwrap_err();
        assert_eq!(refusal, AccountError::Busy(RETRY_AFTER));
        drop(turns);
        assert!(passwords.verify("x".into(), None).await.is_ok());
    }
}
