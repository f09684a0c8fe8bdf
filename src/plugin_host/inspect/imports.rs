//! Which imports of a component can be given, and what the operator's file has to grant for them.
//!
//! An import is judged by what it can give:
//!
//! - What every plugin has anyway: the gateway's own interfaces.
//! - What gives nothing unless the operator's file grants something, and comes with every libc and language runtime,
//!   whether the program uses it or not: clocks, random numbers, standard input and output, the environment, files.
//!   Linked always; without `env` the environment is empty, without `files` there is no folder to open anything in.
//! - What a component imports only to use it: `wasi:http`. Has to be granted with `network`.
//! - Sockets: no grant allows them, since nothing could check what goes through them. CPython imports them always; inside
//!   a component with CPython they are linked and refuse every use, in any other they are a fault.

use std::fmt;

use super::super::manifest::Manifest;
use super::{EXPORTABLE, MAX_LISTED, PACKAGE, SPOKEN, shown};

/// The gateway's own interfaces that can be imported.
const OWN: [&str; 6] = ["types", "log", "config", "secrets", "key-value", "reply-body"];

/// What is linked always, with what it is without a grant.
const ALWAYS: [(&str, &[&str]); 7] = [
    ("wasi:io", &["error", "poll", "streams"]),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"]),
    ("wasi:random", &["random", "insecure", "insecure-seed"]),
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:filesystem", &["types", "preopens"]),
    ("wasi:http", &["types"]),
    ("wasi:config", &["store"]),
];

/// An interface by its full name: `wasi:io/streams@0.2.12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface<'a> {
    /// Namespace and package: `wasi:io`.
    pub(super) package: &'a str,
    /// `streams`.
    pub(super) name: &'a str,
    /// Everything after the `@`.
    version: Option<&'a str>,
}

impl<'a> Interface<'a> {
    /// None where `text` is the name of something else, for example a function.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (path, version) = match text.split_once('@') {
            Some((path, version)) => (path, Some(version)),
            None => (text, None),
        };
        let (package, name) = path.split_once('/')?;
        package.contains(':').then_some(Self { package, name, version })
    }

    /// Whether its version is compatible with the gateway's.
    pub(super) fn is_spoken(&self) -> bool {
        self.numbers().is_some_and(|(major, minor)| (major, minor) == SPOKEN)
    }

    /// Whether its version comes after the gateway's.
    pub(super) fn is_newer(&self) -> bool {
        self.numbers().is_some_and(|numbers| numbers > SPOKEN)
    }

    fn numbers(&self) -> Option<(u64, u64)> {
        let mut parts = self.version?.split(['.', '-', '+']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

impl fmt::Display for Interface<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", shown(self.package), shown(self.name))?;
        self.version.map_or(Ok(()), |version| write!(f, "@{}", shown(version)))
    }
}

/// What is wrong with the imports of a component, one fault each; interfaces of one package with one fault count once.
pub(super) fn faults(imports: &[String], manifest: &Manifest, has_cpython: bool) -> Vec<String> {
    let mut faults: Vec<String> = Vec::new();
    for import in imports {
        let fault = match Interface::parse(import) {
            None => Some(format!(
                "imports `{}`, which is no interface; a plugin may import {PACKAGE} and WASI 0.2 only",
                shown(import)
            )),
            Some(interface) => fault(&interface, manifest, has_cpython),
        };
        faults.extend(fault.filter(|fault| !faults.contains(fault)));
    }
    let more = faults.len().saturating_sub(MAX_LISTED);
    if more > 0 {
        faults.truncate(MAX_LISTED);
        faults.push(format!("and {more} more imports that cannot be given"));
    }
    faults
}

fn fault(interface: &Interface<'_>, manifest: &Manifest, has_cpython: bool) -> Option<String> {
    if interface.package == PACKAGE {
        return own_fault(interface);
    }
    if interface.package.starts_with("wasi:") && interface.numbers().is_some_and(|numbers| numbers != (0, 2))
    {
        return Some(format!(
            "imports `{interface}`; this gateway offers WASI 0.2: build the plugin for it (wasm32-wasip2, not wasip3)"
        ));
    }
    let is_linked =
        |(package, names): &(&str, &[&str])| *package == interface.package && names.contains(&interface.name);
    if ALWAYS.iter().any(is_linked) {
        return None;
    }
    match (interface.package, interface.name) {
        ("wasi:http", "outgoing-handler") if manifest.network.is_empty() => Some(
            "imports wasi:http/outgoing-handler and may reach nothing: grant hosts in its file, for example \
             `network = [\"api.example.com:443\"]`, or build it without HTTP"
                .to_owned(),
        ),
        ("wasi:http", "outgoing-handler") => None,
        ("wasi:sockets", _) if has_cpython => None,
        ("wasi:sockets", _) => Some(
            "imports wasi:sockets, which no grant allows: use wasi:http with `network = [..]`, or build the plugin \
             without sockets"
                .to_owned(),
        ),
        ("wasi:keyvalue", _) => {
            Some(format!("imports wasi:keyvalue, which is not offered: use {PACKAGE}/key-value"))
        }
        ("wasi:logging", _) => Some(format!("imports wasi:logging, which is not offered: use {PACKAGE}/log")),
        ("wasi:cli", "command" | "run") | ("wasi:http", _) => Some(format!(
            "imports `{interface}`, which a program or a server has; a plugin imports wasi:http/outgoing-handler only"
        )),
        _ => Some(format!(
            "imports `{interface}`, which is not offered; a plugin may import {PACKAGE} and WASI 0.2 only"
        )),
    }
}

fn own_fault(interface: &Interface<'_>) -> Option<String> {
    let (major, minor) = SPOKEN;
    if !interface.is_spoken() {
        return Some(format!("imports `{interface}`; this gateway speaks {major}.{minor}"));
    }
    if OWN.contains(&interface.name) {
        return None;
    }
    let why = if EXPORTABLE.contains(&interface.name) {
        "which plugins export and nobody gives them"
    } else {
        "which this gateway does not have: it needs a newer gateway"
    };
    Some(format!("imports `{interface}`, {why}"))
}
