//! `witgate access`: who may do what, told and managed without a running gateway.
//!
//! Works on the same settings and the same data folder as `witgate serve`.

mod args;
mod explain;
mod key;
mod manage;
mod password;
mod user;

pub(super) use self::args::AccessArgs;
use self::args::AccessCommand;
use super::Outcome;
use super::args::GlobalArgs;
use super::terminal::Terminal;

/// Runs the command.
///
/// # Errors
/// When it cannot be carried out: says what is wrong and what to do.
pub(super) async fn run(
    args: &AccessArgs,
    global: &GlobalArgs,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    match &args.command {
        AccessCommand::Explain(args) => explain::run(args, global, terminal).await,
        AccessCommand::User(args) => user::run(&args.command, global, terminal).await,
        AccessCommand::Key(args) => key::run(&args.command, global, terminal).await,
    }
}
