//! Users, keys and logins over HTTP and on the command line: the reference's tables of credentials and errors, who may
//! change what, and what is written down of it.

mod audit;
mod command_line;
mod keys;
pub(crate) mod login;
mod races;
mod users;

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::gateway::Builder;
use crate::harness::program::{self, Finished};
use crate::harness::{Answer, Gateway};

pub(crate) const KEYS: &str = "/api/v1/keys";
pub(crate) const USERS: &str = "/api/v1/users";
pub(crate) const TOOLS: &str = "/api/v1/mcp/tools";
pub(crate) const CALL: &str = "/api/v1/mcp/tools/call";

/// The key in `WITGATE_API_KEY`.
pub(crate) const STATIC: &str = "wk-the-static-key";

/// Passwords of those who have one.
pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// A gateway with tools, whose first admin has [`PASSWORD`].
pub(crate) fn builder() -> Builder {
    Gateway::builder().sqlite().env("WITGATE_API_KEY", STATIC)
}

/// A gateway, and the key of an admin called `root`.
pub(crate) async fn start() -> (Gateway, String) {
    let builder = builder();
    let folder = builder.folder().to_owned();
    let root = admin(&folder).await;
    (builder.start().await, root)
}

/// Makes an admin called `root`, and a key of it that may do everything.
pub(crate) async fn admin(folder: &Path) -> String {
    access(folder, &["user", "add", "root", "--role", "admin", "--password-stdin"], PASSWORD).await.output();
    let all = ["chat", "tools:list", "tools:call", "plugins", "metrics", "admin"];
    let mut line = vec!["key", "create", "all", "--user", "root"];
    line.extend(all.iter().flat_map(|scope| ["--scope", scope]));
    access(folder, &line, "").await.output().trim().to_owned()
}

/// Runs `witgate access`.
pub(crate) async fn access(folder: &Path, arguments: &[&str], input: &str) -> Finished {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_witgate"));
    command.arg("access").args(arguments).current_dir(folder).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    program::run(command, input).await
}

/// A request with a key or token.
pub(crate) async fn with(gateway: &Gateway, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let request = gateway.request(method, path).header("authorization", &format!("Bearer {key}"));
    if body.is_null() { request.send().await } else { request.json(body).send().await }
}

pub(crate) async fn get(gateway: &Gateway, key: &str, path: &str) -> Answer {
    with(gateway, key, "GET", path, &Value::Null).await
}

pub(crate) async fn post(gateway: &Gateway, key: &str, path: &str, body: &Value) -> Answer {
    with(gateway, key, "POST", path, body).await
}

/// Makes a user with [`PASSWORD`]; returns its number.
pub(crate) async fn add_user(gateway: &Gateway, root: &str, name: &str, role: &str) -> i64 {
    let mut body = json!({"name": name, "role": role});
    if role != "service" {
        body["password"] = PASSWORD.into();
    }
    post(gateway, root, USERS, &body).await.expect(201)["id"].as_i64().unwrap()
}

/// Makes a key; returns its id and its text.
pub(crate) async fn add_key(gateway: &Gateway, root: &str, body: &Value) -> (String, String) {
    let made = post(gateway, root, KEYS, body).await.expect(201);
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

/// The events in the audit log of `folder`; a running gateway writes them within moments.
pub(crate) fn events(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("data/audit/audit.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
