//! `witgate plugin`: everything from an empty folder to a component that a gateway takes.
//!
//! `new` makes a folder that stands alone, `build` runs the toolchain of its language.

mod args;
mod build;
mod component;
mod project;
mod report;
mod scaffold;
mod templates;
mod toolchain;

pub(super) use self::args::PluginArgs;
use self::args::PluginCommand;
use super::Outcome;
use super::terminal::Terminal;

/// Runs the command.
///
/// # Errors
/// When it cannot be carried out: says what is wrong and what to do.
pub(super) async fn run(args: &PluginArgs, terminal: Terminal) -> anyhow::Result<Outcome> {
    match &args.command {
        PluginCommand::New(args) => scaffold::run(args, terminal),
        PluginCommand::Build(args) => build::run(args, terminal).await,
    }
}
