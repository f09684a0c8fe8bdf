//! Integration tests: one binary, one module a theme, every gateway a real process (see `harness.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says so"
)]

mod cli;
#[cfg(unix)]
mod cli_terminal;
mod clients;
mod examples;
mod harness;
mod remote_servers;
mod sqlite_server;
#[cfg(unix)]
mod supervision;
