//! Bundled plugins in a running gateway: `clock-and-math`, `tool-permissions`, `hmac-auth`, `fetch-page`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Gateway, Reply, Upstream, ask, call, eventually};

const KEY: &str = "wk-the-right-key";
const SECRET: &str = "a secret of sixteen bytes or more";

/// A gateway with these bundled plugins, each with its operator's file.
async fn plugged<const N: usize>(upstream: &Upstream, plugins: [(&str, &str); N]) -> Gateway {
    let gateway =
        Gateway::builder().upstream(upstream).env("WITGATE_API_KEY", KEY).env("HMAC_SECRET", SECRET);
    plugins.into_iter().fold(gateway, |gateway, (name, file)| gateway.bundled(name, file)).start().await
}

/// Runs one turn with one call of a tool, and returns what the model read of it.
async fn tool(gateway: &Gateway, upstream: &Upstream, name: &str, arguments: &Value) -> String {
    upstream.replies([Reply::calls([call("c1", name, arguments)]), Reply::text("done")]);
    let answer = gateway.complete(&ask("go")).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "done");
    let messages = upstream.last().messages();
    messages.last().unwrap()["content"].as_str().unwrap().to_owned()
}

/// The names of the tools that the model was offered last, in order.
fn offered(upstream: &Upstream) -> Vec<String> {
    let mut names = upstream.last().tool_names();
    names.sort();
    names
}

const CLOCK_AND_MATH: [&str; 4] = ["calculate", "convert_time", "current_time", "date_calculate"];

#[tokio::test]
async fn clock_and_math_serves_where_nothing_is_set() {
    let upstream = Upstream::replying([Reply::text("hi")]);
    let gateway = Gateway::builder().upstream(&upstream).default_plugins().start().await;
    gateway.complete(&ask("go")).await;
    assert_eq!(offered(&upstream), CLOCK_AND_MATH);
}

#[tokio::test]
async fn clock_and_math_gives_the_model_four_tools() {
    let upstream = Upstream::start();
    let file = "[config]\ntime_zone = \"Asia/Kolkata\"\n";
    let gateway = plugged(&upstream, [("clock-and-math", file)]).await;
    let sum = tool(&gateway, &upstream, "calculate", &json!({"expression": "0.1 + 0.2"})).await;
    assert!(sum.contains("0.3") && !sum.contains("0.30"), "{sum}");
    assert_eq!(offered(&upstream), CLOCK_AND_MATH);

    let wrong = tool(&gateway, &upstream, "calculate", &json!({"expression": "1 / 0"})).await;
    assert!(wrong.contains("at character 3: division by zero"), "{wrong}");
    let now = tool(&gateway, &upstream, "current_time", &json!({})).await;
    assert!(now.contains("Asia/Kolkata") && now.contains("+05:30"), "{now}");
    // The clock is the machine's: a test that runs at midnight may see either day.
    let arguments = json!({"operation": "difference", "start": "1970-01-01T00:00:00Z", "end": "now"});
    let since = tool(&gateway, &upstream, "date_calculate", &arguments).await;
    let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    assert!([days - 1, days].iter().any(|days| since.contains(&days.to_string())), "{since}");
    let converted =
        json!({"time": "2026-07-15T12:00", "from_time_zone": "Europe/Berlin", "to_time_zone": "UTC"});
    let converted = tool(&gateway, &upstream, "convert_time", &converted).await;
    assert!(converted.contains("10:00:00"), "{converted}");
}

