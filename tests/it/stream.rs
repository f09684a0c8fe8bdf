//! Streams: text flows while it is generated, whatever way the upstream cuts it, and the rules of the wire hold.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::script::{Step, chunk, frame, text_chunk};
use crate::harness::{Control, Gateway, PATIENCE, Reply, Upstream, ask_stream, within};

/// A whole stream as bytes, with text of several bytes a character.
fn stream_bytes() -> Vec<u8> {
    let events = [
        chunk("m1", &json!({"role": "assistant", "content": ""}), None),
        text_chunk("Grüße, "),
        text_chunk("世界 🌍"),
        chunk("m1", &json!({}), Some("stop")),
    ];
    let mut bytes: Vec<u8> = events.iter().flat_map(frame).collect();
    bytes.extend_from_slice(b"data: [DONE]\n\n");
    bytes
}

#[tokio::test]
async fn text_arrives_while_it_is_generated() {
    let upstream = Upstream::start();
    let (reply, upstream_says) = Reply::controlled();
    upstream.reply(reply);
    let gateway = Gateway::with_tools(&upstream).await;
    let opening = async {
        upstream_says.send(Control::Event(chunk("m1", &json!({"role": "assistant"}), None))).unwrap();
        gateway.completion(&ask_stream("hi")).stream().await
    };
    let mut stream = opening.await;
    for word in ["one ", "two ", "three"] {
        upstream_says.send(Control::Event(text_chunk(word))).unwrap();
        // The upstream sends nothing further until this word has come out at the other end.
        stream.read_until(word).await;
    }
    upstream_says.send(Control::Event(chunk("m1", &json!({}), Some("stop")))).unwrap();
    drop(upstream_says);
    stream.collect_rest_until_done().await;
}

#[tokio::test]
async fn a_stream_cut_at_every_byte_is_the_same_stream() {
    let bytes = stream_bytes();
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    let single: Vec<Step> = bytes.iter().map(|byte| Step::Bytes(vec![*byte])).collect();
    upstream.reply(Reply::steps(single));
    assert_eq!(gateway.stream(&ask_stream("hi")).await.text(), "Grüße, 世界 🌍");
    // Every pair of two writes, with a pause that keeps them apart.
    let gateway = &gateway;
    for cut in (1..bytes.len()).step_by(13) {
        let (first, second) = bytes.split_at(cut);
        upstream.reply(Reply::steps(vec![
            Step::Bytes(first.to_vec()),
            Step::Sleep(Duration::from_millis(2)),
            Step::Bytes(second.to_vec()),
        ]));
        assert_eq!(gateway.stream(&ask_stream("hi")).await.text(), "Grüße, 世界 🌍", "cut at {cut}");
    }
}

#[tokio::test]
async fn other_dialects_of_event_streams_are_understood_and_not_passed_on() {
    let text = String::from_utf8(stream_bytes()).unwrap();
    let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
    let dialects = [
        // CR LF, no space after the colon, names, ids and comments in between.
        format!(": hi\r\n\r\nretry: 5\r\n{}\r\n\r\n", events.join("\r\n\r\nevent: message\r\nid: 7\r\n")),
        text.replace("data: ", "data:"),
        format!("\u{feff}{}", text.replace("\n\n", "\n\n: ping\n\n")),
        // No [DONE]: the finish reason tells that the reply is complete.
        text.replace("data: [DONE]\n\n", ""),
    ];
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    for dialect in dialects {
        upstream.reply(Reply::steps(vec![Step::Bytes(dialect.clone().into_bytes())]));
        assert_eq!(gateway.stream(&ask_stream("hi")).await.text(), "Grüße, 世界 🌍", "{dialect:?}");
    }
}

#[tokio::test]
async fn the_role_comes_once_however_often_the_upstream_says_it() {
    let delta = |text: &str| json!({"role": "assistant", "content": text});
    let repeated = [
        chunk("m1", &delta("a"), None),
        chunk("m1", &delta("b"), None),
        chunk("m1", &json!({}), Some("stop")),
    ];
    let never = [text_chunk("a"), text_chunk("b"), chunk("m1", &json!({}), Some("stop"))];
    let upstream = Upstream::replying([Reply::events(&repeated), Reply::events(&never)]);
    let gateway = Gateway::start(&upstream).await;
    for _ in 0..2 {
        assert_eq!(gateway.stream(&ask_stream("hi")).await.text(), "ab");
    }
}

