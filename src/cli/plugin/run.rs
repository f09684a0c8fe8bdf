//! `witgate plugin run`: one call of a plugin, outside of any gateway.
//!
//! The plugin is loaded as a gateway loads it, with the limits and grants of its operator's file. What it logs and prints
//! goes to standard error, the answer to standard output.

mod input;
mod output;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::args::{Hook, RunArgs};
use super::candidate::{Candidate, Counting};
use crate::cli::args::GlobalArgs;
use crate::cli::loading::Loaded;
use crate::cli::terminal::{Style, Terminal, clean, note, print};
use crate::cli::{Outcome, signals};
use crate::domain::{AccessRequest, ProcessedReply, Pushed, ReplyContext, ReplyEnd, TextDelta, ToolContext};
use crate::plugin_host::{Plugin, PluginError};

/// Largest input, in bytes.
const MAX_INPUT_BYTES: u64 = 64 * 1024 * 1024;

/// What a call came to: the answer, or kind and words of a failure.
type Answer = Result<Value, (String, String)>;

/// One call, ready to be made.
enum Call {
    Reply(ReplyContext, ProcessedReply),
    Stream(ReplyContext, u64, Vec<TextDelta>, ReplyEnd),
    Access(AccessRequest),
    ListTools,
    Tool(ToolContext, String, String),
}

/// Calls the plugin once and shows what it answers.
///
/// # Errors
/// When the input or a file is wrong, or the plugin cannot be loaded. A call that fails is [`Outcome::Failed`].
pub(super) async fn run(args: &RunArgs, global: &GlobalArgs, terminal: Terminal) -> anyhow::Result<Outcome> {
    // Before anything is compiled: wrong input costs nothing.
    let call = Call::read(args)?;
    let loaded = Loaded::read(global)?;
    loaded.log_only("info", global)?;
    let work = async {
        let began = Instant::now();
        let candidate = Candidate::read(&args.file, args.manifest.as_deref(), &loaded)?;
        let plugin = candidate.load(&loaded, Counting::Fuel).await?;
        let loading = began.elapsed();
        call.fits(&plugin)?;
        let began = Instant::now();
        let answer = Box::pin(call.make(&plugin)).await;
        show(&answer, &Facts::new(&plugin, loading, began.elapsed()), args.json, terminal)
    };
    tokio::select! {
        outcome = work => outcome,
        signal = signals::any() => signal,
    }
}

/// What the call cost.
struct Facts {
    loading: Duration,
    call: Duration,
    memory_bytes: usize,
    fuel: Option<u64>,
}

impl Facts {
    fn new(plugin: &Plugin, loading: Duration, call: Duration) -> Self {
        let stats = plugin.stats();
        Self { loading, call, memory_bytes: stats.memory_high_water_bytes, fuel: stats.last_fuel }
    }

    fn json(&self) -> Value {
        json!({
            "call_us": u64::try_from(self.call.as_micros()).unwrap_or(u64::MAX),
            "load_ms": u64::try_from(self.loading.as_millis()).unwrap_or(u64::MAX),
            "memory_bytes": self.memory_bytes,
            "fuel": self.fuel,
        })
    }

    fn words(&self) -> String {
        let fuel = self.fuel.map(|fuel| format!(", {fuel} units of fuel")).unwrap_or_default();
        format!(
            "call {:.3} ms{fuel}, memory {} KiB, load {} ms",
            self.call.as_secs_f64() * 1e3,
            self.memory_bytes / 1024,
            self.loading.as_millis(),
        )
    }
}

fn show(answer: &Answer, facts: &Facts, as_json: bool, terminal: Terminal) -> anyhow::Result<Outcome> {
    let mut report = match answer {
        Ok(answer) => json!({"answer": answer}),
        Err((kind, message)) => json!({"error": {"kind": kind, "message": message}}),
    };
    report["cost"] = facts.json();
    let text = match answer {
        _ if as_json => Some(serde_json::to_string_pretty(&report)?),
        Ok(answer) => Some(serde_json::to_string_pretty(answer)?),
        Err((_, message)) => {
            note(&format!("{} {}\n", terminal.err(Style::Bad, "error:"), clean(message)));
            None
        }
    };
    if let Some(text) = text {
        let text = text + "\n";
        print(&if terminal.stdout { clean(&text) } else { text.as_str().into() })?;
    }
    if !as_json {
        note(&format!("{}\n", terminal.err(Style::Dim, &facts.words())));
    }
    Ok(if answer.is_ok() { Outcome::Done } else { Outcome::Failed })
}

