//! Tests of the operator's file: what it may say, and how each fault is told.

use super::*;

fn variables() -> Variables {
    [("API_TOKEN", "s3cret"), ("TZ", "UTC"), ("EMPTY", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .collect()
}

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse("redact.toml", text, &variables(), &Config::default()).map_err(|error| error.message)
}

#[test]
fn no_text_means_no_grant() {
    assert_eq!(parse(""), Ok(Manifest::default()));
    let manifest = Manifest::default();
    assert!(manifest.enabled && manifest.network.is_empty() && manifest.files.is_empty());
    assert!(manifest.env.is_empty() && manifest.secrets.is_empty() && manifest.headers.is_empty());
    assert_eq!(manifest.on_failure, OnFailure::Closed);
    assert!(manifest.applies_to.includes("/v1/chat/completions", "gpt-4"));
}

#[test]
fn every_key_is_read() {
    let manifest = parse(
        r#"
enabled = false
order = -5
on_failure = "open"
applies_to = { endpoints = ["/v1/*"], models = ["gpt-*", "local"] }
body = "buffered"
network = ["api.example.com:443", "*.example.org"]
env = ["TZ", "MODE=fast=yes", "NONE="]
secrets = { token = "API_TOKEN" }
headers = ["Authorization", "?apikey"]

[limits]
memory_mb = 128
call_timeout_ms = 250
fuel = 1000000
max_output_kb = 64
max_concurrency = 4
queue_timeout_ms = 0

[config]
words = ["a", "b"]
nested = { deep = 1.5, on = true }

[[files]]
host = "./lists"
guest = "/lists/"
mode = "write"
"#,
    )
    .unwrap();
    assert!(!manifest.enabled);
    assert_eq!(
        (manifest.order, manifest.on_failure, manifest.body),
        (-5, OnFailure::Open, Some(Body::Buffered))
    );
    assert!(
        manifest.applies_to.includes("/v1/x", "local") && !manifest.applies_to.includes("/chat", "local")
    );
    assert!(!manifest.applies_to.includes("/v1/x", "other"));
    assert_eq!(
        manifest.network.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["https://api.example.com:443", "https://*.example.org:443"]
    );
    let env: Vec<_> = manifest.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(env, [("MODE", "fast=yes"), ("NONE", ""), ("TZ", "UTC")]);
    assert_eq!(manifest.secrets["token"].expose(), "s3cret");
    assert!(!format!("{manifest:?}").contains("s3cret"));
    assert!(manifest.shows_header("authorization") && !manifest.shows_header("cookie"));
    assert!(manifest.shows_query_key("apikey") && !manifest.shows_query_key("authorization"));
    assert_eq!(manifest.limits.call_timeout(Hook::Tool), Duration::from_millis(250));
    assert_eq!(manifest.limits.queue_timeout(), Duration::ZERO);
    assert_eq!((manifest.limits.memory_bytes(), manifest.limits.max_output_bytes()), (128 << 20, 64 << 10));
    let config = serde_json::Value::Object(manifest.config);
    assert_eq!(config.to_string(), r#"{"words":["a","b"],"nested":{"deep":1.5,"on":true}}"#);
    let file = &manifest.files[0];
    assert_eq!(
        (file.host.to_str(), file.guest.as_str(), file.mode),
        (Some("./lists"), "/lists", FileMode::Write)
    );
}

#[test]
fn the_time_for_a_call_depends_on_what_it_is_for() {
    let limits = Limits::default();
    assert!(limits.call_timeout(Hook::Auth) < limits.call_timeout(Hook::Response));
    assert!(limits.call_timeout(Hook::Response) < limits.call_timeout(Hook::Load));
    assert!(limits.call_timeout(Hook::Load) < limits.call_timeout(Hook::Tool));
}

#[test]
fn faults_name_line_key_and_remedy() {
    for (text, error) in [
        ("oder = 1", "redact.toml:1:1: unknown key oder; did you mean order?"),
        ("\n[limits]\nmemory = 1", "redact.toml:3:1: unknown key limits.memory; did you mean memory_mb?"),
        (
            "body = \"streaming\"",
            "redact.toml:1:8: body must be one of buffered, streamed, not \"streaming\"; did you mean streamed?",
        ),
        ("on_failure = true", "redact.toml:1:14: on_failure must be one of closed, open, not true"),
        (
            "[limits]\nmemory_mb = 0",
            "redact.toml:2:13: limits.memory_mb: must be a whole number from 1 to 4096, not 0",
        ),
        ("order = \"first\"", "redact.toml:1:9: order must be a whole number, not the string \"first\""),
        (
            "network = [\n  \"ok.example\",\n  \"ftp://x.example\",\n]",
            "redact.toml:3:3: network[1]: \"ftp://x.example\" is not a network grant: \"ftp\" is neither http nor https",
        ),
        (
            "secrets = { token = \"NOPE\" }",
            "redact.toml: secrets.token: the variable NOPE is not set; set it in the gateway's environment or in .env",
        ),
        (
            "env = [\"EMPTY\"]",
            "redact.toml: env: the variable EMPTY is not set; set it in the gateway's environment or in .env",
        ),
        (
            "applies_to = { models = [] }",
            "redact.toml:1:25: applies_to.models: an empty list would mean no request at all; use enabled = false for that",
        ),
        (
            "files = [{ host = \"a\", guest = \"../x\" }]",
            "redact.toml:1:32: files[0].guest: \"../x\" is not an absolute path without . and .., for example \"/data\"",
        ),
        (
            "files = [{ host = \"a\", guest = \"/x\" }, { host = \"b\", guest = \"/x/\" }]",
            "redact.toml: files[1].guest: /x is granted twice",
        ),
        ("files = [{ guest = \"/x\" }]", "redact.toml:1:10: files[0] lacks the key host"),
        (
            "limits.memory_mb = 1024",
            "redact.toml: limits.memory_mb is 1024, but plugins.max_instance_memory_mb in gateway.toml allows 256",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err(), error, "{text}");
    }
    let broken = parse("order = 1\norder 2").unwrap_err();
    assert!(broken.starts_with("redact.toml:2:") && broken.contains("not valid TOML"), "{broken}");
}

#[test]
fn all_faults_are_told_at_once_and_no_secret_with_them() {
    let error = parse("oder = 1\nbdy = 2\nsecrets = { a = \"X\" }\n").unwrap_err();
    assert_eq!(error.lines().count(), 2, "{error}");
    let error = parse("secrets = { a = \"X1\", b = \"X2\" }\nenv = [\"X3\"]").unwrap_err();
    assert_eq!(error.lines().count(), 3, "{error}");
    let error = parse("env = [\"=hunter2\"]").unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
}
