//! Bundled plugins in the plugin host, as committed: `clock-and-math`, `tool-permissions`, `hmac-auth`, `fetch-page`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use witgate::domain::{
    AccessAction, AccessRequest, Decision, HttpFacts, Principal, PrincipalKind, RequestId, ToolContext,
    ToolResult,
};
use witgate::plugin_host::{Config, Plugin, PluginHost};

const SECRET: &str = "a secret of sixteen bytes or more";

/// A plugin host with one bundled plugin.
struct Loaded {
    plugin: Arc<Plugin>,
    _host: PluginHost,
    _folder: TempDir,
}

/// Loads a bundled component with an operator's file.
async fn load(name: &str, file: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("plugins/dist/{name}.wasm"));
    fs::write(plugins.join(format!("{name}.toml")), file).unwrap();
    fs::copy(component, plugins.join(format!("{name}.wasm"))).unwrap();
    let config = Config { dir: plugins, watch: false, ..Config::default() };
    let data = folder.path().join("data");
    let config = config.resolved(folder.path(), &data).unwrap();
    let variables = [("HMAC_SECRET".to_owned(), SECRET.to_owned())].into_iter().collect();
    let host = PluginHost::start(config, variables, data).await.unwrap();
    let catalog = host.catalog();
    let found = catalog.plugins.iter().find(|plugin| plugin.name() == name).cloned();
    let plugin = found.ok_or_else(|| format!("{:?}", host.reports())).unwrap();
    Loaded { plugin, _host: host, _folder: folder }
}

impl Loaded {
    async fn call(&self, tool: &str, arguments: &Value) -> (String, Option<Value>, bool) {
        let context = ToolContext {
            principal: Principal::anonymous(),
            request_id: RequestId::parse("r1").unwrap(),
            session_id: None,
            call_id: "c1".to_owned(),
            progress: Default::default(),
        };
        let result: ToolResult = self.plugin.call_tool(&context, tool, &arguments.to_string()).await.unwrap();
        let blocks = serde_json::to_value(&result.content).unwrap();
        (blocks[0]["text"].as_str().unwrap().to_owned(), result.structured_content, result.is_error)
    }

    async fn decide(&self, action: AccessAction, http: HttpFacts, principal: Option<Principal>) -> String {
        let request_id = RequestId::parse("r1").unwrap();
        let request = AccessRequest { request_id, action, principal, http: Some(Arc::new(http)) };
        match self.plugin.authorize(&request).await {
            Ok(Decision::Allow(Some(principal))) => format!("allow {}", principal.id),
            Ok(Decision::Allow(None)) => "allow".to_owned(),
            Ok(Decision::Abstain) => "abstain".to_owned(),
            Ok(Decision::Deny(denial)) => format!("{} {}", denial.status, denial.reason),
            Err(error) => format!("error {error}"),
        }
    }
}

#[tokio::test]
async fn clock_and_math_tells_the_time_and_calculates() {
    let loaded = load("clock-and-math", "[config]\ntime_zone = \"Asia/Kolkata\"\n").await;
    let names: Vec<&str> = loaded.plugin.tools().iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["current_time", "convert_time", "date_calculate", "calculate"]);

    let (text, parts, is_error) = loaded.call("calculate", &json!({"expression": "0.1 + 0.2"})).await;
    assert_eq!((text.as_str(), is_error), ("0.3", false));
    assert_eq!(parts, Some(json!({"expression": "0.1 + 0.2", "result": "0.3", "exact": true})));
    let (text, _, is_error) = loaded.call("calculate", &json!({"expression": "1 / 0"})).await;
    assert_eq!((text.as_str(), is_error), ("at character 3: division by zero", true));

    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (_, parts, _) = loaded.call("current_time", &json!({})).await;
    let parts = parts.unwrap();
    assert_eq!(parts["utc_offset"], "+05:30");
    let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!((before..=after).contains(&parts["unix_seconds"].as_u64().unwrap()), "{parts}");
    let noon = json!({"time": "2026-07-15T12:00", "from_time_zone": "Europe/Berlin", "to_time_zone": "UTC"});
    let (_, parts, _) = loaded.call("convert_time", &noon).await;
    assert_eq!(parts.unwrap()["to"]["datetime"], "2026-07-15T10:00:00+00:00");
    let month = json!({"operation": "add", "start": "2026-01-31", "months": 1});
    let (_, parts, _) = loaded.call("date_calculate", &month).await;
    assert_eq!(parts.unwrap()["result"], "2026-02-28");
}

