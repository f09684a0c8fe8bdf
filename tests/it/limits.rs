//! Limits and allow-lists over HTTP: what callers are told of them, and that no way leads around them.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::program::{self, Finished};
use crate::harness::script::{chunk, text_chunk};
use crate::harness::{Answer, Control, Gateway, Reply, Upstream, ask, ask_stream, call, eventually};

const KEY: &str = "sk-the-static-key";

async fn limited(upstream: &Upstream, limits: &str) -> Gateway {
    let config = format!("[access]\n{limits}");
    Gateway::builder().upstream(upstream).config(&config).env("WITGATE_API_KEY", KEY).start().await
}

async fn send(gateway: &Gateway, key: &str, body: &Value) -> Answer {
    gateway.completion(body).header("authorization", &format!("Bearer {key}")).send().await
}

/// `witgate` with these arguments, on the gateway's folder and settings.
async fn witgate(gateway: &Gateway, upstream: &Upstream, arguments: &[&str], input: &str) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
    command.args(arguments).current_dir(gateway.folder()).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", gateway.folder());
    command.env("WITGATE_PLUGINS__BUNDLED", "[]").env("WITGATE_API_KEY", KEY);
    command.env("OPENAI_BASE_URL", upstream.base_url()).env("DEFAULT_MODEL", "m1");
    program::run(command, input).await
}

/// A key of a new user with these flags, once the gateway takes it.
async fn new_key(gateway: &Gateway, upstream: &Upstream, flags: &[&str]) -> String {
    let user = ["access", "user", "add", "ann", "--no-password"];
    witgate(gateway, upstream, &user, "").await.output();
    let key = [&["access", "key", "create", "script", "--user", "ann"], flags].concat();
    let key = witgate(gateway, upstream, &key, "").await.output().trim().to_owned();
    let list = || gateway.request("GET", "/v1/models").header("x-api-key", &key).send();
    eventually("the key is taken", async || list().await.status == 200).await;
    key
}

fn id_of(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

fn audit(gateway: &Gateway) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.folder().join("data/audit/audit.jsonl")).unwrap_or_default();
    // The last line may be half written.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn requests_a_minute_are_told_and_kept() {
    let upstream = Upstream::scripted(|_| Reply::text("ok"));
    let gateway = limited(&upstream, "limits.service = { requests_per_minute = 2 }").await;
    let first = send(&gateway, KEY, &ask("hi")).await;
    first.expect(200);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"));
    assert!(first.header("x-ratelimit-reset-requests").unwrap().ends_with('s'));
    assert_eq!(first.header("x-ratelimit-limit-tokens"), None);
    send(&gateway, KEY, &ask("hi")).await.expect(200);
    let refused = send(&gateway, KEY, &ask("hi")).await;
    let error = refused.expect(429)["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("requests"), &json!("rate_limit_exceeded")));
    assert!(error["message"].as_str().unwrap().contains("limit of 2 requests per minute"), "{error}");
    assert!(!refused.text().contains(KEY) && !refused.text().contains("key:static"));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    // Others have no limits, and are told of none.
    let other = gateway.completion(&ask("hi")).send().await;
    other.expect(200);
    assert_eq!(other.header("x-ratelimit-limit-requests"), None);
    let is_it = |line: &Value| line["action"] == "denied" && line.to_string().contains("rate:requests");
    eventually("the refusal is written down", async || {
        audit(&gateway).iter().filter(|l| is_it(l)).count() == 1
    })
    .await;
}

