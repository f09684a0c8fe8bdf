//! What processors make of streamed replies, as the client and the model see it.

use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::fakes::{Reply, Stage};
use super::processors::{Habit, Pieces, Whole, made_up};
use super::{chunks, finish_reasons, streamed, texts};
use crate::chat::{ChatErrorKind, ChatMessage, ReplyEvent};
use crate::domain::{NextStep, ReplyAction};
use crate::llm::ToolMode;
use crate::response::{OnFailure, ProcessingError, ResponseProcessor};

fn pieces(habit: Habit) -> Arc<dyn ResponseProcessor> {
    Pieces::new(habit)
}

/// A stream of these pieces of text.
fn said(texts: &[&str]) -> Reply {
    let mut choices = vec![json!({"delta": {"role": "assistant", "content": ""}})];
    choices.extend(texts.iter().map(|text| json!({"delta": {"content": text}})));
    choices.push(json!({"delta": {}, "finish_reason": "stop"}));
    Reply::stream(&choices)
}

async fn shown(stage: &Stage) -> Vec<Value> {
    chunks(stage, streamed(&json!({"stream_options": {"include_usage": true}}))).await
}

/// The chunks before the failure, and the failure.
async fn failed(stage: &Stage) -> (usize, ChatErrorKind) {
    let mut stream = match stage.engine.stream(streamed(&json!({})), Stage::context()).await {
        Ok(stream) => stream,
        Err(error) => return (0, error.kind),
    };
    let mut count = 0;
    loop {
        match stream.next().await.unwrap() {
            Ok(ReplyEvent::Done(_)) => panic!("the turn went well"),
            Ok(_) => count += 1,
            Err(error) => return (count, error.kind),
        }
    }
}

#[tokio::test]
async fn chunks_that_stay_are_the_upstreams_own_bytes() {
    let chunk = |delta: &str| {
        format!(
            r#"{{ "id":"u","created":5,"model":"up", "choices":[{{"index":0,"delta":{delta},"logprobs":null}}], "x":1.0 }}"#
        )
    };
    let all: Vec<String> =
        [r#"{"role":"assistant","content":""}"#, r#"{"content":"a\u00e9"}"#, r#"{ "content": "b" }"#, "{}"]
            .iter()
            .map(|delta| chunk(delta))
            .collect();
    for processors in [vec![], vec![pieces(Habit::Pass), pieces(Habit::Redact)]] {
        let stage = Stage::new(vec![Reply::Stream(all.clone())]).with_processors(processors);
        let mut stream = stage.engine.stream(streamed(&json!({})), Stage::context()).await.unwrap();
        let mut json = Vec::new();
        while let Some(event) = stream.next().await {
            if let ReplyEvent::Chunk(chunk) = event.unwrap() {
                json.push(String::from_utf8(chunk.json.to_vec()).unwrap());
            }
        }
        assert_eq!(json[1..3], all[1..3]);
    }
}

#[tokio::test]
async fn text_is_changed_wherever_it_is_cut() {
    let text = "é a secret and secre";
    for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
        for second in (cut..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let stage = Stage::new(vec![said(&[&text[..cut], &text[cut..second], &text[second..]])])
                .with_processors(vec![pieces(Habit::Redact), pieces(Habit::Pass)]);
            let shown = shown(&stage).await;
            assert_eq!(texts(&shown), "é a [gone] and secre", "cut at {cut} and {second}");
            assert_eq!(finish_reasons(&shown), ["stop"]);
            assert_eq!(shown.last().unwrap()["usage"]["total_tokens"], 3);
        }
    }
}

