//! The tool loop over public MCP servers, unmodified: `server-everything` in its three transports, `mcp-server-time`.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::gateway::Builder;
use crate::harness::{Gateway, Reply, Upstream, ask, ask_stream, call, eventually, mcp};

const EVERYTHING: &str = "@modelcontextprotocol/server-everything/dist/index.js";

/// A foreign server with a port of its own; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Node servers take a while to start on a busy machine; the first request may wait for them.
fn patient(upstream: &Upstream) -> Builder {
    Gateway::builder().upstream(upstream).env("WITGATE_SERVER__TOOLS_WAIT_MS", "20000")
}

/// Runs one turn with these calls and returns the tool messages the model read.
async fn run(gateway: &Gateway, upstream: &Upstream, streamed: bool, calls: &[(&str, Value)]) -> Vec<Value> {
    let calls =
        calls.iter().enumerate().map(|(n, (name, arguments))| call(&format!("c{n}"), name, arguments));
    upstream.replies([Reply::calls(calls.collect::<Vec<_>>()), Reply::text("done")]);
    if streamed {
        assert_eq!(gateway.stream(&ask_stream("go")).await.text(), "done");
    } else {
        assert_eq!(gateway.complete(&ask("go")).await["choices"][0]["message"]["content"], "done");
    }
    upstream.last().messages().into_iter().skip(2).collect()
}

/// What every transport of `server-everything` has to do.
async fn exercise_everything(gateway: &Gateway, upstream: &Upstream) {
    eventually("the server is ready", async || {
        let ready = gateway.get("/readyz").await.json();
        ready["components"]["mcp_servers"]["servers"][0]["state"] == "ready"
    })
    .await;
    for streamed in [false, true] {
        let calls = [
            ("echo", json!({"message": "grüß dich"})),
            ("get-sum", json!({"a": 40, "b": 2})),
            ("echo", json!({"message": 5})),
            ("get-tiny-image", json!({})),
        ];
        let messages = run(gateway, upstream, streamed, &calls).await;
        let text = |index: usize| messages[index]["content"].as_str().unwrap();
        assert!(text(0).contains("grüß dich"), "{messages:?}");
        assert!(text(1).contains("42"), "{messages:?}");
        assert!(text(2).starts_with("Error") && text(2).contains("message"), "{messages:?}");
        // The image follows the results as a user message, since tool messages take none.
        let image = &messages[4];
        assert_eq!(image["role"], "user");
        assert!(image["content"].to_string().contains("data:image/png;base64,"), "no image");
    }
}

#[tokio::test]
async fn server_everything_over_stdio() {
    let (Some(node), Some(script)) = (mcp::node(), mcp::node_script(EVERYTHING)) else { return };
    let upstream = Upstream::start();
    let server = json!({"command": node, "args": [script, "stdio"]});
    let gateway = patient(&upstream).server("everything", server).start().await;
    exercise_everything(&gateway, &upstream).await;
}

async fn over_http(kind: &str, path: &str, config: impl Fn(String) -> Value) {
    let (Some(node), Some(script)) = (mcp::node(), mcp::node_script(EVERYTHING)) else { return };
    let port = free_port();
    let mut command = Command::new(node);
    command.arg(script).arg(kind).env("PORT", port.to_string()).stdin(Stdio::null());
    let _running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    eventually("the server listens", async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
        .await;
    let upstream = Upstream::start();
    let config = config(format!("http://127.0.0.1:{port}/{path}"));
    let gateway = patient(&upstream).server("everything", config).start().await;
    exercise_everything(&gateway, &upstream).await;
}

#[tokio::test]
async fn server_everything_over_legacy_sse() {
    over_http("sse", "sse", |url| json!({"type": "sse", "url": url})).await;
}

#[tokio::test]
async fn server_everything_over_streamable_http() {
    over_http("streamableHttp", "mcp", |url| json!({"type": "http", "url": url})).await;
}

#[tokio::test]
async fn server_time_over_stdio() {
    let Some(python) = mcp::python() else { return };
    let upstream = Upstream::start();
    let server = json!({"command": python, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]});
    let gateway = patient(&upstream).server("time", server).start().await;
    let convert = json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let messages = run(&gateway, &upstream, true, &[("convert_time", convert)]).await;
    assert!(messages[0]["content"].as_str().unwrap().contains("21:00"), "{messages:?}");
    let wrong =
        run(&gateway, &upstream, false, &[("get_current_time", json!({"timezone": "Mars/Base"}))]).await;
    assert!(wrong[0]["content"].as_str().unwrap().starts_with("Error"), "{wrong:?}");
}
