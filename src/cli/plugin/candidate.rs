//! A component that is to be looked at or tried, with its operator's file: read as a gateway reads it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::cli::loading::Loaded;
use crate::plugin_host::trial::{self, Trial};
use crate::plugin_host::{Inspection, Manifest, Plugin};

/// Whether a trial counts instructions, which slows the guest down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    /// Instructions are counted.
    Fuel,
    /// As in a gateway.
    Nothing,
}

/// A component and its operator's file.
pub(super) struct Candidate {
    /// The plugin's name: the component's without its ending.
    pub(super) name: String,
    /// The component.
    pub(super) bytes: Vec<u8>,
    /// The operator's file, where there is one.
    pub(super) operators_file: Option<PathBuf>,
    /// What it says.
    pub(super) manifest: Manifest,
}

impl Candidate {
    /// Reads a component and the operator's file: the given one, else the one beside the component.
    ///
    /// # Errors
    /// When one of them cannot be read, or the operator's file is wrong.
    pub(super) fn read(file: &Path, given: Option<&Path>, loaded: &Loaded) -> anyhow::Result<Self> {
        let name = name_of(file)?;
        let bytes = read_component(file, loaded.config.plugins.max_component_mb << 20)?;
        let operators_file = match given {
            Some(given) => Some(given.to_owned()),
            None => Some(file.with_extension("toml")).filter(|file| file.is_file()),
        };
        let manifest = match &operators_file {
            Some(file) => read_manifest(file, loaded)?,
            None => Manifest::default(),
        };
        Ok(Self { name, bytes, operators_file, manifest })
    }

    /// What the component is, and whether the gateway would take it with this operator's file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn inspect(&self) -> anyhow::Result<Inspection> {
        let inspection = Inspection::read(&self.bytes)?;
        inspection.check(&self.manifest)?;
        Ok(inspection)
    }

    /// Loads it as a gateway does: compiled, linked with what is granted, started once.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn load(self, loaded: &Loaded, counting: Counting) -> anyhow::Result<Arc<Plugin>> {
        let trial = Trial {
            config: &loaded.config.plugins,
            data_dir: &loaded.config.data_dir,
            count_fuel: counting == Counting::Fuel,
        };
        Ok(trial::load(&self.name, self.bytes, self.manifest, trial).await?)
    }
}

/// The plugin's name, which is the file's.
fn name_of(file: &Path) -> anyhow::Result<String> {
    let name = file.file_stem().and_then(|name| name.to_str()).filter(|name| !name.is_empty());
    name.map(str::to_owned).with_context(|| format!("{} is not a component's name", file.display()))
}

fn read_component(file: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let shown = file.display();
    if file.is_dir() {
        bail!(
            "{shown} is a folder; name the component in it, for example {}",
            file.join("NAME.wasm").display()
        );
    }
    let opened = File::open(file).with_context(|| format!("cannot read {shown}"))?;
    let mut bytes = Vec::new();
    opened.take(limit + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() as u64 > limit {
        bail!("{shown} has more than {limit} bytes (plugins.max_component_mb)");
    }
    Ok(bytes)
}

fn read_manifest(file: &Path, loaded: &Loaded) -> anyhow::Result<Manifest> {
    let shown = file.display().to_string();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    Ok(Manifest::parse(&shown, &text, &loaded.settings.variables(), &loaded.config.plugins)?)
}
