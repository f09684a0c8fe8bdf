//! The plugin as the gateway sees it: configuration, whole replies, deltas.

use crate::*;
use witgate_plugin::testing;

const CTX: fn() -> Context = Context::default;

#[test]
fn whole_replies_change_only_where_there_is_something() {
    let process = |text: &str, reasoning: Option<&str>| {
        let reply = Reply { reasoning: reasoning.map(Into::into), ..Reply::text(text) };
        PiiRedactor::process(&CTX(), reply).unwrap()
    };
    assert_eq!(process("hello", Some("hm")), Action::Keep);
    assert_eq!(process("a@b.com", Some("hm")), Action::Replace("[email]".into()));
    let rewritten = |text: &str, reasoning: &str| {
        Action::Rewrite(Rewritten { text: text.into(), reasoning: Some(reasoning.into()) })
    };
    assert_eq!(process("hello", Some("a@b.com")), rewritten("hello", "[email]"));
    assert_eq!(process("+49 30 123456", Some("a@b.com")), rewritten("[phone]", "[email]"));
    let (_, message, fields) = testing::log().remove(0);
    assert_eq!(message, "personal data was redacted");
    assert_eq!(fields[0], ("email".to_owned(), "1".to_owned()));
}

#[test]
fn deltas_that_hold_nothing_pass_as_they_are() {
    let mut reply = PiiRedactor::new(&CTX(), 0).unwrap();
    assert_eq!(reply.push(vec![Delta::text("one "), Delta::text("two, ")]), Ok(Pushed::Unchanged));
    assert_eq!(reply.push(vec![Delta::text("a@b")]), Ok(Pushed::Deltas(vec![])));
    assert_eq!(reply.push(vec![Delta::text(".com ")]), Ok(Pushed::Deltas(vec![Delta::text("[email] ")])));
    assert_eq!(reply.push(vec![Delta::text("")]), Ok(Pushed::Unchanged));
    assert_eq!(reply.finish(ReplyEnd::default()), Ok(Finished::default()));
}

#[test]
fn reasoning_never_comes_after_the_text_that_followed_it() {
    let mut reply = PiiRedactor::new(&CTX(), 0).unwrap();
    assert_eq!(
        reply.push(vec![Delta::reasoning("ask a@b.com"), Delta::text("Hi, wor")]),
        Ok(Pushed::Deltas(vec![Delta::reasoning("ask "), Delta::reasoning("[email]"), Delta::text("Hi, ")]))
    );
    assert_eq!(reply.finish(ReplyEnd::default()), Ok(Finished::with(vec![Delta::text("wor")])));
}

#[test]
fn the_configuration_is_used_and_checked() {
    let fails = |json: &str| {
        testing::set_config(json);
        PiiRedactor::process(&CTX(), Reply::text("")).unwrap_err().to_string()
    };
    for (json, words) in [
        (r#"{"kinds": []}"#, "config.kinds is empty"),
        (r#"{"kinds": ["emial"]}"#, "`emial`"),
        (r#"{"replacement": "text"}"#, "config.text must"),
        (r#"{"text": "x"}"#, "only with"),
        (r#"{"allow": ["x"]}"#, "config.allow has"),
        (r#"{"kind": ["email"]}"#, "`kind`"),
    ] {
        let error = fails(json);
        assert!(error.contains(words), "{json}: {error}");
    }
    testing::set_config(
        r#"{"kinds": ["email"], "replacement": "text", "text": "<{kind}>", "allow": ["b.org"]}"#,
    );
    assert_eq!(
        PiiRedactor::process(&CTX(), Reply::text("a@b.com a@b.org +49 30 123456")),
        Ok(Action::Replace("<email> a@b.org +49 30 123456".into()))
    );
}
