//! What is sent with ill intent: every refusal has the form of its path, leads nowhere, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Gateway, PATIENCE, Reply, Upstream, ask, within};

/// A server with one tool whose schema is none, and one that is in order.
const ODD_SERVER: &str = r#"
while read -r line; do
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  case $line in
    *'"method":"initialize"'*)
      answer '{"protocolVersion":"2024-11-05","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *'"method":"tools/list"'*)
      answer '{"tools":[{"name":"odd","inputSchema":{"type":"object","properties":{"a":{"type":7}}}},{"name":"even","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"ping"'*)
      answer '{}' ;;
  esac
done
"#;

async fn gateway(config: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::scripted(|_| Reply::text("fine"));
    let gateway = Gateway::builder().upstream(&upstream).config(config).start().await;
    (gateway, upstream)
}

/// Sends `bytes` on a connection of its own and reads until the gateway closes it.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The gateway may stop reading before the end; what it answered is what counts.
    let _ = socket.write_all(bytes).await;
    read_to_end(&mut socket).await
}

async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    within(PATIENCE, "the gateway's closing of the connection", read).await;
    String::from_utf8(answer).unwrap()
}

/// A request head, with `lines` after the request line.
fn head(request: &str, lines: &str) -> Vec<u8> {
    format!("{request} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n{lines}\r\n").into_bytes()
}

async fn is_fine(gateway: &Gateway) {
    let reply = gateway.complete(&ask("hello")).await;
    assert_eq!(reply["choices"][0]["message"]["content"], "fine");
}

/// Posts a body of any bytes as JSON.
async fn post(gateway: &Gateway, path: &str, body: impl Into<Vec<u8>>) -> crate::harness::Answer {
    let request = gateway.request("POST", path).header("content-type", "application/json");
    request.body(body.into()).send().await
}

#[tokio::test]
async fn broken_json_is_refused_with_its_place() {
    let (gateway, upstream) = gateway("").await;
    for path in ["/v1/chat/completions", "/chat"] {
        let words = post(&gateway, path, "{\n  \"model\": \"m1\",\n  oops}").await.words(400);
        assert!(words.contains("line 3 column"), "{words}");
        for body in [&b""[..], b"[]", b"null", b"\"text\"", b"{\"message\": \"\xff\"}", b"{} {}"] {
            post(&gateway, path, body).await.words(400);
        }
    }
    let words = post(&gateway, "/v1/chat/completions", r#"{"model":"a","model":"b"}"#).await.words(400);
    assert!(words.contains("`model` appears twice"), "{words}");
    let words = post(&gateway, "/chat", r#"{"message":"a","message":"b"}"#).await.words(400);
    assert!(words.contains("`message`"), "{words}");
    let mut not_text = br#"{"model":"m1","messages":[{"role":"user","content":""#.to_vec();
    not_text.extend_from_slice(b"\xc3\x28\"}]}");
    post(&gateway, "/v1/chat/completions", not_text).await.words(400);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn nesting_without_end_hurts_nobody() {
    // An upstream that does not look at what it is asked: what is nested goes through the gateway as it is.
    let message = json!({"role": "assistant", "content": "fine", "refusal": null});
    let reply = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": null}],
    });
    let upstream = Upstream::scripted(move |_| Reply::json(200, &reply));
    let gateway = Gateway::start(&upstream).await;
    let deep = "[".repeat(200_000);
    let closed = format!("{deep}{}", "]".repeat(200_000));
    for content in [&deep, &closed] {
        let body = format!(r#"{{"model":"m1","messages":[{{"role":"user","content":{content}}}]}}"#);
        let answer = post(&gateway, "/v1/chat/completions", body).await;
        assert!(answer.status == 200 || answer.status == 400, "{}", answer.text());
        let answer = post(&gateway, "/chat", format!(r#"{{"message":{content}}}"#)).await;
        answer.words(400);
    }
    is_fine(&gateway).await;
}

#[tokio::test]
async fn a_tool_whose_schema_is_none_is_not_offered() {
    let upstream = Upstream::scripted(|_| Reply::text("fine"));
    // In a file, since a configuration would take the script's variables for its own.
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), ODD_SERVER).unwrap();
    let server = json!({"command": "sh", "args": [script.path()]});
    let gateway = Gateway::builder().upstream(&upstream).server("odd", server).start().await;
    is_fine(&gateway).await;
    assert_eq!(upstream.last().tool_names(), ["even"]);
    gateway.until_logged(&["odd", "WARN"]).await;
}

#[tokio::test]
async fn a_model_that_is_not_there_is_not_found() {
    let upstream = Upstream::scripted(|_| Reply::text("fine"));
    let config = format!(
        "[[llm.upstreams]]\nname = \"only\"\nbase_url = \"{}\"\nmodels = [\"m1\"]",
        upstream.base_url()
    );
    let gateway = Gateway::builder().config(&config).start().await;
    for name in ["nope", "m1 ", "M1", "../m1", &"m".repeat(5000)] {
        let mut body = ask("x");
        body["model"] = name.into();
        let error = gateway.refused(&body, 404).await;
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!("model_not_found"), &json!("model")),
            "{error}"
        );
        gateway.post("/chat", &json!({"message": "x", "model": name})).await.words(404);
    }
    let answer = gateway.get("/v1/models/nope").await;
    assert_eq!(answer.expect(404)["error"]["code"], "model_not_found");
    assert!(upstream.requests().is_empty());
    is_fine(&gateway).await;
}

