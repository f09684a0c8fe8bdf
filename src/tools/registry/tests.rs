//! The registry: what is offered, what is found, and how it follows its sources.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::domain::ToolDefinition;
use crate::tools::fake::{FakeSource, FakeTool};
use crate::tools::{Tool, ToolOverride};

fn tools(names: &[&str]) -> Vec<Arc<dyn Tool>> {
    names.iter().map(|name| FakeTool::named(name)).collect()
}

fn names(snapshot: &ToolSnapshot) -> Vec<&str> {
    snapshot.tools().iter().map(|tool| tool.definition.name.as_str()).collect()
}

fn registry(config: Config, sources: &[&Arc<FakeSource>]) -> ToolRegistry {
    ToolRegistry::new(
        config,
        sources.iter().map(|source| Arc::clone(source) as Arc<dyn ToolSource>).collect(),
    )
}

/// Settled from the beginning, so that names stay whatever comes.
fn settled() -> Config {
    Config { name_settle_ms: 0, ..Config::default() }
}

async fn next(changes: &mut watch::Receiver<u64>) {
    tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.unwrap().unwrap();
}

#[tokio::test]
async fn offers_the_tools_in_order_and_finds_them_by_every_name() {
    let (a, b) =
        (FakeSource::new("a", tools(&["x", "search"])), FakeSource::new("b.c", tools(&["search", "y"])));
    let snapshot = registry(Config::default(), &[&a, &b]).snapshot();
    assert_eq!(names(&snapshot), ["x", "search", "b_c__search", "y"]);
    let server = |name: &str| snapshot.find(name).map(|tool| tool.definition.server.clone().unwrap());
    assert_eq!(server("search").as_deref(), Some("a"));
    assert_eq!(server("a__search").as_deref(), Some("a"));
    assert_eq!(server("b_c__search").as_deref(), Some("b.c"));
    assert_eq!(server("b.c__y").as_deref(), Some("b.c"));
    assert_eq!(server("b__search"), None);
    assert_eq!(snapshot.find("b_c__search").unwrap().original_name(), "search");
    let function: Value =
        serde_json::from_slice(&snapshot.find("b_c__search").unwrap().function_json).unwrap();
    assert_eq!(function["function"]["name"], "b_c__search");
}

#[tokio::test]
async fn after_a_refresh_nothing_offered_is_missing() {
    let source = FakeSource::new("a", tools(&[]));
    let registry = registry(Config::default(), &[&source]);
    for round in 1..20 {
        let name = format!("tool_{round}");
        source.set(tools(&[&name]));
        registry.refresh().await;
        assert_eq!(names(&registry.snapshot()), [name]);
    }
}

#[tokio::test]
async fn tools_leave_and_come_back_under_the_same_names() {
    let (a, b) = (FakeSource::new("a", tools(&["search"])), FakeSource::new("b", tools(&["search"])));
    let registry = registry(settled(), &[&a, &b]);
    let mut changes = registry.changes();
    let held = registry.snapshot();
    a.set(vec![]);
    next(&mut changes).await;
    assert_eq!(names(&registry.snapshot()), ["b__search"]);
    assert!(registry.snapshot().find("search").is_none(), "nobody takes the name of a tool that is away");
    a.set(tools(&["search", "new"]));
    next(&mut changes).await;
    assert_eq!(names(&registry.snapshot()), ["search", "new", "b__search"]);
    assert_eq!(names(&held), ["search", "b__search"], "a snapshot does not change");
    assert_eq!(registry.snapshot().version(), *changes.borrow());
}

#[tokio::test(start_paused = true)]
async fn names_settle_after_the_start() {
    let (a, b) = (FakeSource::new("a", vec![]), FakeSource::new("b", tools(&["one", "two"])));
    let registry = registry(Config::default(), &[&a, &b]);
    let mut changes = registry.changes();
    a.set(tools(&["one"]));
    next(&mut changes).await;
    assert_eq!(names(&registry.snapshot()), ["one", "b__one", "two"]);
    tokio::time::sleep(Duration::from_secs(31)).await;
    a.set(tools(&["one", "two"]));
    next(&mut changes).await;
    assert_eq!(names(&registry.snapshot()), ["one", "a__two", "b__one", "two"]);
}

