//! `/openapi.json` and `/docs`: for everybody, with the tools for those who may list them, and true.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::process::Command;

use super::{KEY, builder, get, start};
use crate::harness::mcp;
use crate::harness::program::{repository, run};
use crate::identity_http::PASSWORD;
use crate::identity_http::login::token;

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

    assert_eq!(document["servers"], json!([{"url": "/"}]), "by whatever address it was read");

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

/// Who makes the requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    /// With a token from a login, which may do everything.
    Admin,
}

/// Requests of all kinds, right and wrong, made from the document: every answer must be one that it tells of.
///
/// That is all that the document has but MCP, which has errors of its own and a suite of its own: the login (whose
/// throttle answers 429 here), users and keys with it. Rate limits have a suite of their own, too.
async fn try_everything(who: Who) {
    let Some(program) = schemathesis() else { return };
    // `slow` would take its whole time limit for every request.
    let builder = builder().sqlite().env("WITGATE_TOOLS__CALL_TIMEOUT_MS", "100");
    let gateway = builder.env("WITGATE_ADMIN_PASSWORD", PASSWORD).start().await;
    let mut settings = std::fs::read_to_string(repository("tests/clients/schemathesis.toml")).unwrap();
    let mut document = gateway.request("GET", DOCUMENT);
    let mut check = gateway.request("GET", "/api/v1/users/me");
    if who == Who::Admin {
        let token = token(&gateway, "admin").await;
        settings.push_str(&format!("\n[auth.openapi.bearer]\nbearer = {token:?}\n"));
        document = document.header("x-api-key", &token);
        check = check.header("x-api-key", &token);
    }
    let file = gateway.folder().join("schemathesis.toml");
    std::fs::write(&file, settings).unwrap();
    let place = gateway.folder().join("openapi.json");
    std::fs::write(&place, document.send().await.expect(200).to_string()).unwrap();
    let mut command = Command::new(program);
    command.current_dir(gateway.folder()).env("NO_COLOR", "1").arg("--config-file").arg(file);
    command.arg("run").arg(place).arg("--url").arg(gateway.url());
    // The same requests each time, and not too many: this is for what people forget, not for rare chances. Its health
    // checks are about how fast it makes them up, which the load of the machine decides.
    command.args(["--generation-deterministic", "--max-examples", "12", "--no-shrink", "--workers", "1"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure"]);
    command.args(["--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off"]);
    command.args(["--exclude-path-regex", "^/mcp|^/api/v1/mcp$"]);
    let said = run(command, "").await.output();
    assert!(said.contains("Tested: "), "nothing was tried: {said}");
    if who == Who::Admin {
        gateway.until_logged(&["tool call finished", "user:1"]).await;
    }
    let log = gateway.log();
    let calls = log.lines().any(|line| line.contains("tool call finished") && line.contains("user:1"));
    assert_eq!(calls, who == Who::Admin, "calls are made where there is a token, and only there");
    let wanted = if who == Who::Admin { 200 } else { 401 };
    assert_eq!(check.send().await.status, wanted, "a request of the run ended the token of the run");
}

#[tokio::test]
async fn the_gateway_answers_as_the_document_says_with_a_token() {
    try_everything(Who::Admin).await;
}

#[tokio::test]
async fn the_gateway_answers_as_the_document_says_without() {
    try_everything(Who::Nobody).await;
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
