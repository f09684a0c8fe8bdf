//! `witgate access user` and `witgate access key`, also beside a running gateway.

use std::time::{Duration, Instant};

use super::*;
use crate::harness::PATIENCE;

#[tokio::test]
async fn a_running_gateway_follows_the_command_line() {
    let (gateway, _) = start().await;
    let folder = gateway.folder().to_owned();
    access(&folder, &["user", "add", "robot", "--role", "service", "--scope", "tools:list"], "")
        .await
        .output();
    let key =
        access(&folder, &["key", "create", "job", "--user", "robot"], "").await.output().trim().to_owned();
    becomes(&gateway, &key, 200).await;
    let keys = access(&folder, &["key", "list", "--user", "robot", "--json"], "").await.output();
    let keys: Value = serde_json::from_str(&keys).unwrap();
    assert_eq!((&keys[0]["name"], &keys[0]["scopes"]), (&json!("job"), &json!(["tools:list"])));
    access(&folder, &["user", "disable", "robot"], "").await.output();
    becomes(&gateway, &key, 401).await;
    access(&folder, &["user", "enable", "robot"], "").await.output();
    becomes(&gateway, &key, 200).await;
    let id = keys[0]["id"].as_str().unwrap();
    access(&folder, &["key", "revoke", id], "").await.output();
    becomes(&gateway, &key, 401).await;
    let table = access(&folder, &["key", "list"], "").await.output();
    assert!(table.contains("revoked") && table.starts_with("ID"), "{table}");
    assert!(!table.contains(key.rsplit('_').next().unwrap()));
}

async fn becomes(gateway: &Gateway, key: &str, status: u16) {
    let start = Instant::now();
    while get(gateway, key, TOOLS).await.status != status {
        assert!(start.elapsed() < PATIENCE, "it does not become {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn users_are_listed_changed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |line: &[&str], input: &str| access(folder.path(), line, input).await;
    let empty = run(&["user", "list"], "").await;
    assert!(
        empty.success && empty.stdout.is_empty() && empty.stderr.contains("user add"),
        "{}",
        empty.stderr
    );
    run(&["user", "add", "ann", "--role", "admin", "--password-stdin"], "first-password\n").await.output();
    let one = run(&["user", "add", "bob", "--no-password", "--json"], "").await.output();
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!((&one["name"], &one["has_password"]), (&json!("bob"), &json!(false)));
    run(&["user", "password", "bob", "--password-stdin"], "second-password\n").await.output();
    run(&["user", "role", "bob", "admin"], "").await.output();
    run(&["user", "role", "1", "user"], "").await.output();
    let users: Value = serde_json::from_str(&run(&["user", "list", "--json"], "").await.output()).unwrap();
    let roles: Vec<(&str, &str)> = users
        .as_array()
        .unwrap()
        .iter()
        .map(|user| (user["name"].as_str().unwrap(), user["role"].as_str().unwrap()))
        .collect();
    assert_eq!(roles, [("ann", "user"), ("bob", "admin")]);
    let last = run(&["user", "remove", "bob"], "").await;
    assert!(!last.success && last.stderr.contains("last admin"), "{}", last.stderr);
    run(&["user", "remove", "ann"], "").await.output();
    let actions: Vec<String> =
        events(folder.path()).iter().map(|event| event["action"].as_str().unwrap().to_owned()).collect();
    let wanted =
        ["user_created", "user_created", "user_changed", "user_changed", "user_changed", "user_deleted"];
    assert_eq!(actions, wanted);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |line: &[&str], input: &str| access(folder.path(), line, input).await;
    for (line, input, words) in [
        (&["user", "add", "ann", "--password-stdin"][..], "short\n", "8 characters"),
        (&["user", "add", "ann", "--password-stdin"], "", "it is empty"),
        (&["user", "add", "ann"], "typed-password\n", "--password-stdin"),
        (&["user", "add", "ann", "--password-env", "MISSING_VARIABLE"], "", "MISSING_VARIABLE"),
        (&["user", "remove", "nobody"], "", "no user `nobody`"),
        (&["key", "create", "k", "--user", "nobody"], "", "no user `nobody`"),
        (&["key", "revoke", "nothing"], "", "no key"),
    ] {
        let failed = run(line, input).await;
        assert!(!failed.success && failed.stderr.contains(words), "{line:?}: {}", failed.stderr);
        assert!(failed.stdout.is_empty());
    }
    let on_the_line = run(&["user", "add", "ann", "--password", "secret-password"], "").await;
    assert!(
        !on_the_line.success && on_the_line.stderr.contains("unexpected argument"),
        "{}",
        on_the_line.stderr
    );
}