impl Call {
    fn read(args: &RunArgs) -> anyhow::Result<Self> {
        if args.hook == Hook::ListTools {
            return Ok(Self::ListTools);
        }
        let Some(file) = &args.input else {
            bail!("--hook {} needs an input: --input FILE, or - for standard input", args.hook.name());
        };
        let text = read_input(file)?;
        let read = || match args.hook {
            Hook::ProcessLlmResponse => {
                input::reply(&text).map(|(context, reply)| Self::Reply(context, reply))
            }
            Hook::ReplyStream => input::stream(&text)
                .map(|(context, choice, deltas, end)| Self::Stream(context, choice, deltas, end)),
            Hook::Authorize => input::access(&text).map(Self::Access),
            Hook::CallTool | Hook::ListTools => {
                input::tool_call(&text).map(|(context, name, arguments)| Self::Tool(context, name, arguments))
            }
        };
        read().with_context(|| format!("the input {} is wrong", file.display()))
    }

    /// Whether the plugin has what is to be called.
    fn fits(&self, plugin: &Plugin) -> anyhow::Result<()> {
        let exports = plugin.exports();
        let (has, interface) = match self {
            Self::Reply(..) => (exports.response, "response"),
            Self::Stream(..) => (exports.response_stream, "response-stream"),
            Self::Access(_) => (exports.auth, "auth"),
            Self::ListTools | Self::Tool(..) => (exports.tools, "tools"),
        };
        if !has {
            bail!("the plugin does not export `{interface}`; it exports {}", exports.names().join(", "));
        }
        Ok(())
    }

    async fn make(&self, plugin: &Arc<Plugin>) -> Answer {
        match self {
            Self::Reply(context, reply) => {
                plugin.process_reply(context, reply).await.map(|action| output::action(&action)).map_err(told)
            }
            Self::Stream(context, choice, deltas, end) => stream(plugin, context, *choice, deltas, end).await,
            Self::Access(request) => {
                plugin.authorize(request).await.map(|decision| output::decision(&decision)).map_err(told)
            }
            Self::ListTools => Ok(json!(plugin.tools())),
            Self::Tool(context, name, arguments) => match plugin.call_tool(context, name, arguments).await {
                Ok(result) => Ok(json!(result)),
                Err(error) => Err(("tool".to_owned(), error.message)),
            },
        }
    }
}

/// A reply piece by piece; `pushed` has one entry for each piece.
async fn stream(
    plugin: &Arc<Plugin>,
    context: &ReplyContext,
    choice: u64,
    deltas: &[TextDelta],
    end: &ReplyEnd,
) -> Answer {
    let mut reply = plugin.open_reply(context, choice).await.map_err(told)?;
    let mut pushed = Vec::new();
    for delta in deltas {
        let answer = reply.push(std::slice::from_ref(delta)).await.map_err(told)?;
        pushed.push(output::pushed(&answer));
        if matches!(answer, Pushed::Block(_)) {
            return Ok(json!({"pushed": pushed}));
        }
    }
    let finished = reply.finish(end).await.map_err(told)?;
    Ok(json!({"pushed": pushed, "finished": output::finished(&finished)}))
}

#[expect(clippy::needless_pass_by_value, reason = "an adapter for map_err")]
fn told(error: PluginError) -> (String, String) {
    (error.kind.as_str().to_owned(), error.to_string())
}

fn read_input(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let taken = if file == Path::new("-") {
        io::stdin().lock().take(MAX_INPUT_BYTES + 1).read_to_string(&mut text)
    } else {
        let file = File::open(file).with_context(|| format!("cannot read the input {}", file.display()))?;
        file.take(MAX_INPUT_BYTES + 1).read_to_string(&mut text)
    };
    let taken = taken.with_context(|| format!("cannot read the input {}", file.display()))?;
    if taken as u64 > MAX_INPUT_BYTES {
        bail!("the input {} has more than {MAX_INPUT_BYTES} bytes", file.display());
    }
    Ok(text)
}
