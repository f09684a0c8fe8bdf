//! Looks into a component without running or compiling it: what it exports, what it imports, who made it.
//!
//! Promises: [`Inspection::read`] names what a file is that is no component, in words that say what to do.
//! [`Inspection::check`] refuses what this gateway cannot serve and what the operator's file does not grant, so that a
//! plugin fails when it is loaded and not at some later call. Function bodies are left to the compiler.

mod file_kind;
mod imports;

use std::collections::BTreeSet;

use serde::Serialize;
use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentExternalKind, CustomSectionReader,
    Instance, KnownCustom, Parser, Payload, Validator, WasmFeatures,
};

use self::imports::Interface;
use super::error::LoadError;
use super::manifest::{Body, Manifest};

/// The WIT package that makes a component a plugin.
const PACKAGE: &str = "witgate:plugin";

/// The version of it that this gateway speaks. `0.1.x` are compatible with each other, `0.2` is not with them.
const SPOKEN: (u64, u64) = (0, 1);

/// The parts of the package that a plugin can export, as [`Exports`] calls them.
const EXPORTABLE: [&str; 4] = ["response", "response-stream", "auth", "tools"];

/// Longest text that is taken over from a component, in characters; it ends up in logs and lists.
const MAX_TEXT_CHARS: usize = 200;

/// Most names that one error lists.
const MAX_LISTED: usize = 12;

/// What a plugin is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exports {
    /// Processes whole replies.
    pub response: bool,
    /// Processes replies piece by piece.
    pub response_stream: bool,
    /// Decides who may do what.
    pub auth: bool,
    /// Brings tools.
    pub tools: bool,
}

impl Exports {
    /// The interfaces by their WIT names.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let has = [self.response, self.response_stream, self.auth, self.tools];
        EXPORTABLE.into_iter().zip(has).filter(|(_, has)| *has).map(|(name, _)| name).collect()
    }
}

/// What is known about a component from its bytes alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The plugin interfaces it exports, of whatever version.
    pub exports: Exports,
    /// The names of everything it imports, in order.
    pub imports: Vec<String>,
    /// The names of everything it exports, in order.
    pub exported: Vec<String>,
    /// Its own version, where its maker wrote one into it (the `version` section).
    pub version: Option<String>,
    /// What it is, where its maker wrote that into it (the `description` section).
    pub description: Option<String>,
    /// What made it, for example `wit-component 0.254.2`, without doubles.
    pub producers: Vec<String>,
    /// Whether CPython is inside (as componentize-py links it), which imports more than its programs use.
    pub has_cpython: bool,
    /// Whether it calls or is called asynchronously, as in WASI 0.3.
    pub is_async: bool,
}

