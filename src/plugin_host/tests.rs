//! Plugins called for real: small components, many of them hostile.

mod leaks;

use std::sync::Arc;
use std::time::Duration;

use super::component as guest;
use super::engine::EngineSettings;
use super::error::PluginErrorKind as Kind;
use super::manifest::Manifest;
use super::plugin::{HostCore, Lasting, Plugin};
use crate::domain::{
    AccessAction, AccessRequest, Decision, DeltaKind, Finished, NextStep, Principal, ProcessedReply, Pushed,
    ReplyAction, ReplyContext, ReplyEnd, RequestId, TextDelta,
};

fn host() -> Arc<HostCore> {
    let settings =
        EngineSettings { cache_dir: None, max_instances: 16, max_memory_bytes: 256 << 20, count_fuel: false };
    Arc::new(HostCore::new(&settings, Vec::new()).unwrap())
}

fn quick() -> Manifest {
    let mut manifest = Manifest::default();
    manifest.limits.call_timeout_ms = Some(200);
    manifest.limits.memory_mb = 8;
    manifest
}

async fn load(component: Vec<u8>) -> Arc<Plugin> {
    try_load(component).await.unwrap()
}

async fn try_load(component: Vec<u8>) -> Result<Arc<Plugin>, super::LoadError> {
    load_with(component, quick()).await
}

async fn load_with(component: Vec<u8>, manifest: Manifest) -> Result<Arc<Plugin>, super::LoadError> {
    let host = host();
    let component = Plugin::compile(&host, component).await?;
    let (name, hash) = ("p".to_owned(), String::new());
    Plugin::load(host, name, component, hash, manifest, Lasting::default()).await.map(Arc::new)
}

fn context() -> ReplyContext {
    ReplyContext {
        request_id: RequestId::parse("r1").unwrap(),
        endpoint: "/v1/chat/completions".into(),
        model: "m".into(),
        session_id: None,
        principal: Principal::anonymous(),
        attempt: 1,
    }
}

fn reply(text: &str) -> ProcessedReply {
    ProcessedReply {
        choice: 0,
        text: text.to_owned(),
        reasoning: None,
        tool_calls: Vec::new(),
        finish_reason: None,
        usage: None,
        raw: None,
    }
}

async fn process(component: Vec<u8>) -> Result<ReplyAction, (Kind, String)> {
    let plugin = load(component).await;
    let action = plugin.process_reply(&context(), &reply("hello")).await;
    action.map_err(|error| (error.kind, error.to_string()))
}

async fn fails(code: &str) -> (Kind, String) {
    process(guest::response(code)).await.unwrap_err()
}

