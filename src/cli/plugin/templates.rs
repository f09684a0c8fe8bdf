//! The files that new plugins begin with, as they lie in `templates/`, `wit/` and `plugins/sdk/` of the repository.
//!
//! They are part of the program: whoever writes a plugin needs nothing else.

use super::project::{Kind, Language};

/// Path within the plugin's folder, and content.
pub(super) type File = (&'static str, &'static str);

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/", $path))
    };
}

macro_rules! wit {
    ($name:literal) => {
        ($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/wit/", $name)))
    };
}

macro_rules! sdk {
    ($path:literal) => {
        (concat!("sdk/", $path), include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/sdk/", $path)))
    };
}

/// The interfaces between the gateway and plugins; they go into [`wit_folder`].
pub(super) const WIT: &[File] = &[
    wit!("types.wit"),
    wit!("response.wit"),
    wit!("auth.wit"),
    wit!("tools.wit"),
    wit!("host.wit"),
    wit!("worlds.wit"),
];

/// The SDK as it lies in the repository, without its copy of the interfaces, and the manifests around it.
const RUST: &[File] = &[
    ("Cargo.toml", template!("rust/Cargo.toml")),
    (".gitignore", "target/\n*.wasm\n"),
    sdk!("Cargo.toml"),
    sdk!("README.md"),
    sdk!("src/auth.rs"),
    sdk!("src/bindings.rs"),
    sdk!("src/config.rs"),
    sdk!("src/http.rs"),
    sdk!("src/http/send.rs"),
    sdk!("src/http/url.rs"),
    sdk!("src/kv.rs"),
    sdk!("src/lib.rs"),
    sdk!("src/log.rs"),
    sdk!("src/redact.rs"),
    sdk!("src/response.rs"),
    sdk!("src/runtime.rs"),
    sdk!("src/secrets.rs"),
    sdk!("src/stream.rs"),
    sdk!("src/testing.rs"),
    sdk!("src/tools.rs"),
    sdk!("src/types.rs"),
];

/// The page that explains the folder.
pub(super) const README: &str = template!("common/README.md");

/// The main source file.
pub(super) fn source(language: Language, kind: Kind) -> File {
    match (language, kind) {
        (Language::JavaScript, Kind::Response) => ("plugin.js", template!("javascript/response.js")),
        (Language::JavaScript, Kind::Stream) => ("plugin.js", template!("javascript/stream.js")),
        (Language::JavaScript, Kind::Auth) => ("plugin.js", template!("javascript/auth.js")),
        (Language::JavaScript, Kind::Tools) => ("plugin.js", template!("javascript/tools.js")),
        (Language::Python, Kind::Response) => ("plugin.py", template!("python/response.py")),
        // A resource is looked for in a module that is named after its interface.
        (Language::Python, Kind::Stream) => ("response_stream.py", template!("python/stream.py")),
        (Language::Python, Kind::Auth) => ("plugin.py", template!("python/auth.py")),
        (Language::Python, Kind::Tools) => ("plugin.py", template!("python/tools.py")),
        (Language::C, Kind::Response) => ("plugin.c", template!("c/response.c")),
        (Language::C, Kind::Stream) => ("plugin.c", template!("c/stream.c")),
        (Language::C, Kind::Auth) => ("plugin.c", template!("c/auth.c")),
        (Language::C, Kind::Tools) => ("plugin.c", template!("c/tools.c")),
        (Language::Rust, Kind::Response) => ("src/lib.rs", template!("rust/response.rs")),
        (Language::Rust, Kind::Stream) => ("src/lib.rs", template!("rust/stream.rs")),
        (Language::Rust, Kind::Auth) => ("src/lib.rs", template!("rust/auth.rs")),
        (Language::Rust, Kind::Tools) => ("src/lib.rs", template!("rust/tools.rs")),
    }
}

/// What the language needs beside the source.
pub(super) fn extras(language: Language) -> &'static [File] {
    match language {
        Language::JavaScript => &[
            ("package.json", template!("javascript/package.json")),
            (".gitignore", "node_modules/\n*.wasm\n"),
        ],
        Language::Python => &[
            ("requirements.txt", template!("python/requirements.txt")),
            (".gitignore", ".venv/\n__pycache__/\nbindings/\n*.wasm\n"),
        ],
        Language::C => &[(".gitignore", "bindings/\n*.wasm\n")],
        Language::Rust => RUST,
    }
}

/// Where the interfaces lie: the SDK has its own.
pub(super) fn wit_folder(language: Language) -> &'static str {
    if language == Language::Rust { "sdk/wit" } else { "wit" }
}

