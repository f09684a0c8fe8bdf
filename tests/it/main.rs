//! Integration tests: one binary, one module a theme, every gateway a real process (see `harness.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says so"
)]

mod access_policies;
#[cfg(unix)]
mod attacks;
mod bad_input;
mod chat;
mod cli;
#[cfg(unix)]
mod cli_terminal;
mod client_tools;
mod clients;
#[path = "../support/component.rs"]
#[allow(dead_code, reason = "what one kind of test uses, another may not")]
mod component;
#[cfg(unix)]
mod doors;
mod examples;
mod faults;
mod guests;
mod harness;
mod hostile_input;
#[cfg(target_os = "linux")]
mod hot_swap;
#[cfg(unix)]
mod identity_http;
#[cfg(unix)]
mod lifecycle;
mod limits;
mod mcp_conformance_client;
mod mcp_server;
mod oidc;
mod openai;
#[cfg(unix)]
mod orphans;
mod plugin_cli;
mod plugins_bundled_a;
mod plugins_bundled_b;
#[cfg(target_os = "linux")]
mod plugins_hostile;
#[cfg(unix)]
mod plugins_ops;
mod real_servers;
mod remote_servers;
mod retries;
#[cfg(unix)]
mod slow_tools;
mod sqlite_server;
mod stream;
#[cfg(unix)]
mod supervision;
mod text_mode;
mod tool_loop;
#[cfg(unix)]
mod tools_api;
#[cfg(unix)]
mod upstream_context;
