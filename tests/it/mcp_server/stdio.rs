//! `witgate mcp`: the protocol on standard input and output and nothing else there, under the same rules as everywhere.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::rpc::request;
use crate::harness::gateway::{Builder, descendants, is_alive};
use crate::harness::program::{Finished, run};
use crate::harness::{Gateway, PATIENCE, eventually, within};
use crate::identity_http::{access, events};

/// A client and the `witgate mcp` it started.
struct Client {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    last_id: u64,
}

impl Client {
    /// Starts it with the settings of `builder`, and says hello.
    async fn start(builder: &Builder, arguments: &[&str]) -> Self {
        let mut child = command(builder, arguments).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut client = Self { child, stdin, lines, last_id: 0 };
        let info = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let hello = client.ask("initialize", &info).await;
        assert_eq!(hello["result"]["protocolVersion"], "2025-06-18", "{hello}");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }

    async fn send(&mut self, message: &Value) {
        self.stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// The answer to a request.
    async fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        self.send(&request(self.last_id, method, params)).await;
        loop {
            let line = within(PATIENCE, method, self.lines.next_line()).await.unwrap().unwrap();
            // Whatever is there is a message.
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["id"] == self.last_id {
                return message;
            }
        }
    }

    async fn call(&mut self, name: &str, query: &str) -> Value {
        self.ask("tools/call", &json!({"name": name, "arguments": {"query": query}})).await
    }

