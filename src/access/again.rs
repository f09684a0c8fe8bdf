//! Looking again at who was let in, once there was a wait for something: what was taken away meanwhile counts.
//!
//! For changes of users and keys, which could undo that they were taken away. Policies are not asked again, and tokens of
//! outside issuers are good until they end.

use super::identity::{Credential, Door};
use super::scope::AccessScope;
use super::{Access, AccessError};

impl Access {
    /// Whether `credential` is one of the gateway's own that is good now: only these can be looked at [again](Self::again).
    #[must_use]
    pub fn knows(&self, credential: Credential<'_>) -> bool {
        self.identity.identify(Door::Known, credential).is_known
    }

    /// What whoever presented `credential`, one that the gateway [knew](Self::knows), and was let in with `scope` may do
    /// now. `target` is what it is about to do.
    ///
    /// # Errors
    /// When the credential has ended, or the caller has lost the scope it came in with. The refusal has been written down.
    pub fn again(
        &self,
        scope: AccessScope,
        credential: Credential<'_>,
        target: &str,
    ) -> Result<AccessScope, AccessError> {
        let door = scope.door();
        let who = self.identity.identify(door, credential);
        // What a policy makes of a caller is the policy's to say.
        let is_renamed = who.principal.id != scope.principal().id;
        let lost = door.scope().filter(|needed| !is_renamed && !who.grants.has(needed));
        if let Some(error) = who.refusal.or(lost.map(AccessError::MissingScope)) {
            scope.record(door.via(), &error.rule(), target, None, &error);
            return Err(error);
        }
        Ok(if is_renamed { scope } else { scope.with_grants(who.grants, who.owner) })
    }
}
