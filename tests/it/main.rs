//! Integration tests: one binary, one module a theme.

mod remote_servers;
mod sqlite_server;
#[cfg(unix)]
mod supervision;
