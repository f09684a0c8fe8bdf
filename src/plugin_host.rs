//! The only room that knows WebAssembly: loads components, checks and limits them, calls them, swaps them.
//!
//! A plugin is one component in the plugins folder, with an optional file of the operator's beside it. What it *is*
//! follows from what it exports; what it *may do* from the operator's file. `docs/plugins/` tells the rest.

mod config;
pub mod egress;
mod error;
pub mod inspect;
pub mod manifest;
pub mod files;
pub mod stdio;

pub use self::config::Config;
pub use self::error::LoadError;
pub use self::inspect::{Exports, Inspection};
pub use self::manifest::Manifest;
