//! Tests of the turn loop on a scripted model and scripted tools.

mod access;
mod empty_replies;
mod fakes;
mod processors;
mod streamed_calls;
mod streamed_processing;
mod whole_processing;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::*;
use crate::domain::CompletionRequest;
use crate::llm::ToolMode;
use fakes::{Reply, Stage};

fn request(body: &Value) -> CompletionRequest {
    CompletionRequest::parse(&Bytes::from(body.to_string())).unwrap()
}

fn streamed(extra: &Value) -> CompletionRequest {
    let mut body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "q"}]});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    request(&body)
}

/// Runs a streamed turn and returns its chunks; panics on an error.
async fn chunks(stage: &Stage, request: CompletionRequest) -> Vec<Value> {
    let mut stream = stage.engine.stream(request, Stage::context()).await.unwrap();
    let mut out = Vec::new();
    while let Some(event) = stream.next().await {
        if let ReplyEvent::Chunk(chunk) = event.unwrap() {
            out.push(serde_json::from_slice(&chunk.json).unwrap());
        }
    }
    out
}

fn texts(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|c| c.pointer("/choices/0/delta/content")?.as_str()).collect()
}

fn finish_reasons(chunks: &[Value]) -> Vec<&str> {
    chunks.iter().filter_map(|c| c.pointer("/choices/0/finish_reason")?.as_str()).collect()
}

#[tokio::test]
async fn a_streamed_tool_round_is_invisible_but_for_its_effect() {
    let stage = Stage::new(vec![
        Reply::stream(&[
            json!({"delta": {"role": "assistant", "content": "Let me see. "}}),
            json!({"delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "echo", "arguments": ""}}]}}),
            json!({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\"text\":\"hi\"}"}}]}}),
            json!({"delta": {}, "finish_reason": "tool_calls"}),
        ]),
        Reply::text("It said hi."),
    ]);
    let shown = chunks(&stage, streamed(&json!({"stream_options": {"include_usage": true}}))).await;
    assert_eq!(texts(&shown), "Let me see. It said hi.");
    assert_eq!(finish_reasons(&shown), ["stop"]);
    assert!(shown.iter().all(|c| c.pointer("/choices/0/delta/tool_calls").is_none()), "{shown:#?}");
    let roles = shown.iter().filter(|c| c.pointer("/choices/0/delta/role").is_some()).count();
    assert_eq!(roles, 1);
    assert!(shown.iter().all(|c| c["id"] == shown[0]["id"] && c["model"] == shown[0]["model"]));
    let last = shown.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(6)));
    assert!(shown[..shown.len() - 1].iter().all(|c| c["usage"].is_null()));
    let second = stage.request(1);
    assert_eq!(second["messages"][1]["content"], "Let me see. ");
    assert_eq!(second["messages"][1]["tool_calls"][0]["function"]["arguments"], "{\"text\":\"hi\"}");
    assert_eq!(second["messages"][2], json!({"role": "tool", "tool_call_id": "c1", "content": "hi"}));
}

#[tokio::test]
async fn a_whole_reply_without_tools_is_passed_through_byte_for_byte() {
    let body = r#"{ "id":"x", "choices":[{"index":0,"message":{"role":"assistant","content":"a\u00e9"},"finish_reason":"stop"}], "usage":{"total_tokens":1}, "z": 1.0 }"#;
    let stage = Stage::new(vec![Reply::Whole(body.to_owned())]);
    let request = request(&json!({"messages": [{"role": "user", "content": "q"}]}));
    let reply = stage.engine.complete(request, Stage::context()).await.unwrap();
    assert_eq!(reply.body, body);
}

#[tokio::test]
async fn a_whole_tool_round_sums_usage_and_keeps_the_models_message() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "echo", "arguments": "{\"text\":\"hi\"}"}});
    let stage = Stage::new(vec![
        Reply::whole(
            &json!({"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]}),
            "tool_calls",
        ),
        Reply::whole(&json!({"role": "assistant", "content": "done"}), "stop"),
    ]);
    let request =
        request(&json!({"messages": [{"role": "user", "content": "q"}], "tool_choice": "required"}));
    let reply = stage.engine.complete(request, Stage::context()).await.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "done");
    assert_eq!(body["usage"]["total_tokens"], 6);
    assert_eq!(stage.request(0)["tool_choice"], "required");
    let second = stage.request(1);
    assert_eq!(second.get("tool_choice"), None, "a forced choice must not last");
    assert_eq!(second["messages"][1]["content"], Value::Null);
    assert_eq!(second["messages"][1]["reasoning_content"], "hm");
}

