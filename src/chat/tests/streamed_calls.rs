//! The client's calls in a stream: of several choices, cut short, and with log probabilities beside them.

use super::processors::{Habit, Pieces, made_up};
use super::*;
use crate::domain::NextStep;

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}])
}

/// What a client puts together from the parts of a choice's calls: id and arguments by index.
fn calls_of(chunks: &[Value], choice: u64) -> Vec<(String, String)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten();
    for delta in choices.filter(|one| one["index"] == choice).map(|one| &one["delta"]) {
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(part["index"].as_u64().unwrap()).unwrap();
            if index == calls.len() {
                calls.push((part["id"].as_str().unwrap().to_owned(), String::new()));
            }
            calls[index].1.push_str(part["function"]["arguments"].as_str().unwrap_or_default());
        }
    }
    calls
}

fn reasons_of(chunks: &[Value], choice: u64) -> Vec<&str> {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten();
    choices.filter(|one| one["index"] == choice).filter_map(|one| one["finish_reason"].as_str()).collect()
}

fn part(index: u64, id: &str, arguments: &str) -> Value {
    if id.is_empty() {
        return json!({"index": index, "function": {"arguments": arguments}});
    }
    json!({"index": index, "id": id, "type": "function", "function": {"name": "mine", "arguments": arguments}})
}

#[tokio::test]
async fn calls_of_several_choices_are_kept_apart() {
    let says = |choice: u64, part: Value| json!({"index": choice, "delta": {"tool_calls": [part]}});
    let reply = || {
        Reply::stream(&[
            json!({"index": 0, "delta": {"role": "assistant"}}),
            json!({"index": 1, "delta": {"role": "assistant"}}),
            says(0, part(0, "a0", "")),
            says(1, part(0, "b0", "")),
            says(0, part(0, "", "{\"n\":")),
            says(1, part(0, "", "{\"m\":")),
            says(1, part(0, "", "2}")),
            says(0, part(0, "", "1}")),
            says(1, part(1, "b1", "{}")),
            json!({"index": 0, "delta": {}, "finish_reason": "tool_calls"}),
            json!({"index": 1, "delta": {}, "finish_reason": "stop"}),
        ])
    };
    let with_processor = Stage::new(vec![reply()]).with_processors(vec![Pieces::new(Habit::Pass)]);
    for stage in [Stage::new(vec![reply()]), with_processor] {
        let shown = chunks(&stage, streamed(&json!({"n": 2, "tools": tools()}))).await;
        let call = |id: &str, arguments: &str| (id.to_owned(), arguments.to_owned());
        assert_eq!(calls_of(&shown, 0), [call("a0", "{\"n\":1}")]);
        assert_eq!(calls_of(&shown, 1), [call("b0", "{\"m\":2}"), call("b1", "{}")]);
        assert_eq!((reasons_of(&shown, 0), reasons_of(&shown, 1)), (vec!["tool_calls"], vec!["tool_calls"]));
    }
}

#[tokio::test]
async fn the_finish_reason_tells_of_calls_but_hides_no_cut() {
    for (reason, expected) in [
        ("stop", "tool_calls"),
        ("tool_calls", "tool_calls"),
        ("length", "length"),
        ("content_filter", "content_filter"),
    ] {
        let reply = || {
            Reply::stream(&[
                json!({"delta": {"role": "assistant", "tool_calls": [part(0, "a", "{\"n")]}}),
                json!({"delta": {}, "finish_reason": reason}),
            ])
        };
        let with_processor = Stage::new(vec![reply()]).with_processors(vec![Pieces::new(Habit::Pass)]);
        for stage in [Stage::new(vec![reply()]), with_processor] {
            let shown = chunks(&stage, streamed(&json!({"tools": tools()}))).await;
            assert_eq!((calls_of(&shown, 0).len(), finish_reasons(&shown)), (1, vec![expected]), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_whole_reply_of_both_sides_calls_hides_no_cut_either() {
    let ours =
        json!({"id": "g", "type": "function", "function": {"name": "echo", "arguments": "{\"text\":\"x\"}"}});
    let theirs = json!({"id": "t", "type": "function", "function": {"name": "mine", "arguments": "{\"n"}});
    for (reason, expected) in [("length", "length"), ("stop", "tool_calls")] {
        let message = json!({"role": "assistant", "content": null, "tool_calls": [ours, theirs]});
        let stage = Stage::new(vec![Reply::whole(&message, reason)]);
        let request = request(&json!({"messages": [{"role": "user", "content": "q"}], "tools": tools()}));
        let reply = stage.engine.complete(request, Stage::context()).await.unwrap();
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        let choice = &body["choices"][0];
        assert_eq!(choice["message"]["tool_calls"], json!([theirs]));
        assert_eq!(choice["finish_reason"], expected);
    }
}

#[tokio::test]
async fn calls_that_a_processor_made_are_whole() {
    let text = || {
        Reply::stream(&[
            json!({"delta": {"role": "assistant", "content": "words"}}),
            json!({"delta": {}, "finish_reason": "length"}),
        ])
    };
    let makes = Pieces::new(Habit::AtEnd(NextStep::CallTool(vec![made_up("mine", "{}")])));
    let stage = Stage::new(vec![text()]).with_processors(vec![makes]);
    let shown = chunks(&stage, streamed(&json!({"tools": tools()}))).await;
    assert_eq!((calls_of(&shown, 0).len(), finish_reasons(&shown)), (1, vec!["tool_calls"]));
}

#[tokio::test]
async fn log_probabilities_are_told_once() {
    let logprobs = json!({"content": [{"token": "a", "logprob": -0.5}]});
    for delta in [json!({"role": "assistant", "content": "a"}), json!({})] {
        let stage = Stage::new(vec![Reply::stream(&[
            json!({"delta": {"role": "assistant", "content": "b"}}),
            json!({"delta": delta, "logprobs": logprobs, "finish_reason": "stop"}),
        ])]);
        let shown = chunks(&stage, streamed(&json!({"logprobs": true}))).await;
        let told: Vec<&Value> = shown
            .iter()
            .filter_map(|chunk| chunk.pointer("/choices/0/logprobs"))
            .filter(|l| !l.is_null())
            .collect();
        assert_eq!(told, [&logprobs], "{shown:#?}");
    }
}
