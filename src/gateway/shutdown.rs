//! A gateway as a process of its own: it serves until a signal, drains, and a second signal cuts that short.

use std::sync::Arc;

use anyhow::Context;
use tokio_util::task::AbortOnDropHandle;

use super::{Config, listen};
use crate::plugin_host::PluginHost;

/// How serving came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Running requests were finished (or had their time), everything is stopped.
    Drained,
    /// A second signal came: whatever was running is dropped.
    Forced,
}

/// Serves `config` until SIGINT or SIGTERM. Children of a forced end are stopped by their guards.
///
/// # Errors
/// See [`listen`]; also when signals cannot be watched.
pub async fn serve(config: Config) -> anyhow::Result<Ended> {
    let mut signals = Signals::watch().context("cannot watch for signals")?;
    let mut listening = Box::pin(listen(config)).await?;
    listening.gateway.prepare_admin();
    let _reloads = reload_on_hangup(Arc::clone(listening.gateway().plugins()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        // A dropped sender cannot be: both live in this function.
        let _ = stopped.await;
    };
    let mut run = Box::pin(listening.run(shutdown));
    tokio::select! {
        () = &mut run => return Ok(Ended::Drained),
        name = signals.next() => tracing::info!("{name}: stopping; once more stops at once"),
    }
    let _ = stop.send(());
    tokio::select! {
        () = run => Ok(Ended::Drained),
        name = signals.next() => {
            tracing::warn!("{name} again: stopping at once");
            Ok(Ended::Forced)
        }
    }
}

/// Looks at the plugins folder whenever SIGHUP comes, until the handle is dropped.
fn reload_on_hangup(plugins: Arc<PluginHost>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        #[cfg(unix)]
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
            Ok(mut hangups) => {
                while hangups.recv().await.is_some() {
                    match plugins.reload().await {
                        Ok(report) => {
                            tracing::info!(
                                generation = report.generation,
                                "SIGHUP: the plugins folder was looked at"
                            );
                        }
                        Err(error) => tracing::warn!(%error, "SIGHUP: the plugins folder was not looked at"),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "SIGHUP cannot be watched for; it will end the process"),
        }
        #[cfg(not(unix))]
        drop(plugins);
    }))
}

/// The signals that end a process in an orderly way.
#[cfg(unix)]
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn watch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next signal's name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Only Ctrl-C exists elsewhere.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn watch() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