#[tokio::test]
async fn mixed_calls_run_ours_return_theirs_and_come_back_whole() {
    let own_tool =
        json!([{"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}]);
    let stage = Stage::new(vec![
        Reply::stream(&[
            json!({"delta": {"role": "assistant", "tool_calls": [
                {"index": 0, "id": "g", "type": "function", "function": {"name": "echo", "arguments": "{\"text\":\"ours\"}"}},
                {"index": 1, "id": "t", "type": "function", "function": {"name": "mine", "arguments": ""}}]}}),
            json!({"delta": {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}}),
            json!({"delta": {}, "finish_reason": "tool_calls"}),
        ]),
        Reply::text("all done"),
    ]);
    let shown = chunks(&stage, streamed(&json!({"tools": own_tool}))).await;
    let parts: Vec<&Value> =
        shown.iter().filter_map(|c| c.pointer("/choices/0/delta/tool_calls")?.as_array()).flatten().collect();
    assert!(parts.iter().all(|part| part["index"] == 0), "{parts:?}");
    assert_eq!((&parts[0]["id"], &parts[0]["function"]["name"]), (&json!("t"), &json!("mine")));
    assert_eq!(finish_reasons(&shown), ["tool_calls"]);
    let theirs = json!({"id": "t", "type": "function", "function": {"name": "mine", "arguments": "{}"}});
    let back = streamed(&json!({"tools": own_tool, "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": null, "tool_calls": [theirs]},
        {"role": "tool", "tool_call_id": "t", "content": "their result"}]}));
    assert_eq!(texts(&chunks(&stage, back).await), "all done");
    let messages = stage.request(1)["messages"].clone();
    let calls: Vec<&str> =
        messages[1]["tool_calls"].as_array().unwrap().iter().filter_map(|call| call["id"].as_str()).collect();
    assert_eq!(calls, ["g", "t"]);
    assert_eq!((&messages[2]["tool_call_id"], &messages[2]["content"]), (&json!("g"), &json!("ours")));
    assert_eq!(messages[3]["tool_call_id"], "t");
}

#[tokio::test]
async fn calls_without_index_or_all_with_index_0_are_told_apart() {
    for index in [Value::Null, json!(0)] {
        let part = |id: &str, text: &str| {
            let arguments = json!({"text": text}).to_string();
            let mut part =
                json!({"id": id, "type": "function", "function": {"name": "echo", "arguments": arguments}});
            if !index.is_null() {
                part["index"] = index.clone();
            }
            part
        };
        let stage = Stage::new(vec![
            Reply::stream(&[
                json!({"delta": {"role": "assistant", "tool_calls": [part("a", "1")]}}),
                json!({"delta": {"tool_calls": [part("b", "2")]}}),
                json!({"delta": {}, "finish_reason": "stop"}),
            ]),
            Reply::text("ok"),
        ]);
        assert_eq!(texts(&chunks(&stage, streamed(&json!({}))).await), "ok");
        let messages = stage.request(1)["messages"].clone();
        assert_eq!(
            (&messages[2]["content"], &messages[3]["content"]),
            (&json!("1"), &json!("2")),
            "index {index}"
        );
    }
}

#[tokio::test]
async fn an_empty_reply_is_asked_again_once() {
    let stage = Stage::new(vec![Reply::text(""), Reply::text("now")]);
    assert_eq!(texts(&chunks(&stage, streamed(&json!({}))).await), "now");
    let empty = || Reply::whole(&json!({"role": "assistant", "content": ""}), "stop");
    let stage = Stage::new(vec![empty(), empty()]);
    let request = request(&json!({"messages": [{"role": "user", "content": "q"}]}));
    let error = stage.engine.complete(request, Stage::context()).await.unwrap_err();
    assert!(matches!(error.kind, ChatErrorKind::EmptyReply(2)), "{error}");
}

#[tokio::test]
async fn the_last_round_offers_no_choice_and_then_it_is_an_error() {
    let call =
        json!({"id": "c", "type": "function", "function": {"name": "echo", "arguments": "{\"text\":\"x\"}"}});
    let reply =
        || Reply::whole(&json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls");
    let stage = Stage::new((0..10).map(|_| reply()).collect());
    let request = request(&json!({"messages": [{"role": "user", "content": "q"}]}));
    let error = stage.engine.complete(request, Stage::context()).await.unwrap_err();
    assert!(matches!(error.kind, ChatErrorKind::RoundLimit(10)) && error.tools_ran, "{error}");
    assert_eq!(stage.request(8).get("tool_choice"), None);
    assert_eq!(stage.request(9)["tool_choice"], "none");
}

#[tokio::test]
async fn text_mode_finds_calls_in_a_stream_and_holds_back_only_them() {
    let reply: Vec<Value> =
        ["One moment. ", "{\"to", "ol\": \"echo\", \"argu", "ments\": {\"text\": \"hi\"}}", " invented"]
            .iter()
            .map(|text| json!({"delta": {"content": text}}))
            .chain([json!({"delta": {}, "finish_reason": "stop"})])
            .collect();
    let stage =
        Stage::new(vec![Reply::stream(&reply), Reply::text("It is hi.")]).with_tool_mode(ToolMode::Text);
    let shown = chunks(&stage, streamed(&json!({}))).await;
    assert_eq!(texts(&shown), "One moment. It is hi.");
    assert_eq!(finish_reasons(&shown), ["stop"]);
    let first = stage.request(0);
    assert_eq!(first.get("tools"), None);
    assert!(first["messages"][0]["content"].as_str().unwrap().contains("- echo: "));
    let second = stage.request(1);
    assert!(second["messages"][3]["content"].as_str().unwrap().ends_with("hi"), "{second:#}");
}

#[tokio::test]
async fn text_mode_leaves_tools_alone_that_the_client_does_not_want_called() {
    let words = "{\"tool\": \"mine\", \"arguments\": {}}";
    let stage = Stage::new(vec![Reply::text(words)]).with_tool_mode(ToolMode::Text);
    let call = json!({"id": "c", "type": "function", "function": {"name": "mine", "arguments": "{}"}});
    let shown = chunks(
        &stage,
        streamed(&json!({
            "tools": [{"type": "function", "function": {"name": "mine"}}],
            "tool_choice": "none",
            "messages": [
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": null, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "42"}],
        })),
    )
    .await;
    assert_eq!((texts(&shown).as_str(), finish_reasons(&shown)), (words, vec!["stop"]));
    let request = stage.request(0);
    assert_eq!((request.get("tools"), request.get("tool_choice")), (None, None));
    let messages = request["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().filter_map(|message| message["role"].as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user"], "the history is still told in words");
}

#[tokio::test]
async fn an_unknown_tool_is_told_to_the_model_and_other_choices_are_left_alone() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "nope", "arguments": "{}"}});
    let stage = Stage::new(vec![
        Reply::whole(&json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls"),
        Reply::whole(&json!({"role": "assistant", "content": "sorry"}), "stop"),
    ]);
    stage
        .engine
        .complete(request(&json!({"messages": [{"role": "user", "content": "q"}]})), Stage::context())
        .await
        .unwrap();
    let told = stage.request(1)["messages"][2]["content"].as_str().unwrap().to_owned();
    assert!(told.starts_with("Error: there is no tool named `nope`"), "{told}");

    let stage = Stage::new(vec![Reply::stream(&[
        json!({"index": 1, "delta": {"role": "assistant", "content": "b"}}),
        json!({"index": 0, "delta": {"role": "assistant", "content": "a"}}),
        json!({"index": 1, "delta": {}, "finish_reason": "stop"}),
        json!({"index": 0, "delta": {}, "finish_reason": "length"}),
    ])]);
    let shown = chunks(&stage, streamed(&json!({"n": 2}))).await;
    assert_eq!(stage.request(0).get("tools"), None);
    let indices: Vec<u64> = shown.iter().filter_map(|c| c["choices"][0]["index"].as_u64()).collect();
    assert_eq!(indices, [1, 0, 0, 1]);
}

