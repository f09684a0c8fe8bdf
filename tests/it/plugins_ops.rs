//! What operators see of plugins and do with them: the endpoints, readiness, metrics, signals and `witgate check`.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::component;
use crate::harness::gateway::Builder;
use crate::harness::program::{python, run};
use crate::harness::{Answer, Gateway, Reply, Upstream, ask, ask_stream, call, eventually};

const KEY: &str = "sk-operator-of-plugins";

/// No watching: the folder is looked at on demand.
const ON_DEMAND: &str = "[plugins]\nwatch = false";

/// A gateway with an operator's key and these files in its plugins folder.
fn gateway_with(upstream: &Upstream, files: &[(&str, &[u8])]) -> Builder {
    let builder = Gateway::builder().upstream(upstream).env("WITGATE_API_KEY", KEY);
    std::fs::create_dir(builder.folder().join("plugins")).unwrap();
    for (name, bytes) in files {
        std::fs::write(builder.folder().join("plugins").join(name), bytes).unwrap();
    }
    builder
}

/// Puts a file into the plugins folder at one stroke, as an operator should.
fn drop_in(gateway: &Gateway, name: &str, bytes: &[u8]) {
    let folder = gateway.folder().join("plugins");
    let unfinished = folder.join(format!(".{name}"));
    std::fs::write(&unfinished, bytes).unwrap();
    std::fs::rename(unfinished, folder.join(name)).unwrap();
}

async fn as_operator(gateway: &Gateway, method: &str, path: &str) -> Answer {
    gateway.request(method, path).header("authorization", &format!("Bearer {KEY}")).send().await
}

/// What the gateway tells about one plugin; null where it is not there.
async fn plugin(gateway: &Gateway, name: &str) -> Value {
    let single = as_operator(gateway, "GET", &format!("/api/v1/plugins/{name}")).await;
    if single.status == 200 {
        return single.json();
    }
    assert_eq!(single.words(404), format!("there is no plugin `{name}`; GET /api/v1/plugins lists them"));
    Value::Null
}

async fn until_state(gateway: &Gateway, name: &str, state: &str) -> Value {
    let mut seen = Value::Null;
    eventually(&format!("{name} is {state}"), async || {
        seen = plugin(gateway, name).await;
        seen["state"] == state
    })
    .await;
    seen
}

async fn metrics(gateway: &Gateway) -> String {
    let answer = as_operator(gateway, "GET", "/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kind = &answer.headers["content-type"];
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    answer.text()
}

#[tokio::test]
async fn operators_need_the_key() {
    let upstream = Upstream::start();
    let gateway = gateway_with(&upstream, &[]).start().await;
    let places = [
        ("GET", "/api/v1/plugins"),
        ("GET", "/api/v1/plugins/x"),
        ("POST", "/api/v1/plugins/reload"),
        ("GET", "/metrics"),
    ];
    for (method, path) in places {
        let words = gateway.request(method, path).send().await.words(401);
        assert!(
            words.contains(
                "an API key or an access token is required: send it as `Authorization: Bearer <key>`"
            ),
            "{words}"
        );
        let wrong = gateway.request(method, path).header("x-api-key", "sk-another").send().await;
        assert_eq!(wrong.words(401), "the API key or access token is not valid", "{path}");
        assert!(wrong.headers.contains_key("www-authenticate"), "{path}");
    }
    let by_query = gateway.get(&format!("/api/v1/plugins?apikey={KEY}")).await;
    assert!(by_query.expect(200)["plugins"].is_array());
    // Addresses end up in logs, so that the key is taken from them under /api/v1 only.
    gateway.get(&format!("/metrics?apikey={KEY}")).await.words(401);
    let chats = gateway.request("GET", "/v1/models").send().await;
    assert_eq!(chats.status, 200, "chat stays open");
}

#[tokio::test]
async fn without_a_key_there_is_no_operator() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    for path in ["/api/v1/plugins", "/metrics"] {
        let words = gateway.get(path).await.words(401);
        assert!(words.contains("an API key or an access token is required"), "{words}");
    }
}

