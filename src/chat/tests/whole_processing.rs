//! What processors make of whole replies, as the client and the model see it.

use bytes::Bytes;
use serde_json::{Value, json};

use super::fakes::{Reply, Stage};
use super::processors::{Habit, Pieces, Whole, made_up};
use super::request;
use crate::chat::{ChatErrorKind, ChatMessage};
use crate::domain::{NextStep, ReplyAction};
use crate::llm::ToolMode;
use crate::response::{OnFailure, ProcessingError, ProcessorError};

fn said(text: &str) -> Reply {
    Reply::whole(&json!({"role": "assistant", "content": text}), "stop")
}

fn question(extra: &Value) -> crate::domain::CompletionRequest {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}]});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    request(&body)
}

async fn complete(stage: &Stage) -> Value {
    let reply = stage.engine.complete(question(&json!({})), Stage::context()).await.unwrap();
    serde_json::from_slice(&reply.body).unwrap()
}

async fn failure(stage: &Stage) -> ChatErrorKind {
    stage.engine.complete(question(&json!({})), Stage::context()).await.unwrap_err().kind
}

#[tokio::test]
async fn a_reply_that_is_kept_is_passed_through_byte_for_byte() {
    let body = r#"{ "id":"x", "choices":[{"index":0,"message":{"role":"assistant","content":"a\u00e9"},"finish_reason":"stop","logprobs":{"content":[]}}], "usage":{"total_tokens":1} }"#;
    let keeper = Whole::always(ReplyAction::Keep);
    let stage = Stage::new(vec![Reply::Whole(body.to_owned())])
        .with_processors(vec![keeper.clone(), Pieces::new(Habit::Pass)]);
    let reply = stage.engine.complete(question(&json!({})), Stage::context()).await.unwrap();
    assert_eq!(reply.body, body);
    let seen = keeper.seen.lock().unwrap();
    let (context, reply) = &seen[0];
    assert_eq!((&*context.endpoint, &*context.model, context.attempt), ("/v1/chat/completions", "m", 1));
    assert_eq!((reply.text.as_str(), reply.raw.as_ref()), ("aé", Some(&Bytes::from(body))));
}

#[tokio::test]
async fn processors_rewrite_every_choice_in_order() {
    let choice = |index: u64, message: Value| json!({"index": index, "message": message, "logprobs": {"content": []}, "finish_reason": "stop"});
    let body = json!({"id": "x", "choices": [
        choice(0, json!({"role": "assistant", "content": "a secret", "reasoning": "so secret", "reasoning_details": [1]})),
        choice(1, json!({"role": "assistant", "content": null, "refusal": "no secret", "x": 1})),
    ]});
    let stage = Stage::new(vec![Reply::Whole(body.to_string())])
        .with_processors(vec![Pieces::new(Habit::Redact), Whole::capitals()]);
    let reply = stage.engine.complete(question(&json!({"n": 2})), Stage::context()).await.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    let first = &body["choices"][0];
    assert_eq!((&first["message"]["content"], &first["logprobs"]), (&json!("A [GONE]"), &Value::Null));
    let second = &body["choices"][1]["message"];
    assert_eq!(second, &json!({"role": "assistant", "content": null, "refusal": "NO [GONE]", "x": 1}));
}

#[tokio::test]
async fn reasoning_is_replaced_and_removed() {
    for (reasoning, expected) in [(Some("less".to_owned()), json!("less")), (None, Value::Null)] {
        let action = ReplyAction::Rewrite { text: "a".to_owned(), reasoning: Some(reasoning) };
        let message = json!({"role": "assistant", "content": "a", "reasoning_content": "more"});
        let stage =
            Stage::new(vec![Reply::whole(&message, "stop")]).with_processors(vec![Whole::always(action)]);
        let body = complete(&stage).await;
        assert_eq!(
            body.pointer("/choices/0/message/reasoning_content").cloned().unwrap_or_default(),
            expected
        );
        assert_eq!(body["choices"][0]["message"]["content"], "a");
    }
}

#[tokio::test]
async fn made_up_calls_are_run_like_native_ones() {
    let action = ReplyAction::CallTool {
        text: Some(String::new()),
        calls: vec![made_up("echo", "{\"text\":\"hi\"}"), made_up("nope", "")],
    };
    let calls = Whole::new(move |context, _| {
        Ok(if context.attempt == 1 { action.clone() } else { ReplyAction::Keep })
    });
    let stage = Stage::new(vec![said("Action: echo"), said("done")]).with_processors(vec![calls]);
    let body = complete(&stage).await;
    assert_eq!(
        (&body["choices"][0]["message"]["content"], &body["usage"]["total_tokens"]),
        (&json!("done"), &json!(6))
    );
    let messages = stage.request(1)["messages"].clone();
    assert_eq!(messages[1]["content"], Value::Null);
    assert_eq!(
        messages[1]["tool_calls"][0]["function"],
        json!({"name": "echo", "arguments": "{\"text\":\"hi\"}"})
    );
    assert_eq!(
        (&messages[2]["tool_call_id"], &messages[2]["content"]),
        (&messages[1]["tool_calls"][0]["id"], &json!("hi"))
    );
    assert!(messages[3]["content"].as_str().unwrap().starts_with("Error: there is no tool named `nope`"));
}

