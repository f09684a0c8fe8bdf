//! One upstream, one try: whole replies, streams, and the ways both go wrong, against a scripted server.

use futures_util::StreamExt;
use serde_json::json;

use super::super::testing::{
    LIMIT, Step, Upstream, chunk, completion, config, events, models, reply, request, request_id, stream_head,
};
use super::super::{Config, ModelDirectory, ModelError};
use crate::domain::{Chunk, Completion};

fn once(url: &str) -> Config {
    Config { max_retries: 0, ..config(&[("up", url)]) }
}

async fn complete(config: Config) -> Result<Completion, ModelError> {
    let models = models(config);
    let model = models.resolve("m").await.unwrap().model;
    tokio::time::timeout(LIMIT, model.complete(&request("hi", false), &request_id())).await.unwrap()
}

/// All chunks' text up to the end or the first error.
async fn stream(config: Config) -> Result<(Vec<Chunk>, Option<ModelError>), ModelError> {
    let models = models(config);
    let model = models.resolve("m").await.unwrap().model;
    let read = async {
        let mut stream = model.stream(&request("hi", true), &request_id()).await?;
        let mut chunks = Vec::new();
        while let Some(item) = stream.next().await {
            match item {
                Ok(chunk) => chunks.push(chunk),
                Err(error) => {
                    assert!(stream.next().await.is_none(), "nothing follows an error");
                    return Ok((chunks, Some(error)));
                }
            }
        }
        Ok((chunks, None))
    };
    tokio::time::timeout(LIMIT, read).await.unwrap()
}

fn text(chunks: &[Chunk]) -> String {
    chunks.iter().flat_map(|chunk| &chunk.choices).filter_map(|choice| choice.content.as_deref()).collect()
}

#[tokio::test]
async fn a_whole_reply_is_the_upstreams_own_bytes() {
    let body = completion("hello") + " \n";
    let up = Upstream::new(None, vec![reply(200, "", &body)]).await;
    assert_eq!(complete(once(&up.url)).await.unwrap().raw, body);
    let sent = &up.requests()[0];
    assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("x-request-id: req_test\r\n") && !sent.contains("authorization"), "{sent}");
    assert!(sent.contains(concat!("user-agent: witgate/", env!("CARGO_PKG_VERSION"))), "{sent}");
}

#[tokio::test]
async fn a_stream_is_read_to_its_end() {
    let up =
        Upstream::new(None, vec![events(&[&chunk("he"), &chunk("llo"), &chunk(""), "[DONE]", "junk"])]).await;
    let (chunks, error) = stream(once(&up.url)).await.unwrap();
    assert_eq!((text(&chunks).as_str(), chunks.len()), ("hello", 3));
    assert!(error.is_none());
}

#[tokio::test]
async fn a_reason_to_stop_is_an_end_without_done() {
    let up = Upstream::new(None, vec![events(&[&chunk("a"), &chunk("")])]).await;
    assert!(stream(once(&up.url)).await.unwrap().1.is_none());
}

#[tokio::test]
async fn done_without_a_reason_gets_one() {
    let up = Upstream::new(None, vec![events(&[&chunk("a"), "[DONE]"])]).await;
    let (chunks, error) = stream(once(&up.url)).await.unwrap();
    assert!(error.is_none());
    assert_eq!(chunks[1].choices[0].finish_reason.as_ref().map(|reason| reason.as_str()), Some("stop"));
}

#[tokio::test]
async fn a_stream_that_is_cut_is_an_error() {
    let half = [stream_head(), Step::Send(format!("data: {}\n\ndata: {{\"choi", chunk("a")))];
    for answer in [events(&[&chunk("a")]), half.to_vec()] {
        let up = Upstream::new(None, vec![answer]).await;
        let (chunks, error) = stream(once(&up.url)).await.unwrap();
        let error = error.unwrap();
        assert_eq!((chunks.len(), error.status), (1, 502));
        assert_eq!(error.message, "the upstream `up` ended the stream early");
    }
    let up = Upstream::new(None, vec![vec![stream_head()]]).await;
    assert!(stream(once(&up.url)).await.unwrap_err().message.contains("ended the stream early"));
}