#[tokio::test]
async fn states_follow_the_folder_and_say_why() {
    let upstream = Upstream::start();
    let gateway = gateway_with(&upstream, &[]).start().await;
    assert_eq!(plugin(&gateway, "redact").await, Value::Null);

    let good = component::replacing("redacted");
    drop_in(&gateway, "redact.wasm", &good);
    let serving = until_state(&gateway, "redact", "serving").await;
    let sha256: String = Sha256::digest(&good).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(serving["sha256"], sha256, "{serving}");
    assert_eq!(serving["exports"], json!(["response"]));
    assert_eq!(serving["error"], Value::Null);
    assert!(serving["loaded_ms"].as_u64().unwrap() > 1_600_000_000_000, "{serving}");

    // A version that cannot be used changes nothing but the state.
    drop_in(&gateway, "redact.wasm", &wat::parse_str("(module)").unwrap());
    let stale = until_state(&gateway, "redact", "stale").await;
    let error = stale["error"].as_str().unwrap();
    assert!(error.starts_with("redact.wasm: ") && error.contains("core module"), "{error}");
    assert_eq!(stale["sha256"], sha256, "the last good version serves");
    upstream.reply(Reply::text("secret"));
    assert_eq!(gateway.complete(&ask("hi")).await["choices"][0]["message"]["content"], "redacted");

    drop_in(&gateway, "redact.wasm", &good);
    until_state(&gateway, "redact", "serving").await;
    drop_in(&gateway, "redact.toml", b"enabled = false");
    until_state(&gateway, "redact", "disabled").await;
    drop_in(
        &gateway,
        "redact.toml",
        b"order = 5\nnetwork = [\"api.example.com\"]\n[config]\nwords = [\"x\"]",
    );
    let granted = until_state(&gateway, "redact", "serving").await;
    assert!(granted["grants"]["network"][0].as_str().unwrap().contains("api.example.com"), "{granted}");
    drop_in(&gateway, "redact.toml", b"oder = 5");
    let wrong = until_state(&gateway, "redact", "stale").await;
    let error = wrong["error"].as_str().unwrap();
    assert!(error.starts_with("redact.toml:1:1:") && error.contains("order"), "{error}");

    std::fs::remove_file(gateway.folder().join("plugins/redact.wasm")).unwrap();
    eventually("it is gone", async || plugin(&gateway, "redact").await.is_null()).await;
}

#[tokio::test]
async fn a_reload_is_asked_for_or_signalled() {
    let upstream = Upstream::start();
    let gateway = gateway_with(&upstream, &[]).config(ON_DEMAND).start().await;
    drop_in(&gateway, "one.wasm", &component::replacing("1"));
    drop_in(&gateway, "bad.wasm", b"\0asm");
    drop_in(&gateway, "stray.cwasm", b"x");
    assert_eq!(plugin(&gateway, "one").await, Value::Null, "nobody watches");
    let report = as_operator(&gateway, "POST", "/api/v1/plugins/reload").await.expect(200);
    let of = |name: &str| {
        let plugins = report["plugins"].as_array().unwrap();
        plugins
            .iter()
            .find(|plugin| plugin["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {report}"))
            .clone()
    };
    assert_eq!(of("one"), json!({"name": "one", "change": "loaded", "error": null}));
    assert_eq!(of("bad")["change"], "failed");
    assert!(of("bad")["error"].as_str().unwrap().starts_with("bad.wasm: "), "{report}");
    assert!(report["generation"].as_u64().unwrap() >= 1, "{report}");
    let list = as_operator(&gateway, "GET", "/api/v1/plugins").await.expect(200);
    assert_eq!((&list["generation"], &list["warnings"]), (&report["generation"], &report["warnings"]));
    assert!(list["warnings"].to_string().contains("stray.cwasm: precompiled code is never loaded"), "{list}");
    for listed in list["plugins"].as_array().unwrap() {
        assert_eq!(*listed, plugin(&gateway, listed["name"].as_str().unwrap()).await);
    }

    drop_in(&gateway, "two.wasm", &component::replacing("2"));
    kill(Pid::from_raw(gateway.pid()), Signal::SIGHUP).unwrap();
    until_state(&gateway, "two", "serving").await;
    eventually("the log tells", async || gateway.log().contains("SIGHUP: the plugins folder was looked at"))
        .await;
}

#[tokio::test]
async fn readiness_tells_of_plugins() {
    let upstream = Upstream::start();
    let gateway = gateway_with(&upstream, &[("ok.wasm", &component::replacing("x"))]).start().await;
    let state = |ready: &Value, name: &str| {
        let plugins = ready["components"]["plugins"]["plugins"].as_array().unwrap().clone();
        plugins.into_iter().find(|plugin| plugin["name"] == name).map(|plugin| plugin["state"].clone())
    };
    let ready = gateway.get("/readyz").await.expect(200);
    assert_eq!(ready["components"]["plugins"]["status"], "ready", "{ready}");
    assert_eq!(state(&ready, "ok"), Some(json!("serving")));

    drop_in(&gateway, "torn.wasm", b"\0asm\x0d\0\x01\0torn");
    until_state(&gateway, "torn", "failed").await;
    let ready = gateway.get("/readyz").await.expect(200);
    assert_eq!(
        (&ready["status"], &ready["components"]["plugins"]["status"]),
        (&json!("degraded"), &json!("degraded"))
    );
    assert!(!ready.to_string().contains("torn.wasm"), "anyone may ask, so that errors are not told: {ready}");

    // What it would have refused is not known.
    drop_in(&gateway, "guard.toml", b"unknown = 1");
    drop_in(&gateway, "guard.wasm", &component::auth("(i32.const 1024)"));
    until_ready(&gateway, 503).await;
    std::fs::remove_file(gateway.folder().join("plugins/guard.wasm")).unwrap();
    until_ready(&gateway, 200).await;
}