#[tokio::test]
async fn made_up_calls_of_the_clients_tools_are_the_clients() {
    let own_tool =
        json!([{"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}]);
    let action = ReplyAction::CallTool {
        text: None,
        calls: vec![made_up("mine", "{}"), made_up("echo", "{\"text\":\"ours\"}")],
    };
    let stage = Stage::new(vec![said("words")]).with_processors(vec![Whole::always(action)]);
    let reply = stage.engine.complete(question(&json!({"tools": own_tool})), Stage::context()).await.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    let choice = &body["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &json!("words"))
    );
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &json!("mine")));
    assert!(calls[0]["id"].as_str().is_some_and(|id| !id.is_empty()));
}

#[tokio::test]
async fn calls_that_stay_keep_what_the_model_said_of_them_and_others_are_dropped() {
    let native = json!([
        {"id": "c1", "type": "function", "function": {"name": "echo", "arguments": "{\"text\":\"a\"}"}, "signature": "s"},
        {"id": "c2", "type": "function", "function": {"name": "echo", "arguments": "{\"text\":\"b\"}"}}]);
    let first_only = Whole::new(|_, reply| {
        let calls = reply.tool_calls.iter().take(1).cloned().collect();
        Ok(if reply.tool_calls.is_empty() {
            ReplyAction::Keep
        } else {
            ReplyAction::CallTool { text: None, calls }
        })
    });
    let message = json!({"role": "assistant", "content": null, "tool_calls": native});
    let stage = Stage::new(vec![Reply::whole(&message, "tool_calls"), said("done")])
        .with_processors(vec![first_only]);
    complete(&stage).await;
    let messages = stage.request(1)["messages"].clone();
    assert_eq!(messages[1]["tool_calls"], json!([native[0]]));
    assert_eq!(messages.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_model_is_asked_again_with_its_words_and_the_instruction() {
    let asks = Whole::new(|context, _| {
        Ok(if context.attempt < 3 { ReplyAction::AskAgain("no".to_owned()) } else { ReplyAction::Keep })
    });
    let stage = Stage::new(vec![said("a"), said(""), said("c")]).with_processors(vec![asks]);
    let body = complete(&stage).await;
    assert_eq!(
        (&body["choices"][0]["message"]["content"], &body["usage"]["total_tokens"]),
        (&json!("c"), &json!(9))
    );
    let roles: Vec<(Value, Value)> = stage.request(2)["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| (message["role"].clone(), message["content"].clone()))
        .collect();
    let expected = [("user", "q"), ("assistant", "a"), ("user", "no"), ("user", "no")];
    assert_eq!(roles, expected.map(|(role, text)| (json!(role), json!(text))));
}

#[tokio::test]
async fn asking_again_has_an_end() {
    let asks = Whole::always(ReplyAction::AskAgain("no".to_owned()));
    let stage = Stage::new((0..4).map(|_| said("a")).collect()).with_processors(vec![asks]);
    let error = failure(&stage).await;
    assert!(
        matches!(&error, ChatErrorKind::AskAgainLimit { plugin, limit: 3 } if plugin == "whole"),
        "{error}"
    );
    assert_eq!(stage.request(3)["messages"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn a_blocked_reply_is_empty_and_its_calls_are_not_made() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "hang", "arguments": "{}"}});
    let message = json!({"role": "assistant", "content": "bad", "reasoning_content": "bad", "tool_calls": [call], "audio": {"data": "bad"}});
    let after = Whole::capitals();
    let stage = Stage::new(vec![Reply::whole(&message, "tool_calls")])
        .with_processors(vec![Whole::always(ReplyAction::Block("why".to_owned())), after.clone()]);
    let body = complete(&stage).await;
    assert_eq!(
        body["choices"],
        json!([{"index": 0, "message": {"role": "assistant", "content": "", "refusal": null}, "logprobs": null, "finish_reason": "content_filter"}])
    );
    assert!(after.seen.lock().unwrap().is_empty(), "a blocked reply goes no further");
    assert!(!body.to_string().contains("bad") && !body.to_string().contains("why"));
}

#[tokio::test]
async fn one_choice_of_several_is_blocked() {
    let body = json!({"id": "x", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "good"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "bad"}, "finish_reason": "stop"}]});
    let stage =
        Stage::new(vec![Reply::Whole(body.to_string())]).with_processors(vec![Pieces::new(Habit::BlockBad)]);
    let reply = stage.engine.complete(question(&json!({"n": 2})), Stage::context()).await.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "good");
    assert_eq!(
        (&body["choices"][1]["message"]["content"], &body["choices"][1]["finish_reason"]),
        (&json!(""), &json!("content_filter"))
    );
}

