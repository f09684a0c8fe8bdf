//! The OpenAI-compatible API without tools: what clients send reaches the model, and what it answers reaches them.

use serde_json::{Value, json};

use crate::harness::script::chunk;
use crate::harness::{Gateway, Reply, Upstream, ask, ask_stream};

/// A reply with fields that no API document knows.
fn exotic_reply() -> Value {
    json!({
        "id": "chatcmpl-exotic", "object": "chat.completion", "created": 1_700_000_000, "model": "m1",
        "system_fingerprint": "fp_1", "service_tier": "default", "x_extra": {"deep": [1, 2.50, null]},
        "choices": [{
            "index": 0, "finish_reason": "length", "logprobs": null, "x_choice": true,
            "message": {"role": "assistant", "content": "Hé", "refusal": null, "reasoning_content": "hm",
                        "reasoning": "hmm", "annotations": []},
        }],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
                  "prompt_tokens_details": {"cached_tokens": 1}, "x_cost": 0.5},
    })
}

#[tokio::test]
async fn messages_arrive_byte_for_byte_and_unknown_fields_untouched() {
    let upstream = Upstream::replying([Reply::text("ok")]);
    let gateway = Gateway::start(&upstream).await;
    let system =
        r#"{ "role" : "developer",  "content":"h\u00e9 \/ é", "cache_control": {"type":"ephemeral"} }"#;
    let user = r#"{"content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:,x"}}],"role":"user","name":"n"}"#;
    let rest = r#""seed":7,"temperature":1.50,"response_format":{"type":"json_object"},"logprobs":true,"stop":["x"],"x_new":{"a" : [1e2]},"metadata":{"k":"v"}"#;
    let body = format!(r#"{{"model":"m1","messages":[{system},{user}],{rest},"user":"u"}}"#);
    let request = gateway.request("POST", "/v1/chat/completions").header("content-type", "application/json");
    request.body(body).send().await.expect(200);
    let seen = upstream.last();
    for part in [system, user, rest] {
        assert!(seen.text().contains(part), "{part} is not in {}", seen.text());
    }
    assert!(seen.json().get("tools").is_none() && seen.json().get("tool_choice").is_none());
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.path, "/v1/chat/completions");
}

#[tokio::test]
async fn a_whole_reply_arrives_as_the_upstream_wrote_it() {
    let upstream = Upstream::replying([Reply::json(200, &exotic_reply())]);
    let gateway = Gateway::start(&upstream).await;
    assert_eq!(gateway.complete(&ask("hi")).await, exotic_reply());
}

#[tokio::test]
async fn a_streamed_reply_keeps_reasoning_and_unknown_fields() {
    let mut first = chunk("m1", &json!({"role": "assistant", "reasoning_content": "hm"}), None);
    first["system_fingerprint"] = "fp_1".into();
    let upstream = Upstream::replying([Reply::events(&[
        first,
        chunk("m1", &json!({"reasoning": "and so"}), None),
        chunk("m1", &json!({"content": "Hé", "x_delta": 1}), None),
        chunk("m1", &json!({}), Some("length")),
    ])]);
    let gateway = Gateway::start(&upstream).await;
    let reply = gateway.stream(&ask_stream("hi")).await;
    assert_eq!(
        (reply.text_of(0, "reasoning_content"), reply.text_of(0, "reasoning")),
        ("hm".into(), "and so".into())
    );
    assert_eq!((reply.text().as_str(), reply.finish().as_str()), ("Hé", "length"));
    assert_eq!(reply.chunks[0]["system_fingerprint"], "fp_1");
    assert!(reply.chunks.iter().any(|chunk| chunk["choices"][0]["delta"]["x_delta"] == 1), "{reply:#?}");
}

