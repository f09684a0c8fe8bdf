//! Logging set-up: human or JSON lines on standard error, filtered by configuration or `RUST_LOG`.
