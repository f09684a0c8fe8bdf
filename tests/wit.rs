//! The WIT package: a released version never changes its shape, its copy and its page are current.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

#[path = "../xtask/src/wit_docs.rs"]
mod wit_docs;

use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Hashes of the files of `witgate:plugin@0.1.0` without comments and spacing, as its first release had them.
const RELEASED: [(&str, &str); 6] = [
    ("auth.wit", "3c92f63f45afeaefb977824d3f6e661160fbd714963d820e72dd4819064fc8b0"),
    ("host.wit", "28f411417df8c4cf82a7b5b358522f4643d2ae1431869ee6fda210e2d22c11af"),
    ("response.wit", "9fc7b76c9bc2eaeadfcbfd59240069f767a7f89957c117cbd39aaa72fe18d2fb"),
    ("tools.wit", "432ac60bd9d4a9cfddfae3df1bb5db46bd267134c7afe5d1830f1fa1dda96378"),
    ("types.wit", "94854e9d223f2c8c774f668df6ae740944750b26cece9a7f170736c115a121cc"),
    ("worlds.wit", "88fc426b8012cecd575467347666d28946edf7bbaa39e44c8936a93484a40995"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names and texts of the files in a folder, in order.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Only what the component model compares: no comments, one space between words.
fn shape(text: &str) -> String {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_released_version_keeps_its_shape() {
    let now: Vec<(String, String)> =
        files("wit").into_iter().map(|(name, text)| (name, hash(&shape(&text)))).collect();
    let released: Vec<(String, String)> =
        RELEASED.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect();
    assert!(
        now == released,
        "wit/ has another shape than witgate:plugin@0.1.0 as it was released. Plugins that are out there would not load.\n\
         Take the change back and make it in the next version (docs/plugins/wit.md, \"Versions\").\n\
         Only before the release of 0.1.0 may these hashes change, to:\n{now:#?}"
    );
}

#[test]
fn comments_and_spacing_are_no_change_of_shape() {
    let text = "/// Words.\ninterface a {\n  // More.\n  b: func();\n}\n";
    assert_eq!(shape(text), shape("interface a {\n\n b: func(); // Words.\n}"));
    assert_ne!(shape(text), shape("interface a { b: func(c: u32); }"));
}

#[test]
fn the_copy_in_the_sdk_is_the_same() {
    assert!(
        files("wit") == files("plugins/sdk/wit"),
        "plugins/sdk/wit differs from wit/: run `cargo xtask guests`, which copies it, and commit what it writes"
    );
}

#[test]
fn the_page_is_current() {
    let page = fs::read_to_string(root().join(wit_docs::PAGE)).unwrap_or_default();
    assert!(
        page == wit_docs::page(root()).unwrap(),
        "{} is not what wit/ says: run `cargo xtask wit-docs` and commit what it writes",
        wit_docs::PAGE
    );
}
