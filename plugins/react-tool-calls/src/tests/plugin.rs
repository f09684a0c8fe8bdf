//! The plugin as the gateway sees it: configuration, whole replies, deltas.

use crate::*;
use witgate_plugin::testing;

const CALL: &str = "Let me see.\nAction: f\nAction Input: {\"a\": 1}\nObservation: 2";

fn process(reply: Reply) -> Action {
    ReactToolCalls::process(&Context::default(), reply).unwrap()
}

fn the_call() -> Vec<ToolCall> {
    vec![ToolCall::new("f", "{\"a\": 1}")]
}

#[test]
fn whole_replies_become_calls() {
    assert_eq!(process(Reply::text("hello")), Action::Keep);
    assert_eq!(process(Reply::text(CALL)), Action::call(Some("Let me see.".into()), the_call()));
    let native = Reply { tool_calls: the_call(), ..Reply::text(CALL) };
    assert_eq!(process(native), Action::Keep, "the model's own calls come first");
    let cut =
        Reply { finish_reason: Some(FinishReason::Length), ..Reply::text("Action: f\nAction Input: {\"a\"") };
    assert_eq!(process(cut), Action::Keep);
}

#[test]
fn whole_replies_are_unwrapped() {
    let reply = Reply { reasoning: Some("Hm.".into()), ..Reply::text("Thought: I know.\nFinal Answer: 42") };
    assert_eq!(process(reply), rewritten("42".into(), Some("Hm.\nI know.".into())));
    assert_eq!(process(Reply::text("Final Answer: 42")), rewritten("42".into(), None));
}

#[test]
fn streams_become_calls() {
    let mut reply = ReactToolCalls::new(&Context::default(), 0).unwrap();
    assert_eq!(reply.push(vec![Delta::text("Let me"), Delta::text(" see.")]), Ok(Pushed::Unchanged));
    assert_eq!(reply.push(vec![Delta::text("\nAction: f\nAc")]), Ok(Pushed::Deltas(vec![])));
    assert_eq!(reply.push(vec![Delta::text("tion Input: {\"a\": 1}\nObs")]), Ok(Pushed::Deltas(vec![])));
    assert_eq!(
        reply.finish(ReplyEnd::default()),
        Ok(Finished { deltas: vec![], next: NextStep::CallTool(the_call()) })
    );
}

#[test]
fn streams_are_unwrapped() {
    let mut reply = ReactToolCalls::new(&Context::default(), 0).unwrap();
    assert_eq!(reply.push(vec![Delta::reasoning("Hm.")]), Ok(Pushed::Unchanged));
    let pushed = reply.push(vec![Delta::text("Thought: I know.\nFinal An"), Delta::text("swer: 4")]);
    let expected = vec![Delta::reasoning("\n"), Delta::reasoning("I know."), Delta::text("4")];
    assert_eq!(pushed, Ok(Pushed::Deltas(expected)));
    assert_eq!(reply.push(vec![Delta::text("2")]), Ok(Pushed::Unchanged));
    assert_eq!(reply.finish(ReplyEnd::default()), Ok(Finished::default()));
}

#[test]
fn the_models_own_calls_in_a_stream_come_first() {
    let mut reply = ReactToolCalls::new(&Context::default(), 0).unwrap();
    let _ = reply.push(vec![Delta::text(CALL)]);
    let end = ReplyEnd { tool_calls: the_call(), ..ReplyEnd::default() };
    assert_eq!(reply.finish(end).unwrap().next, NextStep::GoOn);
}

#[test]
fn the_configuration_is_used_and_checked() {
    testing::set_config(r#"{"formats": ["hermes"]}"#);
    assert_eq!(process(Reply::text(CALL)), Action::Keep);
    for (json, words) in [
        (r#"{"formats": []}"#, "config.formats is empty"),
        (r#"{"formats": ["xml"]}"#, "`xml`"),
        (r#"{"thoughts": "hide"}"#, "`hide`"),
        (r#"{"input_key": ""}"#, "config.input_key"),
        (r#"{"format": "react"}"#, "`format`"),
    ] {
        testing::set_config(json);
        let error = ReactToolCalls::process(&Context::default(), Reply::text("")).unwrap_err().to_string();
        assert!(error.contains(words), "{json}: {error}");
    }
}
