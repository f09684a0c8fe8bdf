//! Files that are no plugins, or not yet, or only pretend to be: each is named, and nothing that serves is lost.

use serde_json::{Value, json};

use super::{file, text};
use crate::component::{component, component_of, component_with, module, replacing, tools};
use crate::harness::plugins::{ask_model, echo, gateway_with};
use crate::harness::{Gateway, eventually};

/// A response processor whose code runs before anyone calls it.
fn starting(code: &str) -> Vec<u8> {
    component(
        "response-processor",
        &format!(
            r#"(func $start {code}) (start $start)
            (func (export "witgate:plugin/response@0.1.0#process-llm-response") (param i32) (result i32) (i32.const 1024))"#
        ),
    )
}

pub(super) fn endless_start() -> Vec<u8> {
    starting("(loop $l (br $l))")
}

/// A good guest of the next version of the package.
fn of_version_0_2() -> Vec<u8> {
    let wit = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("wit")).unwrap() {
        let path = entry.unwrap().path();
        let text =
            std::fs::read_to_string(&path).unwrap().replace("witgate:plugin@0.1.0", "witgate:plugin@0.2.0");
        std::fs::write(wit.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let body = r#"(func (export "witgate:plugin/response@0.2.0#process-llm-response") (param i32) (result i32) (i32.const 1024))"#;
    component_of(wit.path(), "response-processor", &module(body))
}

/// A response processor that imports one function of a package of its own choice.
fn importing(package: &str, import: &str, function: &str) -> Vec<u8> {
    let body = format!(
        r#"(import "{import}" "{function}" (func $imported))
        (func (export "witgate:plugin/response@0.1.0#process-llm-response") (param i32) (result i32)
            (call $imported) (i32.const 1024))"#
    );
    component_with("response-processor", &[package], &[import], &body)
}

/// Every file with the words of its error.
fn impostors() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = replacing("good");
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(5000).collect();
    let precompiled = wasmtime::Engine::default().precompile_component(&good).unwrap();
    let list_bomb = tools("", "(loop $l (br $l)) (i32.const 0)", "(i32.const 0)");
    let sockets = "package wasi:sockets@0.2.0; interface tcp-create-socket { create: func(); }";
    let http = "package wasi:http@0.2.0; interface outgoing-handler { handle: func(); }";
    let future = "package wasi:clocks@0.3.0; interface system-clock { now: func(); }";
    let big_table = "(table 10000000 funcref)";
    vec![
        ("empty", Vec::new(), "empty: the file has 0 bytes"),
        ("six-bytes", good[..6].to_vec(), "incomplete: the file ends within its first 8 bytes"),
        ("half", good[..good.len() / 2].to_vec(), "copy or download it again"),
        ("without-end", good[..good.len() - 1].to_vec(), "copy or download it again"),
        // No section has this number, whatever noise follows.
        ("noise", [b"\0asm\x0d\0\x01\0\xff".to_vec(), noise.clone()].concat(), "damaged"),
        ("random", [b"R".to_vec(), noise].concat(), "no WebAssembly file"),
        ("core-module", wat::parse_str(module("")).unwrap(), "a core module, not a component: build it with"),
        ("text-form", b"(component)".to_vec(), "WebAssembly in text form"),
        ("no-world", wat::parse_str("(component)").unwrap(), "exports nothing"),
        ("next-version", of_version_0_2(), "witgate:plugin/response@0.2.0"),
        ("precompiled", precompiled, "precompiled code (.cwasm), which is never loaded from this folder"),
        ("web-page", b"<!DOCTYPE html><title>404".to_vec(), "a web page and not a component"),
        (
            "sockets",
            importing(sockets, "wasi:sockets/tcp-create-socket@0.2.0", "create"),
            "imports wasi:sockets, which no grant allows",
        ),
        ("http", importing(http, "wasi:http/outgoing-handler@0.2.0", "handle"), "grant hosts in its file"),
        (
            "next-wasi",
            importing(future, "wasi:clocks/system-clock@0.3.0", "now"),
            "this gateway offers WASI 0.2",
        ),
        ("endless-start", endless_start(), "gave no answer within 2000 ms"),
        (
            "trap-at-start",
            starting("(unreachable)"),
            "trapped: wasm trap: wasm `unreachable` instruction executed",
        ),
        (
            "memory-at-start",
            starting("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"),
            "limits.memory_mb",
        ),
        ("endless-list", list_bomb, "gave no answer within 2000 ms"),
        ("big-table", component("response-processor", &format!("{big_table} {}", KEEPING)), "table"),
        ("Capital", good, "not a name for a plugin"),
    ]
}

const KEEPING: &str = r#"(func (export "witgate:plugin/response@0.1.0#process-llm-response") (param i32) (result i32) (i32.const 1024))"#;

/// The plugin's state and error.
async fn fate(gateway: &Gateway, name: &str) -> (String, String) {
    let plugin = gateway.plugin(name).await;
    let text = |key: &str| plugin[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("error"))
}

