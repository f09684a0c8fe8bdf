//! A plugin's folder: its language, its world, and `plugin.toml`, which says so.
//!
//! A folder without `plugin.toml` is known by the files of its language; then the world has to be the only one that fits.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Deserialize;

/// The file that makes a folder a plugin's folder.
pub(super) const PROJECT_FILE: &str = "plugin.toml";

/// The name whose operator's file would be the project file.
const RESERVED_NAME: &str = "plugin";

/// Longest name of a plugin.
const MAX_NAME: usize = 64;

/// Languages that plugins can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    /// Rust, with the SDK
    Rust,
    /// JavaScript, on the QuickJS engine
    #[value(name = "js", alias = "javascript")]
    #[serde(rename = "js")]
    JavaScript,
    /// Python, on CPython
    Python,
    /// C
    C,
}

/// Kinds of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Processes each reply of the model as a whole
    #[default]
    Response,
    /// Processes each reply while it comes in
    Stream,
    /// Decides who may do what
    Auth,
    /// Brings tools
    Tools,
}

impl Language {
    /// Its name in `plugin.toml` and on the command line.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::Python => "python",
            Self::C => "c",
        }
    }

    /// Its name in sentences.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
            Self::C => "C",
        }
    }

    /// The language of a folder by its files.
    fn of_files(folder: &Path) -> Option<Self> {
        let has = |file: &str| folder.join(file).is_file();
        let found = [
            (Self::Rust, has("Cargo.toml")),
            (Self::JavaScript, has("package.json") || has("plugin.js")),
            (Self::Python, has("requirements.txt") || has("pyproject.toml") || has("plugin.py")),
            (Self::C, has("plugin.c")),
        ];
        found.iter().find(|(_, found)| *found).map(|(language, _)| *language)
    }
}

impl Kind {
    /// The world of its plugins.
    pub(super) fn world(self) -> &'static str {
        match self {
            Self::Response => "response-processor",
            Self::Stream => "stream-processor",
            Self::Auth => "auth-policy",
            Self::Tools => "tool-provider",
        }
    }
}

/// A folder with a plugin's sources.
#[derive(Debug)]
pub(super) struct Project {
    /// The folder.
    pub(super) folder: PathBuf,
    /// What it is written in.
    pub(super) language: Language,
    /// The plugin's name.
    pub(super) name: String,
    /// The world in `wit/`; Rust sources say it themselves.
    pub(super) world: Option<String>,
    /// The main source file, relative to the folder, where the toolchain wants one.
    pub(super) source: Option<String>,
    /// The plugin's own version.
    pub(super) version: Option<String>,
    /// What it does, in a line.
    pub(super) description: Option<String>,
}

/// `plugin.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectFile {
    name: String,
    language: Language,
    world: Option<String>,
    source: Option<String>,
    version: Option<String>,
    description: Option<String>,
}

impl Project {
    /// Reads a folder.
    ///
    /// # Errors
    /// When it is no plugin's folder, or `plugin.toml` is wrong.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        if !folder.is_dir() {
            bail!("there is no folder `{shown}`; `witgate plugin new` makes one");
        }
        let folder = folder
            .canonicalize()
            .with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
        let file = folder.join(PROJECT_FILE);
        if !file.exists() {
            return Self::guess(folder);
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let project: ProjectFile =
            toml::from_str(&text).with_context(|| format!("{} is wrong", file.display()))?;
        check_name(&project.name).with_context(|| format!("{}: name", file.display()))?;
        Ok(Self {
            folder,
            language: project.language,
            name: project.name,
            world: project.world,
            source: project.source,
            version: project.version,
            description: project.description,
        })
    }

    fn guess(folder: PathBuf) -> anyhow::Result<Self> {
        let Some(language) = Language::of_files(&folder) else {
            bail!(
                "`{}` is no plugin's folder: there is no {PROJECT_FILE} in it, and no Cargo.toml, package.json, requirements.txt or \
                 plugin.c; `witgate plugin new` makes a folder to start from",
                folder.display()
            );
        };
        let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let name = name.replace(['_', ' ', '.'], "-");
        check_name(&name)
            .with_context(|| format!("the folder's name; give the plugin one in {PROJECT_FILE}"))?;
        Ok(Self { folder, language, name, world: None, source: None, version: None, description: None })
    }

    /// The folder with the WIT files.
    pub(super) fn wit(&self) -> PathBuf {
        self.folder.join("wit")
    }

    /// The world, which every language but Rust needs.
    ///
    /// # Errors
    /// When `plugin.toml` does not name one.
    pub(super) fn world(&self) -> anyhow::Result<&str> {
        self.world.as_deref().with_context(|| {
            format!(
                "{} does not say which world of wit/ the plugin has; add for example world = \"response-processor\"",
                self.folder.join(PROJECT_FILE).display()
            )
        })
    }

    /// The main source file.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn source(&self, default: &'static str) -> anyhow::Result<&str> {
        let source = self.source.as_deref().unwrap_or(default);
        if !self.folder.join(source).is_file() {
            bail!(
                "there is no `{source}` in {}; name the main source file in {PROJECT_FILE} (source = \"...\")",
                self.folder.display()
            );
        }
        Ok(source)
    }
}

/// Whether a name can be a plugin's, a package's and a file's.
///
/// # Errors
/// When it cannot.
pub(super) fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let well_formed = name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name.chars().all(fits)
        && name.len() <= MAX_NAME;
    if name == RESERVED_NAME {
        bail!(
            "a plugin cannot be called `{name}`: its operator's file would be {PROJECT_FILE}, which says what to build"
        );
    }
    if !well_formed {
        bail!(
            "`{name}` cannot be a plugin's name: it begins with a lower-case letter and goes on with lower-case letters, \
             digits and single hyphens, at most {MAX_NAME} in all, for example `redact-emails`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_everywhere() {
        for good in ["a", "redact", "redact-emails2"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in
            ["", "Redact", "2x", "-x", "x-", "a--b", "a/b", "..", "a_b", "ä", "plugin", &"x".repeat(65)]
        {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_is_known_by_its_file_or_its_sources() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", Project::open(folder.path()).unwrap_err());
        assert!(error.contains("is no plugin's folder"), "{error}");

        let inner = folder.path().join("My_Plugin");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("plugin.js"), "").unwrap();
        let project = Project::open(&inner).unwrap();
        assert_eq!((project.language, project.name.as_str()), (Language::JavaScript, "my-plugin"));
        assert!(project.world().unwrap_err().to_string().contains("which world"));

        fs::write(inner.join(PROJECT_FILE), "name = \"x\"\nlanguage = \"c\"\nworld = \"auth-policy\"\n")
            .unwrap();
        let project = Project::open(&inner).unwrap();
        assert_eq!((project.language, project.world().unwrap()), (Language::C, "auth-policy"));
        assert!(project.source("plugin.c").unwrap_err().to_string().contains("there is no `plugin.c`"));

        fs::write(inner.join(PROJECT_FILE), "name = \"x\"\nlanguage = \"cobol\"\n").unwrap();
        let error = format!("{:#}", Project::open(&inner).unwrap_err());
        assert!(error.contains("plugin.toml") && error.contains("cobol"), "{error}");
    }
}
