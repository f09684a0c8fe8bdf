//! Compiling Rust guests: which toolchain does it, and with which flags.
//!
//! A toolchain that has the standard library for `wasm32-unknown-unknown` is used as it is. One that has only its source
//! (Debian's `rustc-web`, `cargo-web` and `rust-web-src`, or rustup's `rust-src`) builds that library along with the guest.
//! No path of this machine gets into the module. `xtask` includes this file by path: it names no other module of this crate.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The target of all Rust guests: no WASI import unless the guest asks for one.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Flags for rustc that shape the module. Part of what a committed component is compared by.
///
/// The stack is smaller than the compiler's 1 MiB, because every page of it that one call has used is cleared for the
/// next. Vector instructions pay for scanning text.
pub(crate) const FLAGS: [&str; 2] = ["-Clink-arg=-zstack-size=131072", "-Ctarget-feature=+simd128"];

/// What compiles a guest.
#[derive(Debug)]
pub(crate) struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    /// Where the standard library has to be built along: the linker that came with no such toolchain.
    build_std: Option<PathBuf>,
}

/// What to compile.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Folder with the `Cargo.toml` of the guest, or of the workspace it belongs to.
    pub(crate) folder: &'a Path,
    /// How that folder is called in panic messages.
    pub(crate) shown_as: &'a str,
    /// Crates to compile; empty for the folder's own.
    pub(crate) packages: &'a [&'a str],
    /// Where the compiler's output goes.
    pub(crate) target_folder: &'a Path,
    /// Whether `Cargo.lock` may not change.
    pub(crate) locked: bool,
}

impl Toolchain {
    /// Finds a toolchain that can compile guests.
    ///
    /// # Errors
    /// Where there is none: says how to get one.
    pub(crate) fn find() -> Result<Self> {
        let candidates: Vec<Self> = [("cargo", "rustc"), ("/usr/bin/cargo", "/usr/bin/rustc")]
            .into_iter()
            .filter_map(|(cargo, rustc)| {
                let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"])?);
                ask(cargo, &["--version"])?;
                Some(Self { cargo: cargo.into(), rustc: rustc.into(), sysroot, build_std: None })
            })
            .collect();
        let linker = candidates.iter().find_map(Self::own_linker);
        for mut candidate in candidates {
            if candidate.sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
                return Ok(candidate);
            }
            if candidate.library_sources().join("std/Cargo.toml").is_file() && linker.is_some() {
                candidate.build_std = linker;
                return Ok(candidate);
            }
        }
        bail!(
            "no Rust toolchain here can compile for {TARGET}.\n\
             With rustup: rustup target add {TARGET}\n\
             On Debian: apt-get install rustc-web cargo-web rust-web-src, beside a Rust toolchain with rust-lld"
        );
    }

    /// The compiler's version, for example `rustc 1.96.0 (ac68faa20 2026-05-25)`.
    #[must_use]
    pub(crate) fn version(&self) -> String {
        ask(&self.rustc, &["--version"]).unwrap_or_else(|| "rustc, version unknown".into())
    }

    /// The command that compiles; it leaves one `.wasm` module per crate in the folder [`modules`]. What cargo says goes to
    /// standard error.
    ///
    /// # Errors
    /// Where the guest's folder cannot be found.
    pub(crate) fn command(&self, job: &Job<'_>) -> Result<Command> {
        let mut command = Command::new(&self.cargo);
        command.current_dir(job.folder).args(["build", "--release", "--target", TARGET, "--target-dir"]);
        command.arg(job.target_folder);
        if job.locked {
            command.arg("--locked");
        }
        for package in job.packages {
            command.args(["--package", package]);
        }
        command.env("RUSTC", &self.rustc).env("CARGO_ENCODED_RUSTFLAGS", self.flags(job)?.join("\u{1f}"));
        if let Some(linker) = &self.build_std {
            command.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        Ok(command)
    }

    fn flags(&self, job: &Job<'_>) -> Result<Vec<String>> {
        let mut flags: Vec<String> = FLAGS.map(String::from).to_vec();
        let folder =
            job.folder.canonicalize().with_context(|| format!("cannot find {}", job.folder.display()))?;
        let mut rename = |from: &Path, to: &str| {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        };
        rename(&folder, job.shown_as);
        rename(&self.library_sources(), "rust");
        if let Ok(sources) = self.library_sources().canonicalize() {
            rename(&sources, "rust");
        }
        // One folder per registry, with a name that depends on its address.
        for registry in cargo_home().map(|home| folders(&home.join("registry/src"))).unwrap_or_default() {
            rename(&registry, "deps");
        }
        Ok(flags)
    }

    fn library_sources(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }

    /// The linker that rustup's toolchains bring.
    fn own_linker(&self) -> Option<PathBuf> {
        let linkers = folders(&self.sysroot.join("lib/rustlib"));
        linkers.into_iter().map(|host| host.join("bin/rust-lld")).find(|linker| linker.is_file())
    }
}

/// Where the compiled modules of a job are.
pub(crate) fn modules(job: &Job<'_>) -> PathBuf {
    job.target_folder.join(TARGET).join("release")
}

/// The first line a program prints, none where it cannot be run.
fn ask(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
}

fn cargo_home() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| {
        Some(PathBuf::from(env::var_os("HOME").or_else(|| env::var_os("USERPROFILE"))?).join(".cargo"))
    })
}

/// The folders in a folder, in order; none where it cannot be read.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}
