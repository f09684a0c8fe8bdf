//! What access policies do to a turn: a refused model ends it, a refused tool call is a result the model reads.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::fakes::{Reply, Stage};
use super::{request, streamed};
use crate::access::{
    Access, AccessScope, AuthPolicy, Config, Credential, Door, Entry, FixedPolicies, PolicyError, PolicySet,
};
use crate::chat::{ReplyEvent, TurnContext};
use crate::domain::{AccessAction, AccessRequest, Decision, Denial, HttpFacts, RequestId};
use crate::llm::ToolChoice;
use futures_util::StreamExt;

/// Refuses arguments that speak of a secret, fails on those that speak of a bug, and keeps what it saw of arguments.
#[derive(Clone, Default)]
struct Guard {
    refuses_models: bool,
    seen: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl AuthPolicy for Guard {
    fn name(&self) -> &str {
        "guard"
    }

    fn order(&self) -> i64 {
        0
    }

    async fn authorize(&self, request: &AccessRequest) -> Result<Decision, PolicyError> {
        let denial = |reason: &str| {
            Ok(Decision::Deny(Denial { status: 403, reason: reason.to_owned(), policy: String::new() }))
        };
        match &request.action {
            AccessAction::Model(_) if self.refuses_models => denial("no models"),
            AccessAction::Tool { name, server, arguments } => {
                assert_eq!((name.as_str(), server.as_str()), ("echo", "fake"));
                self.seen.lock().unwrap().push(arguments.clone());
                match arguments {
                    text if text.contains("secret") => denial("that is secret"),
                    text if text.contains("bug") => Err(PolicyError::new("inner words")),
                    _ => Ok(Decision::Abstain),
                }
            }
            _ => Ok(Decision::Abstain),
        }
    }
}

async fn scope(guard: Guard) -> AccessScope {
    let set = PolicySet::new(vec![Arc::new(guard)], Vec::new());
    let access = Access::new(&Config::default(), None, Arc::new(FixedPolicies(Arc::new(set))));
    let entry = Entry {
        request_id: RequestId::generate(),
        door: Door::Chat,
        credential: Credential::None,
        peer: None,
        trace_id: None,
        foreign_page: None,
        rate_slot: None,
    };
    let facts = || HttpFacts {
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        query: None,
        authority: None,
        headers: Vec::new(),
        peer: None,
    };
    access.enter(entry, facts).await.unwrap()
}

fn calls(arguments: &[&str]) -> Reply {
    let call = |(at, arguments): (usize, &&str)| {
        json!({"index": at, "id": format!("c{at}"), "type": "function",
            "function": {"name": "echo", "arguments": arguments}})
    };
    let calls: Vec<Value> = arguments.iter().enumerate().map(call).collect();
    Reply::stream(&[
        json!({"delta": {"role": "assistant", "tool_calls": calls}, "finish_reason": "tool_calls"}),
    ])
}

#[tokio::test]
async fn a_refused_call_is_told_to_the_model_and_the_others_run() {
    let guard = Guard::default();
    let sent = [r#"{"text":"fine"}"#, r#"{"text":"a secret"}"#, r#"{"text":"a bug"}"#, "no json"];
    let stage = Stage::new(vec![calls(&sent), Reply::text("done")]);
    let context = TurnContext::new(scope(guard.clone()).await, ToolChoice::All);
    let mut stream = stage.engine.stream(streamed(&json!({})), context).await.unwrap();
    let mut failed = Vec::new();
    while let Some(event) = stream.next().await {
        if let ReplyEvent::ToolFinished { call, result } = event.unwrap() {
            failed.push((call.id, result.is_error));
        }
    }
    failed.sort();
    let expected = [("c0", false), ("c1", true), ("c2", true), ("c3", true)];
    assert_eq!(failed, expected.map(|(id, is_error)| (id.to_owned(), is_error)));
    let second = stage.request(1);
    let told = |at: usize| second["messages"][at]["content"].as_str().unwrap().to_owned();
    assert_eq!(told(2), "fine");
    assert_eq!(told(3), "Error: calling `echo` is not allowed: that is secret");
    assert_eq!(
        told(4),
        "Error: calling `echo` is not allowed: the access policy `guard` failed; try again or ask the operator"
    );
    assert!(told(5).contains("not valid JSON"), "{}", told(5));
    assert_eq!(guard.seen.lock().unwrap().len(), 3, "broken arguments are refused without a question");
}

#[tokio::test]
async fn policies_read_what_the_tool_gets() {
    let guard = Guard::default();
    let doubled = r#"{ "text":"a secret", "text":"open" }"#;
    let stage = Stage::new(vec![calls(&[doubled, "", "null"]), Reply::text("done")]);
    let context = TurnContext::new(scope(guard.clone()).await, ToolChoice::All);
    let mut stream = stage.engine.stream(streamed(&json!({})), context).await.unwrap();
    while let Some(event) = stream.next().await {
        event.unwrap();
    }
    assert_eq!(stage.request(1)["messages"][2]["content"], "open");
    let mut seen = guard.seen.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, [r#"{"text":"open"}"#, "{}", "{}"]);
}

#[tokio::test]
async fn a_refused_model_is_never_asked() {
    let stage = Stage::new(Vec::new());
    let guard = Guard { refuses_models: true, ..Guard::default() };
    let context = TurnContext::new(scope(guard).await, ToolChoice::All);
    let body = request(&json!({"messages": [{"role": "user", "content": "q"}]}));
    let error = stage.engine.complete(body, context).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.tools_ran), ("no models", false));
}
