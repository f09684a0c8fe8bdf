//! Faults in the hooks other than whole replies: in mid-stream, in a tool, in a decision about access.

use serde_json::json;

use super::text;
use crate::component::{auth, stream};
use crate::guests;
use crate::harness::plugins::{ask_model, echo, gateway_with};
use crate::harness::{Gateway, Reply, Upstream, ask, call};

const LOOP: &str = "(loop $l (br $l))";
const TRAP: &str = "(unreachable)";
const MEMORY: &str =
    "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";

/// A gateway with one plugin, whose fault is of this kind.
async fn with_plugin(upstream: &Upstream, guest: &[u8], kind: &str, toml: &str) -> Gateway {
    // Only an endless call may need all of its time, however busy the machine is.
    let time = if kind == "timeout" { 1500 } else { 60_000 };
    let toml = format!("limits = {{ call_timeout_ms = {time}, memory_mb = 8 }}\n{toml}");
    gateway_with(upstream, [("p.wasm", guest), ("p.toml", toml.as_bytes())]).start().await
}

#[tokio::test]
async fn a_fault_in_mid_stream_ends_that_stream_or_is_passed_over() {
    // More deltas than there is memory for, and one that is longer than an answer may be.
    let deltas = "(i32.store8 (i32.const 1028) (i32.const 1)) (i32.store (i32.const 1032) (i32.const 2048))
        (i32.store (i32.const 1036) (i32.const 0x7ffffff)) (return (i32.const 1024))";
    let long = "(drop (memory.grow (i32.const 60)))
        (i32.store8 (i32.const 1028) (i32.const 1)) (i32.store (i32.const 1032) (i32.const 2048))
        (i32.store (i32.const 1036) (i32.const 1)) (i32.store (i32.const 2056) (i32.const 3000000))
        (return (i32.const 1024))";
    let cases =
        [("timeout", LOOP), ("trap", TRAP), ("limit", MEMORY), ("trap", deltas), ("output_too_large", long)];
    for (kind, code) in cases {
        for on_failure in ["closed", "open"] {
            let upstream = echo(&[]);
            let guest = guests::stream_acting(code);
            let gateway =
                with_plugin(&upstream, &guest, kind, &format!("on_failure = \"{on_failure}\"")).await;
            // Three pieces, of which the second one hurts.
            let stream = gateway.completion(&ask_model("m1", "fine !and on", true)).stream().await;
            let (reply, ()) = tokio::join!(stream.collect(), async {
                assert_eq!(gateway.get("/healthz").await.status, 200);
            });
            if on_failure == "closed" {
                assert_eq!(
                    (reply.text().as_str(), reply.error.is_some()),
                    ("fine ", true),
                    "{kind}: {reply:?}"
                );
                assert_eq!(reply.error.unwrap()["code"], "plugin_failed");
            } else {
                assert_eq!(
                    (reply.text().as_str(), &reply.error),
                    ("fine !and on", &None),
                    "{kind}: {reply:?}"
                );
            }
            gateway.until_running("p", 0).await;
            assert_eq!(gateway.plugin("p").await["errors"], json!({ kind: 1 }));
        }
    }
}

#[tokio::test]
async fn a_fault_at_the_end_of_a_stream_is_told() {
    for (kind, code) in [("timeout", "(loop $l (br $l)) (i32.const 512)"), ("trap", TRAP)] {
        let upstream = echo(&[]);
        let gateway = with_plugin(&upstream, &stream("(i32.const 1024)", code), kind, "").await;
        let reply = gateway.stream(&ask_model("m1", "fine and on", true)).await;
        assert_eq!(reply.error.unwrap()["code"], "plugin_failed", "{kind}");
        gateway.until_running("p", 0).await;
        assert_eq!(gateway.plugin("p").await["errors"], json!({ kind: 1 }));
    }
}

#[tokio::test]
async fn a_fault_in_a_tool_is_told_to_the_model_and_the_chat_goes_on() {
    let huge = "(drop (memory.grow (i32.const 100))) (i32.store (i32.const 1028) (i32.const 2048))
        (i32.store (i32.const 1032) (i32.const 0x7ffffff)) (i32.const 1024)";
    let endless = format!("{LOOP} (i32.const 1024)");
    let cases = [
        ("timeout", endless.as_str(), "took too long"),
        ("trap", TRAP, "failed; the gateway's log has the details"),
        ("limit", MEMORY, "failed; the gateway's log has the details"),
        ("trap", huge, "failed; the gateway's log has the details"),
    ];
    for (kind, code, words) in cases {
        let upstream = Upstream::scripted(|request| {
            let last = request.messages().pop().unwrap();
            if last["role"] == "tool" {
                return Reply::text(last["content"].as_str().unwrap());
            }
            Reply::calls([call("c1", "explode", &json!({}))])
        });
        let gateway = with_plugin(&upstream, &guests::tool(code), kind, "").await;
        let told = gateway.complete(&ask("go")).await;
        assert!(text(&told).contains(&format!("plugin `p` {words}")), "{kind}: {told}");
        let plugin = gateway.plugin("p").await;
        assert_eq!((&plugin["errors"], &plugin["running"]), (&json!({ kind: 1 }), &json!(0)), "{plugin}");
    }
}

#[tokio::test]
async fn a_fault_in_a_decision_refuses_and_nothing_else() {
    for (kind, code) in [("timeout", LOOP), ("limit", MEMORY), ("trap", TRAP)] {
        let upstream = echo(&[]);
        let guest = auth(&format!("{code} (i32.const 1024)"));
        let gateway = with_plugin(&upstream, &guest, kind, "on_failure = \"open\"").await;
        let asked = ask("hello");
        let (error, healthy) = tokio::join!(gateway.refused(&asked, 503), gateway.get("/healthz"));
        assert_eq!(healthy.status, 200);
        let words = error["message"].as_str().unwrap();
        assert!(words.contains("the access policy `p` failed"), "{words}");
        assert!(upstream.requests().is_empty());
        gateway.until_logged(&["plugin `p` ", "kind=", kind]).await;
        // Whoever takes it out of the folder opens the door again.
        std::fs::remove_file(gateway.plugin_path("p.wasm")).unwrap();
        crate::harness::eventually("the policy is gone", async || {
            gateway.get("/v1/models").await.status == 200
        })
        .await;
        assert_eq!(text(&gateway.complete(&ask("hello")).await), "hello");
    }
}
