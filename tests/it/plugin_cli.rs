//! `witgate plugin` as authors meet it: from an empty folder to a component, in every language.
//!
//! The tools of JavaScript and Python are those that `tests/guests/setup.sh` installs. A language whose tools are missing
//! is skipped, loudly; where `CI=true` that is a failure.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What a command left.
#[derive(Debug)]
struct Output {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Output {
    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The words on standard error of a command that failed in an orderly way.
    #[track_caller]
    fn failed(self, with: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains("error: "), "{self:?}");
        for words in with {
            assert!(self.err.contains(words), "{words} is not in: {}", self.err);
        }
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Where `tests/guests/setup.sh` puts the tools.
fn tools() -> PathBuf {
    let folder = std::env::var_os("WITGATE_TEST_GUESTS").map(PathBuf::from);
    folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-guests"))
}

/// The search path with the tools in front.
fn path_with_tools() -> OsString {
    let mut folders = vec![tools().join("venv/bin"), tools().join("node_modules/.bin")];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(folders).unwrap()
}

fn witgate(folder: &Path, arguments: &[&str]) -> Output {
    run(command(folder, arguments))
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
    command.args(arguments).current_dir(folder).env("PATH", path_with_tools()).env("NO_COLOR", "1");
    command.env("CARGO_TARGET_DIR", tools().join("rust"));
    command
}

fn run(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Whether a build failed only because its tools are not there. Skipping is for people's machines, not for CI.
fn is_skipped(built: &Output, language: &str) -> bool {
    let missing = [
        "is not installed",
        "needs Node.js",
        "needs Python",
        "no C compiler for WASI",
        "can compile for wasm32",
    ];
    let missing = built.code == Some(1) && missing.iter().any(|words| built.err.contains(words));
    if missing {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{language}: {}", built.err);
        eprintln!("\n*** SKIPPED: {language} plugins are not tested here:\n{}", built.err);
    }
    missing
}

/// Makes and builds a plugin; `None` where the tools are missing.
fn made(language: &str, kind: &str) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    witgate(folder.path(), &["plugin", "new", "sample", "--lang", language, "--kind", kind]).succeeded();
    let built = witgate(folder.path(), &["plugin", "build", "sample", "--offline", "--json"]);
    if is_skipped(&built, language) {
        return None;
    }
    let report = built.succeeded().json();
    let (world, interface) = match kind {
        "response" => ("response-processor", "response"),
        "stream" => ("stream-processor", "response-stream"),
        "auth" => ("auth-policy", "auth"),
        _ => ("tool-provider", "tools"),
    };
    assert_eq!(report["worlds"], json!([world]), "{report:#}");
    assert_eq!(report["exports"], json!([format!("witgate:plugin/{interface}@0.1.0")]));
    let size = fs::metadata(folder.path().join("sample/sample.wasm")).unwrap().len();
    assert_eq!(report["size_bytes"], size);
    Some(folder)
}

/// Makes, builds and runs the examples of a language with their sample inputs and operator's files.
fn from_new_to_run(language: &str, kinds: &[&str]) {
    for kind in kinds {
        let Some(folder) = made(language, kind) else { return };
        let sample = folder.path().join("sample");
        let readme = fs::read_to_string(sample.join("README.md")).unwrap();
        let line = readme.lines().find(|line| line.starts_with("witgate plugin run ")).unwrap();
        let mut words: Vec<&str> = line.split_whitespace().skip(1).collect();
        words.push("--json");
        let report = witgate(&sample, &words).succeeded().json();
        let cost = &report["cost"];
        assert!(cost["fuel"].as_u64().unwrap() > 1000, "{report:#}");
        assert!(cost["memory_bytes"].as_u64().unwrap() > 0, "{report:#}");
        let answer = &report["answer"];
        match *kind {
            "response" => assert_eq!(
                *answer,
                json!({"action": "replace", "text": "Write to [hidden], or call us."}),
                "{language}"
            ),
            "stream" => assert_eq!(streamed_text(answer), "Write to [hidden], or call us.", "{language}"),
            "auth" => assert_eq!((&answer["decision"], &answer["status"]), (&json!("deny"), &json!(403))),
            _ => assert_eq!(answer["structuredContent"], json!({"words": 5}), "{language}"),
        }
    }
}

/// Everything that a stream processor let go of, in order.
fn streamed_text(answer: &Value) -> String {
    let pushed = answer["pushed"].as_array().unwrap().iter();
    let all = pushed.chain([&answer["finished"]]).flat_map(|part| part["deltas"].as_array().unwrap());
    all.map(|delta| delta["text"].as_str().unwrap()).collect()
}

#[test]
fn javascript() {
    from_new_to_run("js", &["response", "stream", "auth", "tools"]);
}

#[test]
fn python() {
    // Compiling CPython takes long in a test build; the kinds differ only in what is imported.
    from_new_to_run("python", &["response", "stream"]);
}

#[test]
fn c() {
    from_new_to_run("c", &["response", "stream", "auth", "tools"]);
}

#[test]
fn rust() {
    from_new_to_run("rust", &["response", "stream", "auth", "tools"]);
}

/// The committed component of an example plugin.
fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/dist/examples/redact-email.wasm")
}

#[test]
fn check_says_why_a_component_would_not_be_taken() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    fs::copy(example(), folder.path().join("good.wasm")).unwrap();
    let good = witgate(folder.path(), &["plugin", "check", "good.wasm", "--json"]).succeeded().json();
    assert_eq!((&good[0]["ok"], &good[0]["exports"]), (&json!(true), &json!(["response"])), "{good:#}");