#[tokio::test]
async fn a_client_can_do_without_the_gateways_tools() {
    let stage = Stage::new(vec![Reply::text("a"), Reply::text("b")]);
    chunks(&stage, streamed(&json!({"tool_choice": "none"}))).await;
    assert_eq!((stage.request(0).get("tools"), stage.request(0).get("tool_choice")), (None, None));
    let context = TurnContext { tools: ToolChoice::Only(vec!["fake__echo".to_owned()]), ..Stage::context() };
    let mut stream = stage.engine.stream(streamed(&json!({})), context).await.unwrap();
    while stream.next().await.is_some() {}
    let tools = stage.request(1)["tools"].clone();
    let names: Vec<&str> =
        tools.as_array().unwrap().iter().filter_map(|t| t["function"]["name"].as_str()).collect();
    assert_eq!(names, ["echo"]);
}

#[tokio::test]
async fn legacy_functions_of_null_are_none() {
    let stage = Stage::new(vec![Reply::text("a"), Reply::text("b")]);
    for (functions, tools) in [(Value::Null, 2), (json!([]), 0)] {
        chunks(&stage, streamed(&json!({"functions": functions}))).await;
        let request = stage.request(usize::from(tools == 0));
        assert_eq!(request["tools"].as_array().map_or(0, Vec::len), tools, "{functions}");
    }
}

