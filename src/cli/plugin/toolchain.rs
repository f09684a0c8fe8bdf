//! Other people's programs: where they are, and running them to their end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use crate::cli::terminal::{Style, Terminal, clean, note};

/// Longest time a tool may work: a first build of Rust's standard library takes minutes on a small machine.
const BUILD_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Longest time a tool may take to say what it is.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Endings of programs' files.
const ENDINGS: &[&str] = if cfg!(windows) { &[".exe", ".cmd", ""] } else { &[""] };

/// The program `name` in one of `folders`, or where the system looks for programs.
pub(super) fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = folders.iter().cloned().chain(std::env::split_paths(&path));
    candidates
        .flat_map(|folder| ENDINGS.iter().map(move |ending| folder.join(format!("{name}{ending}"))))
        .find(|file| is_program(file))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

/// A tool to run in a folder. What it prints goes to standard error.
pub(super) struct Tool {
    command: Command,
}

impl From<std::process::Command> for Tool {
    fn from(command: std::process::Command) -> Self {
        let mut command = Command::from(command);
        command.stdin(Stdio::null()).kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        Self { command }
    }
}

impl Tool {
    /// `program` in `folder`.
    pub(super) fn new(program: impl AsRef<OsStr>, folder: &Path) -> Self {
        let mut command = std::process::Command::new(program);
        command.current_dir(folder);
        Self::from(command)
    }

    /// Adds arguments.
    pub(super) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable.
    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The command line, for people.
    fn shown(&self) -> String {
        let command = self.command.as_std();
        let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
        let words = std::iter::once(program).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// Runs it and shows what it says.
    ///
    /// # Errors
    /// When it cannot be started, fails, or does not end.
    pub(super) async fn run(mut self, terminal: Terminal) -> anyhow::Result<()> {
        // Results go to standard output; what tools have to say is none.
        self.command.stdout(std::io::stderr());
        let shown = self.shown();
        note(&format!("{}\n", terminal.err(Style::Dim, &clean(&format!("$ {shown}")))));
        let output = finish(&mut self.command, BUILD_TIMEOUT).await.with_context(|| format!("`{shown}`"))?;
        if !output.status.success() {
            bail!("`{shown}` failed ({}); what it said is above", output.status);
        }
        Ok(())
    }

    /// What it prints, silently; `None` when it fails.
    pub(super) async fn ask(mut self) -> Option<String> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::null());
        let output = finish(&mut self.command, QUESTION_TIMEOUT).await.ok()?;
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(answer)
    }
}

async fn finish(command: &mut Command, timeout: Duration) -> anyhow::Result<Output> {
    let child = command.spawn().context("cannot be started")?;
    let family = Family::of(&child);
    match tokio::time::timeout(timeout, child.wait_with_output()).await {
        Ok(output) => {
            family.has_ended();
            output.context("cannot be waited for")
        }
        Err(_) => bail!("did not end within {} minutes", timeout.as_secs().div_ceil(60)),
    }
}

/// Ends a child and all that it started, when a build is given up.
struct Family {
    #[cfg(unix)]
    group: Option<nix::unistd::Pid>,
}

impl Family {
    #[cfg(unix)]
    fn of(child: &Child) -> Self {
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(nix::unistd::Pid::from_raw);
        Self { group }
    }

    #[cfg(not(unix))]
    fn of(_child: &Child) -> Self {
        Self {}
    }

    /// The child ended by itself, and its number may belong to somebody else by now.
    fn has_ended(self) {
        std::mem::forget(self);
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) = self.group {
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("no-program-of-this-name"), "").unwrap();
        assert_eq!(find("no-program-of-this-name", &[folder.path().to_owned()]).is_some(), cfg!(windows));
        assert!(find("cargo", &[]).is_some());
    }
}