#[tokio::test]
async fn tokens_are_charged_for_whole_replies_streams_and_those_who_leave() {
    let upstream = Upstream::start();
    let gateway = limited(&upstream, "limits.service = { tokens_per_minute = 100000 }").await;
    let left = async || {
        let models = gateway.request("GET", "/v1/models").header("x-api-key", KEY).send().await;
        models.header("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap()
    };
    // What comes back in the meantime is little against what is charged.
    upstream.reply(Reply::text("ok").usage(Some((30_000, 10_000))));
    let whole = send(&gateway, KEY, &ask("hi")).await;
    whole.expect(200);
    let after_whole = left().await;
    assert!((60_000..90_000).contains(&after_whole), "{after_whole}");
    // The upstream gives no usage: it is counted.
    upstream.reply(Reply::text(&"word-".repeat(20_000)).usage(None));
    let body = ask_stream("hi");
    let stream = gateway.completion(&body).header("x-api-key", KEY).stream().await;
    assert!(stream.collect().await.usage().is_none());
    let after_stream = left().await;
    assert!(after_stream < after_whole, "{after_whole} {after_stream}");
    // A client that leaves in the middle pays for what it had.
    let (reply, _control) = begun();
    upstream.reply(reply);
    let mut stream = gateway.completion(&body).header("x-api-key", KEY).stream().await;
    stream.read_until("long").await;
    drop(stream);
    eventually("the rest is charged", async || left().await + 10_000 < after_stream).await;
    upstream.reply(Reply::text("ok").usage(Some((500_000, 1))));
    send(&gateway, KEY, &ask("hi")).await.expect(200);
    let refused = send(&gateway, KEY, &ask("hi")).await;
    let error = refused.expect(429)["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("tokens"), &json!("rate_limit_exceeded")));
    // Where no model is asked, tokens do not matter.
    assert_eq!(left().await, 0);
}

#[tokio::test]
async fn a_stream_is_asked_for_its_usage_where_it_counts() {
    let upstream = Upstream::start();
    let gateway = limited(&upstream, "limits.service = { tokens_per_minute = 100000 }").await;
    let body = |options: Value| {
        let mut body = ask_stream("hi");
        body["stream_options"] = options;
        body
    };
    for options in [Value::Null, json!({"include_usage": false, "include_obfuscation": false})] {
        upstream.reply(Reply::text("ok").usage(Some((20_000, 10_000))));
        let stream = gateway.completion(&body(options.clone())).header("x-api-key", KEY).stream().await;
        let reply = stream.collect().await;
        assert_eq!((reply.text().as_str(), reply.usage()), ("ok", None), "the client did not ask");
        let mut asked = if options.is_null() { json!({}) } else { options };
        asked["include_usage"] = true.into();
        assert_eq!(upstream.last().json()["stream_options"], asked);
    }
    let models = gateway.request("GET", "/v1/models").header("x-api-key", KEY).send().await;
    let left: u64 = models.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!(left < 80_000, "{left}");
    // Others are not limited, and their request stays as it is.
    upstream.reply(Reply::text("ok"));
    gateway.completion(&ask_stream("hi")).stream().await.collect().await;
    assert_eq!(upstream.last().json().get("stream_options"), None);
}

/// Whatever the model generates counts, also where the upstream says nothing of it and where the client leaves.
#[tokio::test]
async fn reasoning_calls_and_other_choices_are_charged_in_streams() {
    let upstream = Upstream::start();
    let long = "many words ".repeat(20_000);
    let arguments = json!({ "city": long }).to_string();
    let call = json!({"index": 0, "id": "c", "type": "function", "function": {"name": "weather", "arguments": arguments}});
    let mut other_choice = text_chunk(&long);
    other_choice["choices"][0]["index"] = 1.into();
    let events = [
        chunk("m1", &json!({ "reasoning": long }), None),
        chunk("m1", &json!({ "tool_calls": [call] }), None),
        other_choice,
    ];
    let mut body = ask_stream("hi");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
    for event in events {
        let gateway = limited(&upstream, "limits.service = { tokens_per_minute = 100000 }").await;
        let left = async || {
            let models = gateway.request("GET", "/v1/models").header("x-api-key", KEY).send().await;
            models.header("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap()
        };
        // The client leaves in the middle.
        let (reply, control) = Reply::controlled();
        for event in [event.clone(), text_chunk("so far")] {
            control.send(Control::Event(event)).unwrap();
        }
        upstream.reply(reply);
        let mut stream = gateway.completion(&body).header("x-api-key", KEY).stream().await;
        stream.read_until("so far").await;
        drop(stream);
        eventually("what was generated is charged", async || left().await < 80_000).await;
        // The upstream ends without a count.
        let before = left().await;
        let end = chunk("m1", &json!({"content": "."}), Some("stop"));
        upstream.reply(Reply::events(&[event, end]));
        gateway.completion(&body).header("x-api-key", KEY).stream().await.collect().await;
        let after = left().await;
        assert!(after + 20_000 < before, "{before} {after}");
    }
}

/// A reply that begins with many words and stays open as long as the sender is kept.
fn begun() -> (Reply, tokio::sync::mpsc::UnboundedSender<Control>) {
    let (reply, control) = Reply::controlled();
    let text = format!("{}long", "many words ".repeat(10_000));
    control.send(Control::Event(text_chunk(&text))).unwrap();
    (reply, control)
}

#[tokio::test]
async fn a_budget_outlives_the_gateway() {
    let upstream = Upstream::scripted(|_| Reply::text("ok"));
    let limits = "limits.service = { token_budget = { tokens = 5, per = \"ever\" } }";
    let gateway = limited(&upstream, limits).await;
    send(&gateway, KEY, &ask("hi")).await.expect(200);
    let again = gateway.again();
    let refusals = async |gateway: &Gateway| {
        let refused = send(gateway, KEY, &ask("hi")).await;
        let error = refused.expect(429)["error"].clone();
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("insufficient_quota"), &json!("insufficient_quota"))
        );
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        gateway.request("GET", "/chat/sessions").header("x-api-key", KEY).send().await.expect(200);
    };
    refusals(&gateway).await;
    gateway.stop().await;
    let config = format!("[access]\n{limits}");
    let gateway = again.upstream(&upstream).config(&config).env("WITGATE_API_KEY", KEY).start().await;
    refusals(&gateway).await;
    let explained =
        witgate(&gateway, &upstream, &["access", "explain", "--static-key", "--model", "m1", "--json"], "")
            .await;
    assert!(!explained.success);
    let report: Value = serde_json::from_str(&explained.stdout).unwrap();
    assert_eq!((&report["decided_by"], &report["status"]), (&json!("budget"), &json!(429)));
}

#[tokio::test]
async fn open_streams_are_counted() {
    let upstream = Upstream::start();
    let gateway = limited(&upstream, "limits.anonymous = { concurrent_streams = 1 }").await;
    let (reply, _control) = begun();
    upstream.reply(reply);
    let stream = gateway.completion(&ask_stream("hi")).stream().await;
    let refused = gateway.completion(&ask_stream("hi")).send().await;
    assert!(refused.expect(429)["error"]["message"].as_str().unwrap().contains("1 streams at the same time"));
    gateway.post("/chat", &json!({"message": "hi", "stream": true})).await.expect(429);
    upstream.reply(Reply::text("ok"));
    gateway.complete(&ask("hi")).await;
    drop(stream);
    eventually("the place is free", async || {
        upstream.reply(Reply::text("ok"));
        gateway.completion(&ask_stream("hi")).send_any().await.contains("[DONE]")
    })
    .await;
}

#[tokio::test]
async fn no_other_name_leads_to_a_forbidden_model() {
    let upstream = Upstream::scripted(|_| Reply::text("ok"));
    let config = format!(
        "[llm]\ndefault_model = \"large\"\nunknown_model = \"default\"\n[[llm.upstreams]]\nname = \"u\"\n\
         base_url = \"{}\"\nmodels = [\"small\", \"large\"]\naliases = {{ cheap = \"large\", fine = \"small\" }}",
        upstream.base_url()
    );
    let gateway = Gateway::builder().config(&config).start().await;
    let key = new_key(&gateway, &upstream, &["--scope", "chat", "--model", "small"]).await;
    let list = gateway.request("GET", "/v1/models").header("x-api-key", &key).send().await.expect(200);
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["small", "fine"]);
    for model in ["large", "cheap", "", "no-such"] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let error = send(&gateway, &key, &body).await.expect(404)["error"].clone();
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!("model_not_found"), &json!("model")),
            "{model}"
        );
        let chat = gateway.request("POST", "/chat").header("x-api-key", &key);
        chat.json(&json!({"message": "hi", "model": model})).send().await.expect(404);
    }
    for path in ["/v1/models/large", "/v1/models/cheap"] {
        gateway.request("GET", path).header("x-api-key", &key).send().await.expect(404);
    }
    for model in ["small", "fine"] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        send(&gateway, &key, &body).await.expect(200);
        assert_eq!(upstream.last().json()["model"], "small");
    }
    // The gateway itself has them all.
    gateway.get("/v1/models/cheap").await.expect(200);
}

