//! The committed components are as new as their sources, and hold what they promise.
//!
//! A component carries a hash of what it was built from. The test needs no guest toolchain: it computes the hash again.

#[path = "../src/cli/plugin/guest_toolchain.rs"]
#[expect(dead_code, reason = "the test compiles nothing, it only needs the flags")]
mod guest_toolchain;
#[path = "../xtask/src/sources.rs"]
#[expect(dead_code, reason = "the test writes nothing")]
mod sources;

use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn components_are_as_new_as_their_sources() {
    let guests = sources::guests(root()).unwrap();
    assert!(!guests.is_empty(), "plugins/Cargo.toml names no guests");
    let stale: Vec<&str> = guests
        .iter()
        .filter(|guest| {
            sources::recorded(root(), guest).unwrap() != Some(sources::digest(root(), guest).unwrap())
        })
        .map(|guest| guest.component.as_str())
        .collect();
    assert!(
        stale.is_empty(),
        "older than their sources: {}\nrun `cargo xtask guests` and commit what it writes (plugins/README.md says what it needs)",
        stale.join(", ")
    );
}

#[test]
fn every_component_has_a_source() {
    let known: Vec<String> =
        sources::guests(root()).unwrap().into_iter().map(|guest| guest.component).collect();
    for folder in ["plugins/dist", "plugins/dist/examples"] {
        for file in fs::read_dir(root().join(folder)).unwrap() {
            let name = format!("{folder}/{}", file.unwrap().file_name().to_string_lossy());
            if name.ends_with(".wasm") {
                assert!(known.contains(&name), "{name} belongs to no guest in plugins/Cargo.toml: remove it");
            }
        }
    }
}

#[test]
fn components_tell_nothing_of_the_machine_they_were_built_on() {
    for guest in sources::guests(root()).unwrap() {
        let bytes = fs::read(root().join(&guest.component)).unwrap();
        for trace in
            ["/home/", "/root/", "/usr/lib/", "/usr/src/", "/Users/", ".cargo/registry", "\\\\Users\\\\"]
        {
            let found = memchr::memmem::find(&bytes, trace.as_bytes());
            assert!(found.is_none(), "{} has a path with {trace} in it, at {found:?}", guest.component);
        }
    }
}
