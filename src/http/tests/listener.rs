//! The API behind a real listener: slow and greedy clients, clients that leave, draining.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fakes::{Setup, SlowModel};
use crate::http::{BindError, LimitsConfig, Server, ServerConfig};

/// No test takes this long, on however busy a machine; only there so that a hang becomes a failure.
const GUARD: Duration = Duration::from_secs(60);

struct Running {
    address: SocketAddr,
    slow: SlowModel,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn start(setup: Setup) -> Running {
    let server = Server::bind(&setup.server).await.unwrap();
    let (address, (app, slow)) = (server.address(), setup.build());
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(async move {
        let shutdown = async {
            // A test that forgets to stop the server lets it go on until its runtime ends.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        Box::pin(server.serve(app, shutdown)).await;
    });
    Running { address, slow, stop, served }
}

fn short_headers() -> Setup {
    let limits = LimitsConfig { header_timeout_ms: 500, max_header_bytes: 8192, ..LimitsConfig::default() };
    let server = ServerConfig { port: 0, keep_alive_ms: 10, ..ServerConfig::default() };
    Setup { limits, server, ..Setup::default() }
}

fn completion(model: &str, stream: bool) -> String {
    let body =
        format!(r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"x"}}]}}"#);
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

async fn connect(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Everything until the server closes the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset ends the connection as well as a proper end does.
    let _ = tokio::time::timeout(GUARD, stream.read_to_end(&mut text)).await.expect("the connection ends");
    String::from_utf8(text).unwrap()
}

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let count = tokio::time::timeout(GUARD, stream.read(&mut buffer)).await.expect("in time").unwrap();
        assert!(count > 0, "the connection ended early after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    text
}

