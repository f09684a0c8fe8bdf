//! Middleware: one file, one function, one purpose each. `router.rs` has their order.

pub(super) mod admission;
pub(super) mod cors;
pub(super) mod digest;
pub(super) mod errors;
pub(super) mod observe;
pub(super) mod panic;
