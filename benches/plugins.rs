//! Benchmarks of the plugin host: `cargo bench --bench plugins`. Every call is the whole call as the engine makes it: a
//! place, a fresh instance, time limit, conversion both ways, counters.
//!
//! `floor_*` do the same with a guest that does nothing, so that a guest's own work can be read off one run.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark whose set-up fails has nothing to measure"
)]

use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tokio::runtime::Runtime;
use witgate::config::Variables;
use witgate::domain::{
    AccessAction, AccessRequest, DeltaKind, HttpFacts, Principal, ProcessedReply, ReplyContext, ReplyEnd,
    RequestId, TextDelta, ToolContext,
};
use witgate::plugin_host::{Config, Plugin, PluginHost};

#[path = "../tests/support/component.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use all of it")]
mod component;

fn main() {
    // `WITGATE_SOAK=1000000 cargo bench --bench plugins` makes that many calls instead, and tells the memory in use.
    match std::env::var("WITGATE_SOAK").ok().and_then(|calls| calls.parse().ok()) {
        Some(calls) => soak(calls),
        None => divan::main(),
    }
}

/// Makes calls of all kinds, and prints the memory in use ten times on the way.
fn soak(calls: usize) {
    let bench = Bench::new(&[], &["pii-redactor", "tool-permissions"]);
    let (redactor, policy) = (bench.plugin("pii-redactor"), bench.plugin("tool-permissions"));
    let (context, reply) = (context(), reply(KB));
    let request = access_request();
    let delta = [TextDelta { kind: DeltaKind::Text, text: "write to ann@example.org".to_owned() }];
    let began = std::time::Instant::now();
    for part in 0..=10 {
        let resident = resident_kib();
        println!(
            "{:>9} calls, {resident} KiB resident, {:.1} s",
            part * calls / 10,
            began.elapsed().as_secs_f64()
        );
        bench.runtime.block_on(async {
            for _ in 0..calls / 10 / 5 {
                redactor.process_reply(&context, &reply).await.expect("an answer");
                policy.authorize(&request).await.expect("a decision");
                let mut guest = redactor.open_reply(&context, 0).await.expect("a reply");
                guest.push(&delta).await.expect("an answer");
                guest.finish(&ReplyEnd::default()).await.expect("an end");
            }
        });
    }
}

/// Resident memory of this process, in KiB; 0 where the system does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// A host over a folder of its own.
struct Bench {
    runtime: Runtime,
    host: PluginHost,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(files: &[(&str, Vec<u8>)], bundled: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let drop = folder.path().join("plugins");
        std::fs::create_dir(&drop).expect("a folder");
        for (name, bytes) in files {
            std::fs::write(drop.join(name), bytes).expect("a file");
        }
        // One thread: what is measured is work, not the machine's luck in spreading it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let host = runtime.block_on(start(folder.path(), bundled));
        Self { runtime, host, folder }
    }

    fn plugin(&self, name: &str) -> Arc<Plugin> {
        let catalog = self.host.catalog();
        let found = catalog.plugins.iter().find(|plugin| plugin.name() == name);
        Arc::clone(found.unwrap_or_else(|| panic!("{name} is not loaded: {:?}", self.host.reports())))
    }
}

async fn start(folder: &Path, bundled: &[&str]) -> PluginHost {
    let config = Config {
        watch: false,
        bundled: bundled.iter().map(|name| (*name).to_owned()).collect(),
        ..Config::default()
    };
    let data = folder.join("data");
    let config = config.resolved(folder, &data).expect("a configuration");
    PluginHost::start(config, Variables::default(), data).await.expect("a host")
}

fn context() -> ReplyContext {
    ReplyContext {
        request_id: RequestId::parse("req_0123456789").expect("an id"),
        endpoint: "/v1/chat/completions".into(),
        model: "gpt-4o-mini".into(),
        session_id: None,
        principal: Principal::anonymous(),
        attempt: 1,
    }
}

fn reply(bytes: usize) -> ProcessedReply {
    let prose =
        "The quick brown fox jumps over the lazy dog, and nobody minds. Write to me at ann@example.org. ";
    let mut text = prose.repeat(bytes / prose.len() + 1);
    text.truncate(bytes);
    ProcessedReply {
        choice: 0,
        text,
        reasoning: None,
        tool_calls: Vec::new(),
        finish_reason: None,
        usage: None,
        raw: None,
    }
}

const KB: usize = 1024;

#[divan::bench(args = [1, 16, 256])]
fn floor_reply(bencher: Bencher<'_, '_>, kb: usize) {
    let bench = Bench::new(&[("keep.wasm", component::response("(i32.const 1024)"))], &[]);
    reply_bench(bencher, &bench, "keep", kb);
}

#[divan::bench(args = [0, 1, 16, 256])]
fn redact_reply(bencher: Bencher<'_, '_>, kb: usize) {
    let bench = Bench::new(&[], &["pii-redactor"]);
    reply_bench(bencher, &bench, "pii-redactor", kb);
}

fn reply_bench(bencher: Bencher<'_, '_>, bench: &Bench, plugin: &str, kb: usize) {
    let plugin = bench.plugin(plugin);
    let (context, reply) = (context(), reply(kb * KB));
    bencher
        .counter(BytesCount::new(kb * KB))
        .bench_local(|| bench.runtime.block_on(plugin.process_reply(&context, &reply)).expect("an answer"));
}

