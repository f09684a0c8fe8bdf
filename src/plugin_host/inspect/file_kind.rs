//! Tells a component from all that people put under the name of one: core modules, text form, web pages, archives.

use super::super::error::LoadError;

const MAGIC: &[u8] = b"\0asm";

/// The word after the magic number: version and layer.
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];

/// The "operating system" that wasmtime writes into its compiled code.
const ELF_OS_WASMTIME: u8 = 200;

/// How far a text is looked at.
const HEAD_BYTES: usize = 4096;

/// Fails unless `bytes` begin as a component does.
pub(super) fn expect_component(bytes: &[u8]) -> Result<(), LoadError> {
    let word = bytes.get(4..8).and_then(|word| <[u8; 4]>::try_from(word).ok());
    let problem = match word {
        Some(COMPONENT) if bytes.starts_with(MAGIC) => return Ok(()),
        Some(CORE_MODULE) if bytes.starts_with(MAGIC) => {
            "a core module, not a component: build it with `witgate plugin build`, or wrap it with `wasm-tools component new`"
                .to_owned()
        }
        Some([major, minor, layer, _]) if bytes.starts_with(MAGIC) => format!(
            "a WebAssembly file of an unknown form (version {major}.{minor}, layer {layer}): build it with current tools"
        ),
        _ => other(bytes).to_owned(),
    };
    Err(LoadError::new(problem))
}

fn other(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "empty: the file has 0 bytes; copy or download it again",
        _ if bytes.len() < 8 && bytes.starts_with(&MAGIC[..bytes.len().min(4)]) => {
            "incomplete: the file ends within its first 8 bytes; copy or download it again"
        }
        [0x7f, b'E', b'L', b'F', _, _, _, ELF_OS_WASMTIME, ..] => {
            "precompiled code (.cwasm), which is never loaded from this folder, since nothing in it can be checked: put \
             the component it was compiled from here"
        }
        [0x7f, b'E', b'L', b'F', ..]
        | [b'M', b'Z', ..]
        | [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..]
        | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            "a program for this or another machine, not a WebAssembly component: build it for wasm32"
        }
        [b'P', b'K', 3, 4, ..]
        | [0x1f, 0x8b, ..]
        | [b'B', b'Z', b'h', ..]
        | [0xfd, b'7', b'z', ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..] => "an archive or compressed file: unpack it first",
        _ => text(bytes),
    }
}

fn text(bytes: &[u8]) -> &'static str {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD_BYTES)]);
    let head = head.trim_start_matches('\u{feff}').trim_start();
    let lower = head.to_ascii_lowercase();
    if ["(component", "(module", ";;", "(;"].iter().any(|start| lower.starts_with(start)) {
        "WebAssembly in text form: turn it into a component with `wasm-tools parse in.wat -o out.wasm`"
    } else if lower.starts_with("version https://git-lfs") {
        "a Git LFS pointer and not the file itself: run `git lfs pull`"
    } else if lower.starts_with("<!doctype") || lower.starts_with("<html") || lower.starts_with("<?xml") {
        "a web page and not a component: the download went wrong; check its address"
    } else if lower.starts_with("package ") {
        "a WIT file: it describes interfaces; build a component that exports them"
    } else {
        "no WebAssembly file: a component begins with the bytes 00 61 73 6d"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_is_named() {
        let cases: [(&[u8], &str); 19] = [
            (b"", "empty:"),
            (b"\0as", "incomplete:"),
            (b"\0asm\x0d", "incomplete:"),
            (b"\0asm\x01\0\0\0", "a core module, not a component"),
            (b"\0asm\x0c\0\x01\0", "of an unknown form (version 12.0, layer 1)"),
            (b"\x7fELF\x02\x01\x01\xc8\0\0", "precompiled code"),
            (b"\x7fELF\x02\x01\x01\0\0\0", "a program for this or another machine"),
            (b"\x7fELF", "a program for this or another machine"),
            (b"MZ\x90\0", "a program for this or another machine"),
            (b"PK\x03\x04abcdefg", "an archive"),
            (b"\x1f\x8b\x08\0\0\0\0\0", "an archive"),
            (b"\n  (component $a)", "text form"),
            (b";; a comment\n(component)", "text form"),
            (b"\xef\xbb\xbf(module)", "text form"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
            (b"package witgate:plugin@0.1.0;", "a WIT file"),
            (b"\x93\x11\xfe\x00\x00random", "no WebAssembly file"),
            (b"export default {}", "no WebAssembly file"),
        ];
        for (bytes, problem) in cases {
            let error = expect_component(bytes).unwrap_err().message;
            assert!(error.contains(problem), "{bytes:?}: {error}");
        }
        assert_eq!(expect_component(b"\0asm\x0d\0\x01\0"), Ok(()));
    }
}
