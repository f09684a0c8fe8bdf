//! Secrets that the operator grants by name.

use crate::types::Error;

/// A secret's value, none where the operator's file grants no secret of that name.
#[must_use]
pub fn secret(name: &str) -> Option<String> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::response::witgate::plugin::secrets::get(name);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::with(|host| host.secrets.get(name).cloned())
}

/// A secret that the plugin cannot do without.
///
/// # Errors
/// Where it is not granted: says what to add to the operator's file.
pub fn require_secret(name: &str) -> Result<String, Error> {
    secret(name).ok_or_else(|| {
        Error::Internal(format!(
            "no secret `{name}`: grant it in the plugin's file with secrets = {{ {name} = \"NAME_OF_ENV_VARIABLE\" }}"
        ))
    })
}
