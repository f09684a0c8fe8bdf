//! Upstreams that fail in every way they can: each has its status, or its error event once the stream has begun.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::gateway::Builder;
use crate::harness::script::{Step, chunk, frame, text_chunk};
use crate::harness::{Gateway, Reply, Upstream, ask, ask_stream};

const COMPLETIONS: &str = "/v1/chat/completions";

/// A gateway that does not try again, so that the failure itself is seen.
fn without_retries(upstream: &Upstream) -> Builder {
    Gateway::builder().upstream(upstream).env("WITGATE_LLM__MAX_RETRIES", "0")
}

/// A gateway that tries again at once.
fn with_retries(upstream: &Upstream) -> Builder {
    let builder = Gateway::builder().upstream(upstream).env("WITGATE_LLM__RETRY_BASE_MS", "1");
    builder.env("WITGATE_LLM__RETRY_MAX_MS", "2")
}

fn begun(rest: Vec<Step>) -> Reply {
    let mut steps = vec![
        Step::Bytes(frame(&chunk("m1", &json!({"role": "assistant", "content": ""}), None))),
        Step::Bytes(frame(&text_chunk("half "))),
    ];
    steps.extend(rest);
    Reply::steps(steps)
}

#[tokio::test]
async fn statuses_are_passed_on_or_translated_but_never_flattened() {
    let cases = [
        (400, 400),
        (404, 404),
        (409, 409),
        (413, 413),
        (422, 422),
        (429, 429),
        (401, 502),
        (403, 502),
        (500, 502),
        (502, 502),
        (503, 503),
        (504, 504),
    ];
    let upstream = Upstream::start();
    let gateway = without_retries(&upstream).start().await;
    for (theirs, ours) in cases {
        for body in [ask("hi"), ask_stream("hi")] {
            upstream.reply(Reply::error(theirs, "the model says no"));
            let answer = gateway.post(COMPLETIONS, &body).await;
            let words = answer.words(ours);
            if ours < 500 {
                assert_eq!(words, "the model says no");
                assert_eq!(answer.json()["error"]["type"], "scripted_error");
            } else {
                assert!(!words.contains("127.0.0.1") && !words.contains("sk-"), "internals in {words}");
            }
        }
    }
    assert_eq!(upstream.requests().len(), cases.len() * 2);
}

#[tokio::test]
async fn a_rate_limit_comes_with_its_wait() {
    let upstream = Upstream::start();
    let gateway = without_retries(&upstream).start().await;
    upstream.reply(Reply::error(429, "slow down").header("retry-after", "7"));
    let answer = gateway.post(COMPLETIONS, &ask("hi")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("7")));
    upstream.reply(Reply::error(429, "slow down").header("retry-after", "7"));
    let answer = gateway.post("/chat", &json!({"message": "hi"})).await;
    assert_eq!((answer.words(429).as_str(), answer.header("retry-after")), ("slow down", Some("7")));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_cannot_is_not() {
    let upstream = Upstream::start();
    let gateway = with_retries(&upstream).start().await;
    for (count, body) in [ask("hi"), ask_stream("hi")].iter().enumerate() {
        upstream.replies([
            Reply::error(503, "busy"),
            Reply::error(429, "slow").header("retry-after-ms", "20"),
            Reply::text("at last"),
        ]);
        let text = gateway.completion(body).send_any().await;
        assert!(text.contains("last"), "{text}");
        assert_eq!(upstream.requests().len(), 3 * (count + 1));
    }
    let before = upstream.requests().len();
    upstream.reply(Reply::error(400, "no"));
    gateway.refused(&ask("hi"), 400).await;
    upstream.reply(Reply::error(503, "busy").header("x-should-retry", "false"));
    gateway.refused(&ask("hi"), 503).await;
    assert_eq!(upstream.requests().len(), before + 2);
}