#[tokio::test]
async fn no_path_leads_out_of_the_sessions() {
    let (gateway, _upstream) = gateway("").await;
    let ids = [
        "..",
        "../..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "a%00b",
        "'%20OR%201=1--",
        "%20",
        "%ff",
        "ses_%0d%0ax",
        "a%2fb",
        "%25%32%65",
    ];
    for id in ids {
        for method in ["GET", "DELETE"] {
            let request = head(&format!("{method} /chat/sessions/{id}"), "");
            let answer = exchange(gateway.address(), &request).await;
            let refused =
                ["400", "404"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")));
            assert!(refused && answer.contains("{\"detail\":"), "{id}: {answer}");
        }
    }
    let long = format!("/chat/sessions/{}", "x".repeat(5000));
    gateway.get(&long).await.words(404);
    let words = gateway.post("/chat", &json!({"message": "x", "session_id": "../x"})).await.words(404);
    assert!(!words.contains("../x"), "{words}");
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_form_of_its_path() {
    let (gateway, _upstream) = gateway("").await;
    for path in ["/v1/nothing", "/v1/chat", "/nothing", "/chat/nothing", "/v1x", "//", "/healthz/x"] {
        let words = gateway.get(path).await.words(404);
        assert!(words.contains("GET"), "{words}");
    }
    let cases = [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("GET", "/chat", "POST"),
        ("PUT", "/chat/sessions/x", "DELETE"),
        ("POST", "/healthz", "GET"),
    ];
    for (method, path, allowed) in cases {
        let answer = gateway.request(method, path).send().await;
        answer.words(405);
        assert!(
            answer.header("allow").is_some_and(|allow| allow.contains(allowed)),
            "{method} {path}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn request_ids_are_kept_when_they_are_sane() {
    let (gateway, upstream) = gateway("").await;
    let with_id = |id: &str| gateway.completion(&ask("x")).header("x-request-id", id).send();
    assert_eq!(with_id("Ab-1._:z").await.header("x-request-id"), Some("Ab-1._:z"));
    assert_eq!(upstream.last().header("x-request-id"), Some("Ab-1._:z"));
    for bad in ["a b", "<script>", "", "x\"y", &"x".repeat(129)] {
        let answer = with_id(bad).await;
        assert!(answer.header("x-request-id").unwrap().starts_with("req_"), "{bad:?}: {answer:?}");
    }
    let failed = gateway.request("GET", "/nothing").header("x-request-id", "mine").send().await;
    assert_eq!(failed.header("x-request-id"), Some("mine"), "failures have it too");
}

#[tokio::test]
async fn pages_of_other_origins_get_what_the_settings_allow() {
    let preflight = "origin: https://page.example\r\naccess-control-request-method: POST\r\n\
                     access-control-request-headers: authorization,content-type,x-stainless-os\r\n";
    let ask_first = async |gateway: &Gateway| {
        let request = head("OPTIONS /v1/chat/completions", preflight);
        exchange(gateway.address(), &request).await.to_ascii_lowercase()
    };
    let (open, _upstream) = gateway("").await;
    let answer = ask_first(&open).await;
    assert!(answer.starts_with("http/1.1 200 "), "{answer}");
    assert!(answer.contains("access-control-allow-origin: *\r\n"), "{answer}");
    assert!(answer.contains("x-stainless-os") && answer.contains("authorization"), "{answer}");
    assert!(!answer.contains("access-control-allow-credentials"), "{answer}");

    let config = "[cors]\nallow_credentials = true\nallow_origins = [\"https://page.example\"]\n\
                  allow_headers = [\"authorization\", \"content-type\"]";
    let (named, _upstream) = gateway(config).await;
    let answer = ask_first(&named).await;
    assert!(answer.contains("access-control-allow-origin: https://page.example\r\n"), "{answer}");
    assert!(answer.contains("access-control-allow-credentials: true\r\n"), "{answer}");
    let stranger = named.request("GET", "/healthz").header("origin", "https://evil.example").send().await;
    assert_eq!(stranger.header("access-control-allow-origin"), None);

    let mut both = Gateway::builder().config("[cors]\nallow_credentials = true").spawn();
    assert_eq!(both.wait().await.code(), Some(1), "any page with the user's credentials: never");
    let told = async || both.log_text().contains("cors.allow_credentials");
    crate::harness::eventually("the refusal is explained", told).await;
}

#[tokio::test]
async fn a_client_that_dribbles_is_let_go_while_others_are_served() {
    let (gateway, _upstream) = gateway("[limits]\nheader_timeout_ms = 1000\nbody_timeout_ms = 1000").await;
    let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
    let dribble = async {
        for byte in head("GET /healthz", &"x-slow: y\r\n".repeat(90)) {
            if socket.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Longer than the limit, far shorter than the whole head would take.
    let _ = tokio::time::timeout(Duration::from_secs(3), dribble).await;
    is_fine(&gateway).await;
    let answer = read_to_end(&mut socket).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");

    for path in ["/v1/chat/completions", "/chat"] {
        let lines = "content-type: application/json\r\ncontent-length: 1000\r\n";
        let mut request = head(&format!("POST {path}"), lines);
        request.extend_from_slice(b"{\"message\":");
        let answer = exchange(gateway.address(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("1000 ms"), "{answer}");
        let document: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(document.get("detail").is_some(), path == "/chat", "{document}");
    }
    is_fine(&gateway).await;
}