async fn until_ready(gateway: &Gateway, status: u16) {
    eventually(&format!("readiness is {status}"), async || gateway.get("/readyz").await.status == status)
        .await;
}

#[tokio::test]
async fn a_required_plugin_that_is_missing_stops_everything_but_probes() {
    let upstream = Upstream::start();
    let required = "[plugins]\nrequired = [\"redact\"]";
    let gateway = gateway_with(&upstream, &[]).config(required).start().await;
    let ready = gateway.get("/readyz").await.expect(503);
    assert_eq!(ready["components"]["plugins"]["status"], "unavailable", "{ready}");
    let words = gateway.post("/v1/chat/completions", &ask("hi")).await.words(503);
    assert!(words.contains("the plugin `redact` has to be there"), "{words}");
    gateway.get("/healthz").await.expect(200);
    gateway.until_logged(&["plugins.required: not serving: redact"]).await;
    drop_in(&gateway, "redact.wasm", &component::replacing("redacted"));
    until_ready(&gateway, 200).await;
    upstream.reply(Reply::text("secret"));
    assert_eq!(gateway.complete(&ask("hi")).await["choices"][0]["message"]["content"], "redacted");
}

#[tokio::test]
async fn calls_are_counted() {
    let upstream = Upstream::start();
    let files: [(&str, &[u8]); 2] = [("redact.wasm", &component::replacing("redacted")), ("off.wasm", b"")];
    let gateway = gateway_with(&upstream, &files).sqlite().start().await;
    upstream.replies([Reply::text("one"), Reply::text("two")]);
    gateway.complete(&ask("hi")).await;
    gateway.stream(&ask_stream("hi")).await;
    let stats = plugin(&gateway, "redact").await;
    assert_eq!(
        (&stats["calls"], &stats["running"], &stats["errors"]),
        (&json!(2), &json!(0), &json!({})),
        "{stats}"
    );
    assert!(
        stats["p50_us"].as_u64() > Some(0) && stats["p99_us"].as_u64() >= stats["p50_us"].as_u64(),
        "{stats}"
    );
    assert!(stats["memory_high_water_bytes"].as_u64() >= Some(2 * 65536), "{stats}");

    let text = metrics(&gateway).await;
    for line in [
        "witgate_plugin_calls_total{plugin=\"redact\"} 2",
        "witgate_plugin_call_duration_seconds_count{plugin=\"redact\"} 2",
        "witgate_plugin_call_duration_seconds_bucket{le=\"+Inf\",plugin=\"redact\"} 2",
        "witgate_plugin_state{plugin=\"redact\",state=\"serving\"} 1",
        "witgate_plugin_state{plugin=\"off\",state=\"failed\"} 1",
        "witgate_plugin_circuit_open{plugin=\"redact\"} 0",
        "witgate_http_requests_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"200\"} 2",
        "witgate_http_requests_in_flight ",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line} is not in:\n{text}");
    }
}

#[tokio::test]
async fn failures_and_refusals_are_counted() {
    let upstream = Upstream::start();
    let trap = component::response("unreachable");
    let gateway = gateway_with(&upstream, &[("faulty.wasm", &trap)]).start().await;
    upstream.replies((0..6).map(|_| Reply::text("x")));
    for _ in 0..6 {
        let answer = gateway.post("/v1/chat/completions", &ask("hi")).await;
        assert!(answer.status >= 500, "on_failure is \"closed\": {}", answer.text());
        assert!(!answer.text().contains("unreachable"), "{}", answer.text());
    }
    let broken = plugin(&gateway, "faulty").await;
    assert_eq!((&broken["state"], &broken["circuit_open"]), (&json!("broken"), &json!(true)), "{broken}");
    assert_eq!(
        (&broken["calls"], &broken["errors"]),
        (&json!(5), &json!({"trap": 5, "circuit_open": 1})),
        "{broken}"
    );
    let ready = gateway.get("/readyz").await.expect(200);
    assert_eq!(ready["components"]["plugins"]["status"], "degraded");
    let text = metrics(&gateway).await;
    assert!(text.contains("witgate_plugin_errors_total{plugin=\"faulty\",kind=\"trap\"} 5\n"), "{text}");
    assert!(text.contains("witgate_plugin_circuit_open{plugin=\"faulty\"} 1.0\n"), "{text}");
    gateway.until_logged(&["plugin `faulty` trapped"]).await;
    gateway.until_logged(&["the plugin keeps failing"]).await;
}