#[divan::bench]
fn floor_push(bencher: Bencher<'_, '_>) {
    let bench = Bench::new(&[("keep.wasm", component::stream("(i32.const 1024)", "(i32.const 1024)"))], &[]);
    push_bench(bencher, &bench, "keep");
}

#[divan::bench]
fn redact_push(bencher: Bencher<'_, '_>) {
    let bench = Bench::new(&[], &["pii-redactor"]);
    push_bench(bencher, &bench, "pii-redactor");
}

/// A hundred deltas of one open reply; the time is that of all of them.
fn push_bench(bencher: Bencher<'_, '_>, bench: &Bench, plugin: &str) {
    const PUSHES: usize = 100;
    let plugin = bench.plugin(plugin);
    let context = context();
    let delta = [TextDelta { kind: DeltaKind::Text, text: " some words".to_owned() }];
    bencher
        .counter(ItemsCount::new(PUSHES))
        .with_inputs(|| bench.runtime.block_on(plugin.open_reply(&context, 0)).expect("a reply"))
        .bench_local_values(|mut guest| {
            bench.runtime.block_on(async {
                for _ in 0..PUSHES {
                    guest.push(&delta).await.expect("an answer");
                }
            });
            guest
        });
}

/// A whole streamed reply of a hundred deltas, opened and finished.
#[divan::bench]
fn redact_stream(bencher: Bencher<'_, '_>) {
    let bench = Bench::new(&[], &["pii-redactor"]);
    let plugin = bench.plugin("pii-redactor");
    let context = context();
    let delta = [TextDelta { kind: DeltaKind::Text, text: " some words".to_owned() }];
    bencher.bench_local(|| {
        bench.runtime.block_on(async {
            let mut guest = plugin.open_reply(&context, 0).await.expect("a reply");
            for _ in 0..100 {
                guest.push(&delta).await.expect("an answer");
            }
            guest.finish(&ReplyEnd::default()).await.expect("an end")
        })
    });
}

#[divan::bench]
fn floor_decision(bencher: Bencher<'_, '_>) {
    let bench = Bench::new(&[("allow.wasm", component::auth("(i32.const 1024)"))], &[]);
    decision_bench(bencher, &bench, "allow");
}

#[divan::bench]
fn permissions_decision(bencher: Bencher<'_, '_>) {
    let bench = Bench::new(&[], &["tool-permissions"]);
    decision_bench(bencher, &bench, "tool-permissions");
}

fn decision_bench(bencher: Bencher<'_, '_>, bench: &Bench, plugin: &str) {
    let plugin = bench.plugin(plugin);
    let request = access_request();
    bencher.bench_local(|| bench.runtime.block_on(plugin.authorize(&request)).expect("a decision"));
}

fn access_request() -> AccessRequest {
    let facts = HttpFacts {
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        query: None,
        authority: Some("gateway.example".to_owned()),
        headers: vec![("user-agent".to_owned(), "bench".to_owned())],
        peer: None,
    };
    AccessRequest {
        request_id: RequestId::parse("req_0123456789").expect("an id"),
        action: AccessAction::Tool {
            name: "read_query".to_owned(),
            server: "sqlite".to_owned(),
            arguments: r#"{"query":"select 1"}"#.to_owned(),
        },
        principal: Some(Principal::anonymous()),
        http: Some(Arc::new(facts)),
    }
}

#[divan::bench]
fn tool_call(bencher: Bencher<'_, '_>) {
    let bench = Bench::new(&[], &["clock-and-math"]);
    let plugin = bench.plugin("clock-and-math");
    let context = ToolContext {
        principal: Principal::anonymous(),
        request_id: RequestId::parse("req_0123456789").expect("an id"),
        session_id: None,
        call_id: "call_1".to_owned(),
        progress: Default::default(),
    };
    let arguments = r#"{"expression":"0.1 + 0.2 * 3"}"#;
    bencher.bench_local(|| {
        bench.runtime.block_on(plugin.call_tool(&context, "calculate", arguments)).expect("a result")
    });
}

/// Starting a host with one plugin whose code is in the cache: engine, pool, linker and load.
#[divan::bench(args = ["pii-redactor", "clock-and-math"], sample_count = 20, sample_size = 1)]
fn start_cached(bencher: Bencher<'_, '_>, plugin: &str) {
    let bench = Bench::new(&[], &[plugin]);
    bencher.bench_local(|| bench.runtime.block_on(start(bench.folder.path(), &[plugin])));
}

/// Starting a host without plugins, to take off the above.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn start_empty(bencher: Bencher<'_, '_>) {
    let bench = Bench::new(&[], &[]);
    bencher.bench_local(|| bench.runtime.block_on(start(bench.folder.path(), &[])));
}

/// Starting a host whose one plugin has to be compiled.
#[divan::bench(args = ["pii-redactor", "clock-and-math"], sample_count = 3, sample_size = 1)]
fn start_cold(bencher: Bencher<'_, '_>, plugin: &str) {
    let runtime = Bench::new(&[], &[]).runtime;
    bencher
        .with_inputs(|| tempfile::tempdir().expect("a folder"))
        .bench_local_refs(|folder| runtime.block_on(start(folder.path(), &[plugin])));
}