#[tokio::test]
async fn id_created_and_model_are_those_of_one_stream() {
    let mut odd = [
        chunk("m1", &json!({"role": "assistant"}), None),
        text_chunk("a"),
        chunk("m1", &json!({}), Some("stop")),
    ];
    odd[1]["id"] = "another".into();
    odd[1]["created"] = 5.into();
    odd[2].as_object_mut().unwrap().remove("id");
    odd[2]["model"] = "m1-20260101".into();
    let upstream = Upstream::replying([Reply::events(&odd)]);
    let gateway = Gateway::start(&upstream).await;
    assert_eq!(gateway.stream(&ask_stream("hi")).await.text(), "a");
}

#[tokio::test]
async fn usage_comes_once_without_choices_and_only_when_asked_for() {
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
    let mut with_choice = [text_chunk("a"), chunk("m1", &json!({}), Some("stop"))];
    // Some upstreams count on every chunk, or beside the finish reason.
    with_choice[0]["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
    with_choice[1]["usage"] = usage.clone();
    let upstream = Upstream::replying([
        Reply::text("one two"),
        Reply::text("one two"),
        Reply::events(&with_choice),
        Reply::events(&with_choice),
    ]);
    let gateway = Gateway::start(&upstream).await;
    let mut asking = ask_stream("hi");
    asking["stream_options"] = json!({"include_usage": true, "include_obfuscation": false});
    let reply = gateway.stream(&asking).await;
    assert_eq!(reply.usage(), Some(&json!({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7})));
    let (last, others) = reply.chunks.split_last().unwrap();
    assert!(last["usage"].is_object() && others.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
    assert_eq!(upstream.last().json()["stream_options"]["include_obfuscation"], false);
    assert_eq!(gateway.stream(&ask_stream("hi")).await.usage(), None);
    assert_eq!(gateway.stream(&asking).await.usage(), Some(&usage));
    assert_eq!(gateway.stream(&ask_stream("hi")).await.usage(), None);
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let upstream = Upstream::start();
    let (reply, upstream_says) = Reply::controlled();
    upstream.reply(reply);
    upstream_says.send(Control::Event(text_chunk("a"))).unwrap();
    let gateway =
        Gateway::builder().upstream(&upstream).env("WITGATE_SERVER__KEEP_ALIVE_MS", "30").start().await;
    let mut stream = gateway.completion(&ask_stream("hi")).stream().await;
    stream.read_until("a").await;
    for _ in 0..3 {
        stream.next_comment().await;
    }
    upstream_says.send(Control::Event(chunk("m1", &json!({}), Some("stop")))).unwrap();
    drop(upstream_says);
    stream.collect_rest_until_done().await;
}

#[tokio::test]
async fn the_stream_ends_at_done_even_if_the_upstream_keeps_its_connection() {
    let upstream = Upstream::replying([Reply::steps(vec![Step::Bytes(stream_bytes()), Step::Hang])]);
    let gateway = Gateway::start(&upstream).await;
    let reply = within(PATIENCE / 2, "the end of a stream", gateway.stream(&ask_stream("hi"))).await;
    assert_eq!(reply.finish(), "stop");
}

#[tokio::test]
async fn an_upstream_that_cannot_stream_is_streamed_all_the_same() {
    let whole = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}],
    });
    let upstream = Upstream::replying([Reply::json(200, &whole)]);
    let gateway = Gateway::start(&upstream).await;
    assert_eq!(gateway.stream(&ask_stream("hi")).await.text(), "whole");
}

#[tokio::test]
async fn many_streams_at_once_stay_apart() {
    let upstream = Upstream::scripted(|request| {
        let question = request.messages()[0]["content"].as_str().unwrap().to_owned();
        Reply::text(&format!("you said {question} and nothing else"))
    });
    let gateway = Gateway::start(&upstream).await;
    let gateway = &gateway;
    let streams = (0..50).map(|n| async move {
        let reply = gateway.stream(&ask_stream(&format!("number {n}"))).await;
        assert_eq!(reply.text(), format!("you said number {n} and nothing else"));
    });
    futures_util::future::join_all(streams).await;
}