impl Inspection {
    /// Reads a whole file.
    ///
    /// # Errors
    /// It is no component, or a damaged one. The words follow the name of the file.
    pub fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        file_kind::expect_component(bytes)?;
        let mut found = Self::default();
        let mut producers = BTreeSet::new();
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| damaged(&error, bytes.len()))?;
            validator.payload(&payload).map_err(|error| damaged(&error, bytes.len()))?;
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(|error| damaged(&error, bytes.len()))?;
                        found.imports.push(import.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.map_err(|error| damaged(&error, bytes.len()))?;
                        found.add_export(export.name.name, export.kind);
                    }
                }
                Payload::ComponentCanonicalSection(section) => {
                    found.is_async |= section.into_iter().flatten().any(|function| is_async(&function));
                }
                Payload::InstanceSection(section) => {
                    found.has_cpython |=
                        section.into_iter().flatten().any(|instance| links_cpython(&instance));
                }
                Payload::CustomSection(section) => found.add_custom(&section, depth, &mut producers),
                _ => {}
            }
        }
        found.producers = producers.into_iter().take(MAX_LISTED).collect();
        Ok(found)
    }

    /// Checks that the gateway can serve it with what `manifest` grants.
    ///
    /// # Errors
    /// It exports nothing of the gateway's or another version of it, imports what does not exist or is not granted, or
    /// cannot be used as the file says. All faults, one a line; the words follow the name of the file.
    pub fn check(&self, manifest: &Manifest) -> Result<(), LoadError> {
        let mut faults = self.export_faults();
        if self.is_async {
            faults.push(
                "uses the asynchronous calls of WASI 0.3, which this gateway does not run: build it with synchronous \
                 calls (JavaScript: `--sync`)"
                    .to_owned(),
            );
        }
        faults.extend(imports::faults(&self.imports, manifest, self.has_cpython));
        if manifest.body == Some(Body::Streamed) && self.exports.response && !self.exports.response_stream {
            faults.push(
                "body = \"streamed\" is set, but the component does not export `response-stream`; take the line out, or \
                 build the plugin for the world `stream-processor`"
                    .to_owned(),
            );
        }
        if faults.is_empty() { Ok(()) } else { Err(LoadError::new(faults.join("\n"))) }
    }

    fn add_export(&mut self, name: &str, kind: ComponentExternalKind) {
        if kind == ComponentExternalKind::Instance
            && let Some(interface) = Interface::parse(name)
            && interface.package == PACKAGE
        {
            match interface.name {
                "response" => self.exports.response = true,
                "response-stream" => self.exports.response_stream = true,
                "auth" => self.exports.auth = true,
                "tools" => self.exports.tools = true,
                _ => {}
            }
        }
        self.exported.push(name.to_owned());
    }

    fn add_custom(
        &mut self,
        section: &CustomSectionReader<'_>,
        depth: usize,
        producers: &mut BTreeSet<String>,
    ) {
        let own_text = || (depth == 0).then(|| std::str::from_utf8(section.data()).ok().map(shown)).flatten();
        match section.name() {
            "version" => self.version = own_text().or_else(|| self.version.take()),
            "description" => self.description = own_text().or_else(|| self.description.take()),
            _ => {
                // A section that cannot be read says nothing; the component works without it.
                let KnownCustom::Producers(fields) = section.as_known() else { return };
                for value in fields.into_iter().flatten().flat_map(|field| field.values.into_iter().flatten())
                {
                    let made_by = format!("{} {}", value.name, value.version);
                    producers.insert(shown(made_by.trim()));
                }
            }
        }
    }

    fn export_faults(&self) -> Vec<String> {
        let (major, minor) = SPOKEN;
        let own: Vec<Interface<'_>> = self
            .exported
            .iter()
            .filter_map(|name| Interface::parse(name))
            .filter(|interface| interface.package == PACKAGE && EXPORTABLE.contains(&interface.name))
            .collect();
        if own.is_empty() {
            let listed = listed(self.exported.iter().map(String::as_str));
            let exported = if listed.is_empty() { "nothing".to_owned() } else { listed };
            return vec![format!(
                "a component, but no plugin: it exports {exported}; a plugin exports one or more of {} of \
                 {PACKAGE}@{major}.{minor}",
                EXPORTABLE.map(|name| format!("`{name}`")).join(", ")
            )];
        }
        own.iter()
            .filter(|interface| !interface.is_spoken())
            .map(|interface| {
                format!(
                    "exports `{interface}`; this gateway speaks {major}.{minor}: use {} that speaks the same",
                    if interface.is_newer() { "a newer gateway, or a plugin" } else { "a newer plugin" }
                )
            })
            .collect()
    }
}

/// What the linker said about a component, in the operator's words. `causes` are the error and its causes, outermost
/// first; the words follow the name of the file.
#[must_use]
pub fn explain_link_error<'a>(causes: impl IntoIterator<Item = &'a str>) -> LoadError {
    let causes: Vec<&str> = causes.into_iter().collect();
    let all = causes.join(": ");
    let named = all.split('`').skip(1).step_by(2).find(|name| name.contains([':', '/']));
    let is_export = all.contains("export") && !all.contains("import");
    let subject = match named {
        Some(name) if is_export => format!("exports `{name}` in another shape than this gateway calls it"),
        Some(name) => format!("imports `{name}` in another shape than this gateway has it"),
        None => "does not fit this gateway".to_owned(),
    };
    let (major, minor) = SPOKEN;
    LoadError::new(format!(
        "{subject}: build it against the released WIT files of {PACKAGE}@{major}.{minor} and WASI 0.2. The linker says: {}",
        shown(&all)
    ))
}

fn is_async(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.contains(&CanonicalOption::Async)
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        // Everything else is about tasks, streams, futures and threads.
        _ => true,
    }
}

/// Whether a core instance is linked with the shared libraries of CPython.
fn links_cpython(instance: &Instance<'_>) -> bool {
    let is_library = |name: &str| name.starts_with("libpython") || name.starts_with("libcomponentize_py");
    matches!(instance, Instance::Instantiate { args, .. } if args.iter().any(|arg| is_library(arg.name)))
}

fn damaged(error: &BinaryReaderError, len: usize) -> LoadError {
    let at = error.offset();
    let message = error.message();
    if message.contains("unexpected end") || message.contains("extends past end") {
        return LoadError::new(format!(
            "incomplete: the file ends in the middle of the component, after {len} bytes; copy or download it again"
        ));
    }
    LoadError::new(format!(
        "damaged: {} (at byte {at} of {len}); copy or download it again, or build it with current tools",
        shown(message)
    ))
}

/// A text of a component's, for one line of a log: bounded, without control characters.
fn shown(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = chars.by_ref().take(MAX_TEXT_CHARS).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{}`", shown(name))).collect();
    let more = names.len().saturating_sub(MAX_LISTED);
    let listed = names.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

#[cfg(test)]
pub(super) mod tests;
