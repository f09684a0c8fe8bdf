//! Core module to component: the step that `witgate plugin build` and the bundled guests' build share.
//!
//! `wit-bindgen` leaves the plugin's world in custom sections of the module; `wit-component` wraps the module accordingly.
//! No adapter is linked, so a component imports WASI only where the guest's own code calls it. `xtask` includes this file
//! by path: it names no other module of this crate.

use anyhow::{Context as _, Result, ensure};
use wit_component::ComponentEncoder;

/// Turns a core module, as the compiler writes it, into a validated component.
///
/// # Errors
/// Where the bytes are no core module, name no world, import something that is in no world, or lack an export that the
/// world asks for.
pub(crate) fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    ensure!(module.starts_with(b"\0asm"), "not a WebAssembly file");
    ensure!(
        module.get(4..8) == Some(&[1, 0, 0, 0]),
        "a component already, or not a core module of WebAssembly"
    );
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .context(
            "the module does not say which world it is made for; does it call export! from witgate-plugin?",
        )?
        .encode()
        .context("the module does not fit its world")
}

/// Appends a custom section, which every reader of WebAssembly skips.
#[must_use]
pub(crate) fn with_custom_section(mut component: Vec<u8>, name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(name.len() + content.len() + 10);
    write_length(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    component.push(0);
    write_length(&mut component, body.len());
    component.extend_from_slice(&body);
    component
}

/// Unsigned LEB128, as everywhere in WebAssembly.
fn write_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            return;
        }
    }
}
