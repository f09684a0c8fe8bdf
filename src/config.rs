//! Settings: files, environment and flags become validated values, and every error says where the fault was written.
//!
//! Layers, the strongest first: flags, process environment, `.env`, `gateway.toml`, defaults. Each room owns the struct
//! of its own section and asks for it by name ([`Settings::section`]); this room knows no keys but the plain variables
//! of `config/environment.rs`. It reads files once, when the program starts, and never writes or changes the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{anyhow, bail};
use serde::de::DeserializeOwned;

pub use self::bounds::positive;
use self::environment::Environment;
pub use self::environment::Variables;
use self::mcp_servers::McpServerConfig;
use self::secret::Secret;
use self::value::{Entry, Origin, Table, Value};

mod bounds;
mod deserialize;
mod dotenv;
mod environment;
mod error;
mod expand;
mod file;
mod json;
pub mod mcp_servers;
pub mod secret;
#[cfg(test)]
mod tests;
mod value;

/// Looked up in the working folder when no flag names another file.
const CONFIG_FILE: &str = "gateway.toml";
const ENV_FILE: &str = ".env";
const SERVERS_FILE: &str = "servers_config.json";

/// Where settings come from. The default is what the program itself uses; tests fill in every field.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// A file to read instead of `gateway.toml`; it must exist.
    pub config_file: Option<PathBuf>,
    /// A file to read instead of `.env`; it must exist.
    pub env_file: Option<PathBuf>,
    /// The process environment.
    pub env: BTreeMap<String, String>,
    /// Flags: dotted key, value, and the flag's name with its dashes for errors.
    pub overrides: Vec<(String, toml::Value, String)>,
    /// The folder that relative paths start from.
    pub working_dir: PathBuf,
    /// Variables that begin with `WITGATE_` and are read elsewhere ([`Settings::env`]), so are no settings. An entry that
    /// ends in `_` stands for all names that begin with it.
    pub reserved_env: Vec<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        // A variable that is not text cannot be a setting of ours; `vars()` would panic on it.
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self {
            config_file: None,
            env_file: None,
            env: env.collect(),
            overrides: Vec::new(),
            working_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            reserved_env: [
                "WITGATE_ADMIN_PASSWORD",
                "WITGATE_API_KEY",
                "WITGATE_LOG",
                "WITGATE_MCP_KEY",
                "WITGATE_TEST_",
                "WITGATE_TOKEN_SECRET",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }
}

/// All settings, layered, not yet read into the rooms' structs.
pub struct Settings {
    root: Table,
    environment: Variables,
    working_dir: PathBuf,
    provenance: Vec<String>,
    asked: Mutex<BTreeSet<String>>,
}

impl Settings {
    /// Reads and layers everything.
    ///
    /// # Errors
    /// A file that was named but is missing, cannot be read or is not valid; a variable of ours that cannot be a key.
    pub fn load(options: &LoadOptions) -> anyhow::Result<Self> {
        let mut provenance = Vec::new();
        let (name, text) =
            read(&options.working_dir, options.config_file.as_deref(), CONFIG_FILE, &mut provenance)?;
        let mut root = match text {
            Some(text) => file::parse_toml(&name, &text)?,
            None => Table::default(),
        };
        let (name, text) =
            read(&options.working_dir, options.env_file.as_deref(), ENV_FILE, &mut provenance)?;
        let environment = Environment::new(options.env.clone(), &name, text.as_deref())?;
        let used = environment.apply(&mut root, &options.reserved_env)?;
        if !used.is_empty() {
            provenance.push(format!("environment: {}", used.join(", ")));
        }
        for (key, value, flag) in &options.overrides {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            root.set(&path, file::from_toml(value, &Origin::Flag { name: flag.clone() }));
        }
        if !options.overrides.is_empty() {
            let flags: Vec<&str> = options.overrides.iter().map(|(_, _, flag)| flag.as_str()).collect();
            provenance.push(format!("flags: {}", flags.join(", ")));
        }
        let working_dir = options.working_dir.clone();
        let environment = Variables::from(environment);
        Ok(Self { root, environment, working_dir, provenance, asked: Mutex::default() })
    }

    /// The section `name` as its room's struct; the struct's default when nothing sets any of it.
    ///
    /// # Errors
    /// Keys that the struct does not have and values of the wrong type, one a line: where it was written, the key, what
    /// was expected and the nearest right name.
    pub fn section<T: DeserializeOwned + Default>(&self, name: &str) -> anyhow::Result<T> {
        Ok(self.value(name)?.unwrap_or_default())
    }

