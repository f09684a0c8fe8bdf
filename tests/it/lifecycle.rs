//! Starting, stopping, disconnecting and dying: nothing hangs, nothing is lost, no process stays behind.

use serde_json::{Value, json};

use crate::harness::gateway::{Builder, descendants, is_alive};
use crate::harness::script::{chunk, text_chunk};
use crate::harness::{Control, Gateway, Reply, Upstream, ask, ask_stream, call, eventually};

/// The shell server's tools.
fn with_shell(upstream: &Upstream) -> Builder {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/shell-server.sh");
    let builder = Gateway::builder().upstream(upstream).env("WITGATE_TOOLS__MCP__RESTART_MIN_MS", "10");
    builder.server("shell", json!({"command": "sh", "args": [script, "shell.log"]}))
}

/// How often the shell server has written `word`.
fn count(gateway: &Gateway, word: &str) -> usize {
    let log = std::fs::read_to_string(gateway.folder().join("shell.log")).unwrap_or_default();
    log.lines().filter(|line| *line == word).count()
}

/// Calls a tool of the shell server through the model and returns what the model read.
async fn call_tool(gateway: &Gateway, upstream: &Upstream, name: &str) -> String {
    upstream.replies([Reply::calls([call("c", name, &json!({}))]), Reply::text("ok")]);
    gateway.complete(&ask("go")).await;
    upstream.last().messages().last().unwrap()["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_upstream_request() {
    let upstream = Upstream::scripted(|_| Reply::silence());
    let gateway = Gateway::start(&upstream).await;
    let bodies = [
        ("/v1/chat/completions", ask("hi")),
        ("/v1/chat/completions", ask_stream("hi")),
        ("/chat", json!({"message": "hi"})),
    ];
    for (index, (path, body)) in bodies.iter().enumerate() {
        let request = gateway.request("POST", path).json(body).send();
        let arrived = tokio::select! {
            answer = request => panic!("no answer can come: {answer:?}"),
            arrived = upstream.request(index) => arrived,
        };
        arrived.closed_by_gateway().await;
    }
    eventually("nothing runs any longer", async || gateway.get("/readyz").await.json()["in_flight"] == 0)
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_ends_the_upstream_request() {
    let upstream = Upstream::start();
    let (reply, upstream_says) = Reply::controlled();
    upstream.reply(reply);
    upstream_says.send(Control::Event(text_chunk("half"))).unwrap();
    let gateway = Gateway::start(&upstream).await;
    let mut stream = gateway.completion(&ask_stream("hi")).stream().await;
    stream.read_until("half").await;
    drop(stream);
    upstream.last().closed_by_gateway().await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_running_tool() {
    let upstream = Upstream::scripted(|_| Reply::calls([call("c", "slow", &json!({}))]));
    let gateway = with_shell(&upstream).start().await;
    for (round, body) in [ask("go"), ask_stream("go")].iter().enumerate() {
        tokio::select! {
            answer = gateway.completion(body).send_any() => panic!("no answer can come: {answer}"),
            () = eventually("the tool runs", async || count(&gateway, "slow") > round) => {}
        }
        eventually("the tool is cancelled", async || count(&gateway, "cancelled") > round).await;
    }
}

#[tokio::test]
async fn a_server_killed_in_mid_call_is_told_to_the_model_and_comes_back() {
    let upstream = Upstream::start();
    let gateway = with_shell(&upstream).start().await;
    let before = call_tool(&gateway, &upstream, "whoami").await;
    let died = call_tool(&gateway, &upstream, "die").await;
    assert!(died.starts_with("Error") && died.contains("shell"), "{died}");
    // The next call waits for the server that is being started again.
    let mut after = String::new();
    eventually("the server is back", async || {
        let ready = gateway.get("/readyz").await.json();
        ready["components"]["mcp_servers"]["servers"][0]["state"] == "ready"
    })
    .await;
    eventually("the tools are back", async || {
        after = call_tool(&gateway, &upstream, "whoami").await;
        !after.starts_with("Error")
    })
    .await;
    assert_ne!(before, after);
    assert_eq!(count(&gateway, "started"), 2);
}

#[tokio::test]
async fn one_dead_server_leaves_the_others_alone() {
    let upstream = Upstream::start();
    let gateway = with_shell(&upstream)
        .sqlite()
        .server("missing", json!({"command": "/nonexistent/program"}))
        .server("unreachable", json!({"type": "http", "url": "http://127.0.0.1:9/mcp"}))
        .start()
        .await;
    let pid = call_tool(&gateway, &upstream, "whoami").await;
    assert!(pid.parse::<i32>().is_ok(), "{pid}");
    assert!(upstream.last().tool_names().len() >= 10);
    let ready = gateway.get("/readyz").await.expect(200);
    assert_eq!(ready["status"], "degraded");
    // The log names the server that cannot be started.
    gateway.until_logged(&["missing"]).await;
}

#[tokio::test]
async fn no_process_survives_sigterm_or_sigkill() {
    for kill in [false, true] {
        let upstream = Upstream::start();
        let gateway = with_shell(&upstream).sqlite().start().await;
        let server = call_tool(&gateway, &upstream, "whoami").await;
        let grandchild = call_tool(&gateway, &upstream, "grandchild").await;
        let mut pids: Vec<i32> = descendants(gateway.pid()).into_iter().map(|(pid, _)| pid).collect();
        pids.extend([server.parse::<i32>().unwrap(), grandchild.parse::<i32>().unwrap()]);
        assert!(pids.len() > 3 && pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
        if kill {
            gateway.kill().await;
        } else {
            gateway.stop().await;
        }
        eventually("all processes are gone", async || !pids.iter().any(|pid| is_alive(*pid))).await;
    }
}

#[tokio::test]
async fn sigterm_lets_a_stream_finish_and_takes_nothing_new() {
    let upstream = Upstream::start();
    let (reply, upstream_says) = Reply::controlled();
    upstream.reply(reply);
    upstream_says.send(Control::Event(text_chunk("one "))).unwrap();
    let gateway = Gateway::with_tools(&upstream).await;
    let mut stream = gateway.completion(&ask_stream("hi")).stream().await;
    stream.read_until("one").await;
    gateway.terminate();
    let elsewhere = reqwest::Client::builder().no_proxy().build().unwrap();
    // A probe asks: a chat that comes before the signal does would be answered.
    eventually("new requests are refused", async || {
        match elsewhere.get(format!("{}/readyz", gateway.url())).send().await {
            Ok(response) => response.status() == 503,
            Err(error) => error.is_connect(),
        }
    })
    .await;
    let late = elsewhere.post(format!("{}/chat", gateway.url())).header("content-type", "application/json");
    match late.body("{\"message\":\"x\"}").send().await {
        Ok(response) => assert_eq!(response.status(), 503),
        Err(error) => assert!(error.is_connect() || error.is_request(), "{error:?}"),
    }
    upstream_says.send(Control::Event(text_chunk("two"))).unwrap();
    stream.read_until("two").await;
    upstream_says.send(Control::Event(chunk("m1", &json!({}), Some("stop")))).unwrap();
    drop(upstream_says);
    stream.collect_rest_until_done().await;
    assert!(gateway.wait().await.success());
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_stream_that_never_ends_does_not_keep_the_gateway_from_stopping() {
    let upstream = Upstream::start();
    let (reply, upstream_says) = Reply::controlled();
    upstream.reply(reply);
    upstream_says.send(Control::Event(text_chunk("one"))).unwrap();
    let gateway =
        Gateway::builder().upstream(&upstream).env("WITGATE_SERVER__DRAIN_TIMEOUT_MS", "100").start().await;
    let mut stream = gateway.completion(&ask_stream("hi")).stream().await;
    stream.read_until("one").await;
    gateway.terminate();
    assert!(gateway.wait().await.success());
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_plainly() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    let port = gateway.address().port().to_string();
    let mut second = Gateway::builder().upstream(&upstream).env("PORT", &port).spawn();
    let status = second.wait().await;
    assert!(!status.success());
    let mut log = String::new();
    eventually("the reason is logged", async || {
        log = second.log_text();
        log.contains(&port)
    })
    .await;
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn bad_settings_stop_the_start_and_say_where() {
    let cases = [
        ("[server]\nprot = 8000", "prot", 2),
        ("[chat]\nmax_tool_rounds = \"many\"", "max_tool_rounds", 2),
        ("[chat\n", "gateway.toml", 1),
    ];
    for (config, words, line) in cases {
        let mut process = Gateway::builder().config(config).spawn();
        assert!(!process.wait().await.success(), "{config}");
        let mut log = String::new();
        eventually("the reason is told", async || {
            log = process.log_text();
            log.contains(words)
        })
        .await;
        assert!(log.contains(&format!("gateway.toml:{line}")), "{config}: {log}");
    }
}

#[tokio::test]
async fn without_any_configuration_the_demo_model_answers() {
    let gateway = Gateway::builder().sqlite().start().await;
    let (reply, session) = gateway.say("Which tables are there?", None).await;
    assert!(!reply.is_empty() && !session.is_empty());
    let models = gateway.get("/v1/models").await.expect(200);
    assert!(models["data"].as_array().unwrap().iter().any(|model| model["id"] == "demo"), "{models}");
    // Any model name will do, as in examples that say gpt-3.5-turbo.
    let mut body = ask_stream("Which tables are there?");
    body["model"] = Value::from("gpt-3.5-turbo");
    assert!(!gateway.stream(&body).await.text().is_empty());
}
