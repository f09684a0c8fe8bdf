//! What a guest can do in a call with its own instructions, memory and handles, and what it can flood the gateway with.

use serde_json::json;

use super::{file, text};
use crate::guests;
use crate::harness::plugins::{ask_model, echo, gateway_with};
use crate::harness::{Gateway, Upstream, eventually};

/// A guest that fails when it is told to, and what is said about that.
struct Bomb {
    name: &'static str,
    guest: fn() -> Vec<u8>,
    /// Its error's kind, as counted for the operator.
    kind: &'static str,
    /// Words of the log.
    words: &'static str,
}

const BOMBS: [Bomb; 12] = [
    bomb("loop", guests::looping, "timeout", "gave no answer within 1500 ms; in "),
    bomb("poll", guests::blocking_poll, "timeout", "gave no answer within 1500 ms"),
    bomb("memory", guests::memory_bomb, "limit", "may have 16 MiB (limits.memory_mb)"),
    bomb("table", guests::table_bomb, "limit", "table entries and may have"),
    bomb("resources", guests::resource_bomb, "limit", "resources of the gateway's at once and may have 256"),
    bomb("handles", guests::handle_bomb, "limit", "handles of resources at once and may have 1000"),
    bomb("stack", guests::stack_bomb, "limit", "used up its stack"),
    bomb("huge", guests::huge_answer, "output_too_large", "(1024 KiB, limits.max_output_kb)"),
    bomb("pointer", guests::wild_pointer, "trap", "trapped: "),
    bomb("text", guests::broken_text, "trap", "invalid utf-8"),
    bomb("action", guests::unknown_action, "trap", "trapped: "),
    bomb("exit", guests::exiting, "trap", "exit"),
];

const fn bomb(name: &'static str, guest: fn() -> Vec<u8>, kind: &'static str, words: &'static str) -> Bomb {
    Bomb { name, guest, kind, words }
}

/// A gateway with all bombs, each for a model of its own.
async fn with_bombs(upstream: &Upstream) -> Gateway {
    let limits = |name: &str| match name {
        // The answer needs its memory before it can be too large.
        "huge" => "limits = { memory_mb = 250, call_timeout_ms = 60000 }",
        "loop" | "poll" => "limits = { memory_mb = 16, call_timeout_ms = 1500 }",
        // Time is not what these are about, and the machine may be busy.
        _ => "limits = { memory_mb = 16, call_timeout_ms = 60000 }",
    };
    let files: Vec<(String, Vec<u8>)> = BOMBS
        .iter()
        .flat_map(|bomb| {
            let toml = file(bomb.name, limits(bomb.name)).into_bytes();
            [(format!("{}.wasm", bomb.name), (bomb.guest)()), (format!("{}.toml", bomb.name), toml)]
        })
        .collect();
    let files = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    gateway_with(upstream, files).start().await
}

/// One call that fails, with other requests meanwhile, and one of the same plugin that does not.
async fn set_off(gateway: &Gateway, bomb: &Bomb, stream: bool) {
    // A handle bomb is a stream processor, which goes off at anything.
    let asked = ask_model(bomb.name, "!", stream);
    let failing = async {
        let said = gateway.completion(&asked).send_any().await;
        assert!(said.contains("plugin_failed"), "{}: {said}", bomb.name);
        let error = format!("the plugin `{}` could not process", bomb.name);
        assert!(said.contains(&error) && !said.contains("wasm"), "{}: {said}", bomb.name);
    };
    tokio::join!(failing, gateway.answers_others());
    if bomb.name != "handles" {
        let fine = gateway.complete(&ask_model(bomb.name, "fine", false)).await;
        assert_eq!(text(&fine), "fine");
    }
}

#[tokio::test]
async fn a_bomb_costs_its_own_call_and_is_named() {
    let models: Vec<&str> = BOMBS.iter().map(|bomb| bomb.name).collect();
    let upstream = echo(&models);
    let gateway = with_bombs(&upstream).await;
    let (mut resident, mut files) = (0, 0);
    const ROUNDS: u64 = 4;
    for round in 0..ROUNDS {
        for bomb in &BOMBS {
            set_off(&gateway, bomb, round % 2 == 1).await;
        }
        if round == 1 {
            // The pool of instances is warm now.
            (resident, files) = (gateway.resident_kb(), gateway.open_files());
        }
    }
    for bomb in &BOMBS {
        let plugin = gateway.plugin(bomb.name).await;
        assert_eq!(plugin["errors"], json!({ bomb.kind: ROUNDS }), "{plugin}");
        assert_eq!((&plugin["running"], &plugin["state"]), (&json!(0), &json!("serving")), "{plugin}");
        gateway.until_logged(&[&format!("plugin `{}` ", bomb.name), bomb.words]).await;
    }
    let grown = gateway.resident_kb().saturating_sub(resident);
    assert!(grown < 48 << 10, "the bombs left {grown} KiB behind");
    assert!(gateway.open_files() <= files + 8, "{} files are open, after {files}", gateway.open_files());
    gateway.stop().await;
}

