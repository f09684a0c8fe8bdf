//! Second tries at an upstream that fails: how many there are, when there are none, and that clients see nothing of the
//! ones that help and no internals of the ones that do not. Whole replies and streams alike.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::script::{Step, chunk, frame, text_chunk};
use crate::harness::{Gateway, Reply, Upstream, ask, ask_stream};

/// Makes one reply, as often as it is asked for.
type MakeReply = fn() -> Reply;

/// Retries that do not slow the tests down.
const FAST: &str = "[llm]\nretry_base_ms = 1\nretry_max_ms = 5\n";

/// The key that the harness gives the gateway for its upstream.
const UPSTREAM_KEY: &str = "sk-scripted-upstream-key";

/// The same question, for a whole reply and for a stream.
fn both_ways() -> [Value; 2] {
    [ask("hello"), ask_stream("hello")]
}

async fn gateway(upstream: &Upstream, config: &str) -> Gateway {
    Gateway::builder().upstream(upstream).config(&format!("{FAST}{config}")).start().await
}

/// A gateway that knows `m1` at `first` and then at `second`.
async fn gateway_of_two(first: &str, second: &str, config: &str) -> Gateway {
    let entry = |name: &str, url: &str| {
        format!("[[llm.upstreams]]\nname = \"{name}\"\nbase_url = \"{url}\"\nmodels = [\"m1\"]\n")
    };
    let config = format!("{FAST}{config}{}{}", entry("first", first), entry("second", second));
    Gateway::builder().config(&config).start().await
}

/// The text of the reply, whichever way it comes.
async fn text(gateway: &Gateway, body: &Value) -> String {
    if body["stream"] == true {
        let reply = gateway.stream(body).await;
        assert_eq!(reply.error, None);
        return reply.text();
    }
    gateway.complete(body).await["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

/// The error of a request that fails with a status or, where its stream has begun, within the stream.
async fn failure(gateway: &Gateway, body: &Value) -> Value {
    let told = gateway.completion(body).send_any().await;
    assert!(!told.contains("[DONE]"), "{told}");
    let last = told.trim_end().lines().last().unwrap();
    let mut document: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap_or(last)).unwrap();
    assert!(document["error"].is_object(), "{told}");
    document["error"].take()
}

/// Steps that begin a stream with some text.
fn begun() -> Vec<Step> {
    let role = chunk("m1", &json!({"role": "assistant", "content": ""}), None);
    vec![Step::Bytes(frame(&role)), Step::Bytes(frame(&text_chunk("half a ")))]
}

/// [`begun`], and then this.
fn then(last: impl IntoIterator<Item = Step>) -> Reply {
    let mut steps = begun();
    steps.extend(last);
    Reply::steps(steps)
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_once_and_then_passed_on() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "max_retries = 1").await;
    for body in both_ways() {
        let before = upstream.requests().len();
        let limited = || Reply::error(429, "slow down").header("retry-after", "1");
        upstream.replies([limited(), limited()]);
        let start = Instant::now();
        let answer = gateway.completion(&body).send().await;
        assert_eq!(answer.expect(429)["error"]["message"], "slow down");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(start.elapsed() >= Duration::from_secs(1), "the upstream asked for a second of peace");
        assert_eq!(upstream.requests().len() - before, 2);
        // The next one is lucky at its second try.
        upstream.replies([Reply::error(429, "no").header("retry-after-ms", "20"), Reply::text("now")]);
        assert_eq!(text(&gateway, &body).await, "now");
    }
}

#[tokio::test]
async fn a_failure_that_passes_is_not_noticed() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "retry_budget = 1000").await;
    for (first, second) in [(500, 503), (502, 504), (408, 529)] {
        for body in both_ways() {
            let before = upstream.requests().len();
            upstream.replies([
                Reply::raw(first, "oops"),
                Reply::error(second, "x"),
                Reply::text("well again"),
            ]);
            assert_eq!(text(&gateway, &body).await, "well again");
            let tries = &upstream.requests()[before..];
            assert_eq!(tries.len(), 3);
            assert!(tries.iter().all(|request| request.body == tries[0].body), "tries are the same request");
        }
    }
}

#[tokio::test]
async fn a_failure_that_stays_is_told_without_its_details() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "retry_budget = 1000").await;
    for (theirs, ours) in [(500, 502), (502, 502), (503, 503), (504, 504)] {
        for body in both_ways() {
            let before = upstream.requests().len();
            upstream.replies((0..3).map(|_| Reply::error(theirs, "stack trace of database-7")));
            let answer = gateway.completion(&body).send().await;
            let error = answer.expect(ours)["error"].take();
            assert!(!answer.text().contains("database-7"), "{error}");
            assert!(error["message"].as_str().unwrap().contains("upstream `openai`"), "{error}");
            assert_eq!(upstream.requests().len() - before, 3);
        }
    }
}

#[tokio::test]
async fn refused_credentials_are_the_gateways_fault_and_stay_secret() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "").await;
    for status in [401, 403] {
        for body in both_ways() {
            upstream.reply(Reply::error(status, &format!("Incorrect API key provided: {UPSTREAM_KEY}")));
            let answer = gateway.completion(&body).send().await;
            assert_eq!(answer.expect(502)["error"]["code"], "upstream_credentials");
            assert!(!answer.text().contains(UPSTREAM_KEY));
        }
    }
    assert_eq!(upstream.requests().len(), 4, "the same key is not tried twice");
    assert_eq!(upstream.last().header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    assert!(!gateway.log().contains(UPSTREAM_KEY), "the log has the key");
}