#[tokio::test]
async fn the_chat_loop_is_no_way_to_tools_that_are_not_allowed() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder().upstream(&upstream).sqlite().start().await;
    let key = new_key(&gateway, &upstream, &["--scope", "chat", "--scope", "tools:call:list_*"]).await;
    let query = json!({"query": "CREATE TABLE leaked (id INTEGER)"});
    for name in ["create_table", "sqlite__create_table"] {
        for (header, streamed) in [("all", false), ("all", true), ("create_table, list_tables", false)] {
            upstream.replies([Reply::calls([call("c1", name, &query)]), Reply::text("I see.")]);
            let body = if streamed { ask_stream("go") } else { ask("go") };
            let request =
                gateway.completion(&body).header("x-api-key", &key).header("x-gateway-tools", header);
            let text = request.send_any().await;
            assert!(text.contains("see") && !text.contains("c1"), "{text}");
            let requests = upstream.requests();
            let [first, second] = &requests[requests.len() - 2..] else { panic!() };
            assert_eq!(first.tool_names(), ["list_tables"]);
            let told = second.messages()[2]["content"].as_str().unwrap().to_owned();
            assert!(told.contains(&format!("there is no tool named `{name}`")), "{told}");
        }
    }
    // Where nothing is offered, a call is nobody's but the client's: it is passed on, and not run.
    upstream.reply(Reply::calls([call("c2", "create_table", &query)]));
    let body = ask("go");
    let request =
        gateway.completion(&body).header("x-api-key", &key).header("x-gateway-tools", "create_table");
    let reply = request.send().await.expect(200);
    assert_eq!(reply["choices"][0]["message"]["tool_calls"][0]["id"], "c2");
    assert!(upstream.last().json().get("tools").is_none());
    // Nothing of all that has run.
    upstream.replies([Reply::calls([call("c3", "list_tables", &json!({}))]), Reply::text("none")]);
    send(&gateway, &key, &ask("which?")).await.expect(200);
    let tables = upstream.last().messages()[2]["content"].as_str().unwrap().to_owned();
    assert!(!tables.contains("leaked"), "{tables}");
    let denied = |line: &Value| {
        line["action"] == "denied"
            && line["target"] == "create_table"
            && line.to_string().contains("\"scope\"")
    };
    eventually("refusals are written down", async || {
        audit(&gateway).iter().filter(|l| denied(l)).count() == 6
    })
    .await;

    let explain = async |flags: &[&str]| {
        let arguments = [&["access", "explain", "--key", id_of(&key)], flags].concat();
        witgate(&gateway, &upstream, &arguments, "").await
    };
    let chat = ["--endpoint", "POST /v1/chat/completions"];
    let allowed = explain(&[&["--tool", "list_tables"], &chat[..]].concat()).await.output();
    assert!(allowed.contains("allowed: no rule refuses"), "{allowed}");
    let refused = explain(&[&["--tool", "create_table", "--json"], &chat[..]].concat()).await;
    let report: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!((refused.success, &report["decided_by"]), (false, &json!("scope")), "{report}");
    assert!(!refused.stdout.contains(&key) && !allowed.contains(&key));
}

