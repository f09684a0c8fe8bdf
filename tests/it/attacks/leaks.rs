//! Secrets must be nowhere but where they are checked: not in a log, however loud, not in the audit log, not in a file.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::Gateway;
use crate::identity_http::login::{LOGIN, form, token};
use crate::identity_http::{
    CALL, KEYS, PASSWORD, STATIC, TOOLS, USERS, add_key, admin, builder, get, post, with,
};

/// Right ones are made by the gateway; these are wrong ones, and those that users choose.
const WRONG_KEY: &str = "wg_AAAAbbbbCCCC_0123456789012345678901234567890123456789";
const WRONG_PASSWORD: &str = "wrong-guess-of-a-password";
const NEW_PASSWORD: &str = "a-new-password-instead";

#[tokio::test]
async fn no_secret_is_in_a_text_log_or_a_file() {
    leaves_no_trace("human").await;
}

#[tokio::test]
async fn no_secret_is_in_a_json_log_or_a_file() {
    leaves_no_trace("json").await;
}

async fn leaves_no_trace(format: &str) {
    let builder = builder().env("RUST_LOG", "trace").env("WITGATE_LOG__FORMAT", format);
    let root = admin(builder.folder()).await;
    let gateway = builder.start().await;
    let (_, key) =
        add_key(&gateway, &root, &json!({"name": "k", "scopes": ["tools:list", "tools:call"]})).await;
    let token = token(&gateway, "root").await;
    let wrong_token = format!("{}AAAA", &token[..token.len() - 4]);
    let credentials = [key.as_str(), &token, WRONG_KEY, &wrong_token, STATIC, &root];
    for secret in credentials {
        get(&gateway, secret, TOOLS).await;
        gateway.request("GET", TOOLS).header("x-api-key", secret).send().await;
        gateway.request("GET", &format!("{TOOLS}?apikey={secret}")).send().await;
        gateway.request("GET", &format!("{TOOLS}?apikey={secret}&apikey=2")).send().await;
        gateway
            .request("GET", "/v1/models")
            .header("authorization", &format!("Bearer {secret}"))
            .send()
            .await;
        gateway.request("GET", TOOLS).header("authorization", &format!("Basic {secret}")).send().await;
        gateway.request("GET", &format!("{KEYS}/x?apikey={secret}")).send().await;
        // In arguments, and where it makes no sense.
        let call = json!({"tool_name": "read_query", "arguments": {"password": secret, "apikey": secret}});
        post(&gateway, &key, CALL, &call).await;
        form(&gateway, &format!("username={secret}&password={secret}")).await;
        form(&gateway, &format!("username=root&password={secret}")).await;
    }
    form(&gateway, &format!("username=root&password={WRONG_PASSWORD}")).await;
    gateway.post(LOGIN, &json!({"username": "x", "password": WRONG_PASSWORD})).await;
    gateway.request("POST", LOGIN).body(format!("password={WRONG_PASSWORD}")).send().await;
    let user = json!({"name": "ann", "password": NEW_PASSWORD, "nonsense": NEW_PASSWORD});
    post(&gateway, &root, USERS, &user).await;
    post(&gateway, &root, USERS, &json!({"name": "ann", "password": NEW_PASSWORD})).await.expect(201);
    let change = json!({"password": NEW_PASSWORD, "current_password": PASSWORD});
    with(&gateway, &token, "PATCH", "/api/v1/users/me", &change).await;
    let log = gateway.log();
    assert!(log.contains("DEBUG"), "the log is not loud:\n{log}");
    let (folder, _keep) = (gateway.folder().to_owned(), gateway.again());
    gateway.stop().await;

    let mut secrets: Vec<&str> = credentials.to_vec();
    // Of a key the secret part alone is enough; of a token the signature.
    let parts: Vec<&str> = credentials.iter().filter_map(|secret| secret.rsplit(['_', '.']).next()).collect();
    secrets.extend(parts.iter().filter(|part| part.len() > 20));
    secrets.extend([PASSWORD, WRONG_PASSWORD, NEW_PASSWORD]);
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
        let files = files_with(&folder.join("data"), secret);
        assert!(files.is_empty(), "{secret} is in {files:?}");
    }
}

/// Files below `folder` that hold `text`.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            if memchr::memmem::find(&bytes, text.as_bytes()).is_some() {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// The files with users and keys are for their owner only.
#[cfg(unix)]
#[tokio::test]
async fn what_is_stored_is_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let builder = builder();
    admin(builder.folder()).await;
    let gateway: Gateway = builder.start().await;
    let data = gateway.folder().join("data");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&data).unwrap().chain(std::fs::read_dir(data.join("audit")).unwrap()) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_file() && (name.starts_with("access") || name.ends_with(".jsonl") || name.contains("key"))
        {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{name}");
            seen.push(Value::from(name));
        }
    }
    assert!(seen.contains(&json!("access.db")) && seen.contains(&json!("audit.jsonl")), "{seen:?}");
}