#[tokio::test]
async fn a_plugin_that_keeps_failing_is_left_alone() {
    let upstream = echo(&["stack"]);
    let guest = guests::stack_bomb();
    let toml = file("stack", "");
    let gateway = gateway_with(&upstream, [("stack.wasm", &guest[..]), ("stack.toml", toml.as_bytes())]);
    let gateway = gateway.start().await;
    let asked = ask_model("stack", "!", false);
    for _ in 0..5 {
        assert_eq!(gateway.refused(&asked, 500).await["code"], "plugin_failed");
    }
    assert_eq!(gateway.refused(&asked, 503).await["code"], "plugin_busy");
    let plugin = gateway.plugin("stack").await;
    assert_eq!(
        (&plugin["state"], &plugin["errors"]["circuit_open"]),
        (&json!("broken"), &json!(1)),
        "{plugin}"
    );
    // A new version, here the same one with another file, has a clean slate; this one may fail.
    gateway.drop_in("stack.toml", file("stack", "on_failure = \"open\"").as_bytes());
    gateway.reload_plugins().await;
    assert_eq!(gateway.plugin("stack").await["state"], "serving");
    for stream in [false, true] {
        let said = gateway.completion(&ask_model("stack", "!hello", stream)).send_any().await;
        assert!(said.contains("hello"), "{said}");
    }
    assert_eq!(gateway.plugin("stack").await["state"], "serving");
}

#[tokio::test]
async fn floods_are_cut_off() {
    let upstream = echo(&["log", "keys"]);
    let (log, keys) = (guests::log_flood(), guests::key_value_flood());
    let files = [("log", &log), ("keys", &keys)].map(|(name, guest)| {
        (
            format!("{name}.wasm"),
            guest.clone(),
            format!("{name}.toml"),
            file(name, "limits = { call_timeout_ms = 60000 }"),
        )
    });
    let files = files.iter().flat_map(|(wasm, guest, toml, text)| {
        [(wasm.as_str(), guest.as_slice()), (toml.as_str(), text.as_bytes())]
    });
    let gateway = gateway_with(&upstream, files).start().await;
    let mut resident = 0;
    for round in 0..6 {
        let asked = ask_model("log", "!x", false);
        let (reply, ()) = tokio::join!(gateway.complete(&asked), gateway.answers_others());
        assert_eq!(text(&reply), "!x");
        let asked = ask_model("keys", "!x", false);
        let (reply, ()) = tokio::join!(gateway.complete(&asked), gateway.answers_others());
        assert_eq!(text(&reply), "y", "the store is not full");
        if round == 1 {
            resident = gateway.resident_kb();
        }
    }
    eventually("the last flood is in the log", async || {
        gateway.log().matches("99800 were dropped").count() == 6
    })
    .await;
    assert_eq!(gateway.log().lines().filter(|line| line.contains("xxxxxxxxxx")).count(), 6 * 200);
    let grown = gateway.resident_kb().saturating_sub(resident);
    assert!(grown < 24 << 10, "the floods left {grown} KiB behind");
}

#[tokio::test]
async fn calls_beyond_the_limit_wait_and_are_refused_in_the_end() {
    let upstream = echo(&["loop"]);
    let guest = guests::looping();
    let toml =
        file("loop", "limits = { call_timeout_ms = 6000, max_concurrency = 1, queue_timeout_ms = 100 }");
    let gateway = gateway_with(&upstream, [("loop.wasm", &guest[..]), ("loop.toml", toml.as_bytes())]);
    let gateway = gateway.start().await;
    let asked = ask_model("loop", "!", false);
    let first = gateway.refused(&asked, 500);
    let others = async {
        gateway.until_running("loop", 1).await;
        let second = gateway.post("/v1/chat/completions", &asked).await;
        assert_eq!(second.json()["error"]["code"], "plugin_busy", "{second:?}");
        assert!(second.status == 503 && second.header("retry-after").is_some(), "{second:?}");
        gateway.answers_others().await;
    };
    let (error, ()) = tokio::join!(first, others);
    assert_eq!(error["code"], "plugin_failed");
    let plugin = gateway.plugin("loop").await;
    assert_eq!(plugin["errors"], json!({"overloaded": 1, "timeout": 1}), "{plugin}");
    gateway.until_running("loop", 0).await;
}
