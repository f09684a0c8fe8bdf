//! Calls: what is refused, repeated, cut off and cancelled. Time is tokio's paused clock.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::domain::ToolAnnotations;
use crate::tools::fake::{Answer, FakeSource, FakeTool, context};
use crate::tools::{Config, ToolOverride, ToolRegistry};

fn fail(kind: ToolErrorKind) -> Answer {
    Answer::Give(Err(ToolError::new(kind, "it broke")))
}

fn safe(name: &str) -> ToolDefinition {
    let annotations = ToolAnnotations { read_only_hint: Some(true), ..ToolAnnotations::default() };
    ToolDefinition { annotations, ..FakeTool::definition(name) }
}

fn register(tool: &Arc<FakeTool>, config: Config) -> Arc<RegisteredTool> {
    let source = FakeSource::new("srv", vec![Arc::clone(tool) as Arc<dyn Tool>]);
    let registry = ToolRegistry::new(config, vec![source]);
    let snapshot = registry.snapshot();
    Arc::clone(&snapshot.tools()[0])
}

async fn call(tool: &Arc<FakeTool>, config: Config) -> Result<ToolResult, ToolError> {
    register(tool, config).invoke("{}", &context()).await
}

fn with_override(exception: ToolOverride) -> Config {
    Config { overrides: [("srv__t".to_owned(), exception)].into(), ..Config::default() }
}