#[tokio::test]
async fn text_mode_is_no_way_either() {
    let upstream = Upstream::start();
    let config = format!(
        "[[llm.upstreams]]\nname = \"small\"\nbase_url = \"{}\"\nmodels = [\"m1\"]\ntool_mode = \"text\"",
        upstream.base_url()
    );
    let gateway = Gateway::builder().config(&config).sqlite().start().await;
    let key = new_key(&gateway, &upstream, &["--scope", "chat", "--scope", "tools:call:list_*"]).await;
    let text = r#"{"tool": "create_table", "arguments": {"query": "CREATE TABLE leaked (id INTEGER)"}}"#;
    upstream.replies([Reply::text(text), Reply::text("done")]);
    send(&gateway, &key, &ask("go")).await.expect(200);
    let prompt = upstream.requests()[0].text().to_owned();
    assert!(prompt.contains("list_tables") && !prompt.contains("create_table"), "{prompt}");
    let upstream_of_all = async |text: &str| {
        upstream.replies([Reply::text(text), Reply::text("none")]);
        send(&gateway, &key, &ask("which?")).await.expect(200);
        upstream.last().text().to_owned()
    };
    let tables = upstream_of_all(r#"{"tool": "list_tables", "arguments": {}}"#).await;
    assert!(!tables.contains("leaked"), "{tables}");
}

#[tokio::test]
async fn explaining_needs_no_secret_and_names_the_rule() {
    let upstream = Upstream::start();
    let gateway = limited(&upstream, "anonymous_scopes = [\"chat\"]").await;
    let key = new_key(&gateway, &upstream, &["--scope", "chat"]).await;
    let explain = async |flags: &[&str], input: &str| {
        let arguments = [&["access", "explain"], flags].concat();
        witgate(&gateway, &upstream, &arguments, input).await
    };
    for flags in [
        &["--key", id_of(&key)][..],
        &["--user", "ann"],
        &["--static-key"],
        &["--anonymous"],
        &["--key", "-"],
    ] {
        let told = explain(flags, &key).await.output();
        assert!(told.starts_with("credential  allows") && !told.contains(&key), "{told}");
    }
    let whole = explain(&["--key", &key], "").await;
    assert!(whole.stderr.contains("--key takes the key's id") && !whole.stderr.contains(&key));
    let denied = explain(&["--key", id_of(&key), "--endpoint", "GET /api/v1/plugins"], "").await;
    assert!(!denied.success && denied.stdout.contains("denied by scope, with status 403"), "{denied:?}");
    let stranger = explain(&["--anonymous", "--endpoint", "GET /metrics"], "").await;
    assert!(stranger.stdout.contains("denied by credential, with status 401"), "{stranger:?}");
    let document = explain(&["--anonymous", "--endpoint", "GET /openapi.json"], "").await.output();
    assert!(document.contains("allowed, but without tools"), "{document}");
    witgate(&gateway, &upstream, &["access", "key", "revoke", id_of(&key)], "").await.output();
    let revoked = explain(&["--key", id_of(&key)], "").await;
    assert!(!revoked.success && revoked.stdout.contains("revoked"), "{revoked:?}");
    let unknown = explain(&["--key", "nobodyhasit1"], "").await;
    assert!(unknown.stderr.contains("witgate access key list"), "{unknown:?}");
}
