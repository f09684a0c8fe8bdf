//! Integration tests: one binary, one module a theme.

mod sqlite_server;
#[cfg(unix)]
mod supervision;