#[tokio::test]
async fn a_broken_chunked_body_is_an_error() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = format!("data: {}\n\n", chunk("a"));
    let answer = vec![Step::Send(format!("{head}{:x}\r\n{event}\r\n", event.len()))];
    let up = Upstream::new(None, vec![answer]).await;
    let error = stream(once(&up.url)).await.unwrap().1.unwrap();
    assert!(
        error.status == 502 && error.message.contains("the connection to the upstream `up` broke"),
        "{error}"
    );
}

#[tokio::test]
async fn an_error_event_is_the_upstreams_error() {
    let event =
        r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    let up = Upstream::new(None, vec![events(&[&chunk("a"), event])]).await;
    let error = stream(once(&up.url)).await.unwrap().1.unwrap();
    assert_eq!((error.status, error.message.as_str()), (400, "too long"));
    assert!(error.upstream_error.is_some());
    let up = Upstream::new(None, vec![events(&[event])]).await;
    assert_eq!(stream(once(&up.url)).await.unwrap_err().status, 400, "before the first chunk it is a status");
}

#[tokio::test]
async fn garbage_is_named_and_not_shown() {
    let html = "content-type: text/html\r\n";
    let up = Upstream::new(None, vec![reply(200, html, "<html>secret</html>")]).await;
    for error in [complete(once(&up.url)).await.unwrap_err(), stream(once(&up.url)).await.unwrap_err()] {
        assert_eq!(error.message, "the upstream `up` answered with text/html instead of a chat completion");
        assert_eq!(error.status, 502);
    }
    let up = Upstream::new(None, vec![events(&[&chunk("a"), "{not json"])]).await;
    let error = stream(once(&up.url)).await.unwrap().1.unwrap();
    assert!(
        error.status == 502 && error.message.contains("`up`") && !error.message.contains("not json"),
        "{error}"
    );
}

#[tokio::test]
async fn silence_ends_in_a_timeout_and_hangs_up() {
    let mut up = Upstream::new(None, vec![vec![Step::Hang]]).await;
    let hasty = Config { first_byte_timeout_ms: 100, ..config(&[("up", &up.url)]) };
    let error = complete(hasty).await.unwrap_err();
    assert_eq!((error.status, error.kind.as_str()), (504, "upstream_timeout"));
    assert!(error.message.contains("`up`") && error.message.contains("100 ms"), "{error}");
    up.hung_up().await;
    assert_eq!(up.requests().len(), 1, "a request that may be at work is not sent again");

    for start in [vec![], vec![Step::Send(": ping\n\n".to_owned())]] {
        let answer = [vec![stream_head()], start, vec![Step::Hang]].concat();
        let up = Upstream::new(None, vec![answer]).await;
        let hasty = Config { first_byte_timeout_ms: 100, ..once(&up.url) };
        assert_eq!(stream(hasty).await.unwrap_err().status, 504);
    }
    let answer = [events(&[&chunk("a")]), vec![Step::Hang]].concat();
    let up = Upstream::new(None, vec![answer]).await;
    let (chunks, error) = stream(Config { idle_timeout_ms: 100, ..once(&up.url) }).await.unwrap();
    assert_eq!((text(&chunks).as_str(), error.unwrap().status), ("a", 504));
}

#[tokio::test]
async fn signs_of_life_keep_a_stream_alive() {
    let mut answer = events(&[&chunk("a")]);
    for _ in 0..6 {
        answer.extend([Step::Pause(400), Step::Send(": ping\n\n".to_owned())]);
    }
    answer.push(Step::Send(format!("data: {}\n\ndata: [DONE]\n\n", chunk(""))));
    let up = Upstream::new(None, vec![answer]).await;
    let (chunks, error) = stream(Config { idle_timeout_ms: 1500, ..once(&up.url) }).await.unwrap();
    assert!(chunks.len() == 2 && error.is_none(), "{error:?}");
}

#[tokio::test]
async fn dropping_a_stream_hangs_up() {
    let mut up = Upstream::new(None, vec![[events(&[&chunk("a")]), vec![Step::Hang]].concat()]).await;
    let models = models(once(&up.url));
    let model = models.resolve("m").await.unwrap().model;
    let stream = model.stream(&request("hi", true), &request_id()).await.unwrap();
    drop(stream);
    up.hung_up().await;
}