/// Reads the metrics with the strict parser of the project that the format comes from.
#[tokio::test]
async fn metrics_are_openmetrics() {
    let upstream = Upstream::start();
    let odd = component::replacing("x");
    let gateway =
        gateway_with(&upstream, &[("redact.wasm", &odd), ("torn.wasm", b"")]).sqlite().start().await;
    upstream.replies([
        Reply::calls([call("c1", "list_tables", &json!({})), call("c2", "read_query", &json!({"query": 7}))]),
        Reply::text("done"),
    ]);
    gateway.complete(&ask("which tables are there?")).await;
    gateway.request("BREW", "/no/such/\"place\"").send().await;
    let text = metrics(&gateway).await;
    let Some(parser) = python("tests/clients/openmetrics.py") else { return };
    let parsed: Value = serde_json::from_str(&run(parser, &text).await.output()).unwrap();
    let value = |name: &str, labels: &[(&str, &str)]| {
        let samples = parsed[name].as_array().unwrap_or_else(|| panic!("{name}: {parsed:#}"));
        let fits = |sample: &&Value| labels.iter().all(|(key, value)| sample["labels"][key] == *value);
        samples.iter().filter(fits).map(|sample| sample["value"].as_f64().unwrap()).sum::<f64>()
    };
    let calls = |outcome, tool| value("witgate_tool_calls_total", &[("outcome", outcome), ("tool", tool)]);
    assert_eq!((calls("success", "list_tables"), calls("invalid_arguments", "read_query")), (1.0, 1.0));
    assert_eq!(value("witgate_http_requests_total", &[("route", "none"), ("method", "other")]), 1.0);
    assert_eq!(value("witgate_plugin_state", &[("plugin", "torn")]), 1.0, "one state at a time");
    assert_eq!(value("witgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(value("witgate_plugins_generation", &[]) >= 1.0);
}

/// `witgate check --json` in `folder`: exit code and the findings on plugins.
fn check(folder: &Path) -> (Option<i32>, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
    command.args(["check", "--offline", "--json", "--port", "0"]).current_dir(folder).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let about_plugins = |finding: &&Value| finding["area"] == "plugins" || finding["name"] == "plugin cache";
    (
        output.status.code(),
        report["checks"].as_array().unwrap().iter().filter(about_plugins).cloned().collect(),
    )
}

#[test]
fn check_tells_of_every_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::write(plugins.join("redact.wasm"), component::replacing("x")).unwrap();
    std::fs::write(plugins.join("redact.toml"), "network = [\"api.example.com\"]").unwrap();
    let (code, findings) = check(folder.path());
    let of = |findings: &[Value], name: &str| {
        let found = findings.iter().find(|finding| finding["name"] == name);
        found.unwrap_or_else(|| panic!("nothing about {name} in {findings:#?}")).clone()
    };
    assert_eq!(code, Some(0), "{findings:#?}");
    assert_eq!(
        (&of(&findings, "redact")["state"], &of(&findings, "redact")["summary"]),
        (&json!("ok"), &json!("response"))
    );
    assert!(
        of(&findings, "redact")["details"][0].as_str().unwrap().contains("api.example.com"),
        "{findings:#?}"
    );
    assert_eq!(of(&findings, "plugin cache")["state"], "ok");
    assert!(!folder.path().join("data").exists(), "a check changes nothing");

    std::fs::write(plugins.join("torn.wasm"), "<html>").unwrap();
    std::fs::write(plugins.join("off.wasm"), component::replacing("x")).unwrap();
    std::fs::write(plugins.join("off.toml"), "enabled = false").unwrap();
    std::fs::write(folder.path().join("gateway.toml"), "[plugins]\nrequired = [\"absent\", \"off\"]")
        .unwrap();
    std::fs::create_dir_all(folder.path().join("data/cache")).unwrap();
    std::fs::write(folder.path().join("data/cache/plugins"), "a file in the way").unwrap();
    let (code, findings) = check(folder.path());
    assert_eq!(code, Some(1));
    for (name, words) in [
        ("torn", "torn.wasm: "),
        ("off", "plugins.required names it"),
        ("absent", "there is no absent.wasm"),
        ("plugin cache", "plugins.cache_dir"),
    ] {
        let finding = of(&findings, name);
        assert_eq!(finding["state"], "failed", "{finding}");
        assert!(finding["summary"].as_str().unwrap().contains(words), "{finding}");
    }
    assert_eq!(of(&findings, "redact")["state"], "ok", "an unusable cache does not hide the plugins");
}