#[tokio::test]
async fn a_very_long_wait_is_the_clients() {
    let upstream = Upstream::replying([Reply::error(429, "tomorrow").header("retry-after", "86400")]);
    let gateway = with_retries(&upstream).start().await;
    let answer = gateway.post(COMPLETIONS, &ask("hi")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("86400")));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn silence_before_the_first_byte_is_a_timeout() {
    let upstream = Upstream::scripted(|_| Reply::silence());
    let gateway = without_retries(&upstream).env("WITGATE_LLM__FIRST_BYTE_TIMEOUT_MS", "150").start().await;
    gateway.refused(&ask("hi"), 504).await;
    gateway.refused(&ask_stream("hi"), 504).await;
    gateway.post("/chat", &json!({"message": "hi", "stream": true})).await.words(504);
    upstream.last().closed_by_gateway().await;
    // A head alone is no answer either.
    let upstream = Upstream::scripted(|_| Reply::steps(vec![Step::Hang]));
    let gateway = without_retries(&upstream).env("WITGATE_LLM__FIRST_BYTE_TIMEOUT_MS", "150").start().await;
    gateway.refused(&ask_stream("hi"), 504).await;
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_an_error_event_and_the_end() {
    let upstream_error = json!({"error": {"message": "out of memory", "type": "server_error", "code": null}});
    let cases: Vec<(&str, Vec<Step>)> = vec![
        ("silence", vec![Step::Hang]),
        ("connection closed", vec![Step::Close]),
        ("clean end without a reason", vec![]),
        ("garbage", vec![Step::Bytes(b"data: {\"choices\": [\n\n".to_vec()), Step::Hang]),
        ("no chunk", vec![Step::Bytes(b"data: 7\n\n".to_vec()), Step::Hang]),
        ("cut within an event", vec![Step::Bytes(b"data: {\"id\":\"x\",\"cho".to_vec()), Step::Close]),
        ("not UTF-8", vec![Step::Bytes(b"data: {\"id\":\"\xff\"}\n\n".to_vec()), Step::Hang]),
        ("an error of the upstream", vec![Step::Bytes(frame(&upstream_error)), Step::Hang]),
    ];
    let upstream = Upstream::start();
    let gateway = without_retries(&upstream).env("WITGATE_LLM__IDLE_TIMEOUT_MS", "2000").start().await;
    for (name, rest) in cases {
        upstream.reply(begun(rest));
        let reply = gateway.stream(&ask_stream("hi")).await;
        assert_eq!(reply.text(), "half ", "{name}");
        let error = reply.error.unwrap_or_else(|| panic!("{name}: no error"));
        assert!(!error["message"].as_str().unwrap().contains("127.0.0.1"), "{name}: {error}");
    }
    upstream.reply(begun(vec![Step::Close]));
    let body = json!({"message": "hi", "stream": true});
    let events = gateway.request("POST", "/chat").json(&body).stream().await.collect_named().await;
    let (name, data) = events.last().unwrap();
    assert!(name == "error" && data["detail"].is_string(), "{events:?}");
}

#[tokio::test]
async fn a_failure_before_the_first_chunk_is_a_status() {
    let error = json!({"error": {"message": "context too long", "type": "invalid_request_error", "param": null, "code": "context_length_exceeded"}});
    let cases: Vec<(&str, Reply, u16)> = vec![
        ("no HTTP", Reply::no_http(b"SSH-2.0-OpenSSH\r\n\r\n"), 502),
        ("closed at once", Reply::no_http(b""), 502),
        ("head only", Reply::steps(vec![Step::Close]), 502),
        ("empty stream", Reply::steps(vec![]), 502),
        ("only [DONE]", Reply::events(&[]), 502),
        ("garbage event", Reply::steps(vec![Step::Bytes(b"data: hello\n\n".to_vec()), Step::Hang]), 502),
        ("error event", Reply::events(&[error]), 400),
        ("HTML", Reply::raw(200, "<html>login</html>").header("content-type", "text/html"), 502),
    ];
    let upstream = Upstream::start();
    let gateway = without_retries(&upstream).start().await;
    for (name, reply, status) in cases {
        upstream.reply(reply);
        let answer = gateway.post(COMPLETIONS, &ask_stream("hi")).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn broken_whole_replies_are_an_upstream_failure() {
    let json = |body: &str| Reply::raw(200, body.to_owned()).header("content-type", "application/json");
    let cut = Reply::raw(200, "{\"id\":\"x\"").header("content-type", "application/json");
    let cases = [
        ("no JSON", json("hello")),
        ("cut JSON", cut),
        ("no completion", json("{}")),
        ("no choices", json("{\"choices\":[]}")),
        ("null choices", json("{\"choices\":null}")),
        ("an array", json("[]")),
        ("HTML", Reply::raw(200, "<html>").header("content-type", "text/html")),
        ("no HTTP", Reply::no_http(b"hello\n")),
        ("redirect", Reply::raw(302, "").header("location", "http://127.0.0.1:1/")),
    ];
    let upstream = Upstream::start();
    let gateway = without_retries(&upstream).env("WITGATE_CHAT__EMPTY_REPLY_RETRIES", "0").start().await;
    for (name, reply) in cases {
        upstream.reply(reply);
        let answer = gateway.post(COMPLETIONS, &ask("hi")).await;
        assert_eq!(answer.status, 502, "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_named_without_its_address() {
    let upstream = Upstream::start();
    let gateway = without_retries(&upstream).start().await;
    drop(upstream);
    let error = gateway.refused(&ask("hi"), 502).await;
    assert!(!error["message"].as_str().unwrap().contains("127.0.0.1"), "{error}");
    gateway.get("/healthz").await.expect(200);
}

#[tokio::test]
async fn the_next_upstream_takes_over() {
    let (first, second) = (Upstream::start(), Upstream::start());
    let config = format!(
        "[llm]\nmax_retries = 0\n[[llm.upstreams]]\nname = \"a\"\nbase_url = \"{}\"\nmodels = [\"m1\"]\n\
         [[llm.upstreams]]\nname = \"b\"\nbase_url = \"{}\"\naliases = {{ m1 = \"other-name\" }}\nmodels = [\"other-name\"]",
        first.base_url(),
        second.base_url()
    );
    let gateway = Gateway::builder().config(&config).start().await;
    first.reply(Reply::error(500, "down"));
    second.reply(Reply::text("from b"));
    let reply = gateway.stream(&ask_stream("hi")).await;
    assert_eq!(reply.text(), "from b");
    assert_eq!(second.last().json()["model"], "other-name");
    assert!(reply.chunks.iter().all(|chunk| chunk["model"].is_string()));
    // What the request is at fault for is not tried elsewhere.
    first.reply(Reply::error(400, "bad request"));
    gateway.refused(&ask("hi"), 400).await;
    assert_eq!(second.requests().len(), 1);
}

#[tokio::test]
async fn an_endless_reply_is_cut_off() {
    let endless = || {
        let event = frame(&text_chunk(&"x".repeat(3000)));
        let no_end = Step::Bytes(event[..event.len() - 2].to_vec());
        Reply::steps(vec![no_end, Step::Sleep(Duration::from_millis(5)), Step::Hang])
    };
    let upstream = Upstream::scripted(move |request| {
        if request.json()["stream"] == true { endless() } else { Reply::raw(200, vec![b' '; 5000]) }
    });
    let gateway = without_retries(&upstream).env("WITGATE_LLM__MAX_RESPONSE_BYTES", "2000").start().await;
    gateway.refused(&ask("hi"), 502).await;
    let error: Value = gateway.refused(&ask_stream("hi"), 502).await;
    assert!(error["message"].is_string());
}