#[tokio::test]
async fn the_most_work_a_calculation_can_make_is_done_within_the_limits() {
    let loaded = load("clock-and-math", "").await;
    let heavy = ["1.07^(1/119)"; 150].join("+");
    let (text, _, is_error) = loaded.call("calculate", &json!({"expression": heavy})).await;
    assert!(!is_error && text.starts_with("150.08"), "{text}");
    let powers = ["9^999"; 300].join("*");
    let (text, _, is_error) = loaded.call("calculate", &json!({"expression": powers})).await;
    assert!(is_error && text.contains("more than 1000 digits"), "{text}");
}

fn http(method: &str, path: &str, headers: Vec<(String, String)>) -> HttpFacts {
    let (method, path) = (method.to_owned(), path.to_owned());
    HttpFacts { method, path, query: None, authority: Some("localhost:8080".to_owned()), headers, peer: None }
}

#[tokio::test]
async fn tool_permissions_follows_its_rules() {
    let rules = r#"
        [config]
        default = { tools = "deny" }

        [[config.rules]]
        tools = ["read_*"]
        effect = "allow"

        [[config.rules]]
        models = ["large-*"]
        kinds = ["anonymous"]
        effect = "deny"
        reason = "sign in first"
        status = 401
    "#;
    let loaded = load("tool-permissions", rules).await;
    let tool = |name: &str| AccessAction::Tool {
        name: name.to_owned(),
        server: "files".to_owned(),
        arguments: "{}".to_owned(),
    };
    let facts = || http("POST", "/v1/chat/completions", Vec::new());
    let alice = || Some(Principal::new("p:alice", PrincipalKind::User));
    assert_eq!(loaded.decide(tool("read_file"), facts(), alice()).await, "allow");
    let denied = loaded.decide(tool("write_file"), facts(), alice()).await;
    assert_eq!(denied, "403 the tool `write_file` of `files` is not permitted for `p:alice`");
    let model = || AccessAction::Model("large-1".to_owned());
    assert_eq!(loaded.decide(model(), facts(), None).await, "401 sign in first");
    assert_eq!(loaded.decide(model(), facts(), alice()).await, "abstain");
    assert_eq!(loaded.decide(AccessAction::Endpoint, facts(), None).await, "abstain");

    let broken = load("tool-permissions", "[[config.rules]]\ntool = [\"x\"]\neffect = \"allow\"\n").await;
    let error = broken.decide(AccessAction::Endpoint, facts(), alice()).await;
    assert!(error.starts_with("error") && error.contains("rule 1") && error.contains("`tool`"), "{error}");
}

/// HMAC (RFC 2104) with SHA-256, by hand: nothing of the plugin's own code signs here.
fn hmac(secret: &[u8], message: &str) -> String {
    let mut key = [0_u8; 64];
    key[..secret.len()].copy_from_slice(secret);
    let pad = |with: u8| key.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    STANDARD.encode(Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize())
}

