//! What every call does first.

/// Has panics written to the gateway's log, with message and place. On `wasm32-unknown-unknown` they would be silent.
#[cfg(target_arch = "wasm32")]
pub(crate) fn start() {
    use std::sync::atomic::{AtomicBool, Ordering};

    static STARTED: AtomicBool = AtomicBool::new(false);
    if !STARTED.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|panic| {
            crate::log::write(crate::log::Level::Error, &panic.to_string(), &[]);
        }));
    }
}

/// Nothing: a test shows its own panics.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn start() {}
