//! The files that new plugins begin with, as they lie in `templates/` and `wit/` of the repository.
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
        (concat!("wit/", $name), include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/wit/", $name)))
    };
}

/// The interfaces between the gateway and plugins.
pub(super) const WIT: &[File] = &[
    wit!("types.wit"),
    wit!("response.wit"),
    wit!("auth.wit"),
    wit!("tools.wit"),
    wit!("host.wit"),
    wit!("worlds.wit"),
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
        Language::C => &[(".gitignore", "bindings/\ntarget/\n*.wasm\n")],
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
    }
}
