//! Bad requests: each gets its own status and words that say what to do, and the gateway goes on.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, Gateway, PATIENCE, Reply, Upstream, ask, within};

const COMPLETIONS: &str = "/v1/chat/completions";

async fn raw(gateway: &Gateway, body: impl Into<Vec<u8>>) -> Answer {
    let request = gateway.request("POST", COMPLETIONS).header("content-type", "application/json");
    request.body(body.into()).send().await
}

/// Writes bytes to the gateway and returns all it answers until it closes the connection.
pub(crate) async fn talk(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
    // The gateway may answer and close before it has read everything.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within(PATIENCE, "the end of the connection", socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn wrong_bodies_name_what_is_wrong() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    let user = r#"{"role":"user","content":"x"}"#;
    let cases: Vec<(String, Option<&str>)> = vec![
        (String::new(), None),
        ("{".into(), None),
        ("[]".into(), None),
        ("null".into(), None),
        (format!(r#"{{"messages":[{user}]}} trailing"#), None),
        (format!(r#"{{"model":"m1","messages":[{user}],"model":"m2"}}"#), None),
        (r#"{"model":"m1"}"#.into(), Some("messages")),
        (r#"{"model":"m1","messages":[]}"#.into(), Some("messages")),
        (r#"{"model":"m1","messages":"hi"}"#.into(), Some("messages")),
        (format!(r#"{{"model":"m1","messages":[{user},7]}}"#), Some("messages[1]")),
        (r#"{"model":"m1","messages":[{"content":"x"}]}"#.into(), Some("messages[0]")),
        (format!(r#"{{"model":7,"messages":[{user}]}}"#), Some("model")),
        (format!(r#"{{"model":"m1","messages":[{user}],"stream":"yes"}}"#), Some("stream")),
        (format!(r#"{{"model":"m1","messages":[{user}],"stream_options":3}}"#), Some("stream_options")),
        (format!(r#"{{"model":"m1","messages":[{user}],"tools":{{}}}}"#), Some("tools")),
        (format!(r#"{{"model":"m1","messages":[{user}],"tools":["x"]}}"#), Some("tools[0]")),
    ];
    for (body, param) in cases {
        let error = raw(&gateway, body.clone()).await.expect(400)["error"].take();
        assert_eq!(error["param"].as_str(), param, "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        if let Some(param) = param {
            assert!(error["message"].as_str().unwrap().contains(param), "{body}: {error}");
        }
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    let mut body = ask("x").to_string().into_bytes();
    let at = body.windows(3).position(|w| w == b"\"x\"").unwrap() + 1;
    body[at] = 0xff;
    raw(&gateway, body).await.expect(400);
    let mut lone_surrogate = ask("x").to_string();
    lone_surrogate = lone_surrogate.replace("\"x\"", "\"\\ud800\"");
    let answer = raw(&gateway, lone_surrogate).await;
    assert!(answer.status == 400 || answer.status == 200, "{}", answer.text());
    // Deep nesting must not exhaust the stack.
    let deep = format!(
        r#"{{"messages":[{{"role":"user","content":"x"}}],"x":{}{}}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    raw(&gateway, deep).await.expect(400);
    gateway.get("/healthz").await.expect(200);
}

#[tokio::test]
async fn the_simple_api_names_what_is_wrong_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    let cases = [
        (json!({}), 400, "message"),
        (json!({"message": ""}), 400, "message"),
        (json!({"message": 7}), 400, "message"),
        (json!({"message": "x", "stream": "yes"}), 400, "stream"),
        (json!({"message": "x", "session_id": 7}), 400, "session_id"),
        (json!({"message": "x", "session_id": "../../etc/passwd"}), 404, "session"),
        (json!({"message": "x", "session_id": "ses_unknown"}), 404, "session"),
        (json!({"message": "x", "model": "nonexistent"}), 404, "nonexistent"),
        (json!([]), 400, ""),
    ];
    for (body, status, words) in cases {
        let detail = gateway.post("/chat", &body).await.words(status);
        assert!(detail.contains(words), "{body}: {detail}");
    }
    gateway.get("/chat/sessions?limit=x").await.words(400);
    gateway.get("/chat/sessions/nonexistent").await.words(404);
}

#[tokio::test]
async fn media_types_methods_and_paths_have_their_statuses() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    let form =
        gateway.request("POST", COMPLETIONS).header("content-type", "text/plain").body("{}").send().await;
    form.expect(415);
    gateway.request("POST", COMPLETIONS).body(ask("x").to_string()).send().await.expect(415);
    let answer = gateway.get(COMPLETIONS).await;
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{answer:?}");
    answer.expect(405);
    gateway.request("PUT", "/chat").body("x").send().await.expect(405);
    assert!(gateway.get("/v1/nothing").await.words(404).len() > 5);
    assert!(gateway.get("/nothing").await.words(404).len() > 5);
}

#[tokio::test]
async fn a_huge_body_is_refused_before_it_is_read() {
    let upstream = Upstream::replying([Reply::text("ok")]);
    let gateway =
        Gateway::builder().upstream(&upstream).env("WITGATE_LIMITS__MAX_BODY_BYTES", "1000").start().await;
    gateway.complete(&ask(&"x".repeat(800))).await;
    let error = gateway.refused(&ask(&"x".repeat(2000)), 413).await;
    assert!(error["message"].as_str().unwrap().contains("1000"), "{error}");
    // A length that is only announced is refused without waiting for the body.
    let head = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n"
    );
    assert!(talk(&gateway, head.as_bytes()).await.starts_with("HTTP/1.1 413"));
    // Chunks that never end are refused too.
    let mut chunked = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    (0..100).for_each(|_| chunked.push_str(&format!("64\r\n{}\r\n", " ".repeat(100))));
    assert!(talk(&gateway, chunked.as_bytes()).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn header_floods_and_no_http_are_turned_away() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    let mut many = String::from("GET /healthz HTTP/1.1\r\nhost: x\r\n");
    (0..500).for_each(|n| many.push_str(&format!("x-{n}: y\r\n")));
    let answer = talk(&gateway, format!("{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let answer = talk(&gateway, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = talk(&gateway, b"hello there\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    gateway.get("/healthz").await.expect(200);
}

#[tokio::test]
async fn slow_clients_are_closed() {
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .upstream(&upstream)
        .env("WITGATE_LIMITS__HEADER_TIMEOUT_MS", "1000")
        .env("WITGATE_LIMITS__BODY_TIMEOUT_MS", "1000")
        .start()
        .await;
    // Half a head, then nothing: `talk` returns only when the gateway closes.
    let answer = talk(&gateway, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let half = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    let answer = talk(&gateway, half.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    gateway.get("/healthz").await.expect(200);
}

#[tokio::test]
async fn odd_tool_schemas_of_a_client_are_the_upstreams_to_judge() {
    let upstream = Upstream::replying([Reply::error(400, "Invalid schema for function 'f'")]);
    let gateway = Gateway::with_tools(&upstream).await;
    let mut body = ask("x");
    body["tools"] =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "nonsense"}}}]);
    let error: Value = gateway.refused(&body, 400).await;
    assert!(error["message"].as_str().unwrap().contains("Invalid schema"), "{error}");
}

#[tokio::test]
async fn beyond_the_limit_requests_are_turned_away_with_a_wait() {
    let upstream = Upstream::scripted(|_| Reply::silence());
    let gateway =
        Gateway::builder().upstream(&upstream).env("WITGATE_LIMITS__MAX_IN_FLIGHT", "1").start().await;
    let body = ask("x");
    let first = gateway.completion(&body).send();
    let second = async {
        upstream.request(0).await;
        let answer = gateway.completion(&ask("y")).send().await;
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        answer.expect(503);
        gateway.get("/healthz").await.expect(200);
    };
    tokio::select! {
        answer = first => panic!("the first request cannot be answered: {answer:?}"),
        () = second => {}
    }
}