    write("module.wasm", b"\0asm\x01\0\0\0");
    write("noise.wasm", &[7; 4096]);
    let bytes = fs::read(example()).unwrap();
    write("short.wasm", &bytes[..bytes.len() / 2]);
    write("other.wasm", b"\0asm\x0d\0\x01\0");
    fs::copy(example(), folder.path().join("wrong.wasm")).unwrap();
    write("wrong.toml", b"enabled = true\ncolour = 1\n");
    let reasons = [
        ("module.wasm", "core module"),
        ("noise.wasm", "no WebAssembly file"),
        ("short.wasm", "incomplete"),
        ("other.wasm", "no plugin"),
        ("wrong.wasm", "colour"),
        ("missing.wasm", "cannot read"),
    ];
    for (file, reason) in reasons {
        let checked = witgate(folder.path(), &["plugin", "check", file, "--json"]);
        assert_eq!(checked.code, Some(1), "{file}: {checked:?}");
        let problems = checked.json()[0]["problems"].to_string();
        assert!(problems.contains(reason), "{file}: {problems}");
    }
    let several = witgate(folder.path(), &["plugin", "check", "module.wasm", "good.wasm"]);
    assert!(several.code == Some(1) && several.out.contains("good.wasm: ok"), "{several:?}");
}

#[test]
fn run_names_what_is_wrong_with_the_call() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(example(), folder.path().join("redact.wasm")).unwrap();
    fs::write(folder.path().join("bad.json"), "{\"txt\": 1}").unwrap();
    fs::write(folder.path().join("call.json"), "{\"name\": \"x\"}").unwrap();
    let run = |hook: &str, input: &[&str]| {
        let line = ["plugin", "run", "redact.wasm", "--hook", hook];
        witgate(folder.path(), &[&line[..], input].concat())
    };
    run("process-llm-response", &[]).failed(&["needs an input"]);
    run("process-llm-response", &["--input", "bad.json"]).failed(&["bad.json", "`txt`", "finish_reason"]);
    run("process-llm-response", &["--input", "none.json"]).failed(&["none.json", "cannot read"]);
    run("call-tool", &["--input", "call.json"]).failed(&["does not export `tools`", "response"]);
    let body = json!({"choices": [{"message": {"content": "ann@example.org"}, "finish_reason": "stop"}]});
    fs::write(folder.path().join("body.json"), body.to_string()).unwrap();
    let answered = run("process-llm-response", &["--input", "body.json"]).succeeded();
    assert!(answered.json()["text"].as_str().is_some_and(|text| !text.contains('@')), "{answered:?}");
    assert!(answered.err.contains("units of fuel"), "{answered:?}");
}