#[tokio::test]
async fn a_silent_upstream_is_replaced_by_the_next() {
    let first = Upstream::scripted(|_| Reply::silence());
    let second = Upstream::scripted(|_| Reply::text("awake"));
    let config = "first_byte_timeout_ms = 2000\n";
    let gateway = gateway_of_two(&first.base_url(), &second.base_url(), config).await;
    for body in both_ways() {
        assert_eq!(text(&gateway, &body).await, "awake");
    }
    assert_eq!(first.requests().len(), 2);
    first.request(0).await.closed_by_gateway().await;
}

#[tokio::test]
async fn what_is_no_reply_is_no_success() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "retry_budget = 1000").await;
    let garbage: [(&str, MakeReply); 6] = [
        ("a page", || Reply::raw(200, "<html>secret</html>").header("content-type", "text/html")),
        ("no HTTP", || Reply::no_http(b"secret \x00\xff\r\n\r\n")),
        ("a closed connection", || Reply::no_http(b"")),
        ("a cut body", || Reply::no_http(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"secret")),
        ("no completion", || Reply::json(200, &json!({"secret": []}))),
        ("half a document", || Reply::raw(200, "{\"choices\": [").header("content-type", "application/json")),
    ];
    for (what, reply) in garbage {
        for body in both_ways() {
            let before = upstream.requests().len();
            upstream.replies((0..3).map(|_| reply()));
            let answer = gateway.completion(&body).send().await;
            assert_eq!(answer.status, 502, "{what}: {}", answer.text());
            assert!(!answer.text().contains("secret"), "{what}: {}", answer.text());
            assert_eq!(upstream.requests().len() - before, 3, "{what} is asked for again");
        }
    }
    // The gateway is none the worse for it.
    upstream.reply(Reply::text("fine"));
    assert_eq!(text(&gateway, &ask("x")).await, "fine");
}

#[tokio::test]
async fn what_is_too_large_is_given_up() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "max_response_bytes = 65536").await;
    let large = "x".repeat(100_000);
    for body in both_ways() {
        upstream.reply(Reply::text(&large));
        let error = failure(&gateway, &body).await;
        assert!(error["message"].as_str().unwrap().contains("llm.max_response_bytes"), "{error}");
    }
    assert_eq!(upstream.requests().len(), 2, "it would be as large the next time");
    // An event without an end fills no memory either.
    let endless: Vec<Step> = (0..100).map(|_| Step::Bytes(vec![b'y'; 10_000])).collect();
    upstream.reply(Reply::steps(endless));
    let error = failure(&gateway, &ask_stream("x")).await;
    assert!(error["message"].as_str().unwrap().contains("llm.max_response_bytes"), "{error}");
}

#[tokio::test]
async fn an_empty_reply_is_asked_for_again_and_then_an_error_that_says_so() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "").await;
    for body in both_ways() {
        let before = upstream.requests().len();
        upstream.replies([Reply::text(""), Reply::text("words")]);
        assert_eq!(text(&gateway, &body).await, "words");
        upstream.replies([Reply::text(""), Reply::text(" ")]);
        let error = failure(&gateway, &body).await;
        assert_eq!(error["code"], "empty_reply");
        assert!(error["message"].as_str().unwrap().contains("empty reply 2 times"), "{error}");
        assert_eq!(upstream.requests().len() - before, 4);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_chunk_is_tried_again() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "").await;
    let starts: [MakeReply; 3] = [
        || Reply::steps(vec![Step::Close]),
        || Reply::steps(vec![Step::Bytes(b": hello\n\n".to_vec())]),
        || Reply::steps(vec![Step::Bytes(b"data: <html>\n\n".to_vec())]),
    ];
    for start in starts {
        upstream.replies([start(), Reply::text("better")]);
        assert_eq!(gateway.stream(&ask_stream("x")).await.text(), "better");
    }
    assert_eq!(upstream.requests().len(), 6);
}

#[tokio::test]
async fn a_stream_that_stalls_ends_with_one_error() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "idle_timeout_ms = 2000").await;
    upstream.reply(then([Step::Hang]));
    assert_eq!(gateway.stream(&ask_stream("x")).await.error.unwrap()["type"], "upstream_timeout");
    upstream.request(0).await.closed_by_gateway().await;
    // The same upstream, asked for a whole reply, which it streams all the same.
    upstream.reply(then([Step::Hang]));
    assert_eq!(gateway.refused(&ask("x"), 504).await["type"], "upstream_timeout");
}

#[tokio::test]
async fn a_slow_stream_is_no_broken_one() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "idle_timeout_ms = 4000\nfirst_byte_timeout_ms = 4000").await;
    let pauses =
        (0..5).flat_map(|_| [Step::Sleep(Duration::from_secs(1)), Step::Bytes(frame(&text_chunk("x")))]);
    let end = Step::Bytes(frame(&chunk("m1", &json!({}), Some("stop"))));
    upstream.reply(then(pauses.chain([end])));
    let reply = gateway.stream(&ask_stream("x")).await;
    assert_eq!((reply.text().as_str(), reply.finish().as_str()), ("half a xxxxx", "stop"));
}

#[tokio::test]
async fn done_without_a_reason_is_an_end_on_purpose() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream, "").await;
    upstream.reply(then([Step::Bytes(b"data: [DONE]\n\n".to_vec())]));
    let reply = gateway.stream(&ask_stream("x")).await;
    assert_eq!((reply.text().as_str(), reply.finish().as_str(), reply.error), ("half a ", "stop", None));
}