/// Crates that the Rust example uses beside the SDK.
pub(super) fn rust_dependencies(kind: Kind) -> &'static str {
    match kind {
        Kind::Response | Kind::Stream => "regex-lite = \"0.1\"\n",
        Kind::Auth => "",
        Kind::Tools => "serde = { version = \"1\", features = [\"derive\"] }\n",
    }
}

/// Name and content of the sample input.
pub(super) fn input(kind: Kind) -> File {
    match kind {
        Kind::Response | Kind::Stream => ("reply.json", template!("common/response.json")),
        Kind::Auth => ("request.json", template!("common/auth.json")),
        Kind::Tools => ("call.json", template!("common/tools.json")),
    }
}

/// What the sample does, as the end of a sentence.
pub(super) fn purpose(kind: Kind) -> &'static str {
    match kind {
        Kind::Response => "it hides e-mail addresses in what the model says",
        Kind::Stream => "it hides e-mail addresses in what the model says, while it says it",
        Kind::Auth => "it keeps everybody from calling the tools that the operator lists",
        Kind::Tools => "it brings a tool that counts words",
    }
}

/// The hook that `witgate plugin run` calls with the sample input.
pub(super) fn hook(kind: Kind) -> &'static str {
    match kind {
        Kind::Response => "process-llm-response",
        Kind::Stream => "reply-stream",
        Kind::Auth => "authorize",
        Kind::Tools => "call-tool",
    }
}

/// The `config` table of the operator's file.
pub(super) fn config(kind: Kind) -> &'static str {
    match kind {
        Kind::Response | Kind::Stream => "replacement = \"[hidden]\"\n",
        Kind::Auth => "denied_tools = [\"write_query\", \"create_table\"]\n",
        Kind::Tools => "",
    }
}

/// What has to be on the machine, for the README.
pub(super) fn needs(language: Language) -> &'static str {
    match language {
        Language::JavaScript => {
            "Building needs Node.js 18 or later with npm. The first build installs the build tool of `package.json` into \
             `node_modules/`. Modules from npm have to be bundled into `plugin.js` first (with esbuild, for example)."
        }
        Language::Python => {
            "Building needs Python 3.10 or later. The first build makes `.venv/` and installs `requirements.txt` into it; \
             pure Python packages listed there can be imported. `bindings/` has the types, for editors."
        }
        Language::C => {
            "Building needs clang with the C library for WASI (Debian and Ubuntu: `apt install clang lld wasi-libc \
             libclang-rt-dev-wasm32`; elsewhere the WASI SDK with `WASI_SDK_PATH` set), or zig (`pip install ziglang`). \
             All `.c` files of the folder are compiled. `bindings/` is made anew from `wit/` by every build."
        }
        Language::Rust => {
            "Building needs Rust 1.95 or later with `rustup target add wasm32-unknown-unknown`. `sdk/` is the SDK, with \
             its documentation: `cargo doc --open -p witgate-plugin`. `cargo test` runs the tests on this machine."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Files below a folder, relative to it.
    fn below(folder: &Path, inner: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder.join(inner)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{inner}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                below(folder, &path, found);
            } else {
                found.insert(path);
            }
        }
    }

    #[test]
    fn no_file_of_the_sdk_and_no_interface_is_left_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut wanted = BTreeSet::new();
        below(&root.join("plugins/sdk"), "src", &mut wanted);
        let carried = RUST.iter().filter_map(|(path, _)| path.strip_prefix("sdk/"));
        let carried = carried.filter(|path| path.starts_with("src/")).map(str::to_owned).collect();
        assert_eq!(wanted, carried);

        let mut wanted = BTreeSet::new();
        below(root, "wit", &mut wanted);
        assert_eq!(wanted, WIT.iter().map(|(path, _)| format!("wit/{path}")).collect());
    }
}
