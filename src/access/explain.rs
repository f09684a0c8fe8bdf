//! Asks the chain on somebody's behalf, and has every rule told of: for `witgate access explain`.
//!
//! The rules are those of every request, in the same code. Only the credential is not asked for where the operator names
//! somebody.

use std::sync::Arc;

use super::accounts::UserId;
use super::identity::Identified;
use super::trace::{Trace, Verdict};
use super::{Access, AccessError, AccessScope, Credential, Entry};
use crate::domain::HttpFacts;

/// Who is asking.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// Whoever presents the credential of the entry.
    Presenting,
    /// The holder of the key with this id.
    Key(&'a str),
    /// The user with this number.
    User(UserId),
}

impl Access {
    /// [`Self::enter`] for `asker`; each rule tells `trace` what it says, also what is asked of the scope later.
    ///
    /// # Errors
    /// The refusal of the first rule that refuses.
    pub async fn explain(
        &self,
        asker: Asker<'_>,
        entry: Entry<'_>,
        facts: impl FnOnce() -> HttpFacts,
        trace: &Trace,
    ) -> Result<AccessScope, AccessError> {
        let stranger = || self.identity.identify(entry.door, Credential::None);
        let who = match asker {
            Asker::Presenting => self.identity.recognize(&entry).await,
            Asker::Key(id) => self.identity.holder(id).unwrap_or_else(|refusal| {
                let stranger = stranger();
                Identified { refusal: Some(refusal), ..stranger }
            }),
            Asker::User(id) => match self.identity.user(id) {
                Some(user) => user,
                None => {
                    let why = || "the user is not there, or is disabled".to_owned();
                    trace.note("credential", Verdict::Denied, why);
                    return Err(AccessError::Invalid);
                }
            },
        };
        self.admit(who, entry, Some(facts), trace.clone()).await
    }
}

impl super::identity::Identity {
    /// The holder of the key with this id.
    fn holder(&self, id: &str) -> Result<Identified, AccessError> {
        use super::accounts::KeyCheck;
        let checked = self.accounts().map_or(KeyCheck::Unknown, |accounts| accounts.key_state(id));
        match checked {
            KeyCheck::Valid { key, owner } => Ok(Self::of_key(&key, &owner)),
            KeyCheck::Unknown => Err(AccessError::Invalid),
            KeyCheck::Revoked => Err(AccessError::Revoked),
            KeyCheck::Expired => Err(AccessError::Expired),
        }
    }

    /// The user with this number, unless it is disabled.
    fn user(&self, id: UserId) -> Option<Identified> {
        let user = self.accounts()?.user_entry(id).filter(|user| !user.is_disabled)?;
        let (principal, grants) = (user.principal.clone(), Arc::clone(&user.grants));
        Some(Identified { principal, is_known: true, grants, owner: None, refusal: None })
    }
}
