//! A server as a child process: started through the guard, spoken to over its stdin and stdout, and always ended.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::task::AbortOnDropHandle;

use super::command;
use super::guard::{CANNOT_START, CANNOT_START_PREFIX, Invocation};
use super::server::Server;
use crate::config::secret::Secret;

/// Time beyond the graces of the guard in which it must have ended; it is killed after that.
const GUARD_SLACK: Duration = Duration::from_secs(8);

/// How long a server that was told to stop by the end of its stdin may take before it gets a signal.
const STDIN_GRACE: Duration = Duration::from_secs(1);

/// How long the last words on stderr may take to arrive after the process ended.
const STDERR_WAIT: Duration = Duration::from_millis(500);

/// While a lifeline's read end may be inherited, no second child is started, so that each guard gets its own only.
static SPAWNING: Mutex<()> = Mutex::new(());

/// A running child process, or rather its guard. Dropping it closes the lifeline, so that the guard ends everything.
pub(super) struct Process {
    child: Child,
    lifeline: Option<std::io::PipeWriter>,
    stderr: AbortOnDropHandle<()>,
    grace: Duration,
    server: Arc<Server>,
}

/// Why a process could not be started.
#[derive(Debug)]
pub(super) enum StartError {
    /// The program, its folder or the guard is not there.
    NotFound(String),
    /// The operating system refused.
    Io(std::io::Error),
}

impl Process {
    /// Starts the program of `server`'s configuration and hands out its stdout and stdin.
    ///
    /// # Errors
    /// [`StartError`] when nothing was started.
    pub(super) fn start(
        server: &Arc<Server>,
        program: &str,
        args: &[String],
        env: &[(String, Secret)],
        cwd: &Path,
    ) -> Result<(Self, ChildStdout, ChildStdin), StartError> {
        let configured = env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let environment = command::environment(std::env::vars_os(), configured);
        let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let guard = guard_program(server.settings.guard_program.as_ref());
        // The executable's own folder, however the guard is found: the bundled servers are there.
        let beside = server.settings.guard_program.clone().or_else(|| std::env::current_exe().ok());
        let program = command::locate(program, cwd, beside.as_deref(), path).map_err(StartError::NotFound)?;
        let grace = Duration::from_millis(server.settings.stop_grace_ms);

        let invocation = Invocation { guard: &guard, program: &program, args, grace };
        let (mut child, lifeline) = spawn(&invocation, |command| {
            command.env_clear().envs(environment).current_dir(cwd);
        })
        .map_err(StartError::Io)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(StartError::Io(std::io::Error::other("the child has no pipes")));
        };
        server.tail.clear();
        let follower = server.clone();
        let follow = async move { follower.tail.follow(follower.name(), stderr).await };
        let stderr = AbortOnDropHandle::new(tokio::spawn(follow));
        let process = Self { child, lifeline: Some(lifeline), stderr, grace, server: server.clone() };
        Ok((process, stdout, stdin))
    }

    /// Waits for the end of the server and of all it started; words that follow the server's name.
    pub(super) async fn exited(&mut self) -> String {
        let status = self.child.wait().await;
        if !self.stderr.is_finished() {
            let _ = tokio::time::timeout(STDERR_WAIT, &mut self.stderr).await;
        }
        match status {
            Ok(status) => describe(status, self.server.tail.last().as_deref()),
            Err(error) => format!("ended in an unknown way ({error})"),
        }
    }

    /// Ends the server and all it started. Its stdin must be closed by now.
    pub(super) async fn stop(mut self) {
        if tokio::time::timeout(STDIN_GRACE, self.child.wait()).await.is_ok() {
            return;
        }
        self.lifeline = None;
        // The guard waits one grace for the server and one for what the server leaves behind.
        let limit = self.grace.saturating_mul(2) + GUARD_SLACK;
        if tokio::time::timeout(limit, self.child.wait()).await.is_err() {
            tracing::error!(server = self.server.name(), "the guard of the server did not end and is killed");
            let _ = self.child.kill().await;
        }
    }
}

/// The program to run as guard: this very executable, even if its file was replaced meanwhile.
fn guard_program(configured: Option<&PathBuf>) -> PathBuf {
    match configured {
        Some(program) => program.clone(),
        None if cfg!(target_os = "linux") => PathBuf::from("/proc/self/exe"),
        None => std::env::current_exe().unwrap_or_else(|_| PathBuf::from("witgate")),
    }
}

fn spawn(
    invocation: &Invocation<'_>,
    configure: impl FnOnce(&mut std::process::Command),
) -> std::io::Result<(Child, std::io::PipeWriter)> {
    let _one_at_a_time = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (read, write) = std::io::pipe()?;
    // Only the read end is inherited. The write end stays close-on-exec: a copy of it in any child would keep the
    // lifeline open after the gateway's death.
    fcntl(&read, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let mut command = invocation.command(std::os::fd::AsRawFd::as_raw_fd(&read));
    configure(&mut command);
    let child = Command::from(command).spawn()?;
    Ok((child, write))
}

/// How a process ended. The guard tells on stderr why it could not start a program.
fn describe(status: ExitStatus, last_words: Option<&str>) -> String {
    if status.code() == Some(i32::from(CANNOT_START))
        && let Some(reason) = last_words.and_then(|words| words.strip_prefix(CANNOT_START_PREFIX))
    {
        return format!("{CANNOT_START_PREFIX}{reason}");
    }
    match (status.code(), status.signal()) {
        (_, Some(signal)) => format!("exited (signal {signal})"),
        (Some(code), None) => format!("exited (status {code})"),
        (None, None) => "exited".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        let words = |raw: i32, last: Option<&str>| describe(ExitStatus::from_raw(raw), last);
        assert_eq!(words(9, None), "exited (signal 9)");
        assert_eq!(words(0, Some("bye")), "exited (status 0)");
        assert_eq!(words(1 << 8, Some("no such file")), "exited (status 1)");
        assert_eq!(
            words(127 << 8, Some("cannot start /bin/x: Exec format error")),
            "cannot start /bin/x: Exec format error"
        );
    }
}
