//! The arguments of `witgate access`.

use clap::{Args, Subcommand};

/// `witgate access`
#[derive(Debug, Args)]
pub(in crate::cli) struct AccessArgs {
    #[command(subcommand)]
    pub(super) command: AccessCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum AccessCommand {
    /// Tell whether somebody may do something, and which rule decides
    ///
    /// Goes through the rules as the gateway does. The exit code is 0 when it is allowed and 1 when it is denied.
    Explain(ExplainArgs),
}

/// `witgate access explain`
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub(super) who: Who,
    /// The model it asks for
    #[arg(long, value_name = "ID")]
    pub(super) model: Option<String>,
}

/// Who is asking.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Who {
    /// The holder of the key in WITGATE_API_KEY
    #[arg(long)]
    pub(super) static_key: bool,
    /// A caller who presents nothing
    #[arg(long)]
    pub(super) anonymous: bool,
}