#[test]
fn list_shows_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let empty = witgate(folder.path(), &["plugin", "list"]).succeeded();
    assert!(empty.out.contains("There are no plugins"), "{}", empty.out);
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::copy(example(), plugins.join("redact.wasm")).unwrap();
    fs::write(plugins.join("noise.wasm"), "noise").unwrap();
    fs::write(plugins.join(".half.wasm"), "half").unwrap();
    let listed = witgate(folder.path(), &["plugin", "list", "--json"]).succeeded().json();
    let rows: Vec<(&Value, &Value)> =
        listed.as_array().unwrap().iter().map(|plugin| (&plugin["name"], &plugin["state"])).collect();
    assert_eq!(rows, [(&json!("noise"), &json!("failed")), (&json!("redact"), &json!("ok"))]);
}

#[test]
fn a_new_folder_stands_alone_and_an_old_one_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let made = witgate(folder.path(), &["plugin", "new", "hide", "--lang", "js"]).succeeded();
    assert!(made.out.contains("witgate plugin build"), "{}", made.out);
    let hide = folder.path().join("hide");
    let readme = fs::read_to_string(hide.join("README.md")).unwrap();
    for line in [
        "witgate plugin build\n",
        "witgate plugin run hide.wasm --hook process-llm-response --input reply.json",
    ] {
        assert!(readme.contains(line), "{line}: {readme}");
    }
    for file in ["plugin.js", "package.json", "plugin.toml", "hide.toml", "reply.json", "wit/worlds.wit"] {
        let text = fs::read_to_string(hide.join(file)).unwrap();
        assert!(!text.contains("{{"), "{file} has a place that was not filled: {text}");
    }

    fs::write(hide.join("plugin.js"), "mine").unwrap();
    let again = witgate(folder.path(), &["plugin", "new", "hide", "--lang", "c"]);
    again.failed(&["`hide` is there already and stays as it is", "--path"]);
    assert_eq!(fs::read_to_string(hide.join("plugin.js")).unwrap(), "mine");
    assert!(!hide.join("plugin.c").exists());
    witgate(folder.path(), &["plugin", "new", "hide", "--lang", "c", "--path", "deep/er"]).succeeded();
    assert!(folder.path().join("deep/er/bindings/response_processor.h").is_file());
}

#[test]
fn wrong_names_and_folders_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["Hide", "a/b", "../x", "x_y", ".hidden"] {
        witgate(folder.path(), &["plugin", "new", name, "--lang", "js"])
            .failed(&["cannot be a plugin's name", "redact-emails"]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let unknown = witgate(folder.path(), &["plugin", "new", "x", "--lang", "cobol"]);
    assert!(unknown.code == Some(2) && unknown.err.contains("python"), "{unknown:?}");
    witgate(folder.path(), &["plugin", "build", "nowhere"]).failed(&["no folder `nowhere`", "plugin new"]);
    witgate(folder.path(), &["plugin", "build"]).failed(&["is no plugin's folder", "plugin.toml"]);
}

#[test]
fn a_missing_tool_is_named_with_the_way_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let hints = [
        ("js", "Node.js"),
        ("rust", "rustup target add"),
        ("python", "Python 3"),
        ("c", "apt install clang lld wasi-libc"),
    ];
    for (language, hint) in hints {
        witgate(folder.path(), &["plugin", "new", language, "--lang", language]).succeeded();
        let mut build = command(folder.path(), &["plugin", "build", language]);
        build.env("PATH", folder.path()).env_remove("WASI_SDK_PATH");
        run(build).failed(&[hint, "install"]);
    }
}

#[test]
fn what_the_compiler_says_is_shown_and_nothing_is_left_behind() {
    let Some(folder) = made("c", "response") else { return };
    let sample = folder.path().join("sample");
    let before = fs::read(sample.join("sample.wasm")).unwrap();
    fs::write(sample.join("plugin.c"), "#include \"response_processor.h\"\nint x = oops;\n").unwrap();
    witgate(folder.path(), &["plugin", "build", "sample"]).failed(&["oops", "failed"]);
    assert_eq!(fs::read(sample.join("sample.wasm")).unwrap(), before, "the last good component stays");
    let hidden = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".witgate");
    assert!(fs::read_dir(&sample).unwrap().all(|entry| !hidden(&entry.unwrap())));

    // A source without the function that the world asks for.
    fs::write(sample.join("plugin.c"), "int x;\n").unwrap();
    witgate(folder.path(), &["plugin", "build", "sample"]).failed(&["process_llm_response"]);
}
