//! What MCP servers tell and offer besides the results of tools: progress and log lines of calls, resources, prompts,
//! completions and subscriptions. The servers are `server-everything`, unmodified, and one made here of both protocols.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use witgate::config::mcp_servers::{McpServerConfig, McpTransport};
use witgate::domain::{Principal, ProgressListener, RequestId, ToolContext, ToolErrorKind, ToolResult};
use witgate::tools::mcp::{McpConfig, McpServers};
use witgate::tools::{Config, ContextSource, Tool};

use crate::harness::mcp;

mod fake;

/// An upper bound that only guards against hanging.
const LONG: Duration = Duration::from_secs(60);

const EVERYTHING: &str = "@modelcontextprotocol/server-everything/dist/index.js";

fn start(transport: McpTransport) -> McpServers {
    let server = McpServerConfig {
        name: "demo".to_owned(),
        transport,
        disabled: false,
        timeout_ms: None,
        tool_timeouts_ms: BTreeMap::new(),
        disabled_tools: Vec::new(),
        problem: None,
    };
    let guard = std::path::PathBuf::from(env!("CARGO_BIN_EXE_witgate"));
    let settings = McpConfig { guard_program: Some(guard), restart_min_ms: 20, ..McpConfig::default() };
    McpServers::start(vec![server], settings)
}

/// `server-everything` over stdio; nothing where it is not installed.
async fn everything() -> Option<McpServers> {
    let (node, script) = (mcp::node()?, mcp::node_script(EVERYTHING)?);
    let text = |path: std::path::PathBuf| path.to_str().expect("a path in UTF-8").to_owned();
    let servers = start(McpTransport::Stdio {
        command: text(node),
        args: vec![text(script), "stdio".to_owned()],
        env: Vec::new(),
        cwd: std::env::temp_dir(),
    });
    assert!(servers.settled(LONG).await);
    Some(servers)
}

/// Somebody who listens to a call, and what was heard.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Value>>>);

impl Ear {
    fn context(&self) -> ToolContext {
        let heard = self.0.clone();
        let progress = ProgressListener::new(move |told| {
            heard.lock().unwrap().push(serde_json::to_value(told).unwrap());
        });
        ToolContext { progress, ..quiet() }
    }

    fn heard(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }
}

/// A caller who does not listen.
fn quiet() -> ToolContext {
    ToolContext {
        principal: Principal::anonymous(),
        request_id: RequestId::generate(),
        session_id: None,
        call_id: "call_1".to_owned(),
        progress: ProgressListener::default(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("no object: {value}") };
    object
}

async fn call(servers: &McpServers, name: &str, arguments: Value, context: &ToolContext) -> ToolResult {
    let tools = servers.sources()[0].tools();
    let tool = tools.into_iter().find(|tool: &Arc<dyn Tool>| tool.definition().name == name).expect("listed");
    let result = tokio::time::timeout(LONG, tool.call(object(arguments), context)).await;
    result.expect("a call ends").expect("a result")
}

fn source(servers: &McpServers) -> Arc<dyn ContextSource> {
    servers.context_sources(&Config::default()).remove(0)
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LONG, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn progress(of: u32) -> Vec<Value> {
    (1..=of)
        .map(|step| json!({"type": "progress", "progress": f64::from(step), "total": f64::from(of)}))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_of_calls_at_the_same_time_reaches_each_its_own_in_order() {
    let Some(servers) = everything().await else { return };
    let ears = [Ear::default(), Ear::default()];
    let long = |steps: u32| json!({"duration": 0.2, "steps": steps});
    let tool = "trigger-long-running-operation";
    let (one, other, unheard) = (ears[0].context(), ears[1].context(), quiet());
    tokio::join!(
        call(&servers, tool, long(20), &one),
        call(&servers, tool, long(7), &other),
        call(&servers, tool, long(3), &unheard),
    );
    // Without the last word missing: it comes right before the result.
    assert_eq!(ears[0].heard(), progress(20));
    assert_eq!(ears[1].heard(), progress(7));
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_prompts_and_completions_of_a_public_server() {
    let Some(servers) = everything().await else { return };
    let source = source(&servers);
    let has = source.capabilities();
    assert!(has.resources && has.subscriptions && has.prompts && has.completions, "{has:?}");

    let resources = source.resources().await.expect("listed");
    let architecture = resources.iter().find(|entry| entry["name"] == "architecture.md").expect("a document");
    let uri = architecture["uri"].as_str().unwrap();
    let read = source.read_resource(uri, &quiet()).await.expect("read");
    assert_eq!(read["contents"][0]["uri"], uri);
    assert!(read["contents"][0]["text"].as_str().unwrap().len() > 100);
    assert!(read.get("ttlMs").is_none() && read.get("resultType").is_none(), "{read}");

    let templates = source.resource_templates().await.expect("listed");
    assert!(
        templates.iter().any(|entry| entry["uriTemplate"] == "demo://resource/dynamic/text/{resourceId}")
    );
    let dynamic = source.read_resource("demo://resource/dynamic/blob/1", &quiet()).await.expect("read");
    assert!(dynamic["contents"][0]["blob"].is_string(), "{dynamic}");

    let prompts = source.prompts().await.expect("listed");
    assert!(
        prompts.iter().any(|entry| entry["name"] == "args-prompt" && entry["arguments"][0]["name"] == "city")
    );
    let arguments = object(json!({"city": "Zürich"}));
    let prompt = source.get_prompt("args-prompt", arguments, &quiet()).await.expect("made");
    assert!(prompt["messages"][0]["content"]["text"].as_str().unwrap().contains("Zürich"), "{prompt}");

    let params = json!({
        "ref": {"type": "ref/prompt", "name": "completable-prompt"},
        "argument": {"name": "department", "value": "E"},
    });
    let completed = source.complete(object(params), &quiet()).await.expect("completed");
    assert_eq!(completed["completion"]["values"], json!(["Engineering"]));

    let wrong = source.complete(object(json!({"ref": {"type": "ref/nothing"}})), &quiet()).await;
    assert_eq!(wrong.expect_err("no such reference").kind, ToolErrorKind::InvalidArguments);
    let unknown = source.get_prompt("no-such-prompt", Map::new(), &quiet()).await.expect_err("unknown");
    assert!(unknown.message.contains("prompt `no-such-prompt` of server `demo`"), "{unknown}");
    let unknown = source.read_resource("demo://nothing/there", &quiet()).await.expect_err("unknown");
    assert!(unknown.message.contains("demo://nothing/there"), "{unknown}");
    servers.shutdown().await;
    assert_eq!(source.resources().await.expect("nothing is there").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_followed() {
    let Some(servers) = everything().await else { return };
    let source = source(&servers);
    let uri = "demo://resource/dynamic/text/1";
    let mut followed = source.subscribe(uri).await.expect("taken");
    let mut again = source.subscribe(uri).await.expect("taken");
    call(&servers, "toggle-subscriber-updates", json!({}), &quiet()).await;
    for subscription in [&mut followed, &mut again] {
        assert!(tokio::time::timeout(LONG, subscription.updated()).await.expect("told"));
    }
    servers.shutdown().await;
    // What was told before the end is not lost, but the end comes.
    let ended = async { while followed.updated().await {} };
    tokio::time::timeout(LONG, ended).await.expect("the end is told");
}
