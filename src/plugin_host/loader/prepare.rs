//! Reads the files of one plugin and checks all that can be checked without compiling it.

use std::fmt::Write;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::super::bundled;
use super::super::config::Config;
use super::super::inspect::{Exports, Inspection};
use super::super::manifest::Manifest;
use super::files::{self, Candidate, Content, Mark};
use crate::config::Variables;

/// What the files of one plugin came to.
pub(super) enum Prepared {
    /// It can be built.
    Ready(Box<Ready>),
    /// The operator does not want it.
    Disabled,
    /// Something is wrong with it.
    Faulty {
        /// One fault a line, each with its file.
        error: String,
        /// What it exports, where it could be looked into all the same.
        exports: Option<Exports>,
    },
    /// Somebody writes to it.
    Changing,
}

/// A component that fits its file.
pub(super) struct Ready {
    pub(super) bytes: Vec<u8>,
    pub(super) sha256: String,
    pub(super) manifest: Manifest,
    pub(super) inspection: Inspection,
}

/// Reads and checks, on a blocking thread.
pub(super) async fn prepare(
    name: &str,
    candidate: &Candidate,
    config: &Config,
    variables: &Variables,
) -> Prepared {
    if !files::is_plugin_name(name) {
        let error = format!(
            "{name}.wasm: not a name for a plugin: begin with a letter or digit and use a-z, 0-9, - and _, at most 64 of them"
        );
        return Prepared::Faulty { error, exports: None };
    }
    let job = Job {
        name: name.to_owned(),
        candidate: candidate.clone(),
        config: config.clone(),
        variables: variables.clone(),
    };
    match tokio::task::spawn_blocking(move || job.run()).await {
        Ok(prepared) => prepared,
        Err(error) => {
            let error = format!("{name}.wasm: looking into it failed within the gateway itself: {error}");
            Prepared::Faulty { error, exports: None }
        }
    }
}

/// Puts the name of the file before each line of an error.
pub(super) fn about(file: &str, error: &str) -> String {
    error.lines().map(|line| format!("{file}: {line}")).collect::<Vec<_>>().join("\n")
}

struct Job {
    name: String,
    candidate: Candidate,
    config: Config,
    variables: Variables,
}

impl Job {
    fn run(self) -> Prepared {
        let manifest = match self.candidate.manifest.as_ref().map(|mark| self.read_manifest(mark)) {
            None => Ok(Manifest::default()),
            Some(Ok(Some(manifest))) => Ok(manifest),
            Some(Ok(None)) => return Prepared::Changing,
            Some(Err(error)) => Err(error),
        };
        if manifest.as_ref().is_ok_and(|manifest| !manifest.enabled) {
            return Prepared::Disabled;
        }
        let component = format!("{}.wasm", self.name);
        let path = files::component_path(&self.config.dir, &self.name);
        let max_mb = self.config.max_component_mb;
        let read = match (&self.candidate.component, bundled::component(&self.name)) {
            (Mark::Bundled, Some(bytes)) => Ok(Content::Bytes(bytes.to_vec())),
            (mark, _) => files::read_component(&path, mark, max_mb),
        };
        let inspected = match read {
            Ok(Content::Changed) => return Prepared::Changing,
            Ok(Content::Bytes(bytes)) => Inspection::read(&bytes)
                .map(|inspection| (bytes, inspection))
                .map_err(|error| about(&component, &error.message)),
            Err(problem) => Err(about(&component, &problem)),
        };
        let exports = inspected.as_ref().ok().map(|(_, inspection)| inspection.exports);
        // Both files are told of: an operator mends all faults at once.
        match (manifest, inspected) {
            (Ok(manifest), Ok((bytes, inspection))) => match inspection.check(&manifest) {
                Ok(()) => {
                    let sha256 = hexadecimal(&Sha256::digest(&bytes));
                    Prepared::Ready(Box::new(Ready { bytes, sha256, manifest, inspection }))
                }
                Err(error) => Prepared::Faulty { error: about(&component, &error.message), exports },
            },
            (manifest, inspected) => {
                let faults: Vec<String> = manifest.err().into_iter().chain(inspected.err()).collect();
                Prepared::Faulty { error: faults.join("\n"), exports }
            }
        }
    }

    /// None where the file is being written to.
    fn read_manifest(&self, mark: &Mark) -> Result<Option<Manifest>, String> {
        let file = format!("{}.toml", self.name);
        let path: PathBuf = files::manifest_path(&self.config.dir, &self.name);
        let bytes = match files::read_manifest(&path, mark) {
            Ok(Content::Bytes(bytes)) => bytes,
            Ok(Content::Changed) => return Ok(None),
            Err(problem) => return Err(about(&file, &problem)),
        };
        let text = String::from_utf8(bytes).map_err(|_| format!("{file}: the file is not UTF-8 text"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let manifest = Manifest::parse(&file, text, &self.variables, &self.config);
        manifest.map(Some).map_err(|error| error.message)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
