//! Logging in: a name and a password become a token.
//!
//! Takes as long for a name that nobody has as for a wrong password, and says the same.

use std::net::IpAddr;
use std::time::Instant;

use super::error::{AccountError, LoginError};
use super::types::{Login, Role, UserId};
use super::worker::LIMIT;
use super::{Accounts, users};
use crate::config::secret::Secret;

impl Accounts {
    /// Logs somebody in.
    ///
    /// # Errors
    /// When name and password do not belong together, or this was tried too often.
    pub async fn login(
        &self,
        name: &str,
        password: Secret,
        peer: Option<IpAddr>,
    ) -> Result<Login, LoginError> {
        let Some(tokens) = &self.0.tokens else {
            return Err(LoginError::Store("this process makes no tokens".to_owned()));
        };
        let name = &*users::canonical(name);
        let attempt =
            self.0.throttle.begin(name, peer, Instant::now()).map_err(LoginError::TooManyAttempts)?;
        self.admin_is_settled().await;
        let wanted = name.to_owned();
        let checked = async {
            let found = self.read(move |sql| users::with_password(sql, &wanted)).await?;
            let able = found.filter(|(found, _)| !found.user.is_disabled && found.user.role != Role::Service);
            let (found, hash) = able.map_or((None, None), |(found, hash)| (Some(found), hash));
            let is_right = self.0.passwords.verify(password, hash).await?;
            Ok(found.filter(|_| is_right))
        };
        let found = match checked.await {
            Ok(Some(found)) => {
                attempt.succeeded();
                found
            }
            Ok(None) => return Err(LoginError::Refused),
            Err(error) => {
                attempt.undecided();
                return Err(match error {
                    AccountError::Busy(wait) => LoginError::Busy(wait),
                    other => LoginError::Store(other.to_string()),
                });
            }
        };
        let (mut user, now_ms) = (found.user, self.now_ms());
        // The generation is that of the password that was checked: a change in between ends this token too.
        let token = tokens.sign(user.id, found.generation, now_ms);
        let token = token.ok_or_else(|| LoginError::Store("no token could be signed".to_owned()))?;
        let id = user.id;
        let noted = self.0.worker.call(move |store| store.transact(|sql| users::logged_in(sql, id, now_ms)));
        noted.await.map_err(|error| LoginError::Store(error.to_string()))?;
        user.last_login_ms = Some(now_ms);
        Ok(Login { token, expires_in: tokens.ttl_s(), user })
    }

    /// Has `tell` know soon whose name this is, if anybody's. Does not wait for it: how long the search takes would tell
    /// the caller whether there is such a user.
    pub async fn tell_whose_name(&self, name: &str, tell: impl FnOnce(Option<UserId>) + Send + 'static) {
        let name = users::canonical(name);
        match self.0.worker.place(tokio::time::Instant::now() + LIMIT).await {
            // The database's thread is the owner, and works off what waits before it ends.
            Ok(place) => place.send(Box::new(move |store| {
                tell(users::id_of(&store.connection, &name).ok().flatten());
            })),
            Err(_) => tell(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::access::accounts::NewUser;
    use crate::access::grants::Grants;

    #[tokio::test]
    async fn whose_name_it_is_keeps_nobody_waiting() {
        let accounts = Accounts::in_memory().await.unwrap();
        let new =
            NewUser { name: "ann".to_owned(), password: None, role: Role::User, grants: Grants::default() };
        let ann = accounts.create_user(new).await.unwrap();
        // The database is busy until somebody ends that.
        let (end, ended) = mpsc::channel::<()>();
        let place = accounts.0.worker.place(tokio::time::Instant::now() + LIMIT).await.unwrap();
        place.send(Box::new(move |_| assert!(ended.recv().is_err())));
        let mut told = Vec::new();
        for name in ["ann", "nobody"] {
            let (tell, answer) = oneshot::channel();
            let tell = move |user| assert!(tell.send(user).is_ok());
            let waited = tokio::time::timeout(Duration::from_secs(5), accounts.tell_whose_name(name, tell));
            waited.await.expect("nobody waits for the database");
            told.push(answer);
        }
        drop(end);
        let ids = [told.remove(0).await.unwrap(), told.remove(0).await.unwrap()];
        assert_eq!(ids, [Some(ann.id), None]);
    }
}
