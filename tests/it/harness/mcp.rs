//! Where tests find foreign MCP servers and clients, and what happens where they are not installed.
//!
//! `tests/clients/setup.sh` installs them into `$WITGATE_TEST_CLIENTS` (default `target/test-clients`). A test that needs
//! one which is not there is skipped and says so; with `CI=true` it fails instead, so that nothing goes missing quietly.

use std::path::{Path, PathBuf};

/// The folder of installed clients.
fn folder() -> PathBuf {
    let given = std::env::var_os("WITGATE_TEST_CLIENTS").map(PathBuf::from);
    given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients"))
}

/// The first of `candidates` that exists; `None` after saying that `what` is missing.
fn find(what: &str, candidates: &[PathBuf]) -> Option<PathBuf> {
    if let Some(found) = candidates.iter().find(|path| path.exists()) {
        return Some(found.clone());
    }
    let message = format!("{what} is not installed: run tests/clients/setup.sh (looked at {candidates:?})");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    eprintln!("SKIPPED: {message}");
    None
}

/// The `node_modules` folder with the clients and servers of `tests/clients/package.json`.
pub(crate) fn node_modules() -> Option<PathBuf> {
    let given = std::env::var_os("WITGATE_TEST_NODE_MODULES").map(PathBuf::from);
    find("the npm side of the test clients", &[given.unwrap_or_else(|| folder().join("node_modules"))])
}

/// A Node that is new enough for the clients: the installed one, which comes as a package.
pub(crate) fn node() -> Option<PathBuf> {
    let modules = node_modules()?;
    let packaged = ["x64", "arm64"].map(|arch| modules.join(format!("node-linux-{arch}/bin/node")));
    find("Node", &packaged)
}

/// The script of an installed npm package.
pub(crate) fn node_script(path: &str) -> Option<PathBuf> {
    find(path, &[node_modules()?.join(path)])
}

/// The Python with the packages of `tests/clients/requirements.txt`.
pub(crate) fn python() -> Option<PathBuf> {
    let given = std::env::var_os("WITGATE_TEST_PYTHON").map(PathBuf::from);
    find("the Python side of the test clients", &[given.unwrap_or_else(|| folder().join("venv/bin/python"))])
}
