//! Benchmarks of tool calls and of the doors: `cargo bench --bench tools`.
//!
//! `stdio_server_alone` asks the MCP server over its own pipe with nothing between: what the others take more than that is
//! what the gateway adds. `door_*` is one access check, where there are keys among 10,000 of them.

#![expect(clippy::expect_used, reason = "a benchmark whose set-up fails has nothing to measure")]

#[path = "../tests/it/oidc/issuer.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "it is written for tests")]
mod issuer;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use axum::body::Body;
use divan::Bencher;
use http::{Method, Request};
use http_body_util::BodyExt;
use issuer::{Issuer, Key};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;
use witgate::access::accounts::{Accounts, NewApiKey, NewUser, Role};
use witgate::access::{Access, Credential, Door, Entry, FixedPolicies, Grants};
use witgate::config::secret::Secret;
use witgate::config::{LoadOptions, Settings};
use witgate::domain::RequestId;
use witgate::gateway::{self, Config, Gateway};

const KEY: &str = "a key for the benchmark";
const QUERY: &str = "SELECT 1 AS one";

fn main() {
    divan::main();
}

/// A gateway with the SQLite server and the clock plugin, without a port.
struct Bench {
    runtime: Runtime,
    router: axum::Router,
    _gateway: Gateway,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let servers = json!({"mcpServers": {"sqlite": {
            "command": env!("CARGO_BIN_EXE_sqlite-server"), "args": [folder.path().join("a.db")]
        }}});
        std::fs::write(folder.path().join("servers_config.json"), servers.to_string()).expect("a file");
        // One thread: what is measured is work, not the machine's luck in spreading it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let gateway = runtime.block_on(gateway::build(config(folder.path()))).expect("a gateway");
        let router = witgate::http::router(gateway.app());
        let bench = Self { runtime, router, _gateway: gateway, _folder: folder };
        // The first call waits for the server to come up.
        let answer = bench.post("/api/v1/mcp/tools/call", &rest("read_query", &json!({"query": QUERY})));
        assert_eq!(answer["success"], true, "{answer}");
        bench
    }

    /// Sends `body` through the router with all its layers; the parsed answer.
    fn post(&self, path: &str, body: &str) -> Value {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream;q=0.1")
            .header("x-api-key", KEY);
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        self.runtime.block_on(async {
            let reply = self.router.clone().oneshot(request).await.expect("a reply");
            let body = reply.into_body().collect().await.expect("a body").to_bytes();
            serde_json::from_slice(&body).unwrap_or(Value::Null)
        })
    }
}

fn config(folder: &Path) -> Config {
    let (data, guard) = (folder.join("data"), env!("CARGO_BIN_EXE_witgate"));
    let settings = format!("data_dir = {data:?}\n[tools.mcp]\nguard_program = {guard:?}\n");
    std::fs::write(folder.join("gateway.toml"), settings).expect("a file");
    let options = LoadOptions {
        config_file: None,
        env_file: None,
        env: BTreeMap::from([("WITGATE_API_KEY".to_owned(), KEY.to_owned())]),
        overrides: Vec::new(),
        working_dir: folder.to_owned(),
        reserved_env: vec!["WITGATE_API_KEY".to_owned()],
    };
    Config::load(&Settings::load(&options).expect("settings"), None).expect("a configuration")
}

fn rest(tool: &str, arguments: &Value) -> String {
    json!({"tool_name": tool, "arguments": arguments}).to_string()
}

/// A REST call of a tool of a plugin: everything from the request's head to the answer's bytes.
#[divan::bench]
fn rest_call_of_a_plugin(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    let body = rest("calculate", &json!({"expression": "1 + 1"}));
    bencher.bench_local(|| {
        let answer = bench.post("/api/v1/mcp/tools/call", &body);
        assert_eq!(answer["success"], true, "{answer}");
    });
}

/// A REST call of a tool of an MCP server over stdio.
#[divan::bench]
fn rest_call_of_a_stdio_server(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    let body = rest("read_query", &json!({"query": QUERY}));
    bencher.bench_local(|| {
        let answer = bench.post("/api/v1/mcp/tools/call", &body);
        assert_eq!(answer["success"], true, "{answer}");
    });
}

