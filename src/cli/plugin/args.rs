//! The arguments of `witgate plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
    /// The folder stands alone: it carries the interfaces. An existing folder is never written to.
    New(NewArgs),
    /// Build the plugin in a folder
    ///
    /// Runs the toolchain of its language and writes NAME.wasm into the folder. Tools that a folder pins (package.json,
    /// requirements.txt) are installed into it the first time; --offline only says what is missing.
    Build(BuildArgs),
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