    /// The value of the top-level key `name`, if anything sets it.
    ///
    /// # Errors
    /// As [`Self::section`].
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        match self.root.get(name) {
            Some(node) => match deserialize::from_section(Some(name), node) {
                Ok(value) => Ok(Some(value)),
                Err(problems) => Err(anyhow!(problems.join("\n"))),
            },
            None => Ok(None),
        }
    }

    /// To be called when every room has asked for its section: whatever is left was meant for none of them.
    ///
    /// # Errors
    /// All sections and top-level keys that nobody asked for, one a line, with the nearest right names.
    pub fn finish(&self) -> anyhow::Result<()> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = self.root.0.iter().filter(|entry| !asked.contains(&entry.key));
        let problems: Vec<String> = unknown.map(|entry| unknown_entry(entry, &asked)).collect();
        if problems.is_empty() { Ok(()) } else { Err(anyhow!(problems.join("\n"))) }
    }

    /// The variable `name` of the process environment, else of `.env`; `None` when it is unset or empty.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<Secret> {
        self.environment.get(name)
    }

    /// True for a variable that is there and empty, in the process environment or in `.env`, and has a value in neither.
    #[must_use]
    pub fn is_empty_env(&self, name: &str) -> bool {
        self.environment.has(name) && self.environment.get(name).is_none()
    }

    /// All variables, for what is read later than the settings.
    #[must_use]
    pub fn variables(&self) -> Variables {
        self.environment.clone()
    }

    /// The servers of `file`, or of `servers_config.json` in the working folder; none when the latter does not exist.
    /// `${WITGATE_..}` means the setting itself, wherever it was set.
    ///
    /// # Errors
    /// See [`mcp_servers::load`].
    pub fn mcp_servers(&self, file: Option<&Path>) -> anyhow::Result<Vec<McpServerConfig>> {
        let path = self.resolve(file.unwrap_or(Path::new(SERVERS_FILE)));
        if file.is_none() && !path.exists() {
            return Ok(Vec::new());
        }
        let shown = file.map_or_else(|| SERVERS_FILE.into(), Path::to_string_lossy);
        let lookup = |name: &str| {
            let setting = environment::path_of(name).and_then(|path| self.root.find(&path)?.scalar_text());
            setting.or_else(|| self.environment.text(name).map(str::to_owned))
        };
        mcp_servers::load(&path, &shown, &self.working_dir, &lookup)
    }

    /// What was read, in words, weakest layer first: files, variables and flags, never their values.
    #[must_use]
    pub fn provenance(&self) -> &[String] {
        &self.provenance
    }

    /// The folder that relative paths start from.
    #[must_use]
    pub fn working_dir(&self) -> &Path {
        &self.working_dir
    }

    /// `path`, from the working folder if it is relative.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.working_dir.join(path)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("provenance", &self.provenance).finish_non_exhaustive()
    }
}

/// Reads a TOML document other than `gateway.toml` into a struct, with the same errors. `shown` names the file in them.
///
/// # Errors
/// What is no valid TOML, keys that the struct does not have and values of the wrong type, each with its line.
pub fn read_toml<T: DeserializeOwned>(shown: &str, text: &str) -> Result<T, Vec<String>> {
    let table = file::parse_toml(shown, text).map_err(|error| vec![error.to_string()])?;
    let origin = Origin::File { file: shown.into(), line: 1, column: 1 };
    deserialize::from_section(None, &value::Node { origin, value: Value::Table(table) })
}

/// The name of a file in errors, and its text if it exists.
fn read(
    working_dir: &Path,
    named: Option<&Path>,
    default: &str,
    provenance: &mut Vec<String>,
) -> anyhow::Result<(String, Option<String>)> {
    let name = named.map_or_else(|| default.to_owned(), |path| path.to_string_lossy().into_owned());
    let text = file::read(&working_dir.join(named.unwrap_or(Path::new(default))), &name)?;
    match (&text, named) {
        (Some(_), _) => provenance.push(format!("file: {name}")),
        (None, None) => provenance.push(format!("file: {name} (not there)")),
        (None, Some(_)) => bail!("{name}: no such file"),
    }
    Ok((name, text))
}

/// What is wrong with a top-level entry that nobody asked for.
fn unknown_entry(entry: &Entry, known: &BTreeSet<String>) -> String {
    let origin = &entry.origin;
    let near = error::nearest(&entry.key, known.iter().map(String::as_str));
    let is_section = matches!(entry.node.value, Value::Table(_));
    let what = if is_section { "section" } else { "key" };
    let all = || known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let hint = match (near, origin.variable()) {
        (Some(near), Some(_)) => {
            format!(
                "did you mean {}{}?",
                environment::variable_name([near].into_iter()),
                if is_section { "__.." } else { "" }
            )
        }
        (Some(near), None) => format!("did you mean {near}?"),
        (None, _) => format!("known here: {}", all()),
    };
    format!("{origin}: unknown {what} {}; {hint}", entry.key)
}