/// A call of the same tool at the MCP endpoint, without a session.
#[divan::bench]
fn mcp_call_of_a_stdio_server(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    let params = json!({"name": "read_query", "arguments": {"query": QUERY}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    bencher.bench_local(|| {
        let answer = bench.post("/mcp", &body);
        assert!(answer["result"]["content"].is_array(), "{answer}");
    });
}

/// A call of the same tool over the server's own pipe.
#[divan::bench]
fn stdio_server_alone(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(&folder.path().join("a.db"));
    bencher.bench_local(|| {
        let answer = server.ask("tools/call", &json!({"name": "read_query", "arguments": {"query": QUERY}}));
        assert!(answer["result"]["content"].is_array(), "{answer}");
    });
}

/// How many keys there are where doors are measured.
const KEYS: usize = 10_000;

/// As many as one user may have.
const KEYS_OF_A_USER: usize = 1000;

/// A door to which many have a key, and one key and one access token for it.
struct Doors {
    runtime: Runtime,
    access: Access,
    key: Secret,
    token: Secret,
}

impl Doors {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (access, key, token) = runtime.block_on(async {
            let accounts = Accounts::in_memory().await.expect("accounts");
            let password = || Secret::new("a long password");
            let (mut key, mut owner) = (Secret::new(""), None);
            for number in 0..KEYS {
                if number % KEYS_OF_A_USER == 0 {
                    let user = NewUser {
                        name: format!("user {number}"),
                        password: Some(password()),
                        role: Role::User,
                        grants: Grants::default(),
                    };
                    owner = Some(accounts.create_user(user).await.expect("a user"));
                }
                let new = NewApiKey {
                    name: format!("key {number}"),
                    grants: Grants::of_scopes(&["tools:list", "tools:call:read_*"]),
                    expires_ms: None,
                };
                let owner = owner.as_ref().expect("the first key has one").id;
                key = accounts.create_key(owner, new).await.expect("a key").key;
            }
            let name = owner.expect("there are keys").name;
            let token = accounts.login(&name, password(), None).await.expect("a token").token;
            let policies = std::sync::Arc::new(FixedPolicies::default());
            let access = Access::new(&witgate::access::Config::default(), None, policies);
            (access.with_accounts(accounts), key, token)
        });
        Self { runtime, access, key, token }
    }

    fn enter(&self, credential: &Secret) {
        enter(&self.runtime, &self.access, credential.expose());
    }
}

/// One access check.
fn enter(runtime: &Runtime, access: &Access, credential: &str) {
    let entry = Entry {
        request_id: RequestId::generate(),
        door: Door::Guarded("tools:list"),
        credential: Credential::Key(credential),
        peer: None,
        trace_id: None,
        foreign_page: None,
        rate_slot: None,
    };
    let scope = runtime.block_on(access.enter(entry, || unreachable!("there is no policy")));
    divan::black_box(scope.expect("an open door"));
}

/// One access check by API key.
#[divan::bench]
fn door_by_key(bencher: Bencher<'_, '_>) {
    let doors = Doors::new();
    bencher.bench_local(|| doors.enter(&doors.key));
}

/// One access check by access token.
#[divan::bench]
fn door_by_token(bencher: Bencher<'_, '_>) {
    let doors = Doors::new();
    bencher.bench_local(|| doors.enter(&doors.token));
}

/// A door to which an outside issuer's tokens are the keys.
struct IssuersDoor {
    runtime: Runtime,
    access: Access,
    issuer: Issuer,
}

impl IssuersDoor {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let issuer = Issuer::start(&[Key::Rsa, Key::P256]);
        let settings = format!("[access]\n{}", issuer.table("staff"));
        let settings: BTreeMap<String, witgate::access::Config> =
            toml::from_str(&settings).expect("settings");
        let access = Access::new(&settings["access"], None, std::sync::Arc::new(FixedPolicies::default()));
        Self { runtime, access, issuer }
    }

    /// A token that was never seen before: number `id` of them.
    fn token(&self, key: Key, id: usize) -> String {
        let mut claims = self.issuer.claims();
        claims["jti"] = id.into();
        self.issuer.token(key, &claims)
    }

    fn first_sight(&self, bencher: Bencher<'_, '_>, key: Key) {
        // The issuer's keys are fetched once.
        enter(&self.runtime, &self.access, &self.token(key, 0));
        let mut count = 0;
        let next = || {
            count += 1;
            self.token(key, count)
        };
        bencher.with_inputs(next).bench_local_refs(|token| enter(&self.runtime, &self.access, token));
    }
}

/// One access check by a token of an outside issuer that was verified before.
#[divan::bench]
fn door_by_issuers_token(bencher: Bencher<'_, '_>) {
    let door = IssuersDoor::new();
    let token = door.token(Key::Rsa, 0);
    bencher.bench_local(|| enter(&door.runtime, &door.access, &token));
}

/// The same by tokens at first sight: RS256.
#[divan::bench]
fn door_by_new_rs256_token(bencher: Bencher<'_, '_>) {
    let door = IssuersDoor::new();
    door.first_sight(bencher, Key::Rsa);
}

/// The same: ES256.
#[divan::bench]
fn door_by_new_es256_token(bencher: Bencher<'_, '_>) {
    let door = IssuersDoor::new();
    door.first_sight(bencher, Key::P256);
}

/// The MCP server, talked to as its only client.
struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    asked: u64,
}

impl Server {
    fn start(database: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sqlite-server"));
        command.arg(database).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a process");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut server = Self { child, input, output, asked: 0 };
        let client = json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "bench", "version": "0"}});
        server.ask("initialize", &client);
        server.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        server
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params}));
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }

    fn send(&mut self, message: &Value) {
        let mut line = message.to_string();
        line.push('\n');
        self.input.write_all(line.as_bytes()).expect("a listening server");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
