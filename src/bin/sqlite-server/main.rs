//! `sqlite-server`: a stdio MCP server that lets a model work with one SQLite database.
//!
//! It opens the database it was given and no other file: attaching is refused, extensions do not load, and what each
//! tool may do is decided by SQLite's own compiler (see `rules`), not by looking at the text of a statement.

mod database;
mod insights;
mod rows;
mod rules;
mod server;
mod tables;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;
use rmcp::transport::io::stdio_pipes;

use database::Database;
use server::SqliteServer;

/// Lets an MCP client work with one SQLite database, over standard input and output.
#[derive(Parser)]
#[command(name = "sqlite-server", version)]
struct Arguments {
    /// The database file; it and its folder are created where they are missing. `:memory:` is a database that is
    /// forgotten at the end. Without this argument the environment variable DB_PATH names it.
    database: Option<OsString>,

    /// The same as the argument, for configurations written for other SQLite servers.
    #[arg(long, value_name = "DATABASE", conflicts_with = "database")]
    db_path: Option<OsString>,

    /// Milliseconds after which a statement is interrupted.
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: u64,
}

impl Arguments {
    fn location(&self) -> Option<OsString> {
        let given = self.database.clone().or_else(|| self.db_path.clone());
        given.or_else(|| std::env::var_os("DB_PATH")).filter(|location| !location.is_empty())
    }
}

const NO_DATABASE: &str = "no database given: name its file as the first argument or in the environment variable \
                           DB_PATH (`:memory:` is a database that is forgotten at the end)";

/// What goes to standard error where RUST_LOG does not say. The SDK warns of each error it answers with, which the client
/// knows already.
const LOG_FILTER: &str = "warn,rmcp=error";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(location) = arguments.location() else {
        Arguments::command().error(ErrorKind::MissingRequiredArgument, NO_DATABASE).exit()
    };
    // Standard output belongs to the protocol.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG_FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match run(&location, Duration::from_millis(arguments.timeout_ms)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(std::io::stderr(), "sqlite-server: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn run(location: &OsString, timeout: Duration) -> Result<(), String> {
    let database = Database::open(location, timeout)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let served = runtime.block_on(async {
        let server = SqliteServer::new(database);
        match server.serve(stdio_pipes()).await {
            Ok(service) => service.waiting().await.map(drop).map_err(|error| error.to_string()),
            // A client that changes its mind before the first message is no fault.
            Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    });
    // A reader of standard input that still waits would otherwise hold up the end.
    runtime.shutdown_background();
    served
}