#[tokio::test]
async fn only_what_changed_is_made_anew() {
    let mut kept = tools(&["kept"]);
    let a = FakeSource::new("a", kept.clone());
    let registry = registry(settled(), &[&a]);
    let mut changes = registry.changes();
    let before = registry.snapshot();
    kept.extend(tools(&["more"]));
    a.set(kept.clone());
    next(&mut changes).await;
    let between = registry.snapshot();
    assert!(Arc::ptr_eq(&before.tools()[0], &between.tools()[0]));
    // A server that came back offers new handles of the same tools: their schemas are not compiled again.
    a.set(tools(&["kept", "more"]));
    next(&mut changes).await;
    let after = registry.snapshot();
    assert!(!Arc::ptr_eq(&between.tools()[0], &after.tools()[0]));
    assert!(Arc::ptr_eq(&between.tools()[0].schemas, &after.tools()[0].schemas));
}

#[tokio::test]
async fn a_change_that_changes_nothing_makes_no_snapshot() {
    let same = tools(&["t"]);
    let (a, b) = (FakeSource::new("a", same.clone()), FakeSource::new("b", vec![]));
    let registry = registry(settled(), &[&a, &b]);
    let mut changes = registry.changes();
    let first = *changes.borrow_and_update();
    a.set(same);
    b.set(tools(&["u"]));
    next(&mut changes).await;
    assert_eq!(*changes.borrow_and_update(), first + 1);
}

#[tokio::test]
async fn a_broken_or_doubled_tool_takes_nothing_else_down() {
    let broken = ToolDefinition { input_schema: json!({"type": "strnig"}), ..FakeTool::definition("broken") };
    let odd = ToolDefinition { output_schema: Some(json!({"type": 7})), ..FakeTool::definition("odd") };
    let mut offered = tools(&["a", "a"]);
    offered.push(FakeTool::new(broken, vec![]));
    offered.push(FakeTool::new(odd, vec![]));
    let source = FakeSource::new("s", offered);
    assert_eq!(names(&registry(Config::default(), &[&source]).snapshot()), ["a", "odd"]);
}

#[tokio::test]
async fn a_disabled_tool_is_left_out_and_keeps_its_name() {
    let (a, b) = (FakeSource::new("a", tools(&["x"])), FakeSource::new("b", tools(&["x", "y"])));
    let off = ToolOverride { disabled: true, ..ToolOverride::default() };
    let overrides = [("a__x".to_owned(), off.clone()), ("y".to_owned(), off)].into();
    let snapshot = registry(Config { overrides, ..Config::default() }, &[&a, &b]).snapshot();
    assert_eq!(names(&snapshot), ["b__x"]);
    assert!(snapshot.find("y").is_none() && snapshot.find("a__x").is_none() && snapshot.find("x").is_none());
}

#[tokio::test]
async fn a_source_that_ends_loses_its_tools_and_the_others_are_still_followed() {
    let (a, b) = (FakeSource::new("a", tools(&["x"])), FakeSource::new("b", tools(&["y"])));
    let registry = registry(settled(), &[&a, &b]);
    let mut changes = registry.changes();
    a.end();
    next(&mut changes).await;
    assert_eq!(names(&registry.snapshot()), ["y"]);
    b.set(tools(&["y", "z"]));
    next(&mut changes).await;
    assert_eq!(names(&registry.snapshot()), ["y", "z"]);
}

#[tokio::test]
async fn a_registry_without_sources_is_empty() {
    assert!(registry(Config::default(), &[]).snapshot().tools().is_empty());
}

#[tokio::test]
async fn dropping_the_registry_ends_its_task() {
    let a = FakeSource::new("a", tools(&["x"]));
    let registry = registry(settled(), &[&a]);
    tokio::task::yield_now().await;
    let mut changes = registry.changes();
    drop(registry);
    let ended = tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.unwrap();
    assert!(ended.is_err(), "the task still holds its end of the channel");
    assert_eq!(Arc::strong_count(&a), 1, "the task still holds the source");
}
