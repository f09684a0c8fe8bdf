//! Which replies without text are asked for again, and which are answers.

use super::processors::{Habit, Pieces};
use super::*;

/// Messages that end before their first word, and why they do.
fn answers() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"role": "assistant", "content": ""}), "length"),
        (json!({"role": "assistant", "content": null}), "content_filter"),
        (json!({"role": "assistant", "content": "", "reasoning_content": "hm"}), "length"),
        (json!({"role": "assistant", "content": "", "reasoning_content": "hm"}), "stop"),
        (json!({"role": "assistant", "content": null, "reasoning": "hm"}), "stop"),
    ]
}

fn streamed_reply(message: &Value, reason: &str) -> Reply {
    Reply::stream(&[json!({"delta": message}), json!({"delta": {}, "finish_reason": reason})])
}

fn question() -> CompletionRequest {
    request(&json!({"messages": [{"role": "user", "content": "q"}]}))
}

fn message() -> ChatMessage {
    ChatMessage { message: "q".to_owned(), session_id: None, model: String::new() }
}

/// The script has one reply only: a turn that asks again panics.
fn stages(reply: impl Fn() -> Reply) -> [Stage; 2] {
    [Stage::new(vec![reply()]), Stage::new(vec![reply()]).with_processors(vec![Pieces::new(Habit::Pass)])]
}

#[tokio::test]
async fn a_reply_that_was_cut_or_only_reasoned_is_an_answer() {
    for (said, reason) in answers() {
        for stage in stages(|| Reply::whole(&said, reason)) {
            let reply = stage.engine.complete(question(), Stage::context()).await.unwrap();
            let body: Value = serde_json::from_slice(&reply.body).unwrap();
            let choice = &body["choices"][0];
            assert_eq!((&choice["message"], &choice["finish_reason"]), (&said, &json!(reason)));
        }
        for stage in stages(|| streamed_reply(&said, reason)) {
            let shown = chunks(&stage, streamed(&json!({}))).await;
            assert_eq!((texts(&shown).as_str(), finish_reasons(&shown)), ("", vec![reason]), "{said}");
        }
    }
}

#[tokio::test]
async fn a_session_goes_on_after_an_answer_without_text() {
    let empty = json!({"role": "assistant", "content": ""});
    let next = json!({"role": "assistant", "content": "words"});
    let stage = Stage::new(vec![Reply::whole(&empty, "length"), Reply::whole(&next, "stop")]);
    let first = stage.engine.chat(message(), Stage::context()).await.unwrap();
    assert_eq!(first.response, "");
    let again = ChatMessage { session_id: Some(first.session_id), ..message() };
    stage.engine.chat(again, Stage::context()).await.unwrap();
    assert_eq!(stage.request(1)["messages"][1]["content"], "(This answer has no text.)");

    let stage = Stage::new(vec![streamed_reply(&empty, "length")]);
    let events: Vec<_> = stage.engine.chat_stream(message(), Stage::context()).await.unwrap().collect().await;
    assert!(matches!(events.last(), Some(Ok(ReplyEvent::Done(done))) if done.response.is_empty()));
}

#[tokio::test]
async fn what_another_choice_has_shown_is_not_asked_for_again() {
    let call =
        json!({"index": 0, "id": "c", "type": "function", "function": {"name": "mine", "arguments": "{}"}});
    for delta in [json!({"content": "words"}), json!({"tool_calls": [call]})] {
        let stage = Stage::new(vec![Reply::stream(&[
            json!({"index": 0, "delta": {"role": "assistant", "content": ""}}),
            json!({"index": 1, "delta": delta}),
            json!({"index": 0, "delta": {}, "finish_reason": "stop"}),
            json!({"index": 1, "delta": {}, "finish_reason": "stop"}),
        ])]);
        let tools = json!([{"type": "function", "function": {"name": "mine"}}]);
        let shown = chunks(&stage, streamed(&json!({"n": 2, "tools": tools}))).await;
        assert_eq!(finish_reasons(&shown).len(), 2, "{shown:#?}");
    }
}
