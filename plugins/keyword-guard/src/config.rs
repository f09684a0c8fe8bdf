//! What the operator's file says, checked.

use serde::Deserialize;
use witgate_plugin::Error;

use crate::matcher::Matcher;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    phrases: Vec<String>,
    whole_words: bool,
    reasoning: bool,
    action: Action,
    instruction: String,
    max_attempts: u32,
    replacement: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Block,
    AskAgain,
    Replace,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            phrases: Vec::new(),
            whole_words: true,
            reasoning: true,
            action: Action::Block,
            instruction:
                "Your last answer contained words that must not be used here. Answer again without them."
                    .to_owned(),
            max_attempts: 3,
            replacement: "***".to_owned(),
        }
    }
}

/// What to look for, and what to do about it in this reply.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The phrases.
    pub(crate) matcher: Matcher,
    /// Whether what the model thinks is looked at too.
    pub(crate) reads_reasoning: bool,
    /// What happens to a reply that has one of them.
    pub(crate) remedy: Remedy,
}

/// What happens to a reply with a phrase in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// It is blocked.
    Block,
    /// The model is asked again with this instruction.
    AskAgain(String),
    /// This is put in the place of each phrase.
    Replace(String),
}

impl Remedy {
    /// What is put in the place of a phrase.
    pub(crate) fn replacement(&self) -> Option<&str> {
        match self {
            Self::Replace(text) => Some(text),
            Self::Block | Self::AskAgain(_) => None,
        }
    }
}

impl Rules {
    /// The rules of the operator's file for the given attempt, counted from 1.
    ///
    /// # Errors
    /// Says which key is wrong and why.
    pub(crate) fn load(attempt: u32) -> Result<Self, Error> {
        let config: Config = witgate_plugin::config()?;
        if config.max_attempts == 0 {
            return Err(Error::internal("config.max_attempts is 0; 1 means never to ask again"));
        }
        let matcher = Matcher::new(&config.phrases, config.whole_words)
            .map_err(|why| Error::internal(format!("config.phrases: {why}")))?;
        let remedy = match config.action {
            Action::AskAgain if attempt < config.max_attempts => Remedy::AskAgain(config.instruction),
            Action::Block | Action::AskAgain => Remedy::Block,
            Action::Replace => Remedy::Replace(config.replacement),
        };
        Ok(Self { matcher, reads_reasoning: config.reasoning, remedy })
    }
}
