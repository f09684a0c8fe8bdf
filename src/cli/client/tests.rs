//! Tests of the client: addresses, keys and the events of an answer.

use super::*;

async fn collect(body: &'static [u8]) -> Vec<Result<ReplyEvent, String>> {
    // One byte at a time: events must not depend on how the network cuts them.
    let bytes = body.iter().map(|byte| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![*byte])));
    let reply = events(SseByteStream::new(futures_util::stream::iter(bytes)));
    reply.map(|event| event.map_err(|error| error.to_string())).collect().await
}

#[tokio::test]
async fn an_answer_with_a_tool() {
    let body = "event: delta\ndata: {\"text\":\"Gr\u{fc}\u{df}e\"}\n\n: ping\n\n\
        event: tool_call\ndata: {\"id\":\"c1\",\"name\":\"t\",\"arguments\":\"{\\\"a\\\":1}\"}\n\n\
        event: tool_result\ndata: {\"id\":\"c1\",\"name\":\"t\",\"is_error\":true,\"content\":[{\"type\":\"text\",\"text\":\"no\"},{\"type\":\"image\"}]}\n\n\
        event: news\ndata: {}\n\n\
        event: done\ndata: {\"response\":\"x\",\"session_id\":\"ses_1\",\"usage\":null}\n\n\
        event: delta\ndata: {\"text\":\"too late\"}\n\n";
    let events = collect(body.as_bytes()).await;
    let wanted = [
        ReplyEvent::Delta("Gr\u{fc}\u{df}e".to_owned()),
        ReplyEvent::ToolCall { id: "c1".into(), name: "t".into(), arguments: r#"{"a":1}"#.into() },
        ReplyEvent::ToolResult {
            id: "c1".into(),
            name: "t".into(),
            is_error: true,
            content: "no\n[image]".into(),
        },
        ReplyEvent::Done { response: "x".into(), session: "ses_1".into() },
    ];
    assert_eq!(events, wanted.map(Ok));
}

#[tokio::test]
async fn an_answer_that_fails_or_breaks_off_is_an_error() {
    let failed =
        collect(b"event: delta\ndata: {\"text\":\"a\"}\n\nevent: error\ndata: {\"detail\":\"no model\"}\n\n")
            .await;
    assert_eq!(failed, [Ok(ReplyEvent::Delta("a".into())), Err("no model".into())]);
    let cut = collect(b"event: delta\ndata: {\"text\":\"a\"}\n\n").await;
    assert_eq!(
        cut,
        [Ok(ReplyEvent::Delta("a".into())), Err("the answer broke off before it was complete".into())]
    );
    let garbled = collect(b"event: delta\ndata: {\"txt\":1}\n\n").await;
    assert_eq!(
        garbled,
        [Err("the gateway sent a `delta` event that this client does not understand".into())]
    );
}

#[test]
fn addresses_keep_their_path() {
    let at = |url| Client::new(url, None).unwrap().at("chat/sessions/x").to_string();
    assert_eq!(at("http://localhost:8000"), "http://localhost:8000/chat/sessions/x");
    assert_eq!(at("https://example.org/gateway/"), "https://example.org/gateway/chat/sessions/x");
    for wrong in ["localhost:8000", "ftp://x", "", "http://", "http://me:pw@host"] {
        let error = Client::new(wrong, None).err().unwrap().to_string();
        assert!(error.contains("the address of a gateway") && !error.contains("pw"), "{error}");
    }
}

#[test]
fn keys_are_not_shown_and_plain_http_is_noticed() {
    let client = |url, key: &str| Client::new(url, Some(Secret::from(key)));
    assert!(client("http://example.org", "k").unwrap().exposes_key());
    for safe in ["https://example.org", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"] {
        assert!(!client(safe, "k").unwrap().exposes_key(), "{safe}");
    }
    let error = client("http://localhost", "sk-\n").err().unwrap();
    assert!(!format!("{error:?}").contains("sk-"), "{error:?}");
}

#[tokio::test]
async fn nobody_there() {
    let client = Client::new("http://127.0.0.1:1", None).unwrap();
    let error = client.models().await.unwrap_err().to_string();
    assert!(error.starts_with("cannot connect to http://127.0.0.1:1: "), "{error}");
    assert!(error.ends_with("is the gateway running?"), "{error}");
}
