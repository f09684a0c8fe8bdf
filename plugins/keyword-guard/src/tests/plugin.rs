//! The plugin as the gateway sees it: configuration, whole replies, deltas.

use crate::*;
use witgate_plugin::testing;

const REASON: &str = "the reply has phrase 2 of config.phrases";

fn attempt(attempt: u32) -> Context {
    Context { attempt, ..Context::default() }
}

fn process(text: &str, reasoning: Option<&str>) -> Action {
    let reply = Reply { reasoning: reasoning.map(Into::into), ..Reply::text(text) };
    KeywordGuard::process(&attempt(1), reply).unwrap()
}

#[test]
fn whole_replies_are_blocked() {
    testing::set_config(r#"{"phrases": ["plan", "the budget"]}"#);
    assert_eq!(process("a planet", Some("hm")), Action::Keep);
    assert_eq!(process("The Budget!", None), Action::Block(REASON.into()));
    assert_eq!(process("", Some("the budget")), Action::Block(REASON.into()));
    testing::set_config(r#"{"phrases": ["plan"], "reasoning": false}"#);
    assert_eq!(process("", Some("plan")), Action::Keep);
}

#[test]
fn whole_replies_are_replaced() {
    testing::set_config(r#"{"phrases": ["plan", "plans"], "action": "replace", "replacement": "-"}"#);
    assert_eq!(process("a planet", Some("hm")), Action::Keep);
    assert_eq!(process("Plan, plans", Some("hm")), Action::Replace("-, -".into()));
    let rewritten = Rewritten { text: "x".into(), reasoning: Some("my -".into()) };
    assert_eq!(process("x", Some("my plan")), Action::Rewrite(rewritten));
}

#[test]
fn the_model_is_asked_again_until_the_last_attempt() {
    testing::set_config(
        r#"{"phrases": ["plan", "budget"], "action": "ask-again", "instruction": "No.", "max_attempts": 2}"#,
    );
    let process = |number| KeywordGuard::process(&attempt(number), Reply::text("my budget"));
    assert_eq!(process(1), Ok(Action::AskAgain("No.".into())));
    assert_eq!(process(2), Ok(Action::Block(REASON.into())));
    assert_eq!(process(9), Ok(Action::Block(REASON.into())));

    let mut first = KeywordGuard::new(&attempt(1), 0).unwrap();
    assert_eq!(first.push(vec![Delta::text("my bud")]), Ok(Pushed::Deltas(vec![])));
    assert_eq!(first.push(vec![Delta::text("get is ...")]), Ok(Pushed::Deltas(vec![])));
    assert_eq!(first.finish(ReplyEnd::default()).unwrap().next, NextStep::AskAgain("No.".into()));

    let mut good = KeywordGuard::new(&attempt(1), 0).unwrap();
    let deltas = vec![Delta::reasoning("h"), Delta::reasoning("m"), Delta::text("fine")];
    assert_eq!(good.push(deltas), Ok(Pushed::Deltas(vec![])));
    assert_eq!(
        good.finish(ReplyEnd::default()),
        Ok(Finished::with(vec![Delta::reasoning("hm"), Delta::text("fine")]))
    );

    let mut last = KeywordGuard::new(&attempt(2), 0).unwrap();
    assert_eq!(last.push(vec![Delta::text("my bud")]), Ok(Pushed::Deltas(vec![Delta::text("my ")])));
    assert_eq!(last.push(vec![Delta::text("get ")]), Ok(Pushed::Block(REASON.into())));
}

#[test]
fn streams_are_blocked_in_the_middle_and_at_the_end() {
    testing::set_config(r#"{"phrases": ["plan", "budget"]}"#);
    let mut reply = KeywordGuard::new(&attempt(1), 0).unwrap();
    assert_eq!(reply.push(vec![Delta::text("all is well ")]), Ok(Pushed::Unchanged));
    assert_eq!(
        reply.push(vec![Delta::reasoning("bud"), Delta::text("my budget")]),
        Ok(Pushed::Deltas(vec![Delta::reasoning("bud"), Delta::text("my ")]))
    );
    let end = reply.finish(ReplyEnd::default()).unwrap();
    assert_eq!(end, Finished { deltas: vec![], next: NextStep::Block(REASON.into()) });
    let mut reply = KeywordGuard::new(&attempt(1), 0).unwrap();
    assert_eq!(
        reply.push(vec![Delta::reasoning("budget"), Delta::text("Hi")]),
        Ok(Pushed::Block(REASON.into()))
    );
}

#[test]
fn a_stream_may_leave_reasoning_alone() {
    testing::set_config(r#"{"phrases": ["plan"], "reasoning": false, "action": "replace"}"#);
    let mut reply = KeywordGuard::new(&attempt(1), 0).unwrap();
    assert_eq!(reply.push(vec![Delta::reasoning("plan ")]), Ok(Pushed::Unchanged));
    assert_eq!(
        reply.push(vec![Delta::reasoning("plan "), Delta::text("plan ")]),
        Ok(Pushed::Deltas(vec![Delta::reasoning("plan "), Delta::text("*** ")]))
    );
}

#[test]
fn a_wrong_configuration_is_named() {
    for (json, words) in [
        ("{}", "config.phrases: there are no phrases"),
        (r#"{"phrases": ["a", ""]}"#, "phrase 2"),
        (r#"{"phrases": ["a"], "action": "delete"}"#, "`delete`"),
        (r#"{"phrases": ["a"], "max_attempts": 0}"#, "config.max_attempts"),
        (r#"{"words": ["a"]}"#, "`words`"),
    ] {
        testing::set_config(json);
        let error = KeywordGuard::process(&attempt(1), Reply::text("")).unwrap_err().to_string();
        assert!(error.contains(words), "{json}: {error}");
        assert!(KeywordGuard::new(&attempt(1), 0).is_err());
    }
}