#[tokio::test]
async fn arguments_reach_the_tool_and_wrong_ones_do_not() {
    let definition = ToolDefinition {
        input_schema: json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
        ..FakeTool::definition("t")
    };
    let fake = FakeTool::new(definition, vec![]);
    let tool = register(&fake, Config::default());
    let result = tool.invoke(r#"{"n": 1, "größe": "北京"}"#, &context()).await.unwrap();
    assert_eq!(result.to_text(), r#"{"n":1,"größe":"北京"}"#);
    for (arguments, words) in
        [("", "\"n\" is a required property"), (r#"{"n": "x"}"#, "arguments/n"), ("{", "line 1 column 1")]
    {
        let error = tool.invoke(arguments, &context()).await.unwrap_err();
        assert_eq!(error.kind, ToolErrorKind::InvalidArguments);
        assert!(error.message.contains(words), "{}", error.message);
    }
    let large = format!(r#"{{"n": 1, "text": "{}"}}"#, "x".repeat(LARGE_BYTES));
    assert!(tool.invoke(&large, &context()).await.unwrap().to_text().len() > LARGE_BYTES / 2);
    let error = tool.invoke(&large.replace("1", "\"x\""), &context()).await.unwrap_err();
    assert!(error.message.contains("arguments/n"), "{}", error.message);
    assert_eq!(fake.counts().0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_sent_is_tried_again() {
    let script = vec![fail(ToolErrorKind::NotSent), fail(ToolErrorKind::NotSent)];
    let tool = FakeTool::new(FakeTool::definition("t"), script);
    assert_eq!(call(&tool, Config::default()).await.unwrap().to_text(), "{}");
    assert_eq!(tool.counts().0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_happened_is_not_tried_again() {
    for kind in [ToolErrorKind::Failed, ToolErrorKind::Timeout] {
        let tool = FakeTool::new(FakeTool::definition("t"), vec![fail(kind)]);
        assert_eq!(call(&tool, Config::default()).await.unwrap_err(), ToolError::new(kind, "it broke"));
        assert_eq!(tool.counts().0, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_safe_tool_is_tried_again_until_the_tries_are_used_up() {
    let tool = FakeTool::new(safe("t"), (0..9).map(|_| fail(ToolErrorKind::Failed)).collect());
    let error = call(&tool, Config::default()).await.unwrap_err();
    assert_eq!((tool.counts().0, error.message.as_str()), (3, "it broke (tried 3 times)"));
}

#[tokio::test(start_paused = true)]
async fn the_configuration_decides_over_the_hints() {
    let tries = async |definition: ToolDefinition, exception: ToolOverride| {
        let tool = FakeTool::new(definition, (0..9).map(|_| fail(ToolErrorKind::Failed)).collect());
        call(&tool, with_override(exception)).await.unwrap_err();
        tool.counts().0
    };
    let unsafe_now =
        ToolOverride { safe_to_repeat: Some(false), retries: Some(4), ..ToolOverride::default() };
    let safe_now = ToolOverride { safe_to_repeat: Some(true), retries: Some(4), ..ToolOverride::default() };
    assert_eq!(tries(safe("t"), unsafe_now).await, 1);
    assert_eq!(tries(FakeTool::definition("t"), safe_now).await, 5);
    let counted = ToolOverride { retries: Some(1), ..ToolOverride::default() };
    assert_eq!(tries(FakeTool::definition("t"), counted).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_time_limit() {
    let tool = FakeTool::new(safe("t"), vec![Answer::Hang]);
    let error = call(&tool, Config::default()).await.unwrap_err();
    assert_eq!(error.kind, ToolErrorKind::Timeout);
    assert!(error.message.contains("60000 ms"), "{}", error.message);
    assert_eq!(tool.counts(), (1, 1), "the call was dropped");
}

#[tokio::test(start_paused = true)]
async fn the_closest_time_limit_holds() {
    let server = FakeTool::with_timeout(FakeTool::definition("t"), Duration::from_millis(70));
    assert!(call(&server, Config::default()).await.unwrap_err().message.contains("70 ms"));
    let server = FakeTool::with_timeout(FakeTool::definition("t"), Duration::from_millis(70));
    let exception = ToolOverride { timeout_ms: Some(30), ..ToolOverride::default() };
    assert!(call(&server, with_override(exception)).await.unwrap_err().message.contains("30 ms"));
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_the_time_limit() {
    let late = || {
        let error = ToolError::new(ToolErrorKind::Failed, "late");
        Answer::After(Duration::from_secs(40), Err(error))
    };
    let tool = FakeTool::new(safe("t"), vec![late(), late(), late()]);
    let before = Instant::now();
    let error = call(&tool, Config::default()).await.unwrap_err();
    assert_eq!((error.kind, before.elapsed().as_secs()), (ToolErrorKind::Timeout, 60));
    // Where not even the pause fits, the cause is told at once.
    let tool = FakeTool::new(safe("t"), vec![fail(ToolErrorKind::Failed)]);
    let config = Config { call_timeout_ms: 500, retry_backoff_ms: 5000, ..Config::default() };
    assert_eq!(call(&tool, config).await.unwrap_err().message, "it broke");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_cancels_it_and_frees_its_place() {
    let fake = FakeTool::new(FakeTool::definition("t"), vec![Answer::Hang]);
    let tool = register(&fake, Config { max_concurrent_calls: 1, ..Config::default() });
    let context = context();
    let abandoned = timeout(Duration::from_millis(5), tool.invoke("{}", &context)).await;
    assert!(abandoned.is_err());
    assert_eq!(fake.counts(), (1, 1));
    assert!(tool.invoke("{}", &context).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_wait_and_then_fail_with_a_reason() {
    let hangs = FakeTool::new(FakeTool::definition("t"), vec![Answer::Hang]);
    let tool = register(&hangs, Config { max_concurrent_calls_per_server: 1, ..Config::default() });
    let first = tokio::spawn({
        let tool = Arc::clone(&tool);
        async move { tool.invoke("{}", &context()).await }
    });
    tokio::task::yield_now().await;
    let error = tool.invoke("{}", &context()).await.unwrap_err();
    assert_eq!(error.kind, ToolErrorKind::NotSent);
    assert!(error.message.contains("tools.max_concurrent_calls_per_server"), "{}", error.message);
    assert_eq!(hangs.counts().0, 1);
    assert_eq!(first.await.unwrap().unwrap_err().kind, ToolErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_leaves_room_for_the_others() {
    let hangs = FakeTool::new(FakeTool::definition("slow"), (0..8).map(|_| Answer::Hang).collect());
    let config = Config { max_concurrent_calls: 3, max_concurrent_calls_per_server: 2, ..Config::default() };
    let sources: Vec<Arc<dyn crate::tools::ToolSource>> = vec![
        FakeSource::new("dead", vec![Arc::clone(&hangs) as Arc<dyn Tool>]),
        FakeSource::new("alive", vec![FakeTool::named("fast")]),
    ];
    let registry = ToolRegistry::new(config, sources);
    let slow = Arc::clone(registry.snapshot().find("slow").unwrap());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let slow = Arc::clone(&slow);
        waiting.spawn(async move { slow.invoke("{}", &context()).await });
    }
    tokio::task::yield_now().await;
    let before = Instant::now();
    registry.snapshot().find("fast").unwrap().invoke("{}", &context()).await.unwrap();
    assert_eq!((before.elapsed(), hangs.counts().0), (Duration::ZERO, 2));
}

#[tokio::test]
async fn a_large_result_is_cut_and_a_tools_own_failure_is_a_result() {
    let mut failure = ToolResult::error("x".repeat(10_000));
    failure.structured_content = Some(json!({"code": 1}));
    let tool = FakeTool::new(FakeTool::definition("t"), vec![Answer::Give(Ok(failure))]);
    let exception = ToolOverride { max_result_bytes: Some(1000), ..ToolOverride::default() };
    let result = call(&tool, with_override(exception)).await.unwrap();
    assert!(result.is_error && result.to_text().len() < 1500);
    assert!(result.to_text().contains("of 10000 bytes"));
    assert_eq!(tool.counts().0, 1);
}

#[tokio::test]
async fn a_result_that_breaks_the_output_schema_is_kept() {
    let output_schema = Some(json!({"type": "object", "required": ["n"]}));
    let definition = ToolDefinition { output_schema, ..FakeTool::definition("t") };
    let structured_content = Some(json!({"m": 1}));
    let answer = ToolResult { structured_content, ..ToolResult::text("hi") };
    let tool = FakeTool::new(definition, vec![Answer::Give(Ok(answer.clone()))]);
    assert_eq!(call(&tool, Config::default()).await.unwrap(), answer);
}
