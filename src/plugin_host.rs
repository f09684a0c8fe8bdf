//! The only room that knows WebAssembly: loads components, checks and limits them, calls them, swaps them.

pub mod egress;
pub mod files;
pub mod stdio;
