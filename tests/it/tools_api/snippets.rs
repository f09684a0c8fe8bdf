//! The examples of the API's reference, unchanged but for the host and the credential: curl, Python, TypeScript.
//!
//! They lie in `tests/data/rest` as they were written. The tools they name are those of `subscribe-server.sh`.

use tokio::process::Command;

use super::{KEY, builder};
use crate::harness::Gateway;
use crate::harness::program::{node, python, repository, run};

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

#[tokio::test]
async fn python_requests() {
    let gateway = builder().start().await;
    let Some(mut command) = python("tests/data/rest/python.py") else { return };
    let script = gateway.folder().join("snippet.py");
    std::fs::write(&script, snippet("python.py", &gateway, &[("your_access_token", KEY)])).unwrap();
    command = {
        let mut fresh = Command::new(command.as_std().get_program());
        fresh.arg(script).env("PYTHONUTF8", "1");
        fresh
    };
    let said = run(command, "").await.output();
    assert!(said.contains("可用工具数量: 6"), "{said}");
    assert!(said.contains("执行结果: 成功添加订阅:流浪地球 (2019)"), "{said}");
    assert!(said.contains("工具Schema: {'type': 'object'"), "{said}");
}

#[tokio::test]
async fn typescript() {
    let gateway = builder().start().await;
    let Some(mut command) = node("tests/clients/rest_typescript.mjs", gateway.folder()) else { return };
    let script = gateway.folder().join("snippet.ts");
    std::fs::write(&script, snippet("typescript.ts", &gateway, &[("your_access_token", KEY)])).unwrap();
    command.env("SNIPPET", script).env("NODE_NO_WARNINGS", "1");
    let said = run(command, "").await.output();
    assert!(said.contains("success: true") && said.contains("result: '共 2 个订阅'"), "{said}");
    assert!(said.ends_with("6\n"), "{said}");
}