#[tokio::test]
async fn several_choices_keep_their_index() {
    let mut whole = exotic_reply();
    whole["choices"] = json!([
        {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
    ]);
    let event = |index: u64, delta: Value, finish: Option<&str>| {
        let mut event = chunk("m1", &delta, finish);
        event["choices"][0]["index"] = index.into();
        event
    };
    let upstream = Upstream::replying([
        Reply::json(200, &whole),
        Reply::events(&[
            event(0, json!({"role": "assistant", "content": ""}), None),
            event(1, json!({"role": "assistant", "content": ""}), None),
            event(1, json!({"content": "b"}), None),
            event(0, json!({"content": "a"}), None),
            event(1, json!({}), Some("length")),
            event(0, json!({}), Some("stop")),
        ]),
    ]);
    let gateway = Gateway::with_tools(&upstream).await;
    let mut body = ask("hi");
    body["n"] = 2.into();
    assert_eq!(gateway.complete(&body).await["choices"], whole["choices"]);
    body["stream"] = true.into();
    let reply = gateway.stream(&body).await;
    assert_eq!((reply.text_of(0, "content"), reply.text_of(1, "content")), ("a".into(), "b".into()));
}

#[tokio::test]
async fn models_are_listed_and_found_by_ids_with_slashes() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    let list = gateway.get("/v1/models").await.expect(200);
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m1", "org/m2:free"]);
    let model = gateway.get("/v1/models/org/m2:free").await.expect(200);
    assert_eq!((&model["id"], &model["owned_by"]), (&json!("org/m2:free"), &json!("scripted")));
    assert_eq!(gateway.get("/v1/models/org%2Fm2:free").await.expect(200)["id"], "org/m2:free");
    let error = gateway.get("/v1/models/none").await.expect(404);
    assert_eq!(error["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn a_list_of_models_is_never_null() {
    let upstream = Upstream::start();
    upstream.set_models(json!({"object": "list", "data": null}));
    let gateway = Gateway::builder().upstream(&upstream).env("DEFAULT_MODEL", "").start().await;
    let list = gateway.get("/v1/models").await.expect(200);
    assert_eq!(list["data"], json!([]));
}

#[tokio::test]
async fn a_request_without_a_model_gets_the_default_one() {
    let upstream = Upstream::replying([Reply::text("a"), Reply::text("b"), Reply::text("c")]);
    let gateway = Gateway::builder().upstream(&upstream).env("DEFAULT_MODEL", "org/m2:free").start().await;
    for model in [None, Some(Value::Null), Some("".into())] {
        let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
        if let Some(model) = model {
            body["model"] = model;
        }
        gateway.complete(&body).await;
        assert_eq!(upstream.last().json()["model"], "org/m2:free");
    }
}

#[tokio::test]
async fn an_unknown_model_is_not_found() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    let mut body = ask("hi");
    body["model"] = "nonexistent".into();
    let error = gateway.refused(&body, 404).await;
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
    assert!(error["message"].as_str().unwrap().contains("nonexistent"), "{error}");
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn the_upstream_gets_the_gateways_key_and_not_the_clients() {
    let upstream = Upstream::replying([Reply::text("ok")]);
    let gateway = Gateway::start(&upstream).await;
    let request = gateway.completion(&ask("hi")).header("authorization", "Bearer sk-client-secret");
    request.header("cookie", "c=1").send().await.expect(200);
    let seen = upstream.last();
    assert_eq!(seen.header("authorization"), Some("Bearer sk-scripted-upstream-key"));
    assert!(seen.header("cookie").is_none() && !format!("{seen:?}").contains("sk-client-secret"));
    for secret in ["sk-scripted-upstream-key", "sk-client-secret"] {
        assert!(!gateway.log().contains(secret), "the log has {secret}:\n{}", gateway.log());
    }
}

#[tokio::test]
async fn usage_is_counted_where_the_upstream_gives_none() {
    let upstream =
        Upstream::replying([Reply::text("one two three").usage(None), Reply::text("a").usage(None)]);
    let gateway = Gateway::start(&upstream).await;
    let usage = gateway.complete(&ask("some words to count")).await["usage"].take();
    let count = |usage: &Value, name: &str| usage[name].as_u64().unwrap();
    assert!(count(&usage, "prompt_tokens") > 3 && count(&usage, "completion_tokens") >= 3, "{usage}");
    let mut body = ask_stream("some words");
    body["stream_options"] = json!({"include_usage": true});
    let reply = gateway.stream(&body).await;
    let usage = reply.usage().expect("a usage chunk");
    let sum = count(usage, "prompt_tokens") + count(usage, "completion_tokens");
    assert_eq!(count(usage, "total_tokens"), sum);
}

#[tokio::test]
async fn requests_have_ids_that_reach_the_log_and_the_upstream() {
    let upstream = Upstream::replying([Reply::text("ok"), Reply::text("ok")]);
    let gateway = Gateway::start(&upstream).await;
    let answer = gateway.completion(&ask("hi")).header("x-request-id", "my-id.1").send().await;
    assert_eq!(answer.header("x-request-id"), Some("my-id.1"));
    assert_eq!(upstream.last().header("x-request-id"), Some("my-id.1"));
    let unsafe_id = gateway.completion(&ask("hi")).header("x-request-id", "a b\"c").send().await;
    assert_ne!(unsafe_id.header("x-request-id"), Some("a b\"c"));
}

#[tokio::test]
async fn keys_are_asked_for_when_they_are_required() {
    let upstream = Upstream::replying([Reply::text("ok"), Reply::text("ok")]);
    let gateway = Gateway::builder()
        .upstream(&upstream)
        .env("WITGATE_ACCESS__CHAT", "required")
        .env("WITGATE_API_KEY", "sk-right")
        .start()
        .await;
    let answer = gateway.completion(&ask("hi")).send().await;
    assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
    answer.expect(401);
    let wrong = gateway.completion(&ask("hi")).header("authorization", "Bearer sk-wrong").send().await;
    assert_eq!(wrong.expect(401)["error"]["code"], "invalid_api_key");
    gateway.completion(&ask("hi")).header("authorization", "Bearer sk-right").send().await.expect(200);
    gateway.completion(&ask("hi")).header("x-api-key", "sk-right").send().await.expect(200);
    gateway.get("/healthz").await.expect(200);
    gateway.get("/v1/models").await.expect(401);
    assert!(!gateway.log().contains("sk-right"));
}
