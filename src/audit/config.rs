//! `[audit]` in `gateway.toml`: whether, where, and how much.

use std::path::PathBuf;

use serde::Deserialize;

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there is an audit log. Default true.
    pub enabled: bool,
    /// The file that is written to; a relative path lies within `data_dir`. Default `audit/audit.jsonl`.
    pub file: PathBuf,
    /// Size at which the file is put aside and a new one begun, in mebibytes; 0: never. Default 64.
    pub max_file_mb: u64,
    /// Files put aside that are kept; the oldest are deleted. 0: all. Default 16.
    pub max_files: usize,
    /// Days after which a file put aside is deleted; 0: never. Default 0.
    pub max_age_days: u64,
    /// What is written of the arguments of tool calls. Default `redacted`.
    pub arguments: ArgumentMode,
    /// Further arguments that are never shown: keys, or ends of dotted paths, `*` standing for any characters.
    pub redact: Vec<String>,
    /// The longest text in arguments that is shown in full, in characters. Default 256.
    pub max_text_chars: usize,
}

/// What is written of the arguments of tool calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArgumentMode {
    /// All but what looks like a secret or is named by a rule.
    #[default]
    Redacted,
    /// Nothing.
    None,
    /// Everything, as it was sent.
    Full,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            file: PathBuf::from("audit/audit.jsonl"),
            max_file_mb: 64,
            max_files: 16,
            max_age_days: 0,
            arguments: ArgumentMode::Redacted,
            redact: Vec::new(),
            max_text_chars: 256,
        }
    }
}