#[tokio::test]
async fn what_is_held_back_passes_the_stages_that_follow() {
    let stage = Stage::new(vec![said(&["a sec", "ret"])]).with_processors(vec![
        pieces(Habit::Hold),
        Whole::capitals(),
        pieces(Habit::Redact),
        Whole::capitals(),
    ]);
    assert_eq!(texts(&shown(&stage).await), "A SECRET!");
    let lower =
        Whole::new(|_, reply| Ok(ReplyAction::Rewrite { text: reply.text.to_lowercase(), reasoning: None }));
    let stage = Stage::new(vec![said(&["a sec", "ret"])]).with_processors(vec![
        pieces(Habit::Hold),
        lower,
        pieces(Habit::Redact),
    ]);
    let shown = shown(&stage).await;
    assert_eq!(texts(&shown), "a [gone]!");
    assert_eq!(
        shown[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""}),
        "the first chunk does not wait"
    );
}

#[tokio::test]
async fn reasoning_and_refusals_are_processed_in_their_own_fields() {
    let reply = Reply::stream(&[
        json!({"delta": {"role": "assistant", "reasoning": "my "}}),
        json!({"delta": {"reasoning": "plan"}, "logprobs": {"content": [1]}}),
        json!({"delta": {"refusal": "a secr"}}),
        json!({"delta": {"refusal": "et"}}),
        json!({"delta": {}, "finish_reason": "stop"}),
    ]);
    let stage = Stage::new(vec![reply]).with_processors(vec![pieces(Habit::Redact)]);
    let shown = shown(&stage).await;
    let all = |field: &str| -> String {
        shown.iter().filter_map(|c| c["choices"][0]["delta"][field].as_str()).collect()
    };
    assert_eq!(
        (all("reasoning"), all("refusal"), all("content")),
        ("my plan".into(), "a [gone]".into(), String::new())
    );
    assert!(shown.iter().all(|chunk| chunk["choices"][0]["logprobs"].is_null()));
}

#[tokio::test]
async fn a_block_in_the_middle_ends_the_reply() {
    let stage =
        Stage::new(vec![said(&["good ", "b", "ad", " more"])]).with_processors(vec![pieces(Habit::BlockBad)]);
    let shown = shown(&stage).await;
    assert_eq!((texts(&shown).as_str(), finish_reasons(&shown)), ("good b", vec!["content_filter"]));
    let usages = shown.iter().filter(|chunk| !chunk["usage"].is_null()).count();
    assert_eq!((usages, &shown.last().unwrap()["choices"]), (1, &json!([])));
    assert_eq!(stage.unread_chunks(), 3, "the upstream is dropped at once");
}

#[tokio::test]
async fn a_block_at_the_end_drops_what_was_held() {
    let block = ReplyAction::Block("why".to_owned());
    let call = json!({"delta": {"role": "assistant", "content": "x", "audio": {"data": "x"}, "tool_calls": [
        {"index": 0, "id": "c", "type": "function", "function": {"name": "hang", "arguments": "{}"}}]}});
    let reply = Reply::stream(&[call, json!({"delta": {}, "finish_reason": "tool_calls"})]);
    let stage = Stage::new(vec![reply]).with_processors(vec![Whole::always(block)]);
    let shown = shown(&stage).await;
    assert_eq!((texts(&shown).as_str(), finish_reasons(&shown)), ("", vec!["content_filter"]));
    assert!(shown.iter().all(|chunk| chunk.pointer("/choices/0/delta/audio").is_none()), "{shown:#?}");
}

#[tokio::test]
async fn one_choice_of_several_is_blocked() {
    let stage = Stage::new(vec![Reply::stream(&[
        json!({"index": 0, "delta": {"role": "assistant", "content": "bad"}}),
        json!({"index": 1, "delta": {"role": "assistant", "content": "good"}}),
        json!({"index": 0, "delta": {"content": "more"}}),
        json!({"index": 0, "delta": {}, "finish_reason": "stop"}),
        json!({"index": 1, "delta": {}, "finish_reason": "length"}),
    ])])
    .with_processors(vec![pieces(Habit::BlockBad)]);
    let shown = chunks(&stage, streamed(&json!({"n": 2}))).await;
    let of = |index: u64, key: &str| -> Vec<String> {
        let choices =
            shown.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        choices.filter_map(|choice| choice.pointer(key)?.as_str().map(str::to_owned)).collect()
    };
    assert_eq!(
        (of(0, "/delta/content").concat(), of(0, "/delta/role"), of(0, "/finish_reason")),
        (String::new(), vec!["assistant".to_owned()], vec!["content_filter".to_owned()])
    );
    assert_eq!(
        (of(1, "/delta/content"), of(1, "/finish_reason")),
        (vec!["good".to_owned()], vec!["length".to_owned()])
    );
}

