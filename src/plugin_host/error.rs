//! What can go wrong with a plugin: at load, and in a call.

/// Why a component is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    /// What is wrong and what to do, in the operator's words.
    pub message: String,
}

impl LoadError {
    /// An error with its words.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}
