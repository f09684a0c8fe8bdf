//! The only room that knows WebAssembly: loads components, checks and limits them, calls them, swaps them.
//!
//! A plugin is one component in the plugins folder, with an optional file of the operator's beside it. What it *is*
//! follows from what it exports; what it *may do* from the operator's file. `docs/plugins/` tells the rest.

pub mod catalog;
mod config;
pub mod egress;
mod error;
pub mod files;
pub mod inspect;
pub mod loader;
pub mod manifest;
pub mod stdio;
mod watcher;

pub use self::catalog::{Catalog, PluginState, PluginStatus, ReloadReport};
pub use self::config::Config;
pub use self::error::LoadError;
pub use self::inspect::{Exports, Inspection};
pub use self::manifest::Manifest;
