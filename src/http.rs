//! The `http` room: every HTTP endpoint; the only room that knows axum.
//!
//! [`router`] is the whole API as one service, [`Server`] the listener that limits, serves and drains connections.
//! The room turns requests into calls of [`crate::chat::ChatEngine`] and its answers into bytes; it decides nothing
//! about models, tools or sessions. Errors become responses in one place (`error.rs`).

mod caller;
mod changes;
mod config;
mod discovery;
mod doors;
mod error;
mod extract;
mod fields;
mod health;
mod keys;
mod known_fields;
mod login;
pub mod mcp;
mod metrics;
mod middleware;
mod openai;
mod openapi;
pub mod plugins;
mod rebinding;
mod router;
mod server;
mod simple_chat;
mod sse;
mod state;
#[cfg(test)]
mod tests;
mod tool_events;
mod tools_api;
mod upload;
mod users;

pub use config::{CorsConfig, LimitsConfig, PublicUrl, ServerConfig};
pub use doors::door_of;
pub use health::{Component, Health, Readiness};
pub use middleware::cors::CorsError;
pub use router::router;
pub use server::{BindError, Server};
pub use state::{App, Parts};
