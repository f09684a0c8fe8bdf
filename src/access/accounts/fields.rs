//! What the fields of users and keys may hold.
//!
//! Every user writes what its own keys hold, and all of it is in memory for as long as the key is: so all of it is bounded.

use super::error::AccountError;
use super::types::GrantsPatch;
use crate::access::grants::{Grants, SCOPES, is_scope};

/// The longest name of a user or a key, in characters.
const MAX_NAME_CHARS: usize = 128;

/// The longest list of scopes, models or tools, in entries.
const MAX_ENTRIES: usize = 256;

/// The longest entry of such a list, in characters.
const MAX_ENTRY_CHARS: usize = 256;

impl GrantsPatch {
    /// Whether what is named can be granted at all.
    ///
    /// # Errors
    /// [`AccountError::Invalid`] where a list or an entry is too long, or there is no such scope.
    pub fn check(&self) -> Result<(), AccountError> {
        check_lists([&self.scopes, &self.models, &self.tools].map(|list| list.as_deref().unwrap_or_default()))
    }
}

pub(super) fn check_grants(grants: &Grants) -> Result<(), AccountError> {
    check_lists([&grants.scopes, &grants.models, &grants.tools])
}

pub(super) fn check_name(name: &str) -> Result<(), AccountError> {
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME_CHARS {
        let problem = format!("a name has 1 to {MAX_NAME_CHARS} characters");
        return Err(AccountError::invalid("name", problem));
    }
    if name.chars().any(char::is_control) || name.trim() != name {
        let problem = "a name has no control characters, and no blanks at its ends";
        return Err(AccountError::invalid("name", problem));
    }
    Ok(())
}

/// Scopes, models, tools.
fn check_lists(lists: [&[String]; 3]) -> Result<(), AccountError> {
    for (field, list) in ["scopes", "models", "tools"].into_iter().zip(lists) {
        if list.len() > MAX_ENTRIES {
            let problem = format!("at most {MAX_ENTRIES} entries are possible, and there are {}", list.len());
            return Err(AccountError::invalid(field, problem));
        }
        if list.iter().any(|entry| entry.chars().count() > MAX_ENTRY_CHARS) {
            let problem = format!("an entry has at most {MAX_ENTRY_CHARS} characters");
            return Err(AccountError::invalid(field, problem));
        }
    }
    if let Some(scope) = lists[0].iter().find(|scope| !is_scope(scope)) {
        let known = SCOPES.join(", ");
        let problem = format!("there is no scope `{scope}`; there are {known}, and tools:call:<pattern>");
        return Err(AccountError::invalid("scopes", problem));
    }
    Ok(())
}
