//! Somebody has to be able to log in: the user `admin`, made at the first start.
//!
//! Runs beside the start, since hashing a password takes longer than everything else of it; a login waits for it.

use std::time::Duration;

use rusqlite::params;
use tokio_util::task::AbortOnDropHandle;

use super::error::AccountError;
use super::types::Role;
use super::{Accounts, password, users};
use crate::access::grants::Grants;
use crate::config::secret::Secret;
use crate::domain::ids::random_secret;

/// The first admin's name.
pub const FIRST_ADMIN: &str = "admin";

/// Letters and digits of a generated password: 119 bits.
const GENERATED_LENGTH: usize = 20;

/// The longest that a login waits for the first admin.
const MAX_WAIT: Duration = Duration::from_secs(15);

impl Accounts {
    /// Sees to it that there is an admin who can log in. The work is done in the background, for as long as the returned
    /// handle lives; logins wait for it.
    ///
    /// `password` is the value of `WITGATE_ADMIN_PASSWORD`: the user `admin` gets it, also where it had another one.
    /// Without it, and without any admin, `admin` gets a generated one, which `announce` is to show to the operator. It
    /// exists nowhere else, so it is shown before it is valid: after a crash in between, the next start makes another one.
    pub fn prepare_admin(
        &self,
        password: Option<Secret>,
        announce: impl FnOnce(&Secret) + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        let settled = self.0.admin_settled.clone();
        settled.send_replace(false);
        let accounts = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let done = match password.filter(|password| !password.is_empty()) {
                Some(password) => accounts.set_admin(password).await,
                None => accounts.generate_admin(announce).await,
            };
            if let Err(error) = done {
                tracing::error!(
                    %error,
                    "the first admin could not be prepared, and a password that was shown may not be valid: {error}"
                );
            }
            settled.send_replace(true);
        }))
    }

    /// Waits until a login can be decided on.
    pub(super) async fn admin_is_settled(&self) {
        let mut settled = self.0.admin_settled.subscribe();
        // Whoever waits in vain finds out what there is.
        drop(tokio::time::timeout(MAX_WAIT, settled.wait_for(|settled| *settled)).await);
    }

    async fn set_admin(&self, password: Secret) -> Result<(), AccountError> {
        password::check_length(&password)?;
        if let Err(weakness) = password::check_rules(&password) {
            // Starting without an admin would help nobody; whoever set it can set a better one.
            tracing::warn!("WITGATE_ADMIN_PASSWORD is weak: {weakness}; it is taken all the same");
        }
        let stored = self.read(|sql| users::with_password(sql, FIRST_ADMIN)).await?;
        let has_admin = self.read(|sql| users::has_admin(sql, None)).await?;
        let (user, hash) = match stored {
            Some((stored, hash)) => (stored.user, hash),
            None if has_admin => {
                tracing::warn!(
                    "WITGATE_ADMIN_PASSWORD is set and there is no user `{FIRST_ADMIN}` any longer; it does nothing"
                );
                return Ok(());
            }
            None => {
                let hash = self.0.passwords.hash(password).await?;
                return self.insert_admin(hash, || ()).await;
            }
        };
        if user.role != Role::Admin || user.is_disabled {
            let what = if user.is_disabled { "disabled" } else { "no admin" };
            tracing::warn!(
                "WITGATE_ADMIN_PASSWORD is set and the user `{FIRST_ADMIN}` is {what}; it does nothing"
            );
            return Ok(());
        }
        let had_one = hash.is_some();
        if had_one && self.0.passwords.verify(password.clone(), hash).await? {
            return Ok(());
        }
        let hash = self.0.passwords.hash(password).await?;
        self.write(move |sql| users::set_password(sql, user.id, &hash)).await?;
        if had_one {
            tracing::warn!(
                "the password of the user `{FIRST_ADMIN}` was another one and is that of WITGATE_ADMIN_PASSWORD now"
            );
        }
        Ok(())
    }

    async fn generate_admin(
        &self,
        announce: impl FnOnce(&Secret) + Send + 'static,
    ) -> Result<(), AccountError> {
        if self.read(|sql| users::has_admin(sql, None)).await? {
            return Ok(());
        }
        let password = random_secret(GENERATED_LENGTH);
        let password = Secret::new(password.ok_or_else(|| AccountError::Store("no randomness".to_owned()))?);
        let hash = self.0.passwords.hash(password.clone()).await?;
        self.insert_admin(hash, move || announce(&password)).await
    }

    /// Makes the first admin, unless another process was faster; `announce` comes right before the commit.
    async fn insert_admin(
        &self,
        hash: String,
        announce: impl FnOnce() + Send + 'static,
    ) -> Result<(), AccountError> {
        let now_ms = self.now_ms();
        let insert = move |sql: &rusqlite::Connection| {
            if users::has_admin(sql, None)? {
                return Ok(());
            }
            match users::id_of(sql, FIRST_ADMIN)? {
                None => {
                    let grants = Grants::default();
                    users::insert(sql, FIRST_ADMIN, Some(&hash), Role::Admin, &grants, now_ms)?;
                }
                // Nobody can log in as admin, so nobody is robbed of anything.
                Some(id) => {
                    let sql_text =
                        "UPDATE users SET role = 'admin', disabled = 0, grants = '{}' WHERE id = ?1";
                    sql.prepare_cached(sql_text)?.execute(params![id])?;
                    users::set_password(sql, id, &hash)?;
                }
            }
            announce();
            Ok(())
        };
        self.write(insert).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn a_generated_password_is_shown_before_it_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.db");
        let accounts = Accounts::open(&path).await.unwrap();
        let found = Arc::new(Mutex::new(None));
        let (seen, file) = (Arc::clone(&found), path.clone());
        // What somebody finds who starts after a crash at this moment.
        let announce = move |_: &Secret| {
            let other = rusqlite::Connection::open(&file).unwrap();
            *seen.lock().unwrap() = Some(users::has_admin(&other, None).unwrap());
        };
        accounts.prepare_admin(None, announce).await.unwrap();
        assert_eq!(*found.lock().unwrap(), Some(false));
        assert!(accounts.read(|sql| users::has_admin(sql, None)).await.unwrap());
    }
}