#[tokio::test]
async fn slow_heads_are_cut_off() {
    let server = start(short_headers()).await;
    // Nothing at all, half a head, a head that trickles, and what may become HTTP/2 but does not.
    for start in ["", "GET / HTTP/1.1\r\nhost: x\r\n", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = connect(server.address, start).await;
        let answer = tokio::time::timeout(GUARD, async {
            let mut buffer = Vec::new();
            let _ = stream.read_to_end(&mut buffer).await;
            buffer
        });
        let answer = answer.await.expect("the connection ends");
        assert!(!answer.windows(3).any(|window| window == b"200"), "{start:?}");
    }
    let mut stream = connect(server.address, "GET / HTTP/1.1\r\n").await;
    let trickle = async {
        while stream.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(GUARD, trickle).await.expect("the connection ends");
}

#[tokio::test]
async fn floods_of_headers_are_refused() {
    let server = start(short_headers()).await;
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(200));
    for head in [large, many] {
        let mut stream = connect(server.address, &head).await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_and_streaming_ones_are_not() {
    let server = start(short_headers()).await;
    let mut streaming = connect(server.address, &completion("slow", true)).await;
    let mut waiting = connect(server.address, &completion("slow", false)).await;
    server.slow.wait_running(2).await;
    // The time an idle connection gets passes twice for the other two.
    for _ in 0..2 {
        let mut idle = connect(server.address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(read_to_end(&mut idle).await.starts_with("HTTP/1.1 200"));
    }
    server.slow.release();
    let streamed = read_until(&mut streaming, "[DONE]").await;
    assert!(streamed.contains(": keep-alive\n\n") && streamed.contains("at last"), "{streamed}");
    assert!(read_until(&mut waiting, "at last").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_left() {
    let server = start(short_headers()).await;
    let client = connect(server.address, &completion("flood", true)).await;
    server.slow.wait_running(1).await;
    server.slow.wait_running(0).await;
    drop(client);
}

fn upload(length: usize, header: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{header}\
         content-length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn an_upload_that_is_too_large_is_read_all_the_same() {
    let limits = LimitsConfig { max_body_bytes: 1000, ..LimitsConfig::default() };
    let server = start(Setup { limits, ..Setup::default() }).await;
    let body = vec![b' '; 8 << 20];
    // Whether the answer is read before the body is sent or after it, and by length or by chunks.
    let mut early = connect(server.address, &upload(body.len(), "")).await;
    assert!(read_until(&mut early, "request_too_large").await.starts_with("HTTP/1.1 413"));
    early.write_all(&body).await.expect("the body is still taken");
    let mut late = connect(server.address, &upload(body.len(), "")).await;
    late.write_all(&body).await.expect("the whole body is taken");
    assert!(read_until(&mut late, "request_too_large").await.starts_with("HTTP/1.1 413"));
    let head = upload(0, "").replace("content-length: 0", "transfer-encoding: chunked");
    let mut chunked = connect(server.address, &format!("{head}{:x}\r\n", body.len())).await;
    chunked.write_all(&body).await.expect("the whole chunk is taken");
    chunked.write_all(b"\r\n0\r\n\r\n").await.unwrap();
    assert!(read_until(&mut chunked, "request_too_large").await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_stranger_keeps_the_connection_though_nobody_wants_the_body() {
    let server = start(Setup::default()).await;
    let head = upload(1000, "").replace("/v1/chat/completions", "/api/v1/mcp/tools/call");
    let mut stream = connect(server.address, &head).await;
    // The answer comes before the body, and the next request on the connection is answered as well.
    assert!(read_until(&mut stream, "detail").await.starts_with("HTTP/1.1 401"));
    stream.write_all(&[b' '; 1000]).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "ok").await;
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn who_asks_before_uploading_is_told_not_to() {
    let limits = LimitsConfig { max_body_bytes: 1000, ..LimitsConfig::default() };
    let server = start(Setup { limits, ..Setup::default() }).await;
    let mut stream = connect(server.address, &upload(5000, "expect: 100-continue\r\n")).await;
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn speaks_http_2_as_well() {
    let server = start(Setup::default()).await;
    // Whoever was first has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let send = |model: &str| {
        let body = completion(model, true);
        let body = body.split("\r\n\r\n").nth(1).unwrap().to_owned();
        let url = format!("http://{}/v1/chat/completions", server.address);
        client.post(url).header("content-type", "application/json").body(body).send()
    };
    let slow = send("slow").await.unwrap();
    let hello = send("hello").await.unwrap();
    assert_eq!(hello.version(), reqwest::Version::HTTP_2);
    assert!(hello.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    drop(slow);
    server.slow.wait_running(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_turn() {
    let server = start(Setup::default()).await;
    for stream in [true, false] {
        let mut client = connect(server.address, &completion("slow", stream)).await;
        server.slow.wait_running(1).await;
        if stream {
            read_until(&mut client, "data: ").await;
        }
        drop(client);
        server.slow.wait_running(0).await;
    }
}

#[tokio::test]
async fn draining_finishes_what_runs_and_refuses_the_rest() {
    let server = start(Setup::default()).await;
    let mut running = connect(server.address, &completion("slow", true)).await;
    read_until(&mut running, "data: ").await;
    let mut kept = connect(server.address, "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut kept, "org/hello").await;

    server.stop.send(()).unwrap();
    // A connection from before and a new one: both are told, neither is dropped without a word.
    let refused = loop {
        let mut fresh = connect(server.address, &completion("hello", false)).await;
        let answer = read_until(&mut fresh, "\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
    };
    assert!(refused.contains("connection: close") && refused.contains("retry-after: "), "{refused}");
    kept.write_all(completion("hello", false).as_bytes()).await.unwrap();
    assert!(read_to_end(&mut kept).await.starts_with("HTTP/1.1 503"));
    assert!(!server.served.is_finished());

    server.slow.release();
    assert!(read_until(&mut running, "[DONE]").await.contains("at last"));
    tokio::time::timeout(GUARD, server.served).await.expect("the server ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn draining_does_not_wait_for_ever() {
    let server_config = ServerConfig { port: 0, drain_timeout_ms: 100, ..ServerConfig::default() };
    let server = start(Setup { server: server_config, ..Setup::default() }).await;
    let mut running = connect(server.address, &completion("slow", true)).await;
    read_until(&mut running, "data: ").await;
    server.stop.send(()).unwrap();
    tokio::time::timeout(GUARD, server.served).await.expect("the server ends").unwrap();
    server.slow.wait_running(0).await;
    assert!(!read_to_end(&mut running).await.contains("[DONE]"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let limits = LimitsConfig { max_connections: 1, ..LimitsConfig::default() };
    let server = start(Setup { limits, ..Setup::default() }).await;
    let mut first = connect(server.address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut first, "ok").await;
    let mut second = connect(server.address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(200), second.read(&mut [0; 16])).await;
    assert!(early.is_err(), "the second connection is served only when the first is gone");
    drop(first);
    read_until(&mut second, "ok").await;
}

#[tokio::test]
async fn a_taken_port_is_told_with_what_to_do() {
    let first = Server::bind(&ServerConfig { port: 0, ..ServerConfig::default() }).await.unwrap();
    let config = ServerConfig { port: first.address().port(), ..ServerConfig::default() };
    let error = Server::bind(&config).await.unwrap_err();
    assert!(matches!(error, BindError::Taken { .. }));
    let words = error.to_string();
    assert!(words.contains(&first.address().to_string()) && words.contains("--port"), "{words}");
}
