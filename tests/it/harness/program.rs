//! Running foreign programs against a gateway: to their end, within a time, with everything they said.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{mcp, within};

/// Interpreters start slowly on a busy machine; this only ends hangs.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(600);

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Whether its exit code was 0.
    pub(crate) success: bool,
    /// What it wrote.
    pub(crate) stdout: String,
    /// What it wrote to stderr.
    pub(crate) stderr: String,
}

impl Finished {
    /// The output of a program that succeeded.
    ///
    /// # Panics
    /// When it did not, with all it said.
    #[track_caller]
    pub(crate) fn output(self) -> String {
        assert!(self.success, "the program failed\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs `command` with `input` as its stdin.
///
/// # Panics
/// When it cannot be started or does not end.
pub(crate) async fn run(mut command: Command, input: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Proxies of the machine have no business between a test and its gateway; Python leaves no files in the repository.
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("cannot start {:?}: {error}", command.as_std().get_program()),
    };
    let mut stdin = child.stdin.take().unwrap();
    // A program that reads nothing may have closed its stdin.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let what = format!("{:?}", command.as_std());
    let output = within(PROGRAM_PATIENCE, &what, child.wait_with_output()).await.unwrap();
    Finished {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A command that runs a Python script with the packages of the test clients; `None` when they are not installed.
pub(crate) fn python(script: &str) -> Option<Command> {
    let mut command = Command::new(mcp::python()?);
    command.arg(repository(script));
    Some(command)
}

/// A command that runs a Node script with the packages of the test clients, with `folder` for its copy, because Node
/// looks for packages where the script is; `None` when they are not installed.
pub(crate) fn node(script: &str, folder: &Path) -> Option<Command> {
    let (modules, node) = (mcp::node_modules()?, mcp::node()?);
    let copy = folder.join(Path::new(script).file_name().unwrap());
    std::fs::copy(repository(script), &copy).unwrap();
    let link = folder.join("node_modules");
    if !link.exists() {
        std::os::unix::fs::symlink(std::path::absolute(modules).unwrap(), link).unwrap();
    }
    let mut command = Command::new(node);
    command.arg(copy);
    Some(command)
}

/// The path of a file of this repository.
pub(crate) fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
