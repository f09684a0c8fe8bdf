//! Unmodified public clients against a gateway, in front of an upstream that answers by what the user says.
//!
//! The clients are the scripts in `tests/clients`; each checks every reply with its library's own types and fails at the
//! first surprise. They are skipped, loudly, where the libraries are not installed (see `harness::mcp`).

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::harness::program::{node, python, run};
use crate::harness::script::{Step, chunk, frame};
use crate::harness::{Gateway, Recorded, Reply, Upstream, call, within};

const KEY: &str = "wk-the-right-key";

static NEXT_CALL: AtomicUsize = AtomicUsize::new(1);

/// Two gateways in front of one upstream, and what counts the requests that were given up at it.
struct Scene {
    open: Gateway,
    locked: Gateway,
    counting: JoinHandle<()>,
}

impl Scene {
    async fn start() -> Self {
        let closed = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&closed);
        let upstream =
            Arc::new(Upstream::scripted(move |request| answer(request, seen.load(Ordering::SeqCst))));
        let one_try = "[llm]\nmax_retries = 0\n";
        let open = Gateway::builder().upstream(&upstream).sqlite().config(one_try).start().await;
        let locked = Gateway::builder().upstream(&upstream).env("WITGATE_ACCESS__CHAT", "required");
        let locked = locked.env("WITGATE_API_KEY", KEY).start().await;
        let counting = tokio::spawn(async move {
            for index in 0.. {
                let request = loop {
                    // The harness gives up on a request that does not come; here there is no hurry.
                    match upstream.requests().get(index) {
                        Some(request) => break Arc::clone(request),
                        None => tokio::time::sleep(Duration::from_millis(10)).await,
                    }
                };
                if said(&request) == "never end" {
                    request.closed_by_gateway().await;
                    closed.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { open, locked, counting }
    }

    async fn drive(self, mut command: Command) {
        command.env("WITGATE_URL", self.open.url());
        command.env("WITGATE_LOCKED_URL", self.locked.url()).env("WITGATE_LOCKED_KEY", KEY);
        let finished = run(command, "").await;
        self.counting.abort();
        finished.output();
    }
}

/// The latest words of the user.
fn said(request: &Recorded) -> String {
    let messages = request.messages();
    let last = messages.iter().rev().find(|message| message["role"] == "user").unwrap();
    match &last["content"] {
        Value::String(text) => text.clone(),
        parts => parts[0]["text"].as_str().unwrap_or_default().to_owned(),
    }
}

fn answer(request: &Recorded, closed: usize) -> Reply {
    let messages = request.messages();
    let results: Vec<&str> = messages
        .iter()
        .filter(|message| message["role"] == "tool")
        .map(|message| message["content"].as_str().unwrap_or("(parts)"))
        .collect();
    if !results.is_empty() {
        return Reply::text(&format!("Tools said: {} results: {}", results.len(), results.join(" | ")));
    }
    // Ids are unique, as those of the API are.
    let id = NEXT_CALL.fetch_add(1, Ordering::SeqCst);
    let ours = call(&format!("call_ours_{id}"), "list_tables", &json!({}));
    let theirs = call(&format!("call_theirs_{id}"), "get_weather", &json!({"city": "Oslo"}));
    let said = said(request);
    match said.as_str() {
        "hello" => Reply::text("Hello from upstream."),
        "whom to ask?" => Reply::text("Ask alice@example.com or call +49 30 123456."),
        "name the project" => Reply::text("We call it Project Falcon, you know."),
        "as json" => Reply::text(r#"{"city": "Oslo", "degrees": 7}"#),
        "think" => Reply::text("Four.").with(json!({"reasoning_content": "Two and two."})),
        "use your tool" => Reply::calls([ours]),
        "use my tool" => Reply::calls([theirs]),
        "use both tools" => Reply::calls([ours, theirs]),
        "how many were closed?" => Reply::text(&closed.to_string()),
        "never end" => Reply::steps(vec![first_words("Once "), Step::Hang]),
        "break off" => Reply::steps(vec![first_words("Half of"), Step::Close]),
        "echo top_k" => {
            let body = request.json();
            let fields = ["top_k", "chat_template_kwargs", "seed"];
            let echoed: Value = fields.iter().map(|&name| (name, body[name].clone())).collect();
            Reply::text(&echoed.to_string())
        }
        other => match other.strip_prefix("fail with ").and_then(|status| status.parse().ok()) {
            Some(status) => Reply::error(status, "scripted failure").header("retry-after", "7"),
            None => Reply::error(400, &format!("nothing is scripted for {other:?}")),
        },
    }
}

fn first_words(text: &str) -> Step {
    Step::Bytes(frame(&chunk("m1", &json!({"role": "assistant", "content": text}), None)))
}

#[tokio::test]
async fn openai_for_python() {
    let Some(command) = python("tests/clients/openai_python.py") else { return };
    Scene::start().await.drive(command).await;
}

#[tokio::test]
async fn openai_for_python_with_plugins() {
    let Some(mut command) = python("tests/clients/openai_plugins.py") else { return };
    let upstream = Upstream::scripted(|request| answer(request, 0));
    let guarded = Gateway::builder().upstream(&upstream).bundled("pii-redactor", "");
    let guarded =
        guarded.bundled("keyword-guard", "[config]\nphrases = [\"project falcon\"]\n").start().await;
    let file = r#"
        headers = ["signature", "signature-input", "content-digest"]
        secrets = { k1 = "HMAC_SECRET" }
        config.keys.k1 = { secret = "k1", principal = "alice" }
    "#;
    let secret = "a secret of sixteen bytes or more";
    let signed = Gateway::builder().upstream(&upstream).env("HMAC_SECRET", secret).bundled("hmac-auth", file);
    let signed = signed.start().await;
    command.env("WITGATE_GUARDED_URL", guarded.url()).env("WITGATE_SIGNED_URL", signed.url());
    command.env("WITGATE_SIGNING_SECRET", secret);
    run(command, "").await.output();
}

#[tokio::test]
async fn openai_for_node() {
    drive_node("tests/clients/openai_node.mjs").await;
}

#[tokio::test]
async fn vercel_ai() {
    drive_node("tests/clients/vercel_ai.mjs").await;
}

async fn drive_node(script: &str) {
    let folder = tempfile::tempdir().unwrap();
    let Some(command) = node(script, folder.path()) else { return };
    Scene::start().await.drive(command).await;
}

#[tokio::test]
async fn a_real_small_model() {
    let Some(mut server) = python("tests/clients/small_model_server.py") else { return };
    let Some(mut client) = python("tests/clients/small_model.py") else { return };
    // The server ends with its stdin, at the latest when the test drops it.
    server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut server = server.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = within(Duration::from_secs(60), "the start of llama.cpp", lines.next_line()).await;
    let base_url = format!("{}/v1", address.unwrap().expect("llama.cpp tells its address"));
    let gateway = Gateway::builder().env("OPENAI_BASE_URL", &base_url).start().await;
    client.env("WITGATE_URL", gateway.url());
    run(client, "").await.output();
    drop(server.stdin.take());
    assert!(within(Duration::from_secs(60), "the end of llama.cpp", server.wait()).await.is_ok());
}
