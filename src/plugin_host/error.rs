//! What can go wrong with a plugin: at load, and in a call.

use std::time::Duration;

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

/// A call of a plugin that gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{plugin}` {message}")]
pub struct PluginError {
    /// The plugin's name.
    pub plugin: String,
    /// What kind of failure it was.
    pub kind: PluginErrorKind,
    /// What happened; follows the plugin's name in a sentence. For the log and the operator, not for clients.
    pub message: String,
}

/// Failures by what can be done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginErrorKind {
    /// The plugin itself answered with an error.
    Guest,
    /// The plugin says that the caller may not do this.
    Denied,
    /// The plugin asked the caller to come back later.
    RetryAfter(u32),
    /// A bug in the plugin: it trapped, or broke the rules of the interface.
    Trap,
    /// It took too long.
    Timeout,
    /// It wanted more memory, handles or table entries than it may have.
    Limit,
    /// It answered more than it may.
    OutputTooLarge,
    /// Too many calls at once; this one waited in vain.
    Overloaded,
    /// It failed too often of late and is not called for a while.
    CircuitOpen,
}

impl PluginErrorKind {
    /// True for failures that speak against the plugin rather than against the moment.
    #[must_use]
    pub fn is_plugins_fault(self) -> bool {
        matches!(self, Self::Trap | Self::Timeout | Self::Limit | Self::OutputTooLarge)
    }

    /// A word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Denied => "denied",
            Self::RetryAfter(_) => "retry_after",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::OutputTooLarge => "output_too_large",
            Self::Overloaded => "overloaded",
            Self::CircuitOpen => "circuit_open",
        }
    }
}

impl PluginError {
    pub(super) fn new(plugin: &str, kind: PluginErrorKind, message: impl Into<String>) -> Self {
        Self { plugin: plugin.to_owned(), kind, message: message.into() }
    }

    /// The error in words that may go to a client or a model: nothing of the guest's inside.
    #[must_use]
    pub fn for_callers(&self) -> String {
        let what = match self.kind {
            PluginErrorKind::Guest | PluginErrorKind::Denied => return self.to_string(),
            PluginErrorKind::RetryAfter(seconds) => format!("is busy; try again in {seconds} s"),
            PluginErrorKind::Timeout => "took too long".to_owned(),
            PluginErrorKind::Overloaded => "has too many calls at once; try again".to_owned(),
            PluginErrorKind::CircuitOpen => "keeps failing and is not called for a while".to_owned(),
            _ => "failed; the gateway's log has the details".to_owned(),
        };
        format!("plugin `{}` {what}", self.plugin)
    }

    pub(super) fn timeout(plugin: &str, limit: Duration) -> Self {
        Self::new(plugin, PluginErrorKind::Timeout, format!("gave no answer within {} ms", limit.as_millis()))
    }
}
