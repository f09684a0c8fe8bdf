//! Signals that end a command or an answer.
//!
//! Once one of these has been awaited the process no longer dies of that signal by itself: whoever runs a command
//! must go on waiting for it. A gateway in this process and its children end in an orderly way because of that.

use anyhow::Context;

use super::Outcome;

/// Ctrl-C.
///
/// # Errors
/// When the signal cannot be watched.
pub(super) async fn interrupt() -> anyhow::Result<Outcome> {
    tokio::signal::ctrl_c().await.context("cannot watch for Ctrl-C")?;
    Ok(Outcome::Interrupted)
}

/// The system or the terminal's end wants the process to go.
///
/// # Errors
/// When the signal cannot be watched.
#[cfg(unix)]
pub(super) async fn termination() -> anyhow::Result<Outcome> {
    use tokio::signal::unix::{SignalKind, signal};

    let watch = |kind| signal(kind).context("cannot watch for signals");
    let (mut terminate, mut hangup) = (watch(SignalKind::terminate())?, watch(SignalKind::hangup())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(Outcome::Interrupted)
}

/// The system or the terminal's end wants the process to go. Only Ctrl-C does that here.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub(super) async fn termination() -> anyhow::Result<Outcome> {
    std::future::pending().await
}

/// Any of them.
///
/// # Errors
/// When a signal cannot be watched.
pub(super) async fn any() -> anyhow::Result<Outcome> {
    tokio::select! {
        signal = interrupt() => signal,
        signal = termination() => signal,
    }
}
