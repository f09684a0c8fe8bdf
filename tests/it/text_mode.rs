//! Models without function calling: tools described in words, calls found in the text, whole and streamed.

use serde_json::{Value, json};

use crate::harness::script::{chunk, text_chunk};
use crate::harness::{Gateway, Reply, Upstream, ask, ask_stream};

const CALL: &str = r#"{"tool": "read_query", "arguments": {"query": "SELECT 6 * 7 AS n"}}"#;

async fn start(upstream: &Upstream) -> Gateway {
    let config = format!(
        "[[llm.upstreams]]\nname = \"small\"\nbase_url = \"{}\"\ntool_mode = \"text\"\n[llm]\ndefault_model = \"m1\"",
        upstream.base_url()
    );
    // TOML wants the table before the array in it.
    let (upstreams, section) = config.split_once("[llm]").unwrap();
    let config = format!("[llm]{section}\n{upstreams}");
    Gateway::builder().config(&config).sqlite().start().await
}

/// A stream of text in pieces of `size` characters.
fn in_pieces(text: &str, size: usize) -> Reply {
    let characters: Vec<char> = text.chars().collect();
    let mut events: Vec<Value> =
        characters.chunks(size).map(|piece| text_chunk(&piece.iter().collect::<String>())).collect();
    events.push(chunk("m1", &json!({}), Some("stop")));
    Reply::events(&events)
}

#[tokio::test]
async fn a_call_in_the_text_is_run() {
    let upstream = Upstream::start();
    let gateway = start(&upstream).await;
    let fenced = format!("I will look.\n```json\n{CALL}\n```\n");
    for text in [CALL, fenced.as_str()] {
        upstream.replies([Reply::text(text), Reply::text("It is 42.")]);
        let reply = gateway.complete(&ask("what?")).await;
        let content = reply["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(content.contains("It is 42.") && !content.contains("read_query"), "{content}");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
        let requests = upstream.requests();
        let [first, second] = &requests[requests.len() - 2..] else { panic!() };
        assert!(first.json().get("tools").is_none(), "the model has no use for `tools`");
        let prompt = &first.messages()[0];
        assert_eq!(prompt["role"], "system");
        assert!(prompt["content"].as_str().unwrap().contains("read_query"), "{prompt}");
        assert!(second.messages().last().unwrap()["content"].as_str().unwrap().contains("42"));
        assert!(second.messages().iter().all(|message| message["role"] != "tool"));
    }
}

#[tokio::test]
async fn a_call_in_a_streamed_text_is_run_and_not_shown() {
    let upstream = Upstream::start();
    let gateway = start(&upstream).await;
    for size in [1, 3, 1000] {
        for text in [CALL.to_owned(), format!("Looking.\n```json\n{CALL}\n```"), format!("Looking. {CALL}")] {
            upstream.replies([in_pieces(&text, size), in_pieces("It is 42.", size)]);
            let reply = gateway.stream(&ask_stream("what?")).await;
            let shown = reply.text();
            assert!(shown.ends_with("It is 42."), "{size}, {text:?}: {shown:?}");
            assert!(!shown.contains("tool") && !shown.contains("```"), "{size}, {text:?}: {shown:?}");
            assert_eq!(text.starts_with("Looking"), shown.starts_with("Looking"));
        }
    }
}

#[tokio::test]
async fn text_that_only_looks_like_a_call_is_shown_in_full() {
    let upstream = Upstream::start();
    let gateway = start(&upstream).await;
    let texts = [
        r#"Use {"tool": "hammer", "arguments": {}} for nails."#,
        r#"{"answer": {"tool": 7}}"#,
        "```json\n{\"a\": [1, 2, {\"b\": null}]}\n``` is an example",
        "braces { everywhere } and ``` a fence",
        r#"{"tool": "read_query""#,
    ];
    for text in texts {
        upstream.reply(in_pieces(text, 2));
        assert_eq!(gateway.stream(&ask_stream("hi")).await.text(), text);
        upstream.reply(Reply::text(text));
        assert_eq!(gateway.complete(&ask("hi")).await["choices"][0]["message"]["content"], text);
    }
}

#[tokio::test]
async fn the_clients_own_tools_work_too() {
    let upstream = Upstream::start();
    let gateway = start(&upstream).await;
    let text = r#"{"tool": "weather", "arguments": {"city": "Oslo"}}"#;
    let mut body = ask_stream("weather?");
    body["tools"] =
        json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]);
    upstream.reply(in_pieces(text, 4));
    let reply = gateway.stream(&body).await;
    let calls = reply.calls();
    assert_eq!((calls.len(), calls[0].1.as_str(), reply.finish().as_str()), (1, "weather", "tool_calls"));
    assert_eq!(serde_json::from_str::<Value>(&calls[0].2).unwrap(), json!({"city": "Oslo"}));
    assert_eq!(reply.text(), "");
    assert!(upstream.last().json().get("tools").is_none());
}
