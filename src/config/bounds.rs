//! What values may be, for the structs that sections are read into.

use std::fmt::Display;

use serde::{Deserialize, Deserializer, de};

/// Refuses 0 where it would mean that nothing can ever succeed.
///
/// # Errors
/// "must be at least 1", and those of `T`.
pub fn positive<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq + Display,
{
    let value = T::deserialize(deserializer)?;
    if value == T::default() {
        return Err(de::Error::custom("must be at least 1"));
    }
    Ok(value)
}