#[tokio::test]
async fn tool_permissions_decides_on_tools_models_and_endpoints() {
    let upstream = Upstream::start();
    let rules = r#"
        [config]
        default = { tools = "deny" }

        [[config.rules]]
        tools = ["calc*"]
        effect = "allow"

        [[config.rules]]
        models = ["org/m2:free"]
        effect = "deny"
        reason = "m2 is not for you"

        [[config.rules]]
        principals = ["key:static"]
        effect = "allow"

        [[config.rules]]
        endpoints = ["/v1/models"]
        effect = "deny"
        status = 404
        reason = "nothing here"
    "#;
    let gateway = plugged(&upstream, [("clock-and-math", ""), ("tool-permissions", rules)]).await;
    let allowed = tool(&gateway, &upstream, "calculate", &json!({"expression": "6 * 7"})).await;
    assert!(allowed.contains("42"), "{allowed}");
    let denied = tool(&gateway, &upstream, "current_time", &json!({})).await;
    assert!(denied.contains("is not permitted for"), "{denied}");

    let mut other = ask("go");
    other["model"] = "org/m2:free".into();
    let refused = gateway.refused(&other, 403).await;
    assert!(refused.to_string().contains("m2 is not for you"), "{refused}");
    assert!(gateway.get("/v1/models").await.words(404).contains("nothing here"));
    let bearer = format!("Bearer {KEY}");
    gateway.request("GET", "/v1/models").header("authorization", &bearer).send().await.expect(200);
}

#[tokio::test]
async fn broken_rules_refuse_everything() {
    let upstream = Upstream::start();
    let rules = "[[config.rules]]\ntool = [\"x\"]\neffect = \"allow\"\n";
    let gateway = plugged(&upstream, [("tool-permissions", rules)]).await;
    gateway.refused(&ask("go"), 503).await;
    let is_told = |log: String| log.contains("rule 1") && log.contains("unknown field `tool`");
    eventually("the log names the rule", async || is_told(gateway.log())).await;
}

/// HMAC (RFC 2104) with SHA-256, by hand: nothing of the plugin's own code signs here.
fn hmac(secret: &[u8], message: &str) -> String {
    let mut key = [0_u8; 64];
    key[..secret.len()].copy_from_slice(secret);
    let pad = |with: u8| key.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    STANDARD.encode(Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize())
}

/// The three headers that sign a `POST /v1/chat/completions` with the secret of `key`, `age` seconds ago.
fn sign(gateway: &Gateway, body: &str, key: &str, nonce: &str, age: u64) -> [(&'static str, String); 3] {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - age;
    let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)));
    let authority = gateway.address().to_string();
    let components = [
        ("@method", "POST"),
        ("@authority", authority.as_str()),
        ("@path", "/v1/chat/completions"),
        ("content-digest", digest.as_str()),
    ];
    let names = components.map(|(name, _)| format!("\"{name}\"")).join(" ");
    let parameters =
        format!("({names});created={created};keyid=\"{key}\";alg=\"hmac-sha256\";nonce=\"{nonce}\"");
    let mut base = String::new();
    for (name, value) in components {
        writeln!(base, "\"{name}\": {value}").unwrap();
    }
    write!(base, "\"@signature-params\": {parameters}").unwrap();
    let signature = format!("sig1=:{}:", hmac(SECRET.as_bytes(), &base));
    [("content-digest", digest), ("signature-input", format!("sig1={parameters}")), ("signature", signature)]
}

