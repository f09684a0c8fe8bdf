//! A gateway of defaults: it answers without any file, key or network, and its parts hold together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::access::AccessScope;
use crate::chat::{ChatMessage, TurnContext};
use crate::config::{LoadOptions, Settings};
use crate::domain::{Principal, RequestId};
use crate::llm::ToolChoice;

fn load(folder: &std::path::Path, overrides: &[(&str, toml::Value)]) -> anyhow::Result<Config> {
    let overrides = overrides.iter().map(|(key, value)| {
        let flag = format!("--{key}");
        ((*key).to_owned(), value.clone(), flag)
    });
    let options = LoadOptions {
        config_file: None,
        env_file: None,
        env: BTreeMap::new(),
        overrides: overrides.collect(),
        working_dir: folder.to_owned(),
        reserved_env: Vec::new(),
    };
    Config::load(&Settings::load(&options)?, None)
}

fn context() -> TurnContext {
    let access = AccessScope::unrestricted(RequestId::generate(), Principal::anonymous());
    TurnContext::new(access, ToolChoice::All)
}

fn hello() -> ChatMessage {
    ChatMessage { message: "Hello".to_owned(), session_id: None, model: String::new() }
}

#[tokio::test]
async fn answers_without_any_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = build(load(folder.path(), &[]).unwrap()).await.unwrap();
    let reply = Box::pin(gateway.engine().chat(hello(), context())).await.unwrap();
    assert!(!reply.response.is_empty());
    let stored = gateway.engine().session(&Principal::anonymous(), &reply.session_id).await;
    assert!(stored.is_ok(), "the session is kept");
    assert!(folder.path().join("data").join("witgate.db").exists());
    gateway.close().await;
}

#[tokio::test]
async fn listens_where_it_is_told_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let port = toml::Value::Integer(0);
    let listening = Box::pin(listen(load(folder.path(), &[("server.port", port)]).unwrap())).await.unwrap();
    let address = listening.address();
    assert!(address.ip().is_loopback() && address.port() != 0);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(listening.run(async {
        let _ = stopped.await;
    }));
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(20), running).await.expect("it stops").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_taken_port_starts_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = toml::Value::Integer(taken.local_addr().unwrap().port().into());
    let folder = tempfile::tempdir().unwrap();
    let error = Box::pin(listen(load(folder.path(), &[("server.port", port)]).unwrap())).await.err().unwrap();
    assert!(error.downcast_ref::<crate::http::BindError>().is_some(), "{error:#}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn unknown_sections_and_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = |key| load(folder.path(), &[(key, toml::Value::Integer(1))]).unwrap_err().to_string();
    assert!(error("sever.port").contains("server"), "{}", error("sever.port"));
    assert!(error("server.prot").contains("port"), "{}", error("server.prot"));
}

#[test]
fn all_faults_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("servers_config.json"), "{\"mcpServers\": []}").unwrap();
    let one = || toml::Value::Integer(1);
    let overrides = [("sever.port", one()), ("server.prot", one()), ("chat.nonsense", one())];
    let faults = load(folder.path(), &overrides).unwrap_err().to_string();
    for word in ["sever", "prot", "nonsense", "servers_config.json"] {
        assert!(faults.lines().any(|line| line.contains(word)), "{word} is missing in {faults}");
    }
}

#[tokio::test]
async fn a_token_secret_that_is_too_short_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { token_secret: Some("short".into()), ..load(folder.path(), &[]).unwrap() };
    let error = build(config).await.err().unwrap();
    assert!(error.to_string().contains("WITGATE_TOKEN_SECRET"), "{error:#}");
}
