//! Access policies as plugins: what they refuse, how their failure looks, and how bodies are tied to signed headers.

use serde_json::json;

use crate::component;
use crate::harness::{Gateway, Reply, Upstream, ask, call, eventually};

/// Refuses every tool call with 403 "not at night", and has no opinion on anything else.
pub(crate) const NO_TOOLS: &str = r#"(data (i32.const 2048) "not at night")
    (func (export "witgate:plugin/auth@0.1.0#authorize") (param $in i32) (result i32)
        (if (i32.eq (i32.load8_u offset=8 (local.get $in)) (i32.const 2))
            (then
                (i32.store8 (i32.const 1028) (i32.const 1))
                (i32.store16 (i32.const 1032) (i32.const 403))
                (i32.store (i32.const 1036) (i32.const 2048))
                (i32.store (i32.const 1040) (i32.const 12)))
            (else (i32.store8 (i32.const 1028) (i32.const 2))))
        (i32.const 1024))"#;

/// A gateway in front of `upstream` with SQLite tools and the policy `guard`.
async fn guarded(upstream: &Upstream, policy: &[u8], manifest: &str) -> Gateway {
    let builder = Gateway::builder().upstream(upstream).sqlite();
    let folder = builder.folder().join("plugins");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("guard.wasm"), policy).unwrap();
    std::fs::write(folder.join("guard.toml"), manifest).unwrap();
    builder.start().await
}

#[tokio::test]
async fn a_policy_refuses_tool_calls_in_the_loop() {
    let upstream = Upstream::replying([
        Reply::calls([call("c1", "list_tables", &json!({}))]),
        Reply::text("I may not look."),
    ]);
    let gateway = guarded(&upstream, &component::component("auth-policy", NO_TOOLS), "").await;
    let reply = gateway.complete(&ask("which tables are there?")).await;
    assert_eq!(reply["choices"][0]["message"]["content"], "I may not look.");
    let told = upstream.last().messages()[2]["content"].as_str().unwrap().to_owned();
    assert!(told.contains("calling `list_tables` is not allowed: not at night"), "{told}");
    gateway.until_logged(&["the access policy `guard` refused the tool `list_tables`: not at night"]).await;
}

#[tokio::test]
async fn a_policy_that_traps_refuses_everything_but_probes() {
    let upstream = Upstream::start();
    let gateway = guarded(&upstream, &component::auth("unreachable"), "on_failure = \"open\"").await;
    for path in ["/v1/models", "/chat/sessions"] {
        let words = gateway.get(path).await.words(503);
        assert!(words.contains("the access policy `guard` failed"), "{words}");
        assert!(!words.contains("unreachable"), "{words}");
    }
    gateway.get("/healthz").await.expect(200);
    gateway.get("/readyz").await.expect(200);
}

#[tokio::test]
async fn a_policy_that_cannot_be_loaded_refuses_until_it_is_mended() {
    let upstream = Upstream::start();
    let policy = component::component("auth-policy", NO_TOOLS);
    let gateway = guarded(&upstream, &policy, "unknown_key = 1").await;
    let words = gateway.get("/v1/models").await.words(503);
    assert!(words.contains("the plugin `guard` has to be there"), "{words}");
    std::fs::write(gateway.folder().join("plugins/guard.toml"), "").unwrap();
    eventually("the policy is loaded", async || gateway.get("/v1/models").await.status == 200).await;
}

#[tokio::test]
async fn a_body_that_does_not_fit_its_digest_is_refused() {
    let upstream = Upstream::replying([Reply::text("fine")]);
    let gateway = Gateway::start(&upstream).await;
    let send = |digest: &'static str| {
        let request = gateway.request("POST", "/chat").header("content-type", "application/json");
        request.header("content-digest", digest).body(r#"{"message":"hi"}"#).send()
    };
    let words = send("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:").await.words(400);
    assert!(words.contains("sha-256 digest"), "{words}");
    send("sha-256=:rb2YK4/gu9hHfwkmICjTrCZAAdw248dXmQXnLAtxh1U=:").await.expect(200);
}