#[tokio::test]
async fn each_impostor_is_named_and_nobody_else_suffers() {
    let upstream = echo(&["good"]);
    let good = replacing("a good version");
    let toml = file("good", "");
    let gateway =
        gateway_with(&upstream, [("good.wasm", &good[..]), ("good.toml", toml.as_bytes())]).start().await;
    let impostors = impostors();
    for (name, bytes, _) in &impostors {
        gateway.drop_in(&format!("{name}.toml"), b"limits = { call_timeout_ms = 2000, memory_mb = 8 }");
        gateway.drop_in(&format!("{name}.wasm"), bytes);
    }
    let (report, ()) = tokio::join!(gateway.reload_plugins(), gateway.answers_others());
    let changes = report["plugins"].as_array().unwrap();
    for (name, _, words) in &impostors {
        let change = changes.iter().find(|change| change["name"] == *name).unwrap();
        let (state, error) = fate(&gateway, name).await;
        assert_eq!((state.as_str(), &change["error"]), ("failed", &json!(error)), "{name}");
        assert!(error.contains(words) && error.contains(name), "{name}: {error}");
        gateway.until_logged(&[&format!("plugin {name} cannot be loaded")]).await;
    }
    assert_eq!(changes.len(), impostors.len() + 1);
    let reply = gateway.complete(&ask_model("good", "hello", false)).await;
    assert_eq!(text(&reply), "a good version");
    let ready = gateway.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("degraded")), "{}", ready.text());
    // Taking their place is enough to make a good plugin of each.
    let files = gateway.open_files();
    for (name, _, _) in impostors.iter().filter(|(name, ..)| *name != "Capital") {
        gateway.drop_in(&format!("{name}.wasm"), &good);
    }
    gateway.reload_plugins().await;
    for (name, _, _) in impostors.iter().filter(|(name, ..)| *name != "Capital") {
        assert_eq!(fate(&gateway, name).await, ("serving".to_owned(), String::new()), "{name}");
    }
    for (name, _, _) in &impostors {
        std::fs::remove_file(gateway.plugin_path(&format!("{name}.wasm"))).unwrap();
    }
    gateway.reload_plugins().await;
    assert!(gateway.open_files() <= files + 6, "{} files are open, after {files}", gateway.open_files());
}

#[tokio::test]
async fn the_last_good_version_outlives_every_bad_one() {
    let upstream = echo(&["good"]);
    let good = replacing("a good version");
    let toml = file("good", "limits = { call_timeout_ms = 2000, memory_mb = 8 }");
    let gateway =
        gateway_with(&upstream, [("good.wasm", &good[..]), ("good.toml", toml.as_bytes())]).start().await;
    for (name, bytes, words) in impostors().iter().filter(|(name, ..)| *name != "Capital") {
        gateway.drop_in("good.wasm", bytes);
        gateway.reload_plugins().await;
        let (state, error) = fate(&gateway, "good").await;
        assert_eq!(state, "stale", "{name}: {error}");
        assert!(error.contains(words), "{name}: {error}");
        let reply = gateway.complete(&ask_model("good", "hello", false)).await;
        assert_eq!(text(&reply), "a good version", "{name}");
    }
    gateway.drop_in("good.wasm", &replacing("a better version"));
    gateway.reload_plugins().await;
    let reply = gateway.complete(&ask_model("good", "hello", false)).await;
    assert_eq!(text(&reply), "a better version");
}

#[tokio::test]
async fn what_is_no_file_or_not_finished_keeps_nobody_waiting() {
    let upstream = echo(&["slow"]);
    let good = replacing("complete");
    let gateway = gateway_with(&upstream, [("keep.txt", &b""[..])]).start().await;
    std::os::unix::fs::symlink("itself.wasm", gateway.plugin_path("itself.wasm")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", gateway.plugin_path("zero.wasm")).unwrap();
    std::fs::create_dir(gateway.plugin_path("folder.wasm")).unwrap();
    nix::unistd::mkfifo(&gateway.plugin_path("pipe.wasm"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let report = gateway.reload_plugins().await;
    for (at, (name, words)) in
        [("folder", "a folder"), ("itself", "cannot be read"), ("pipe", "a pipe"), ("zero", "device")]
            .iter()
            .enumerate()
    {
        let change = &report["plugins"][at];
        assert_eq!((&change["name"], &change["change"]), (&json!(name), &json!("failed")));
        assert!(change["error"].as_str().unwrap().contains(words), "{change}");
    }
    // A file that grows slowly, as over a slow line, is left alone until it is complete.
    gateway.drop_in("slow.toml", file("slow", "").as_bytes());
    let mut written = std::fs::File::create(gateway.plugin_path("slow.wasm")).unwrap();
    for piece in good.chunks(good.len() / 8 + 1) {
        std::io::Write::write_all(&mut written, piece).unwrap();
        gateway.answers_others().await;
        let reply = gateway.complete(&ask_model("slow", "hello", false)).await;
        let said = text(&reply).to_owned();
        assert!(said == "hello" || said == "complete", "{said}");
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    }
    drop(written);
    eventually("the complete file serves", async || {
        let reply: Value = gateway.complete(&ask_model("slow", "hello", false)).await;
        text(&reply) == "complete"
    })
    .await;
}
