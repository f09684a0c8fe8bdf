//! Environment variables and the `.env` file: which setting each of them is, and plain look-ups.
//!
//! Promises: the process environment is only read; it wins over `.env`; an empty variable counts as unset. A variable
//! of ours that is no setting becomes an error, unless its name is reserved or a container platform made it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::bail;

use super::dotenv::{self, Variable};
use super::secret::Secret;
use super::value::{Node, Origin, Table, Value};

const PREFIX: &str = "WITGATE_";

/// Between the parts of a variable's name: single underscores belong to the keys themselves.
const SEPARATOR: &str = "__";

/// Names that other programs of this kind use, and the setting each stands for.
const PLAIN_NAMES: [(&str, [&str; 2]); 3] =
    [("HOST", ["server", "host"]), ("PORT", ["server", "port"]), ("DEFAULT_MODEL", ["llm", "default_model"])];

/// The variable that sets the key at `path`.
pub(super) fn variable_name<'a>(path: impl Iterator<Item = &'a str>) -> String {
    let spell = |part: &str| {
        part.chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect::<String>()
    };
    format!("{PREFIX}{}", path.map(spell).collect::<Vec<_>>().join(SEPARATOR))
}

/// The key a variable sets, if it is one of ours.
pub(super) fn path_of(name: &str) -> Option<Vec<String>> {
    let path = name.strip_prefix(PREFIX)?;
    Some(path.split(SEPARATOR).map(str::to_ascii_lowercase).collect())
}

/// The variables of the process environment and of `.env`, as they were at the start. Cheap to clone.
#[derive(Clone, Default)]
pub struct Variables(Arc<Environment>);

impl Variables {
    /// The value of the variable `name`; `None` when it is unset or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::from)
    }

    /// True where `name` is there, be it empty, in any of the sources.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.process.contains_key(name) || self.0.file.iter().any(|variable| variable.name == name)
    }

    /// The same as bare text, for what is put into other settings.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variables").finish_non_exhaustive()
    }
}

impl From<Environment> for Variables {
    fn from(environment: Environment) -> Self {
        Self(Arc::new(environment))
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self::from(Environment { process: variables.into_iter().collect(), ..Environment::default() })
    }
}

/// Both sources of variables.
#[derive(Default)]
pub(super) struct Environment {
    process: BTreeMap<String, String>,
    file: Vec<Variable>,
    file_name: Arc<str>,
}

impl Environment {
    /// The process environment and the text of an environment file that errors call `file_name`.
    pub(super) fn new(
        process: BTreeMap<String, String>,
        file_name: &str,
        file: Option<&str>,
    ) -> anyhow::Result<Self> {
        let lookup = |name: &str| process.get(name).cloned();
        let file = match dotenv::parse(file.unwrap_or_default(), &lookup) {
            Ok(file) => file,
            Err((line, problem)) => bail!("{file_name}:{line}: {problem}"),
        };
        Ok(Self { process, file, file_name: file_name.into() })
    }

    /// The value of the variable `name`; `None` when it is unset or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let process = self.process.get(name).filter(|value| !value.is_empty());
        let file =
            || self.file.iter().rev().find(|v| v.name == name && !v.value.is_empty()).map(|v| &v.value);
        process.or_else(file).map(String::as_str)
    }

    /// Lays every variable that is a setting over `settings` and returns the names of those of the process.
    pub(super) fn apply(&self, settings: &mut Table, reserved: &[String]) -> anyhow::Result<Vec<String>> {
        let file = self.file.iter().map(|v| {
            let (file, name) = (Arc::clone(&self.file_name), v.name.clone());
            (v.name.as_str(), v.value.as_str(), Origin::FileVariable { file, line: v.line, name })
        });
        apply_layer(settings, file, reserved)?;
        let process = self
            .process
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str(), Origin::Variable { name: name.clone() }));
        apply_layer(settings, process, reserved)
    }
}

/// Lays one layer over `settings`: first the plain names, then ours, which are the more explicit ones.
fn apply_layer<'a>(
    settings: &mut Table,
    variables: impl Iterator<Item = (&'a str, &'a str, Origin)>,
    reserved: &[String],
) -> anyhow::Result<Vec<String>> {
    let is_reserved = |name: &str| {
        reserved
            .iter()
            .any(|entry| name == entry || (entry.ends_with('_') && name.starts_with(entry.as_str())))
    };
    let is_setting =
        |name: &str, value: &str| !value.is_empty() && !is_reserved(name) && !is_service_link(name, value);
    let (ours, plain): (Vec<_>, Vec<_>) = variables
        .filter(|(name, value, _)| is_setting(name, value))
        .partition(|(name, ..)| name.starts_with(PREFIX));
    let mut used = Vec::new();
    for (name, value, origin) in plain {
        if let Some((_, path)) = PLAIN_NAMES.iter().find(|(plain, _)| *plain == name) {
            settings.set(&path.map(str::to_owned), text(value, origin));
            used.push(name.to_owned());
        }
    }
    for (name, value, origin) in ours {
        let path = path_of(name).unwrap_or_default();
        if path.is_empty() || path.iter().any(String::is_empty) {
            bail!("{origin}: not the name of a setting; names are {PREFIX}SECTION{SEPARATOR}KEY");
        }
        settings.set(&path, text(value, origin));
        used.push(name.to_owned());
    }
    Ok(used)
}

fn text(value: &str, origin: Origin) -> Node {
    Node { origin, value: Value::Text(value.to_owned()) }
}

/// Kubernetes gives every pod the addresses of the services around it; for a service called `witgate` these look like
/// settings: `WITGATE_SERVICE_HOST`, `WITGATE_SERVICE_PORT_HTTP`, `WITGATE_PORT=tcp://..`, `WITGATE_PORT_80_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    let Some(name) = name.strip_prefix(PREFIX).filter(|name| !name.contains(SEPARATOR)) else { return false };
    let is_port = name == "PORT" && value.contains("://");
    let is_numbered = name
        .strip_prefix("PORT_")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('_'));
    is_port || is_numbered || name == "SERVICE_HOST" || name.starts_with("SERVICE_PORT")
}