#[tokio::test]
async fn made_up_calls_are_run_and_the_clients_are_shown() {
    let own_tool =
        json!([{"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}]);
    for processor in [
        pieces(Habit::AtEnd(NextStep::CallTool(vec![
            made_up("echo", "{\"text\":\"x\"}"),
            made_up("mine", "{}"),
        ]))),
        Whole::always(ReplyAction::CallTool {
            text: None,
            calls: vec![made_up("echo", "{\"text\":\"x\"}"), made_up("mine", "{}")],
        }),
    ] {
        let stage = Stage::new(vec![said(&["words"])]).with_processors(vec![processor]);
        let shown = chunks(&stage, streamed(&json!({"tools": own_tool}))).await;
        assert_eq!((texts(&shown).as_str(), finish_reasons(&shown)), ("words", vec!["tool_calls"]));
        let parts: Vec<&Value> = shown
            .iter()
            .filter_map(|c| c.pointer("/choices/0/delta/tool_calls")?.as_array())
            .flatten()
            .collect();
        assert_eq!(
            (parts.len(), &parts[0]["index"], &parts[0]["function"]["name"]),
            (1, &json!(0), &json!("mine"))
        );
    }
}

#[tokio::test]
async fn native_calls_are_told_at_the_end_and_run() {
    let native = [
        json!({"delta": {"role": "assistant", "content": "I see. "}}),
        json!({"delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "echo", "arguments": "{\"text\":"}, "signature": "s"}]}}),
        json!({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "\"hi\"}"}}]}}),
        json!({"delta": {}, "finish_reason": "tool_calls"}),
    ];
    let watcher = Pieces::new(Habit::Pass);
    let stage =
        Stage::new(vec![Reply::stream(&native), said(&["done"])]).with_processors(vec![watcher.clone()]);
    let shown = shown(&stage).await;
    assert_eq!((texts(&shown).as_str(), finish_reasons(&shown)), ("I see. done", vec!["stop"]));
    let ends = watcher.ends.lock().unwrap();
    assert_eq!(
        (ends[0].tool_calls[0].arguments.as_str(), ends[1].tool_calls.len()),
        ("{\"text\":\"hi\"}", 0)
    );
    assert_eq!(ends[0].usage.as_ref().unwrap().count("total_tokens"), 3);
    let messages = stage.request(1)["messages"].clone();
    assert_eq!(
        (&messages[1]["tool_calls"][0]["signature"], &messages[2]["content"]),
        (&json!("s"), &json!("hi"))
    );
}