#[tokio::test]
async fn steps_that_only_the_first_choice_can_take_are_failures_elsewhere() {
    let body = json!({"id": "x", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "stop"}]});
    let asks = Whole::new(|_, reply| {
        Ok(if reply.choice == 0 { ReplyAction::Keep } else { ReplyAction::AskAgain("no".to_owned()) })
    });
    let stage = Stage::new(vec![Reply::Whole(body.to_string())]).with_processors(vec![asks]);
    let error = stage.engine.complete(question(&json!({"n": 2})), Stage::context()).await.unwrap_err();
    assert!(matches!(error.kind, ChatErrorKind::Plugin(ProcessingError::Failed { .. })), "{error}");
}

#[tokio::test]
async fn a_failure_is_closed_or_open() {
    let stage = Stage::new(vec![said("a")]).with_processors(vec![Whole::failing(OnFailure::Closed)]);
    let error = failure(&stage).await;
    assert!(
        matches!(&error, ChatErrorKind::Plugin(ProcessingError::Failed { plugin }) if plugin == "whole"),
        "{error}"
    );
    assert!(!error.to_string().contains("inner words"));
    let stage =
        Stage::new(vec![said("a")]).with_processors(vec![Whole::failing(OnFailure::Open), Whole::capitals()]);
    assert_eq!(complete(&stage).await["choices"][0]["message"]["content"], "A");
    let denies = Whole::new(|_, _| Err(ProcessorError::Denied("not for you".to_owned())));
    let stage = Stage::new(vec![said("a")]).with_processors(vec![denies]);
    assert_eq!(failure(&stage).await.to_string(), "not for you");
    let stage =
        Stage::new(vec![said("a")]).with_processors(vec![Pieces::new(Habit::Unopened(OnFailure::Closed))]);
    assert!(matches!(failure(&stage).await, ChatErrorKind::Plugin(ProcessingError::Busy { .. })));
}

#[tokio::test]
async fn an_emptied_reply_counts_as_an_empty_reply() {
    let empties = Whole::new(|context, _| {
        let text = if context.attempt == 1 { "" } else { "b" };
        Ok(ReplyAction::Rewrite { text: text.to_owned(), reasoning: None })
    });
    let stage = Stage::new(vec![said("a"), said("a")]).with_processors(vec![empties]);
    assert_eq!(complete(&stage).await["choices"][0]["message"]["content"], "b");
}

#[tokio::test]
async fn text_mode_calls_meet_the_processors_as_calls() {
    let keeper = Whole::always(ReplyAction::Keep);
    let stage =
        Stage::new(vec![said("{\"tool\": \"echo\", \"arguments\": {\"text\": \"hi\"}}"), said("done")])
            .with_tool_mode(ToolMode::Text)
            .with_processors(vec![keeper.clone()]);
    assert_eq!(complete(&stage).await["choices"][0]["message"]["content"], "done");
    let seen = keeper.seen.lock().unwrap();
    assert_eq!((seen[0].1.text.as_str(), seen[0].1.tool_calls[0].name.as_str()), ("", "echo"));
    assert_eq!((seen[1].0.attempt, seen[1].1.text.as_str()), (2, "done"));
}

#[tokio::test]
async fn a_session_stores_what_the_client_has_seen() {
    let redact = || vec![Pieces::new(Habit::Redact) as _, Pieces::new(Habit::BlockBad) as _];
    let stage = Stage::new(vec![said("a secret"), said("bad")]).with_processors(redact());
    let message = |session_id| ChatMessage { message: "q".to_owned(), session_id, model: String::new() };
    let first = stage.engine.chat(message(None), Stage::context()).await.unwrap();
    assert_eq!(first.response, "a [gone]");
    let second = stage.engine.chat(message(Some(first.session_id.clone())), Stage::context()).await.unwrap();
    assert_eq!(second.response, "");
    let stored = stage.engine.session(&Stage::context().principal, &first.session_id).await.unwrap();
    let texts: Vec<&str> = stored.messages.iter().map(|message| message.get()).collect();
    assert!(texts[1].contains("a [gone]"), "{texts:?}");
    assert!(texts[3].contains("removed by a filter") && !texts[3].contains("bad"), "{texts:?}");
}

#[tokio::test]
async fn a_streaming_processor_takes_any_step_with_a_whole_reply() {
    let step = NextStep::CallTool(vec![made_up("echo", "{\"text\":\"x\"}")]);
    let stage = Stage::new((0..10).map(|_| said("w")).collect())
        .with_processors(vec![Pieces::new(Habit::AtEnd(step))]);
    let body = complete(&stage).await;
    assert_eq!(body["choices"][0]["message"]["content"], "w", "the last round goes to the client");
    assert_eq!(stage.request(9)["tool_choice"], "none");
    let stage = Stage::new(vec![said("one"), said("two")]).with_processors(vec![Pieces::new(Habit::AskOnce)]);
    assert_eq!(complete(&stage).await["choices"][0]["message"]["content"], "two");
}