/// What a `POST` of `body` with these headers is answered.
async fn post(gateway: &Gateway, headers: &[(&'static str, String)], body: &str) -> Answer {
    let request = gateway.request("POST", "/v1/chat/completions").header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(body.to_owned()).send().await
}

const TWO_KEYS: &str = r#"
    order = 10
    headers = ["signature", "signature-input", "content-digest"]
    secrets = { shared = "HMAC_SECRET" }

    [config.keys.k1]
    secret = "shared"
    principal = "alice"
    kind = "user"

    [config.keys.k2]
    secret = "shared"
    principal = "bob"
"#;

#[tokio::test]
async fn hmac_auth_lets_in_who_signs_and_nobody_else() {
    let upstream = Upstream::start();
    let gateway = plugged(&upstream, [("hmac-auth", TWO_KEYS)]).await;
    let body = ask("go").to_string();
    let post = async |headers: &[(&'static str, String)], body: &str| post(&gateway, headers, body).await;

    upstream.reply(Reply::text("hello"));
    let signed = sign(&gateway, &body, "k1", "n1", 0);
    let answer = post(&signed, &body).await.expect(200);
    assert_eq!(answer["choices"][0]["message"]["content"], "hello");

    assert!(post(&signed, &body).await.words(401).contains("nonce was used before"));
    assert!(post(&[], &body).await.words(401).contains("must be signed"));
    assert!(post(&sign(&gateway, &body, "k1", "n2", 400), &body).await.words(401).contains("too old"));
    let mut forged = sign(&gateway, &body, "k1", "n3", 0);
    forged[1].1 = forged[1].1.replace("n3", "n4");
    assert!(post(&forged, &body).await.words(401).contains("not one of a known key"));
    // The signature is right, the body is another: the gateway compares it with the digest.
    let other = ask("something else").to_string();
    post(&sign(&gateway, &body, "k1", "n5", 0), &other).await.words(400);
    assert_eq!(upstream.requests().len(), 1, "none of the refused requests reached the model");
    assert!(!gateway.log().contains(SECRET));
}

#[tokio::test]
async fn rules_are_about_who_signed() {
    let upstream = Upstream::start();
    let rules = r#"
        order = 20

        [config]
        default = { tools = "deny" }

        [[config.rules]]
        principals = ["hmac-auth:alice"]
        tools = ["calculate"]
        effect = "allow"
    "#;
    let plugins = [("hmac-auth", TWO_KEYS), ("tool-permissions", rules), ("clock-and-math", "")];
    let gateway = plugged(&upstream, plugins).await;
    let body = ask("go").to_string();
    for (key, told) in [("k1", "42"), ("k2", "is not permitted for `hmac-auth:bob`")] {
        let calculate = call("c1", "calculate", &json!({"expression": "6 * 7"}));
        upstream.replies([Reply::calls([calculate]), Reply::text("done")]);
        post(&gateway, &sign(&gateway, &body, key, "n1", 0), &body).await.expect(200);
        let result = upstream.last().messages().pop().unwrap();
        assert!(result["content"].as_str().unwrap().contains(told), "{key}: {result}");
    }
}

#[tokio::test]
async fn fetch_page_reads_granted_pages_and_no_others() {
    let pages = Upstream::scripted(|request| match request.path.as_str() {
        "/v1/page" => Reply::raw(200, "<title>T</title><nav>x</nav><h1>Head</h1><p>A <a href=/b>link</a>")
            .header("content-type", "text/html; charset=utf-8"),
        "/v1/away" => Reply::raw(302, "").header("location", "http://127.0.0.1:9/secret"),
        _ => Reply::raw(302, "").header("location", "page"),
    });
    let upstream = Upstream::start();
    let base = pages.base_url();
    let host = base.trim_start_matches("http://").trim_end_matches("/v1");
    let file = format!("network = [\"{host}\"]\n");
    let gateway = plugged(&upstream, [("fetch-page", &file)]).await;
    let fetch = async |url: String| {
        tool(&gateway, &upstream, "fetch_page", &json!({"url": url, "format": "markdown"})).await
    };

    let page = fetch(format!("{base}/moved")).await;
    assert!(page.contains("Title: T") && page.contains("# Head"), "{page}");
    assert!(page.contains(&format!("[link](http://{host}/b)")) && !page.contains('x'), "{page}");
    let away = fetch(format!("{base}/away")).await;
    assert!(away.contains("127.0.0.1 may not be fetched") && away.contains("\"127.0.0.1:9\""), "{away}");
    // Nothing is granted but the address and the port as they are written in the file.
    let port = host.rsplit_once(':').unwrap().1;
    let model = upstream.base_url();
    for url in [
        "http://169.254.169.254/latest/meta-data".to_owned(),
        format!("http://localhost:{port}/v1/page"),
        format!("http://[::1]:{port}/v1/page"),
        format!("http://127.0.0.1.example.com:{port}/v1/page"),
        format!("{model}/page"),
    ] {
        let refused = fetch(url.clone()).await;
        assert!(refused.contains("may not be fetched"), "{url}: {refused}");
    }
    let scheme = fetch("file:///etc/passwd".to_owned()).await;
    assert!(scheme.contains("only http and https"), "{scheme}");
    assert_eq!(pages.requests().len(), 3, "`moved`, `page` and `away`");
    let asked_models = upstream.requests().iter().all(|request| request.path == "/v1/chat/completions");
    assert!(asked_models, "the upstream of the gateway is no page");
}