#[tokio::test]
async fn native_calls_of_the_clients_come_after_the_text() {
    let own_tool =
        json!([{"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}]);
    let native = [
        json!({"delta": {"role": "assistant", "content": "a sec"}}),
        json!({"delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "mine", "arguments": "{"}}]}}),
        json!({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}}),
        json!({"delta": {}, "finish_reason": "tool_calls"}),
    ];
    let stage = Stage::new(vec![Reply::stream(&native)]).with_processors(vec![pieces(Habit::Redact)]);
    let shown = chunks(&stage, streamed(&json!({"tools": own_tool}))).await;
    assert_eq!((texts(&shown).as_str(), finish_reasons(&shown)), ("a sec", vec!["tool_calls"]));
    let parts: Vec<&Value> =
        shown.iter().filter_map(|c| c.pointer("/choices/0/delta/tool_calls")?.as_array()).flatten().collect();
    assert_eq!(
        parts,
        [
            &json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "mine", "arguments": "{}"}})
        ]
    );
}

#[tokio::test]
async fn asking_again_goes_on_with_the_stream() {
    let stage =
        Stage::new(vec![said(&["first "]), said(&["second"])]).with_processors(vec![pieces(Habit::AskOnce)]);
    let shown = shown(&stage).await;
    assert_eq!((texts(&shown).as_str(), finish_reasons(&shown)), ("first second", vec!["stop"]));
    assert_eq!(shown.last().unwrap()["usage"]["total_tokens"], 6);
    let messages = stage.request(1)["messages"].clone();
    assert_eq!(
        (&messages[1]["content"], &messages[2]),
        (&json!("first "), &json!({"role": "user", "content": "try harder"}))
    );
}

#[tokio::test]
async fn a_held_reply_that_is_asked_for_again_is_never_seen() {
    let asks = Whole::new(|context, _| {
        Ok(if context.attempt == 1 { ReplyAction::AskAgain("no".to_owned()) } else { ReplyAction::Keep })
    });
    let stage = Stage::new(vec![said(&["first "]), said(&["second"])]).with_processors(vec![asks]);
    assert_eq!(texts(&shown(&stage).await), "second");
    assert_eq!(stage.request(1)["messages"][1]["content"], "first ");
}

#[tokio::test]
async fn failures_are_closed_or_open() {
    let reply = || said(&["a", "b", " bad", " c"]);
    let stage = Stage::new(vec![reply()]).with_processors(vec![pieces(Habit::FailAtBad(OnFailure::Closed))]);
    let (count, error) = failed(&stage).await;
    assert!(count > 0 && matches!(error, ChatErrorKind::Plugin(ProcessingError::Failed { .. })), "{error}");
    let stage = Stage::new(vec![reply()])
        .with_processors(vec![pieces(Habit::FailAtBad(OnFailure::Open)), pieces(Habit::Redact)]);
    assert_eq!(texts(&shown(&stage).await), "ab bad c", "nothing is lost or told twice");
    let stage = Stage::new(vec![reply()]).with_processors(vec![pieces(Habit::Unopened(OnFailure::Closed))]);
    let (count, error) = failed(&stage).await;
    assert!(count == 0 && matches!(error, ChatErrorKind::Plugin(ProcessingError::Busy { .. })), "{error}");
    for skipped in [pieces(Habit::Unopened(OnFailure::Open)), Whole::failing(OnFailure::Open)] {
        let stage = Stage::new(vec![reply()]).with_processors(vec![skipped]);
        assert_eq!(texts(&shown(&stage).await), "ab bad c");
    }
}

#[tokio::test]
async fn text_mode_calls_pass_through_the_processors() {
    let stage = Stage::new(vec![
        said(&["One secret. ", "{\"tool\": \"echo\", \"argu", "ments\": {\"text\": \"hi\"}}", " invented"]),
        said(&["done"]),
    ])
    .with_tool_mode(ToolMode::Text)
    .with_processors(vec![pieces(Habit::Redact)]);
    assert_eq!(texts(&shown(&stage).await), "One [gone]. done");
}

#[tokio::test]
async fn a_stored_turn_has_what_the_client_has_seen() {
    let stage = Stage::new(vec![said(&["a secret "]), said(&["b"])])
        .with_processors(vec![pieces(Habit::Redact), pieces(Habit::AskOnce)]);
    let message = ChatMessage { message: "q".to_owned(), session_id: None, model: String::new() };
    let mut stream = stage.engine.chat_stream(message, Stage::context()).await.unwrap();
    let mut summary = None;
    while let Some(event) = stream.next().await {
        if let ReplyEvent::Done(done) = event.unwrap() {
            summary = Some(done);
        }
    }
    let summary = summary.unwrap();
    assert_eq!(summary.response, "a [gone] b");
    let session =
        stage.engine.session(&Stage::context().principal, &summary.session_id.unwrap()).await.unwrap();
    let stored: Value = serde_json::from_str(session.messages[1].get()).unwrap();
    assert_eq!((session.messages.len(), &stored["content"]), (2, &json!("a [gone] b")));
}