    async fn tools(&mut self) -> Vec<String> {
        let listed = self.ask("tools/list", &json!({})).await;
        let tools = listed["result"]["tools"].as_array().unwrap();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Leaves, and sees that nothing stays behind.
    async fn leave(mut self) {
        let children = descendants(i32::try_from(self.child.id().unwrap()).unwrap());
        assert!(!children.is_empty());
        drop(self.stdin);
        let status = within(PATIENCE, "the end", self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}");
        assert!(self.lines.next_line().await.unwrap().is_none());
        for (child, _) in children {
            eventually("no child is left", async || !is_alive(child)).await;
        }
    }
}

fn command(builder: &Builder, arguments: &[&str]) -> Command {
    builder.write_files();
    let mut command = Command::from(builder.command_of("mcp"));
    command.args(arguments).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(File::create(builder.folder().join("stderr.log")).unwrap());
    command
}

/// A start that comes to nothing: its standard error.
async fn refused(builder: &Builder, arguments: &[&str]) -> String {
    let output = command(builder, arguments).spawn().unwrap().wait_with_output();
    let output = within(PATIENCE, "the end", output).await.unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    fs::read_to_string(builder.folder().join("stderr.log")).unwrap()
}

/// `witgate tools call`, with the settings of `builder`.
async fn called_by_hand(builder: &Builder, tool: &str, query: &str) -> Finished {
    let mut command = Command::from(builder.command_of("tools"));
    command.args(["call", tool, &json!({"query": query}).to_string()]);
    run(command, "").await
}

fn builder() -> Builder {
    Gateway::builder().sqlite()
}

/// A key of the user `ann` with these flags: its id and its text.
async fn new_key(folder: &Path, flags: &[&str]) -> (String, String) {
    access(folder, &["user", "add", "ann", "--no-password"], "").await.output();
    let line = [&["key", "create", "desktop", "--user", "ann"], flags].concat();
    let key = access(folder, &line, "").await.output().trim().to_owned();
    (key.split('_').nth(1).unwrap().to_owned(), key)
}

/// What the audit log has of `action`.
fn written(folder: &Path, action: &str) -> Vec<Value> {
    events(folder).into_iter().filter(|event| event["action"] == action).collect()
}

#[tokio::test]
async fn a_client_that_starts_it_has_the_tools() {
    for arguments in [&[][..], &["--server", "sqlite"]] {
        let builder = builder();
        let mut client = Client::start(&builder, arguments).await;
        assert_eq!(client.tools().await.len(), 6);
        let answer = client.call("read_query", "SELECT 7 AS n").await;
        assert_eq!(answer["result"]["structuredContent"]["rows"][0]["n"], 7, "{answer}");
        client.leave().await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let words = refused(&builder(), &["--server", "nothing"]).await;
    assert!(words.contains("no MCP server or plugin `nothing`") && words.contains("sqlite"), "{words}");
}

#[tokio::test]
async fn without_a_key_the_operator_calls_and_it_is_written_down() {
    let builder = builder();
    let mut client = Client::start(&builder, &[]).await;
    client.call("read_query", "SELECT 7 AS n").await;
    let read = client.ask("resources/read", &json!({"uri": "memo://insights"})).await;
    assert!(read["result"]["contents"].is_array(), "{read}");
    client.leave().await;
    let facts = |event: &Value| {
        ["action", "outcome", "principal", "via", "target", "server"].map(|field| event[field].clone())
    };
    let seen: Vec<_> = events(builder.folder()).iter().map(facts).collect();
    let by =
        |action: &str, target: &str| [action, "success", "cli", "mcp", target, "sqlite"].map(Value::from);
    assert_eq!(seen, [by("tool_call", "read_query"), by("resource_read", "memo://insights")]);
    assert_eq!(written(builder.folder(), "tool_call")[0]["arguments"]["query"], "SELECT 7 AS n");
    // Nobody is made who could log in, and no password goes anywhere.
    for file in ["access.db", "access-keys.json", "usage.db"] {
        assert!(!builder.folder().join("data").join(file).exists(), "{file}");
    }
    let log = fs::read_to_string(builder.folder().join("stderr.log")).unwrap();
    assert!(!log.contains("password"), "{log}");
}

#[tokio::test]
async fn a_key_has_its_own_rights_until_it_is_revoked() {
    let builder = builder();
    let folder = builder.folder().to_owned();
    let (id, key) = new_key(&folder, &["--scope", "tools:list", "--scope", "tools:call:read_*"]).await;
    let builder = builder.env("WITGATE_MCP_KEY", &key);
    let mut client = Client::start(&builder, &[]).await;
    assert_eq!(client.tools().await, ["read_query"]);
    assert!(client.call("read_query", "SELECT 1").await["result"].is_object());
    let refused = client.call("write_query", "DELETE FROM t").await;
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("unknown tool `write_query`"),
        "{refused}"
    );
    access(&folder, &["key", "revoke", &id], "").await.output();
    let mut last = Value::Null;
    eventually("the key is refused", async || {
        last = client.call("read_query", "SELECT 1").await;
        last["error"].is_object()
    })
    .await;
    assert!(last["error"]["message"].as_str().unwrap().contains("was revoked"), "{last}");
    client.leave().await;

    let principal = json!(format!("key:{id}"));
    let calls = written(&folder, "tool_call");
    assert!(!calls.is_empty() && calls.iter().all(|call| call["principal"] == principal), "{calls:?}");
    let denied: Vec<_> = written(&folder, "denied");
    let facts = |event: &Value| ["rule", "target", "via", "status"].map(|field| event[field].clone());
    let seen: Vec<_> = denied.iter().map(facts).collect();
    let write = [json!("scope"), json!("write_query"), json!("mcp"), json!(404)];
    let ended = [json!("credential"), json!("stdio"), json!("mcp"), json!(401)];
    assert_eq!(seen, [write, ended]);
    assert_eq!(denied[0]["principal"], principal);
    assert!(!fs::read_to_string(folder.join("stderr.log")).unwrap().contains(&key));
    assert!(!fs::read_to_string(folder.join("data/audit/audit.jsonl")).unwrap().contains(&key));
}

#[tokio::test]
async fn a_key_has_its_own_limits() {
    let builder = builder().config("[access]\nlimits.service = { requests_per_minute = 8 }");
    let (_, key) = new_key(builder.folder(), &[]).await;
    let builder = builder.env("WITGATE_MCP_KEY", &key);
    let mut client = Client::start(&builder, &[]).await;
    let mut last = Value::Null;
    eventually("there have been too many", async || {
        last = client.call("read_query", "SELECT 1").await;
        last["error"].is_object()
    })
    .await;
    assert!(last["error"]["message"].as_str().unwrap().contains("8 requests"), "{last}");
}

#[tokio::test]
async fn the_static_key_is_a_key_too() {
    let builder = builder().env("WITGATE_API_KEY", "wk-static").env("WITGATE_MCP_KEY", "wk-static");
    let mut client = Client::start(&builder, &[]).await;
    client.call("read_query", "SELECT 1").await;
    client.leave().await;
    assert_eq!(written(builder.folder(), "tool_call")[0]["principal"], "key:static");
    assert!(!builder.folder().join("data/access.db").exists());
}

#[tokio::test]
async fn a_wrong_key_ends_the_start_without_being_shown() {
    const WRONG: &str = "wg_0123456789abcdef_thisisnotthekeyyouarelookingfor";
    let started = builder().env("WITGATE_MCP_KEY", WRONG);
    let words = refused(&started, &[]).await;
    assert!(words.contains("WITGATE_MCP_KEY is refused") && words.contains("data/access.db"), "{words}");
    assert!(!words.contains("thisisnotthekey"), "{words}");
    let events = events(started.folder());
    let facts = ["action", "rule", "target", "via"].map(|field| events[0][field].clone());
    assert_eq!((events.len(), facts), (1, ["denied", "credential", "stdio", "mcp"].map(Value::from)));
    assert!(!started.folder().join("data/access.db").exists());

    // The operator's rights are for nobody who meant to have a key.
    let words = refused(&builder().env("WITGATE_MCP_KEY", ""), &[]).await;
    assert!(words.contains("WITGATE_MCP_KEY is set and holds no key"), "{words}");
    let forgotten = builder();
    fs::write(forgotten.folder().join(".env"), "WITGATE_MCP_KEY=${A_KEY_THAT_NOBODY_SET}\n").unwrap();
    let words = refused(&forgotten, &[]).await;
    assert!(words.contains("WITGATE_MCP_KEY is set and holds no key"), "{words}");
    let without = builder();
    let (_, key) = new_key(without.folder(), &["--scope", "chat"]).await;
    let words = refused(&without.env("WITGATE_MCP_KEY", &key), &[]).await;
    assert!(words.contains("the scope `tools:list`"), "{words}");
}

#[tokio::test]
async fn policies_are_asked_for_the_operator_too() {
    let rules = r#"
        [[config.rules]]
        principals = ["cli"]
        tools = ["write_*"]
        effect = "deny"
        reason = "nothing is written here"
    "#;
    let plugged = builder().bundled("tool-permissions", rules);
    let mut client = Client::start(&plugged, &[]).await;
    assert!(client.call("read_query", "SELECT 1").await["result"]["structuredContent"].is_object());
    let denied = client.call("write_query", "DELETE FROM t").await;
    assert_eq!(denied["result"]["isError"], true, "{denied}");
    assert!(denied.to_string().contains("nothing is written here"), "{denied}");
    client.leave().await;
    let denied = written(plugged.folder(), "denied");
    let facts = ["principal", "rule", "target", "via"].map(|field| denied[0][field].clone());
    assert_eq!(facts, ["cli", "plugin:tool-permissions", "write_query", "mcp"].map(Value::from));
    assert_eq!((denied.len(), written(plugged.folder(), "tool_call").len()), (1, 1));

    // The same on the command line, where the same person is at work.
    let denied = called_by_hand(&plugged, "write_query", "DELETE FROM t").await;
    assert!(!denied.success && denied.stderr.contains("nothing is written here"), "{denied:?}");
    called_by_hand(&plugged, "read_query", "SELECT 1").await.output();
    for (action, target) in [("denied", "write_query"), ("tool_call", "read_query")] {
        let lines = written(plugged.folder(), action);
        let facts = ["principal", "target", "via"].map(|field| lines[1][field].clone());
        assert_eq!((facts, lines.len()), (["cli", target, "cli"].map(Value::from), 2));
    }

    let closed = builder().bundled("tool-permissions", "[config]\ndefault = { endpoints = \"deny\" }");
    let words = refused(&closed, &[]).await;
    assert!(words.contains("the operator of this machine is refused"), "{words}");
}

#[tokio::test]
async fn processes_that_share_an_audit_log_lose_no_line_of_it() {
    const CALLS: usize = 40;
    let audit = "[audit]\nmax_file_mb = 1\nmax_files = 0\narguments = \"full\"\nmax_text_chars = 100000";
    let builder = builder().config(audit);
    let (mut one, mut other) = tokio::join!(Client::start(&builder, &[]), Client::start(&builder, &[]));
    let call = async |client: &mut Client, who: &str| {
        for number in 0..CALLS {
            let query = format!("SELECT '{who}-{number}' -- {}", "x".repeat(60_000));
            let answer = client.call("read_query", &query).await;
            assert!(answer["result"]["structuredContent"].is_object(), "{answer}");
        }
    };
    tokio::join!(call(&mut one, "one"), call(&mut other, "other"));
    tokio::join!(one.leave(), other.leave());
    let (mut files, mut ids) = (0, Vec::new());
    for entry in fs::read_dir(builder.folder().join("data/audit")).unwrap() {
        files += 1;
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(text.ends_with('\n') && text.len() <= 1024 * 1024);
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let query = event["arguments"]["query"].as_str().unwrap();
            ids.push(query.split_once(" --").unwrap().0.to_owned());
        }
    }
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (2 * CALLS, 2 * CALLS));
    assert!(files > 3, "{files}");
}
