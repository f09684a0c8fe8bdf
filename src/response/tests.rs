//! Tests of chains on made-up stages: what flows from one to the next, at each push and at the end.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use crate::domain::{DeltaKind, NextStep, Principal, RequestId, ToolCall};

type Log = Arc<Mutex<Vec<String>>>;

/// Adds its mark to every text, and one more at the end, before it takes `next`.
struct Marker {
    mark: &'static str,
    next: NextStep,
    fails_at: &'static str,
    on_failure: OnFailure,
    log: Log,
}

struct MarkerStage {
    mark: &'static str,
    next: NextStep,
    fails_at: &'static str,
    log: Log,
}

impl Marker {
    fn new(mark: &'static str, log: &Log) -> Self {
        Self { mark, next: NextStep::GoOn, fails_at: "", on_failure: OnFailure::Closed, log: Arc::clone(log) }
    }
}

#[async_trait]
impl ResponseProcessor for Marker {
    fn name(&self) -> &str {
        self.mark
    }

    fn applies(&self, endpoint: &str, _: &str) -> bool {
        endpoint == "/v1/chat/completions"
    }

    fn mode(&self) -> ProcessorMode {
        ProcessorMode::Stream
    }

    fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    async fn process(&self, _: &ReplyContext, _: &ProcessedReply) -> Result<ReplyAction, ProcessorError> {
        Ok(ReplyAction::Keep)
    }

    async fn open(&self, _: &ReplyContext, _: u64) -> Result<Box<dyn ReplyStage>, ProcessorError> {
        Ok(Box::new(MarkerStage {
            mark: self.mark,
            next: self.next.clone(),
            fails_at: self.fails_at,
            log: Arc::clone(&self.log),
        }))
    }
}

