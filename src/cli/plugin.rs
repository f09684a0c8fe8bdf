//! `witgate plugin`: everything from an empty folder to a component that a gateway takes.
//!
//! `new` makes a folder that stands alone, `build` runs the toolchain of its language, `check` and `run` do with a component
//! what a gateway does with it, `list` shows what is there.

mod args;
mod build;
mod candidate;
mod check;
mod component;
mod componentize;
mod guest_toolchain;
mod list;
mod project;
mod report;
mod run;
mod scaffold;
mod templates;
mod toolchain;

pub(super) use self::args::PluginArgs;
use self::args::PluginCommand;
use super::Outcome;
use super::args::GlobalArgs;
use super::terminal::Terminal;

/// Runs the command.
///
/// # Errors
/// When it cannot be carried out: says what is wrong and what to do.
pub(super) async fn run(
    args: &PluginArgs,
    global: &GlobalArgs,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    match &args.command {
        PluginCommand::New(args) => scaffold::run(args, terminal),
        PluginCommand::Build(args) => build::run(args, terminal).await,
        PluginCommand::Check(args) => check::run(args, global, terminal).await,
        PluginCommand::Run(args) => run::run(args, global, terminal).await,
        PluginCommand::List(args) => list::run(args, global, terminal).await,
    }
}
