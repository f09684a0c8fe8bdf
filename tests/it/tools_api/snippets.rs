//! The examples of the API's reference, unchanged but for the host, the password and the credential: curl, Python,
//! TypeScript.
//!
//! They lie in `tests/data/rest` as they were written. The tools they name are those of `subscribe-server.sh`.

use tokio::process::Command;

use super::{KEY, builder};
use crate::harness::Gateway;
use crate::harness::program::{node, python, repository, run};
use crate::identity_http::PASSWORD;
use crate::identity_http::login::token;

/// A gateway with the user `admin`, and what may stand for `your_access_token`: the key, and a token from a login.
async fn start() -> (Gateway, [String; 2]) {
    let gateway = builder().env("WITGATE_ADMIN_PASSWORD", PASSWORD).start().await;
    let token = token(&gateway, "admin").await;
    (gateway, [KEY.to_owned(), token])
}

/// The example `name` with the words that are there to be replaced.
fn snippet(name: &str, gateway: &Gateway, words: &[(&str, &str)]) -> String {
    let mut text = std::fs::read_to_string(repository(&format!("tests/data/rest/{name}"))).unwrap();
    let host = gateway.address().to_string();
    for (old, new) in words.iter().chain(&[("localhost:3001", host.as_str())]) {
        assert!(text.contains(old), "{name} has no {old}");
        text = text.replace(old, new);
    }
    text
}

/// Whether the machine has `program`, which no package of the test clients brings along.
fn is_there(program: &str) -> bool {
    let found = std::process::Command::new(program).arg("--version").output().is_ok();
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is not installed");
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

#[tokio::test]
async fn curl() {
    if !is_there("curl") || !is_there("jq") {
        return;
    }
    let (gateway, _) = start().await;
    let script = snippet("curl.sh", &gateway, &[("your_password", PASSWORD)]);
    let mut shell = Command::new("sh");
    shell.arg("-e");
    let said = run(shell, &script).await.output();
    // What its three requests are answered, one behind the other.
    let answers: Vec<serde_json::Value> =
        serde_json::Deserializer::from_str(&said).into_iter().map(Result::unwrap).collect();
    let [list, call, tool] = &answers[..] else { panic!("no three answers: {said}") };
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["add_subscribe", "query_subscribes", "fail", "slow", "picture", "steps"]);
    assert_eq!(
        (&call["success"], &call["result"], &call["error"]),
        (&true.into(), &"共 2 个订阅".into(), &serde_json::Value::Null)
    );
    assert_eq!(tool, &list[0]);
}

#[tokio::test]
async fn python_requests() {
    let (gateway, credentials) = start().await;
    for credential in credentials {
        let Some(command) = python("tests/data/rest/python.py") else { return };
        let script = gateway.folder().join("snippet.py");
        let text = snippet("python.py", &gateway, &[("your_access_token", &credential)]);
        std::fs::write(&script, text).unwrap();
        let mut fresh = Command::new(command.as_std().get_program());
        fresh.arg(script).env("PYTHONUTF8", "1");
        let said = run(fresh, "").await.output();
        assert!(said.contains("可用工具数量: 6"), "{said}");
        assert!(said.contains("执行结果: 成功添加订阅:流浪地球 (2019)"), "{said}");
        assert!(said.contains("工具Schema: {'type': 'object'"), "{said}");
    }
}

#[tokio::test]
async fn typescript() {
    let (gateway, credentials) = start().await;
    for credential in credentials {
        let Some(mut command) = node("tests/clients/rest_typescript.mjs", gateway.folder()) else { return };
        let script = gateway.folder().join("snippet.ts");
        let text = snippet("typescript.ts", &gateway, &[("your_access_token", &credential)]);
        std::fs::write(&script, text).unwrap();
        command.env("SNIPPET", script).env("NODE_NO_WARNINGS", "1");
        let said = run(command, "").await.output();
        assert!(said.contains("success: true") && said.contains("result: '共 2 个订阅'"), "{said}");
        assert!(said.ends_with("6\n"), "{said}");
    }
}