#[tokio::test]
async fn answers_come_back() {
    assert_eq!(process(guest::response("(i32.const 1024)")).await, Ok(ReplyAction::Keep));
    assert_eq!(
        process(guest::replacing("hé")).await,
        Ok(ReplyAction::Rewrite { text: "hé".to_owned(), reasoning: None })
    );
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_backtrace() {
    let (kind, message) = fails("(loop $l (br $l)) (i32.const 0)").await;
    assert_eq!(kind, Kind::Timeout);
    assert!(message.contains("within 200 ms; in "), "{message}");
}

#[tokio::test]
async fn a_loop_gives_way_to_other_work() {
    let plugin = load(guest::response("(loop $l (br $l)) (i32.const 0)")).await;
    let (context, reply) = (context(), reply(""));
    let call = plugin.process_reply(&context, &reply);
    // On this one thread the sleep can only end because the guest gives way.
    let sleep = tokio::time::sleep(Duration::from_millis(30));
    tokio::select! {
        _ = call => panic!("the guest never answers"),
        () = sleep => {}
    }
}

#[tokio::test]
async fn a_trap_is_named() {
    let (kind, message) = fails("(unreachable)").await;
    assert_eq!(kind, Kind::Trap);
    assert!(message.starts_with("plugin `p` trapped: wasm trap: wasm `unreachable`"), "{message}");
}

#[tokio::test]
async fn a_memory_bomb_is_named() {
    let (kind, message) =
        fails("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)")
            .await;
    assert_eq!(kind, Kind::Limit);
    assert!(message.contains("may have 8 MiB (limits.memory_mb)"), "{message}");
}

#[tokio::test]
async fn a_stack_bomb_is_named() {
    let module = guest::component(
        "response-processor",
        r#"(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))
        (func (export "witgate:plugin/response@0.1.0#process-llm-response") (param i32) (result i32)
            (call $deep (i32.const 0)))"#,
    );
    let (kind, message) = process(module).await.unwrap_err();
    assert_eq!(kind, Kind::Limit);
    assert!(message.contains("used up its stack"), "{message}");
}

#[tokio::test]
async fn a_huge_answer_is_refused() {
    let mut manifest = quick();
    manifest.limits.memory_mb = 250;
    let bomb = guest::response(
        "(drop (memory.grow (i32.const 3300)))
        (i32.store8 (i32.const 1028) (i32.const 1)) (i32.store (i32.const 1032) (i32.const 2048))
        (i32.store (i32.const 1036) (i32.const 200000000)) (i32.const 1024)",
    );
    let plugin = load_with(bomb, manifest).await.unwrap();
    let error = plugin.process_reply(&context(), &reply("")).await.unwrap_err();
    assert_eq!(error.kind, Kind::OutputTooLarge, "{error}");
    assert!(error.message.contains("limits.max_output_kb"), "{error}");
}

#[tokio::test]
async fn a_start_function_that_never_ends_fails_the_load() {
    let bomb = guest::component(
        "response-processor",
        r#"(func $start (loop $l (br $l))) (start $start)
        (func (export "witgate:plugin/response@0.1.0#process-llm-response") (param i32) (result i32) (i32.const 1024))"#,
    );
    let error = try_load(bomb).await.err().unwrap();
    assert!(error.message.contains("gave no answer within 200 ms"), "{error}");
}

#[tokio::test]
async fn failing_again_and_again_opens_the_circuit() {
    let plugin = load(guest::response("(unreachable)")).await;
    let mut kinds = Vec::new();
    for _ in 0..7 {
        kinds.push(plugin.process_reply(&context(), &reply("")).await.unwrap_err().kind);
    }
    assert_eq!(kinds[..5], [Kind::Trap; 5]);
    assert_eq!(kinds[5..], [Kind::CircuitOpen; 2]);
    assert!(plugin.is_broken());
    let stats = plugin.stats();
    assert_eq!((stats.errors["trap"], stats.errors["circuit_open"], stats.running), (5, 2, 0));
}

#[tokio::test]
async fn streams_keep_their_state() {
    // Blocks at the third push: the counter lives as long as the reply.
    let counting = guest::stream(
        "(i32.store (i32.const 4096) (i32.add (i32.load (i32.const 4096)) (i32.const 1)))
        (if (i32.eq (i32.load (i32.const 4096)) (i32.const 3))
            (then (i32.store8 (i32.const 1028) (i32.const 2)))) (i32.const 1024)",
        "(i32.const 512)",
    );
    let plugin = load(counting).await;
    let piece = [TextDelta { kind: DeltaKind::Text, text: "x".to_owned() }];
    for _ in 0..2 {
        let mut stream = plugin.open_reply(&context(), 0).await.unwrap();
        for expected in [Pushed::Unchanged, Pushed::Unchanged, Pushed::Block(String::new())] {
            assert_eq!(stream.push(&piece).await.unwrap(), expected);
        }
        let finished = stream.finish(&ReplyEnd::default()).await.unwrap();
        assert_eq!(finished, Finished { deltas: vec![], next: NextStep::GoOn });
    }
    assert_eq!(plugin.stats().running, 0);
}

#[tokio::test]
async fn dropping_a_call_frees_its_place() {
    let plugin = load(guest::response("(loop $l (br $l)) (i32.const 0)")).await;
    for _ in 0..40 {
        let (context, reply) = (context(), reply(""));
        let call = plugin.process_reply(&context, &reply);
        assert!(tokio::time::timeout(Duration::from_millis(15), call).await.is_err());
    }
    assert_eq!(plugin.stats().running, 0);
    assert_eq!(plugin.host.instances.available_permits(), 16);
}

#[tokio::test]
async fn decisions_come_back() {
    let request = AccessRequest {
        request_id: RequestId::parse("r1").unwrap(),
        action: AccessAction::Model("m".to_owned()),
        principal: None,
        http: None,
    };
    let abstaining = guest::auth("(i32.store8 (i32.const 1028) (i32.const 2)) (i32.const 1024)");
    assert_eq!(load(abstaining).await.authorize(&request).await, Ok(Decision::Abstain));
    let denying = guest::auth(
        "(i32.store8 (i32.const 1028) (i32.const 1)) (i32.store16 (i32.const 1032) (i32.const 500)) (i32.const 1024)",
    );
    match load(denying).await.authorize(&request).await {
        Ok(Decision::Deny(denial)) => assert_eq!((denial.status, denial.policy.as_str()), (403, "p")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn listing_tools_for_ever_fails_the_load() {
    let bomb = guest::tools("", "(loop $l (br $l)) (i32.const 0)", "(i32.const 0)");
    let error = try_load(bomb).await.err().unwrap();
    assert!(error.message.contains("gave no answer within 200 ms"), "{error}");
    let plugin = load(guest::tools("", "(i32.const 1024)", "(i32.const 1024)")).await;
    assert!(plugin.exports().tools && plugin.tools().is_empty());
}

#[tokio::test]
async fn a_core_module_is_no_component() {
    let module = wat::parse_str(guest::module("")).unwrap();
    let error = try_load(module).await.err().unwrap();
    assert!(error.message.contains("not a valid component"), "{error}");
}
