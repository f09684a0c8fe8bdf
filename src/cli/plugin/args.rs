//! The arguments of `witgate plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::project::{Kind, Language};

/// `witgate plugin`
#[derive(Debug, Args)]
pub(in crate::cli) struct PluginArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: PluginCommand,
}

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PluginCommand {
    /// Make a folder with a new plugin that builds at once
    ///
    /// The folder stands alone: it carries the interfaces, and for Rust the SDK. An existing folder is never written to.
    New(NewArgs),
    /// Build the plugin in a folder
    ///
    /// Runs the toolchain of its language and writes NAME.wasm into the folder. Tools that a folder pins (package.json,
    /// requirements.txt) are installed into it the first time; --offline only says what is missing.
    Build(BuildArgs),
    /// Tell whether a gateway would take a component, and why not
    ///
    /// Does all that a gateway does when it loads a plugin, with the operator's file beside the component (NAME.toml) or
    /// the one that --manifest names. The exit code is 1 when one would not be taken.
    Check(CheckArgs),
    /// Call a component once and print what it answers
    ///
    /// The answer goes to standard output as JSON; what the plugin logs, and what the call cost, to standard error.
    Run(RunArgs),
    /// List the plugins in the plugins folder, or those of a running gateway
    List(ListArgs),
}

/// `witgate plugin new`
#[derive(Debug, Args)]
pub(in crate::cli) struct NewArgs {
    /// Name of the plugin: lower-case letters, digits and hyphens
    pub(super) name: String,
    /// Language to write it in
    #[arg(long, short, value_name = "LANGUAGE", value_enum)]
    pub(super) lang: Language,
    /// What it is to do
    #[arg(long, short, value_name = "KIND", value_enum, default_value_t)]
    pub(super) kind: Kind,
    /// Folder to make [default: the name]
    #[arg(long, value_name = "FOLDER")]
    pub(super) path: Option<PathBuf>,
}

/// `witgate plugin build`
#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// The plugin's folder
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(super) folder: PathBuf,
    /// Component to write [default: NAME.wasm in the folder]
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Install nothing
    #[arg(long)]
    pub(super) offline: bool,
    /// Print one JSON object instead of words
    #[arg(long)]
    pub(super) json: bool,
}

/// `witgate plugin check`
#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    /// Components
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
    /// The operator's file [default: NAME.toml beside the component, if there is one]
    #[arg(long, short, value_name = "FILE")]
    pub(super) manifest: Option<PathBuf>,
    /// Print a JSON array instead of words
    #[arg(long)]
    pub(super) json: bool,
}

/// `witgate plugin run`
#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// The component
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// What to call
    #[arg(long, value_enum, value_name = "HOOK")]
    pub(super) hook: Hook,
    /// JSON to call it with; `-` reads standard input
    #[arg(long, short, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// The operator's file [default: NAME.toml beside the component, if there is one]
    #[arg(long, short, value_name = "FILE")]
    pub(super) manifest: Option<PathBuf>,
    /// Print answer and cost as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// `witgate plugin list`
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// The running gateway to ask, for example http://localhost:8000
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// Name of the environment variable that holds the gateway's key [default: WITGATE_API_KEY]
    #[arg(long, value_name = "NAME", requires = "url")]
    pub(super) key_env: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

/// Functions of plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Hook {
    /// A whole reply of the model
    ProcessLlmResponse,
    /// A reply piece by piece
    ReplyStream,
    /// A decision on a request
    Authorize,
    /// The tools it brings
    ListTools,
    /// A call of one of its tools
    CallTool,
}

impl Hook {
    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ProcessLlmResponse => "process-llm-response",
            Self::ReplyStream => "reply-stream",
            Self::Authorize => "authorize",
            Self::ListTools => "list-tools",
            Self::CallTool => "call-tool",
        }
    }
}
