//! Components and the interfaces they are made for: bindings for C, and the step from a core module to a component.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;
use wit_component::ComponentEncoder;

/// The module that C libraries for WASI 0.1 import; the adapter turns what they ask of it into WASI 0.2.
const WASI_MODULE: &str = "wasi_snapshot_preview1";

/// Longest C identifier that prefixes the generated names: the world's name.
pub(super) fn c_name(world: &str) -> String {
    world.replace('-', "_")
}

/// Writes C bindings for a world of the WIT folder `wit` into the folder `into`: a header, a source and an object file.
/// A file that would stay the same is not touched.
///
/// # Errors
/// When the WIT cannot be read, has no such world, or a file cannot be written.
pub(super) fn write_c_bindings(wit: &Path, world: &str, into: &Path) -> anyhow::Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(told("the WIT cannot be read"))?;
    let world = resolve.select_world(&[package], Some(world)).map_err(told("the WIT does not fit"))?;
    let mut files = Files::default();
    let mut generator = wit_bindgen_c::Opts::default().build();
    generator
        .generate(&mut resolve, world, &mut files)
        .map_err(told("there are no C bindings for this WIT"))?;
    fs::create_dir_all(into).with_context(|| format!("cannot make the folder {}", into.display()))?;
    for (name, content) in files.iter() {
        let file = into.join(name);
        if fs::read(&file).is_ok_and(|old| old == content) {
            continue;
        }
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// The component for a core module that was made with WIT bindings.
///
/// # Errors
/// When the module was not made for WIT, or imports what no adapter knows.
pub(super) fn from_module(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
    let encode =
        || ComponentEncoder::default().validate(true).module(module)?.adapter(WASI_MODULE, adapter)?.encode();
    encode().map_err(told("the module cannot be made a component"))
}

/// Keeps the words of an error of the WebAssembly tools' own type.
fn told(what: &'static str) -> impl Fn(anyhow::Error) -> anyhow::Error {
    move |error| anyhow!("{what}: {error:#}")
}
