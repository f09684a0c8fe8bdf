//! The limit of open files: every connection is one, and the usual limit of 1024 is soon reached.

/// Enough for `limits.max_connections` at its default, their upstream connections and the MCP servers.
#[cfg(unix)]
const WANTED: u64 = 16_384;

/// Raises the process's own limit as far as the system lets it, up to what is useful. Never lowers it.
#[cfg(unix)]
pub(super) fn raise_open_files_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = WANTED.min(hard);
        if soft >= wanted { Ok(()) } else { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) }
    });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files could not be raised");
    }
}

/// Other systems have no such limit.
#[cfg(not(unix))]
pub(super) fn raise_open_files_limit() {}
