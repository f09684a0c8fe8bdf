//! The command line: what `witgate serve`, `chat`, `mcp`, `check`, `tools`, `plugin` and `access` do, and how they end.
//!
//! Results go to standard output, everything else to standard error. Nothing here decides how the gateway behaves: it
//! reads arguments, asks [`crate::gateway`] for a gateway or its parts, and shows what comes of it.

mod access;
mod args;
mod chat;
mod check;
mod client;
mod loading;
mod local;
mod mcp;
mod plugin;
mod serve;
mod signals;
mod spinner;
mod terminal;
mod tools;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use self::args::{Arguments, Command};
use self::terminal::{Style, Terminal, clean, note};

/// Longest time to wait at the end for work that cannot be interrupted, such as a write to disk.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// How a command ended, if not by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All went well.
    Done,
    /// It did its work, and the result is a failure that has been shown.
    Failed,
    /// A signal ended it.
    Interrupted,
}

impl Outcome {
    fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Interrupted => 130,
        })
    }
}

/// Runs the command line of this process and returns its exit code: 0 done, 1 failed, 2 wrong arguments, 130
/// interrupted.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse().and_then(refuse_useless_flags) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version arrive here too, with the code 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let terminal = Terminal::detect();
    match run(arguments, terminal) {
        Ok(outcome) => outcome.exit_code(),
        // Whoever read the output has left, as `head` does: not worth a word.
        Err(error) if is_broken_pipe(&error) => Outcome::Failed.exit_code(),
        Err(error) => {
            note(&format!("{} {}\n", terminal.err(Style::Bad, "error:"), clean(&format!("{error:#}"))));
            Outcome::Failed.exit_code()
        }
    }
}

fn run(arguments: Arguments, terminal: Terminal) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the asynchronous runtime")?;
    let outcome = runtime.block_on(Box::pin(dispatch(arguments, terminal)));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}

async fn dispatch(arguments: Arguments, terminal: Terminal) -> anyhow::Result<Outcome> {
    let global = arguments.global;
    match arguments.command {
        None | Some(Command::Serve) => serve::run(&global).await,
        Some(Command::Chat(args)) => chat::run(&args, &global, terminal).await,
        Some(Command::Mcp(args)) => mcp::run(&args, &global).await,
        Some(Command::Check(args)) => check::run(&args, &global, terminal).await,
        Some(Command::Tools(args)) => tools::run(&args, &global, terminal).await,
        Some(Command::Plugin(args)) => plugin::run(&args, &global, terminal).await,
        Some(Command::Access(args)) => access::run(&args, &global, terminal).await,
    }
}

/// `witgate chat --port 9000` looks as if it talked to the gateway there; it would not.
fn refuse_useless_flags(arguments: Arguments) -> Result<Arguments, clap::Error> {
    let listens = arguments.global.host.is_some() || arguments.global.port.is_some();
    if listens && matches!(arguments.command, Some(Command::Chat(_))) {
        let words = "--host and --port say where a gateway listens; name the gateway to talk to with --url";
        return Err(Arguments::command().error(ErrorKind::ArgumentConflict, words));
    }
    Ok(arguments)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