#[tokio::test]
async fn dropping_the_stream_drops_the_running_tool() {
    let call = json!({"delta": {"role": "assistant", "tool_calls": [
        {"index": 0, "id": "c", "type": "function", "function": {"name": "hang", "arguments": "{}"}}]}});
    let stage = Stage::new(vec![Reply::stream(&[call, json!({"delta": {}, "finish_reason": "tool_calls"})])]);
    let mut stream = stage.engine.stream(streamed(&json!({})), Stage::context()).await.unwrap();
    loop {
        if matches!(stream.next().await.unwrap().unwrap(), ReplyEvent::ToolStarted(_)) {
            break;
        }
    }
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(50), stream.next()).await;
    assert!(waiting.is_err(), "the tool hangs");
    assert_eq!(stage.running_tools(), 1);
    drop(stream);
    assert_eq!(stage.running_tools(), 0);
}

#[tokio::test]
async fn sessions_remember_and_turns_of_one_session_take_turns() {
    let answers =
        (0..3).map(|n| Reply::whole(&json!({"role": "assistant", "content": format!("a{n}")}), "stop"));
    let stage = Stage::new(answers.collect());
    let message = |text: &str, id: Option<SessionId>| ChatMessage {
        message: text.to_owned(),
        session_id: id,
        model: String::new(),
    };
    let first = stage.engine.chat(message("q0", None), Stage::context()).await.unwrap();
    let id = first.session_id;
    let (one, two) = tokio::join!(
        stage.engine.chat(message("q1", Some(id.clone())), Stage::context()),
        stage.engine.chat(message("q2", Some(id.clone())), Stage::context()),
    );
    one.unwrap();
    two.unwrap();
    let transcript = stage.engine.session(&Stage::context().principal, &id).await.unwrap();
    assert_eq!((transcript.turns, transcript.messages.len()), (3, 6));
    assert_eq!(stage.request(2)["messages"].as_array().unwrap().len(), 5);
    let unknown = stage.engine.chat(message("q", Some(SessionId::generate())), Stage::context()).await;
    assert!(matches!(unknown.unwrap_err().kind, ChatErrorKind::SessionNotFound(_)));
}

#[tokio::test]
async fn a_stored_conversation_has_no_call_without_an_answer() {
    let made_up = json!({"id": "c", "type": "function", "function": {"name": "nope", "arguments": "{}"}});
    let custom = json!({"id": "k", "type": "custom", "custom": {"name": "shell", "input": "ls"}});
    for call in [made_up, custom] {
        let asks = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        let mut part = call.clone();
        part["index"] = json!(0);
        let stage = Stage::new(vec![
            Reply::whole(&asks, "tool_calls"),
            Reply::whole(&json!({"role": "assistant", "content": "sorry"}), "stop"),
            Reply::stream(&[json!({"delta": {"role": "assistant", "tool_calls": [part]}})]),
            Reply::text("sorry again"),
        ]);
        let context = || TurnContext { tools: ToolChoice::None, ..Stage::context() };
        let message = |session_id| ChatMessage { message: "q".into(), session_id, model: String::new() };
        let first = stage.engine.chat(message(None), context()).await.unwrap();
        assert_eq!(first.response, "sorry");
        let second = message(Some(first.session_id.clone()));
        let mut events = stage.engine.chat_stream(second, context()).await.unwrap();
        while let Some(event) = events.next().await {
            event.unwrap();
        }
        assert_eq!(stage.request(0).get("tools"), None);
        let told = stage.request(1)["messages"][2].clone();
        assert_eq!((&told["role"], &told["tool_call_id"]), (&json!("tool"), &call["id"]));
        assert!(told["content"].as_str().unwrap().contains("there is no tool named"), "{told}");
        let stored = stage.engine.session(&context().principal, &first.session_id).await.unwrap().messages;
        let stored: Vec<Value> = stored.iter().map(|raw| serde_json::from_str(raw.get()).unwrap()).collect();
        let roles: Vec<&str> = stored.iter().filter_map(|message| message["role"].as_str()).collect();
        assert_eq!(roles, ["user", "assistant", "tool", "assistant"].repeat(2));
        assert!(stored[3].get("tool_calls").or(stored[7].get("tool_calls")).is_none(), "{stored:#?}");
    }
}
