//! The examples do what they say, against a gateway with the demo model and the bundled SQLite tools.

use tokio::process::Command;

use crate::harness::Gateway;
use crate::harness::program::{Finished, node, python, repository, run};

async fn gateway() -> Gateway {
    Gateway::builder().sqlite().env("WITGATE_LLM__DEMO_WORD_DELAY_MS", "0").start().await
}

/// The chat client, with nothing but Python's own library.
async fn chat_client(gateway: &Gateway, arguments: &[&str], input: &str) -> Finished {
    let mut command = Command::new("python3");
    command.args(["-E", "-S"]).arg(repository("examples/client.py")).args(arguments);
    command.env("WITGATE_URL", gateway.url());
    run(command, input).await
}

async fn curl(gateway: &Gateway, script: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("sh");
    command.arg(repository("examples/curl").join(script)).args(arguments).env("WITGATE_URL", gateway.url());
    run(command, "").await.output()
}

#[tokio::test]
async fn the_chat_client_streams_and_keeps_its_session() {
    let gateway = gateway().await;
    let output = chat_client(&gateway, &[], "hello\n\nlist the tables\nquit\nnever sent\n").await.output();
    assert!(output.contains("[list_tables {}]"), "the tool is shown: {output}");
    let session = output.split("--session ").nth(1).expect("the session is named").trim();
    let transcript = chat_client(&gateway, &["--session", session, "hello again"], "").await;
    assert!(transcript.stderr.contains(session), "{transcript:?}");
    let listed = curl(&gateway, "session.sh", &[]).await;
    let stored: serde_json::Value = {
        let url = format!("{}/chat/sessions/{session}", gateway.url());
        let mut command = Command::new("curl");
        command.args(["--silent", "--fail", &url]);
        serde_json::from_str(&run(command, "").await.output()).unwrap()
    };
    let text = stored.to_string();
    for said in ["hello", "list the tables", "hello again"] {
        assert!(text.contains(said), "{said} is in the transcript: {text}");
    }
    assert!(!text.contains("never sent") && listed.contains(session), "{text}\n{listed}");
}

#[tokio::test]
async fn the_chat_client_waits_for_whole_replies_when_told_to() {
    let gateway = gateway().await;
    let finished = chat_client(&gateway, &["--no-stream", "hello"], "").await;
    assert!(finished.stderr.starts_with("session: "), "{finished:?}");
    assert!(!finished.output().trim().is_empty());
}

#[tokio::test]
async fn the_chat_client_says_what_went_wrong() {
    let gateway = gateway().await;
    let refused = chat_client(&gateway, &["--session", "no-such-session", "hello"], "").await;
    assert!(!refused.success && refused.stderr.starts_with("error: "), "{refused:?}");
    assert!(!refused.stderr.contains("Traceback"), "{refused:?}");
}

#[tokio::test]
async fn the_openai_library_for_python_works() {
    let Some(mut command) = python("examples/openai_client.py") else { return };
    let gateway = gateway().await;
    command.env("WITGATE_URL", gateway.url());
    assert_sdk_output(&run(command, "").await.output());
}

#[tokio::test]
async fn the_openai_library_for_node_works() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = node("examples/openai_client.mjs", folder.path()) else { return };
    let gateway = gateway().await;
    command.env("WITGATE_URL", gateway.url());
    assert_sdk_output(&run(command, "").await.output());
}

fn assert_sdk_output(output: &str) {
    let after = |label: &str| {
        let rest = output.split(label).nth(1).unwrap_or_else(|| panic!("no {label:?}: {output}"));
        rest.lines().next().unwrap_or_default().trim().to_owned()
    };
    assert_eq!(after("Models:"), "demo");
    assert!(!after("Standard:").is_empty() && !after("Streaming:").is_empty(), "{output}");
    assert!(after("Tokens:").parse::<u32>().unwrap() > 0);
}

#[tokio::test]
async fn the_curl_scripts_work() {
    let gateway = gateway().await;
    let chat: serde_json::Value = serde_json::from_str(&curl(&gateway, "chat.sh", &[]).await).unwrap();
    assert!(!chat["response"].as_str().unwrap().is_empty() && chat["session_id"].is_string());

    let events = curl(&gateway, "chat_stream.sh", &["list the tables"]).await;
    for name in ["event: tool_call\n", "event: tool_result\n", "event: delta\n", "event: done\n"] {
        assert!(events.contains(name), "{name:?} in {events}");
    }

    let session = curl(&gateway, "session.sh", &[]).await;
    assert!(session.contains("My name is Ada.") && session.contains("deleted "), "{session}");

    let models: serde_json::Value = serde_json::from_str(&curl(&gateway, "models.sh", &[]).await).unwrap();
    assert_eq!(models["data"][0]["id"], "demo");

    let whole: serde_json::Value =
        serde_json::from_str(&curl(&gateway, "completions.sh", &[]).await).unwrap();
    assert_eq!(whole["object"], "chat.completion");

    let stream = curl(&gateway, "completions_stream.sh", &[]).await;
    assert!(stream.contains("chat.completion.chunk") && stream.contains("\"usage\":{"), "{stream}");
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
}
