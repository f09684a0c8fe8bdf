//! The only room that knows WebAssembly: loads components, checks and limits them, calls them, swaps them.
//!
//! A plugin is one component in the plugins folder, with an optional file of the operator's beside it. What it *is*
//! follows from what it exports; what it *may do* from the operator's file. `docs/plugins/` tells the rest.

mod bindings;
mod breaker;
pub mod bundled;
mod call;
pub mod catalog;
mod config;
mod convert;
pub mod egress;
mod engine;
mod error;
pub mod files;
mod host;
pub mod inspect;
mod key_value;
mod limits;
pub mod loader;
pub mod manifest;
mod plugin;
mod reply_guest;
mod state;
mod stats;
pub mod stdio;
pub mod trial;
mod watcher;

#[cfg(test)]
#[path = "../tests/support/component.rs"]
#[allow(dead_code, reason = "what one kind of test uses, another may not")]
mod component;
#[cfg(test)]
mod tests;

pub use self::catalog::{Catalog, PluginState, PluginStatus, ReloadReport};
pub use self::config::Config;
pub use self::engine::EngineError;
pub use self::error::{LoadError, PluginError, PluginErrorKind};
pub use self::host::{Grants, PluginHost, PluginReport};
pub use self::inspect::{Exports, Inspection};
pub use self::loader::{PluginFolder, ReloadError};
pub use self::manifest::Manifest;
pub use self::plugin::Plugin;
pub use self::reply_guest::ReplyGuest;
pub use self::stats::StatsSnapshot;