/// A signed `POST /v1/chat/completions`.
fn signed(nonce: &str, age: u64) -> HttpFacts {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - age;
    let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest("{}")));
    let components = [
        ("@method", "POST"),
        ("@authority", "localhost:8080"),
        ("@path", "/v1/chat/completions"),
        ("content-digest", digest.as_str()),
    ];
    let names = components.map(|(name, _)| format!("\"{name}\"")).join(" ");
    let parameters =
        format!("({names});created={created};keyid=\"k1\";alg=\"hmac-sha256\";nonce=\"{nonce}\"");
    let mut base = String::new();
    for (name, value) in components {
        writeln!(base, "\"{name}\": {value}").unwrap();
    }
    write!(base, "\"@signature-params\": {parameters}").unwrap();
    let signature = format!("sig1=:{}:", hmac(SECRET.as_bytes(), &base));
    let headers = vec![
        ("content-digest".to_owned(), digest),
        ("signature-input".to_owned(), format!("sig1={parameters}")),
        ("signature".to_owned(), signature),
    ];
    http("POST", "/v1/chat/completions", headers)
}

#[tokio::test]
async fn hmac_auth_lets_in_who_signs_and_nobody_else() {
    let file = r#"
        headers = ["signature", "signature-input", "content-digest"]
        secrets = { k1 = "HMAC_SECRET" }

        [config.keys.k1]
        secret = "k1"
        principal = "alice"
        kind = "user"
    "#;
    let loaded = load("hmac-auth", file).await;
    let endpoint = async |facts: HttpFacts| loaded.decide(AccessAction::Endpoint, facts, None).await;
    let once = signed("n1", 0);
    assert_eq!(endpoint(once.clone()).await, "allow alice");
    // The nonce is kept although every call has an instance of its own.
    assert!(endpoint(once.clone()).await.contains("nonce was used before"));
    let model = AccessAction::Model("m".to_owned());
    assert_eq!(loaded.decide(model, once, None).await, "abstain");
    let mut forged = signed("n2", 0);
    forged.path = "/v1/models".to_owned();
    assert!(endpoint(forged).await.contains("not one of a known key"));
    assert!(endpoint(signed("n3", 400)).await.contains("too old"));
    assert!(
        endpoint(http("GET", "/v1/models", Vec::new())).await.starts_with("401 the request must be signed")
    );
}

/// A web server on a port of its own, for as long as the test runs.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let start = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let page = "<title>T</title><nav>menu</nav><h1>Caf\u{e9}</h1><p>A <a href=/b>link</a>";
            let latin: Vec<u8> = page.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            let (head, body) = match start.split(' ').nth(1).unwrap() {
                "/moved" => ("302 Found\r\nlocation: page", Vec::new()),
                "/away" => ("302 Found\r\nlocation: http://127.0.0.1:9/secret", Vec::new()),
                "/page" => ("200 OK\r\ncontent-type: text/html; charset=iso-8859-1", latin),
                _ => ("404 Not Found\r\ncontent-type: text/plain", b"nothing here".to_vec()),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            connection.write_all(head.as_bytes()).unwrap();
            connection.write_all(&body).unwrap();
        }
    });
    address
}

#[tokio::test]
async fn fetch_page_reads_granted_pages_and_no_others() {
    let address = serve();
    let loaded = load("fetch-page", &format!("network = [\"{address}\"]\n")).await;
    let fetch = async |url: String| {
        let (text, _, is_error) = loaded.call("fetch_page", &json!({"url": url, "format": "markdown"})).await;
        (text, is_error)
    };
    let (page, is_error) = fetch(format!("http://{address}/moved")).await;
    let expected =
        format!("Title: T\nAddress: http://{address}/page\n\n# Caf\u{e9}\n\nA [link](http://{address}/b)");
    assert_eq!((page.as_str(), is_error), (expected.as_str(), false));
    let (missing, is_error) = fetch(format!("http://{address}/x")).await;
    assert!(is_error && missing.ends_with("answered with status 404:\nnothing here"), "{missing}");
    for (url, grant) in [
        (format!("http://{address}/away"), "\"127.0.0.1:9\""),
        ("http://169.254.169.254/latest/meta-data".to_owned(), "\"169.254.169.254:80\""),
        ("https://example.com/".to_owned(), "\"example.com:443\""),
    ] {
        let (refused, is_error) = fetch(url).await;
        assert!(is_error && refused.contains("may not be fetched") && refused.contains(grant), "{refused}");
    }
}