impl MarkerStage {
    fn enter(&self, step: &str, text: &str) -> Result<(), ProcessorError> {
        self.log.lock().unwrap().push(format!("{} {step} {text}", self.mark));
        if self.fails_at == step {
            return Err(ProcessorError::Failed("on purpose".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl ReplyStage for MarkerStage {
    async fn push(&mut self, deltas: &[TextDelta]) -> Result<Pushed, ProcessorError> {
        let text = text(deltas);
        self.enter("push", &text)?;
        Ok(Pushed::Deltas(words(&format!("{text}{}", self.mark))))
    }

    async fn finish(self: Box<Self>, end: &ReplyEnd) -> Result<Finished, ProcessorError> {
        let calls: Vec<&str> = end.tool_calls.iter().map(|call| call.name.as_str()).collect();
        self.enter("finish", &calls.join(","))?;
        Ok(Finished { deltas: words(&format!(".{}", self.mark)), next: self.next })
    }
}

fn words(text: &str) -> Vec<TextDelta> {
    vec![TextDelta { kind: DeltaKind::Text, text: text.to_owned() }]
}

fn text(deltas: &[TextDelta]) -> String {
    deltas.iter().map(|delta| delta.text.as_str()).collect()
}

fn context() -> Arc<ReplyContext> {
    Arc::new(ReplyContext {
        request_id: RequestId::generate(),
        endpoint: "/v1/chat/completions".into(),
        model: "m".into(),
        session_id: None,
        principal: Principal::anonymous(),
        attempt: 1,
    })
}

async fn chain(processors: Vec<Marker>, choice: u64) -> ReplyChain {
    let processors: Vec<Arc<dyn ResponseProcessor>> =
        processors.into_iter().map(|processor| Arc::new(processor) as _).collect();
    let pipeline = ResponsePipeline::of(&processors, "/v1/chat/completions", "m");
    pipeline.open(&context(), choice).await.unwrap()
}

fn call(name: &str) -> ToolCall {
    ToolCall { id: String::new(), name: name.to_owned(), arguments: String::new() }
}

#[tokio::test]
async fn a_stage_is_finished_when_those_before_it_have_let_go_of_everything() {
    let log = Log::default();
    let mut chain = chain(vec![Marker::new("a", &log), Marker::new("b", &log)], 0).await;
    let Pushed::Deltas(deltas) = chain.push(words("x")).await.unwrap() else { panic!("text was changed") };
    assert_eq!(text(&deltas), "xab");
    let end = chain.finish(ReplyEnd::default()).await.unwrap();
    assert_eq!(text(&end.deltas), ".ab.b");
    assert_eq!(*log.lock().unwrap(), ["a push x", "b push xa", "a finish ", "b push .a", "b finish "]);
}

#[tokio::test]
async fn later_stages_see_the_calls_that_earlier_ones_put_in_their_place() {
    let log = Log::default();
    let calls = Marker { next: NextStep::CallTool(vec![call("t"), call("u")]), ..Marker::new("a", &log) };
    let chain = chain(vec![calls, Marker::new("b", &log)], 0).await;
    let end = chain.finish(ReplyEnd { tool_calls: vec![call("own")], ..ReplyEnd::default() }).await.unwrap();
    assert_eq!(*log.lock().unwrap(), ["a finish own", "b push .a", "b finish t,u"]);
    let calls = end.calls.unwrap();
    assert!(calls.iter().all(|call| call.id.starts_with("call_") && call.arguments == "{}"));
    assert_ne!(calls[0].id, calls[1].id);
}

#[tokio::test]
async fn a_reply_that_does_not_go_on_has_no_rest() {
    let log = Log::default();
    let instruction = "again".to_owned();
    for (next, after) in [
        (NextStep::Block("why".to_owned()), NextAfter::Block),
        (
            NextStep::AskAgain(instruction.clone()),
            NextAfter::AskAgain { plugin: "a".to_owned(), instruction: instruction.clone() },
        ),
    ] {
        let ends = Marker { next, ..Marker::new("a", &log) };
        let mut chain = chain(vec![ends, Marker::new("b", &log)], 0).await;
        chain.push(words("x")).await.unwrap();
        let end = chain.finish(ReplyEnd::default()).await.unwrap();
        assert_eq!(end, ChainEnd { deltas: vec![], calls: None, next: after });
    }
    assert!(!log.lock().unwrap().iter().any(|step| step.starts_with("b finish")));
}

#[tokio::test]
async fn a_stage_that_fails_open_is_left_out_from_there_on() {
    for (fails_at, expected) in [("push", ("xb", ".b")), ("finish", ("xab", ".b"))] {
        let log = Log::default();
        let failing = Marker { fails_at, on_failure: OnFailure::Open, ..Marker::new("a", &log) };
        let mut chain = chain(vec![failing, Marker::new("b", &log)], 0).await;
        let Pushed::Deltas(deltas) = chain.push(words("x")).await.unwrap() else {
            panic!("text was changed")
        };
        let end = chain.finish(ReplyEnd::default()).await.unwrap();
        assert_eq!((text(&deltas).as_str(), text(&end.deltas).as_str()), expected, "fails at {fails_at}");
    }
    let log = Log::default();
    let mut chain = chain(vec![Marker { fails_at: "push", ..Marker::new("a", &log) }], 0).await;
    let error = chain.push(words("x")).await.unwrap_err();
    assert!(error.plugin() == "a" && !error.to_string().contains("on purpose"), "{error}");
}

#[tokio::test]
async fn other_choices_cannot_call_tools() {
    let log = Log::default();
    let calls = |on_failure| Marker {
        next: NextStep::CallTool(vec![call("t")]),
        on_failure,
        ..Marker::new("a", &log)
    };
    assert!(chain(vec![calls(OnFailure::Closed)], 1).await.finish(ReplyEnd::default()).await.is_err());
    let end = chain(vec![calls(OnFailure::Open)], 1).await.finish(ReplyEnd::default()).await.unwrap();
    assert_eq!(end, ChainEnd { deltas: vec![], calls: None, next: NextAfter::GoOn });
}

#[test]
fn a_pipeline_has_only_what_applies() {
    let log = Log::default();
    let processors: Vec<Arc<dyn ResponseProcessor>> = vec![Arc::new(Marker::new("a", &log))];
    assert!(ResponsePipeline::of(&processors, "/chat", "m").is_empty());
    assert!(!ResponsePipeline::of(&processors, "/v1/chat/completions", "m").is_empty());
    assert!(ResponsePipeline::of(&NoProcessors.snapshot(), "/chat", "m").is_empty());
    let mode = ProcessorMode::of;
    assert_eq!(mode(true, true, true), Some(ProcessorMode::Whole));
    assert_eq!(mode(true, true, false), Some(ProcessorMode::Both));
    assert_eq!((mode(false, true, true), mode(false, false, true)), (Some(ProcessorMode::Stream), None));
}