#[tokio::test]
async fn an_upstream_that_ignores_stream_is_understood() {
    let up = Upstream::new(None, vec![reply(200, "", &completion("hello"))]).await;
    let (chunks, error) = stream(once(&up.url)).await.unwrap();
    assert!(error.is_none());
    assert_eq!((text(&chunks).as_str(), chunks.len()), ("hello", 2));

    let up = Upstream::new(None, vec![events(&[&chunk("he"), &chunk("llo"), &chunk(""), "[DONE]"])]).await;
    let reply = complete(once(&up.url)).await.unwrap();
    assert_eq!(reply.choices[0].content.as_deref(), Some("hello"));
}

#[tokio::test]
async fn bodies_and_events_are_bounded() {
    let long = "x".repeat(2000);
    let up = Upstream::new(None, vec![reply(200, "", &completion(&long)), events(&[&chunk(&long)])]).await;
    let small = Config { max_response_bytes: 1000, ..once(&up.url) };
    for error in [complete(small.clone()).await.unwrap_err(), stream(small).await.unwrap_err()] {
        assert!(error.status == 502 && error.message.contains("llm.max_response_bytes"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Upstream::new(None, vec![reply(200, "", &completion("stolen"))]).await;
    let location = format!("location: {}/chat/completions\r\n", other.url);
    let up = Upstream::new(None, vec![reply(307, &location, "")]).await;
    let error = complete(once(&up.url)).await.unwrap_err();
    assert!(error.status == 502 && error.message.contains("`base_url`"), "{error}");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn an_error_with_status_200_is_an_error() {
    let body = json!({"error": {"message": "slow down", "code": 429}}).to_string();
    let up = Upstream::new(None, vec![reply(200, "", &body)]).await;
    let error = complete(once(&up.url)).await.unwrap_err();
    assert_eq!((error.status, error.message.as_str()), (429, "slow down"));
}

#[tokio::test]
async fn a_key_that_is_repeated_is_not_shown() {
    let body = r#"{"error":{"message":"what is sk-very-secret?"}}"#;
    let event = events(&[&chunk("a"), body]);
    let up = Upstream::new(None, vec![reply(400, "", body), event]).await;
    let mut config = once(&up.url);
    config.upstreams[0].api_key_env = "KEY".to_owned();
    let models =
        super::super::Models::new(config, |name| (name == "KEY").then(|| "sk-very-secret".into())).unwrap();
    let model = models.resolve("m").await.unwrap().model;
    let error = model.complete(&request("hi", false), &request_id()).await.unwrap_err();
    assert_eq!(error.message, "what is [redacted]?");
    assert_eq!(error.upstream_error.unwrap(), r#"{"message":"what is [redacted]?"}"#);
    let stream = model.stream(&request("hi", true), &request_id()).await.unwrap();
    let last = stream.collect::<Vec<_>>().await.pop().unwrap().unwrap_err();
    assert!(!format!("{last:?}").contains("sk-very-secret"));
    assert!(up.requests()[0].contains("Bearer sk-very-secret"), "it is sent, though");
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_stream() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let data = format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", chunk("a"), chunk(""));
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let mut seen = Vec::new();
            while !seen.ends_with(b"}]}") && !seen.ends_with(b"true}") {
                assert!(connection.read_buf(&mut seen).await.unwrap() > 0, "the connection was given up");
            }
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let answer = format!("{head}{:x}\r\n{data}\r\n", data.len());
            connection.write_all(answer.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
            connection.write_all(b"0\r\n\r\n").await.unwrap();
        }
    });
    let models = models(once(&url));
    let model = models.resolve("m").await.unwrap().model;
    let both = async {
        for _ in 0..2 {
            let stream = model.stream(&request("hi", true), &request_id()).await.unwrap();
            assert_eq!(stream.filter(|item| std::future::ready(item.is_ok())).count().await, 2);
        }
        server.await.unwrap();
    };
    tokio::time::timeout(LIMIT, both).await.unwrap();
}
