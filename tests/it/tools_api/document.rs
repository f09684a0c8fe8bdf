//! `/openapi.json` and `/docs`: for everybody, with the tools for those who may list them, and true.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::process::Command;

use super::{KEY, builder, get, start};
use crate::harness::mcp;
use crate::harness::program::{repository, run};

const DOCUMENT: &str = "/openapi.json";

#[tokio::test]
async fn tools_are_in_the_document_of_those_who_may_list_them() {
    let gateway = start().await;
    let open = gateway.get(DOCUMENT).await;
    let document = open.expect(200);
    assert_eq!((&document["openapi"], &document["info"]["title"]), (&json!("3.1.0"), &json!("witgate")));
    assert!(document["paths"].get("/api/v1/tools/add_subscribe").is_none());
    assert!(document["paths"].get("/v1/chat/completions").is_some());

    let answer = get(&gateway, DOCUMENT).await;
    let document = answer.expect(200);
    let operation = &document["paths"]["/api/v1/tools/add_subscribe"]["post"];
    assert_eq!(
        (&operation["operationId"], &operation["summary"]),
        (&json!("add_subscribe"), &json!("Add a subscription"))
    );
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    let pointer = schema.as_str().unwrap().strip_prefix('#').unwrap();
    assert_eq!(document.pointer(pointer).unwrap()["required"], json!(["title", "year", "media_type"]));
    let answer_of = &document["paths"]["/api/v1/tools/query_subscribes"]["post"]["responses"]["200"];
    assert!(answer_of.to_string().contains("query_subscribes.structuredContent"), "{answer_of}");

    assert_ne!(answer.header("etag"), open.header("etag"));
    let tag = answer.header("etag").unwrap();
    let known =
        gateway.request("GET", DOCUMENT).header("x-api-key", KEY).header("if-none-match", tag).send().await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    // A key that is wrong is not taken for none.
    gateway.request("GET", DOCUMENT).header("x-api-key", "wrong").send().await.words(401);
}

#[tokio::test]
async fn the_page_is_whole_and_may_load_nothing_from_elsewhere() {
    let gateway = start().await;
    let page = gateway.get("/docs").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"),
        "{policy}"
    );
    let text = page.text();
    let mut files = 0;
    for part in text.split(['"']).filter(|part| part.starts_with("docs/")) {
        let file = gateway.get(&format!("/{part}")).await;
        assert_eq!(file.status, 200, "{part}");
        assert!(file.body.len() > 500, "{part}");
        let kind = file.header("content-type").unwrap();
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        let wanted = match part.rsplit('.').next() {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            _ => "image/png",
        };
        assert!(kind.starts_with(wanted), "{part}: {kind}");
        files += 1;
    }
    assert_eq!(files, 4);
    assert!(!text.contains("http"), "the page names another place: {text}");
    for name in ["swagger-initializer.js", "..%2fpage.html", "%ff", "index.html"] {
        let answer = gateway.get(&format!("/docs/{name}")).await;
        assert!(matches!(answer.status, 400 | 404), "{name}: {}", answer.status);
    }
    let links = gateway.get("/").await.expect(200)["links"].clone();
    assert_eq!((&links["docs"], &links["openapi"]), (&json!("/docs"), &json!(DOCUMENT)));
}

/// The program of the test clients' `schemathesis`; `None` where they are not installed.
fn schemathesis() -> Option<PathBuf> {
    let program = mcp::python()?.with_file_name("schemathesis");
    if program.exists() {
        return Some(program);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "schemathesis is not installed");
    eprintln!("SKIPPED: schemathesis is not installed: run tests/clients/setup.sh");
    None
}

/// Requests of all kinds, right and wrong, made from the document: every answer must be one that it tells of.
async fn try_everything(key: Option<&str>) {
    let Some(program) = schemathesis() else { return };
    // `slow` would take its whole time limit for every request.
    let gateway = builder().sqlite().env("WITGATE_TOOLS__CALL_TIMEOUT_MS", "100").start().await;
    let mut settings = std::fs::read_to_string(repository("tests/clients/schemathesis.toml")).unwrap();
    if let Some(key) = key {
        settings.push_str(&format!("\n[auth.openapi.apiKey]\napi_key = {key:?}\n"));
    }
    let file = gateway.folder().join("schemathesis.toml");
    std::fs::write(&file, settings).unwrap();
    let document = match key {
        None => gateway.get(DOCUMENT).await,
        Some(_) => get(&gateway, DOCUMENT).await,
    };
    let place = gateway.folder().join("openapi.json");
    std::fs::write(&place, document.expect(200).to_string()).unwrap();
    let mut command = Command::new(program);
    command.current_dir(gateway.folder()).env("NO_COLOR", "1").arg("--config-file").arg(file);
    command.arg("run").arg(place).arg("--url").arg(gateway.url());
    // The same requests each time, and not too many: this is for what people forget, not for rare chances.
    command.args([
        "--seed",
        "7",
        "--max-examples",
        "12",
        "--phases",
        "examples,coverage,fuzzing",
        "--no-shrink",
    ]);
    command.args([
        "--workers",
        "1",
        "--request-timeout",
        "20",
        "--suppress-health-check",
        "all",
        "--warnings",
        "off",
    ]);
    // MCP has errors of its own and a suite of its own.
    command.args(["--exclude-path-regex", "^/mcp|^/api/v1/mcp$", "--continue-on-failure"]);
    let said = run(command, "").await.output();
    assert!(said.contains("Tested: "), "nothing was tried: {said}");
    let log = gateway.log();
    let by_key = log.lines().any(|line| line.contains("tool call finished") && line.contains("key:static"));
    assert_eq!(by_key, key.is_some(), "calls are made where there is a key, and only there");
}

#[tokio::test]
async fn the_gateway_answers_as_the_document_says_with_a_key() {
    try_everything(Some(KEY)).await;
}

#[tokio::test]
async fn the_gateway_answers_as_the_document_says_without() {
    try_everything(None).await;
}

#[tokio::test]
async fn schemas_of_every_kind_make_a_whole_document() {
    let gateway = builder().sqlite().start().await;
    let document = get(&gateway, DOCUMENT).await.expect(200);
    let mut pending = vec![&document];
    while let Some(value) = pending.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
        }
        match value {
            Value::Object(object) => pending.extend(object.values()),
            Value::Array(list) => pending.extend(list),
            _ => {}
        }
    }
}
