//! What every integration test stands on: a real gateway process, a scripted upstream, and a strict client between.
//!
//! A test scripts the replies of an [`Upstream`], starts a [`Gateway`] (the real binary, on a free port, in a folder of
//! its own, with none of the machine's settings) and talks to it. Every answer under `/v1` is checked against the API's
//! schemas and every stream against the rules SDKs rely on, whether the test asks for it or not.

pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod mcp;
pub(crate) mod plugins;
pub(crate) mod program;
pub(crate) mod schema;
pub(crate) mod script;
pub(crate) mod sse;
pub(crate) mod upstream;

use std::future::Future;
use std::time::{Duration, Instant};

pub(crate) use client::Answer;
pub(crate) use gateway::Gateway;
pub(crate) use script::{Control, Reply, call};
pub(crate) use upstream::{Recorded, Upstream};

/// Longer than anything a healthy gateway needs; only there so that a hang becomes a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `future`'s output, or a failure that names `what` was waited for.
pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} took longer than {limit:?}"),
    }
}

/// A chat request body: one user message to the upstream's model.
pub(crate) fn ask(text: &str) -> serde_json::Value {
    serde_json::json!({"model": "m1", "messages": [{"role": "user", "content": text}]})
}

/// [`ask`] for a stream.
pub(crate) fn ask_stream(text: &str) -> serde_json::Value {
    let mut body = ask(text);
    body["stream"] = true.into();
    body
}
