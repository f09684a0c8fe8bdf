//! `witgate access explain`: asks the gateway's own access chain on somebody's behalf, and shows what each rule says.
//!
//! No gateway has to run. What a running one has counted in the last minute is not known here; what was spent of token
//! budgets is read from the data folder.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::json;

use super::args::ExplainArgs;
use crate::access::accounts::{AccountError, Accounts};
use crate::access::{
    Access, AccessError, AccessScope, Asker, Credential, Door, Entry, Step, Trace, USAGE_FILE, UsageBook,
    Verdict, WasmPolicies,
};
use crate::audit::AuditLog;
use crate::cli::args::GlobalArgs;
use crate::cli::loading::Loaded;
use crate::cli::terminal::{Style, Terminal, clean, note, print};
use crate::cli::tools::{EXTRA_WAIT, checked_arguments, settle, tell_missing, unknown_tool};
use crate::cli::{Outcome, signals};
use crate::domain::{HttpFacts, RequestId};
use crate::gateway::{ACCOUNTS_FILE, Config};
use crate::http::door_of;
use crate::llm::{ModelDirectory, Models};
use crate::plugin_host::{Plugin, PluginFolder, PluginHost};
use crate::toolbox::Toolbox;
use crate::tools::ToolRegistry;
use crate::tools::mcp::McpServers;
use crate::tools::wasm::WasmTools;

/// Longest key read from standard input, in bytes.
const MAX_KEY_BYTES: u64 = 4096;

/// Runs the command.
///
/// # Errors
/// When the settings are wrong, or there is no such key, user or tool. A denial is [`Outcome::Failed`].
pub(super) async fn run(
    args: &ExplainArgs,
    global: &GlobalArgs,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    // Before anything is started: wrong input costs nothing.
    let endpoint = Endpoint::of(args)?;
    let arguments = checked_arguments(&args.arguments)?;
    let loaded = Loaded::read(global)?;
    loaded.log_only("off", global)?;
    let presented = presented(args, &loaded)?;
    let work = async {
        let trace = Trace::listening();
        let decided =
            Box::pin(decide(args, loaded.config, &endpoint, &arguments, &presented, &trace, terminal));
        let decided = decided.await?;
        show(&trace.steps(), &decided, endpoint.door, args.json, terminal)
    };
    tokio::select! {
        outcome = work => outcome,
        signal = signals::any() => signal,
    }
}

/// What is asked for.
struct Endpoint {
    method: String,
    path: String,
    door: Door,
}

impl Endpoint {
    fn of(args: &ExplainArgs) -> anyhow::Result<Self> {
        let fitting = match (&args.tool, &args.model) {
            (Some(_), None) => "POST /api/v1/mcp/tools/call",
            _ => "POST /v1/chat/completions",
        };
        let text = args.endpoint.as_deref().unwrap_or(fitting);
        let (method, path) = text.split_once(' ').unwrap_or(("GET", text));
        let method = method.to_ascii_uppercase();
        let Some(door) = door_of(&method, path) else {
            bail!("there are no rules for `{text}`: it is open to everybody, or does not exist");
        };
        Ok(Self { method, path: path.to_owned(), door })
    }

    fn facts(&self) -> HttpFacts {
        HttpFacts {
            method: self.method.clone(),
            path: self.path.clone(),
            query: None,
            authority: None,
            headers: Vec::new(),
            peer: None,
        }
    }
}

/// Who is asking, as far as the arguments tell.
enum Presented {
    Nothing,
    /// A whole key.
    Secret(String),
    KeyId(String),
    User(String),
}

fn presented(args: &ExplainArgs, loaded: &Loaded) -> anyhow::Result<Presented> {
    let who = &args.who;
    if let Some(user) = &who.user {
        return Ok(Presented::User(user.clone()));
    }
    let variable = who.key_env.as_deref().or(who.static_key.then_some("WITGATE_API_KEY"));
    if let Some(name) = variable {
        let key = loaded.settings.env(name).map(|key| key.expose().to_owned());
        let key = key.ok_or_else(|| anyhow!("{name} is not set; set it in the environment or in .env"))?;
        return Ok(Presented::Secret(key));
    }
    Ok(match who.key.as_deref() {
        None => Presented::Nothing,
        Some("-") => {
            let mut text = String::new();
            let read = io::stdin().lock().take(MAX_KEY_BYTES).read_to_string(&mut text);
            read.context("cannot read the key from standard input")?;
            Presented::Secret(text.trim().to_owned())
        }
        Some(key) if key.starts_with("wg_") => {
            note(
                "hint: everyone on this machine can read command lines; --key takes the key's id, the part between the \
                 two `_`, and --key-env a variable\n",
            );
            Presented::Secret(key.to_owned())
        }
        Some(id) => Presented::KeyId(id.to_owned()),
    })
}

type Decided = Result<AccessScope, AccessError>;

async fn decide(
    args: &ExplainArgs,
    config: Config,
    endpoint: &Endpoint,
    arguments: &str,
    presented: &Presented,
    trace: &Trace,
    terminal: Terminal,
) -> anyhow::Result<Decided> {
    let file = config.data_dir.join(ACCOUNTS_FILE);
    // Explaining makes nothing.
    let accounts = if file.exists() { Accounts::open(&file).await? } else { Accounts::in_memory().await? };
    let plugins = PluginHost::start(config.plugins, config.variables, config.data_dir.clone()).await?;
    let policies = Arc::new(WasmPolicies::new(plugins.folder()));
    let access = Access::new(&config.access, config.api_key.as_ref(), policies);
    let access = access.with_accounts(accounts.clone());
    let access = access.with_usage(UsageBook::open(&config.data_dir.join(USAGE_FILE))?);
    let asker = match presented {
        Presented::Nothing | Presented::Secret(_) => Asker::Presenting,
        Presented::KeyId(id) => Asker::Key(known_key(&accounts, id).await?),
        Presented::User(user) => Asker::User(known_user(&accounts, user).await?),
    };
    let credential = match presented {
        Presented::Secret(key) => Credential::Key(key),
        _ => Credential::None,
    };
    let entry = Entry {
        request_id: RequestId::generate(),
        door: endpoint.door,
        credential,
        peer: None,
        trace_id: None,
        foreign_page: None,
        rate_slot: None,
    };
    let scope = match access.explain(asker, entry, || endpoint.facts(), trace).await {
        Ok(scope) => scope,
        refused => return Ok(refused),
    };
    if let Some(asked) = &args.model {
        let models = Models::new(config.llm, |name| config.llm_env.get(name).cloned())?;
        let model = models.resolve(asked).await.map_err(|error| anyhow!("{}", error.message))?;
        if let Err(refusal) = scope.model(asked, &model.own_ids).await {
            return Ok(Err(refusal));
        }
    }
    let Some(name) = &args.tool else { return Ok(Ok(scope)) };
    let servers = McpServers::start(config.mcp_servers, config.tools.mcp.clone());
    let checked =
        check_tool(&servers, config.tools, plugins.folder(), &scope, (name, arguments), terminal).await;
    servers.shutdown().await;
    Ok(checked?.map(|()| scope))
}

async fn check_tool(
    servers: &McpServers,
    config: crate::tools::Config,
    plugins: PluginFolder<Plugin>,
    scope: &AccessScope,
    (name, arguments): (&str, &str),
    terminal: Terminal,
) -> anyhow::Result<Result<(), AccessError>> {
    let wait = Duration::from_millis(config.mcp.handshake_timeout_ms) + EXTRA_WAIT;
    settle(servers, wait, terminal).await;
    let registry =
        ToolRegistry::with_newcomers(config, servers.sources(), Some(Arc::new(WasmTools::new(plugins))));
    let toolbox = Toolbox::new(Arc::new(registry), AuditLog::none());
    let snapshot = toolbox.snapshot();
    let Some(tool) = snapshot.find(name) else {
        tell_missing(servers, terminal);
        bail!(unknown_tool(name, snapshot.tools().iter().map(|tool| tool.definition.name.as_str())));
    };
    Ok(toolbox.check(scope, tool, arguments, "cli").await)
}

async fn known_key<'a>(accounts: &Accounts, id: &'a str) -> anyhow::Result<&'a str> {
    match accounts.key(id).await {
        Ok(_) => Ok(id),
        Err(_) => bail!("there is no key with the id `{id}`; `witgate access key list` shows all keys"),
    }
}

async fn known_user(accounts: &Accounts, wanted: &str) -> anyhow::Result<i64> {
    match accounts.user_named(wanted).await {
        Ok(user) => return Ok(user.id),
        Err(AccountError::NoUserNamed(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match wanted.parse() {
        Ok(id) if accounts.user(id).await.is_ok() => Ok(id),
        _ => bail!("there is no user `{wanted}`; `witgate access user list` shows all users"),
    }
}

fn show(
    steps: &[Step],
    decided: &Decided,
    door: Door,
    as_json: bool,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    // The rule whose no was the last word, by the name that the audit log has.
    let decider = steps.iter().rev().find(|step| step.verdict == Verdict::Denied);
    let rule = |error: &AccessError| decider.map_or_else(|| error.rule(), |step| step.rule.clone());
    if as_json {
        let report = match decided {
            Ok(scope) => json!({"allowed": true, "principal": scope.principal().id, "steps": steps}),
            Err(less) if door.opens_without(less) => {
                json!({"allowed": true, "message": format!("without tools: {less}"), "steps": steps})
            }
            Err(error) => json!({
                "allowed": false, "decided_by": rule(error), "status": error.status(),
                "message": error.to_string(), "steps": steps,
            }),
        };
        let text = serde_json::to_string_pretty(&report)? + "\n";
        print(&if terminal.stdout { clean(&text) } else { text.as_str().into() })?;
    } else {
        print(&table(steps, terminal))?;
        print(&match decided {
            Ok(_) => format!("{}: no rule refuses\n", terminal.out(Style::Good, "allowed")),
            Err(less) if door.opens_without(less) => {
                let words = format!("but without tools: {less}");
                format!("{}, {}\n", terminal.out(Style::Good, "allowed"), clean(&words))
            }
            Err(error) => {
                let words = format!("by {}, with status {}: {error}", rule(error), error.status());
                format!("{} {}\n", terminal.out(Style::Bad, "denied"), clean(&words))
            }
        })?;
    }
    let is_in = decided.as_ref().map_or_else(|error| door.opens_without(error), |_| true);
    Ok(if is_in { Outcome::Done } else { Outcome::Failed })
}

/// One line a rule.
fn table(steps: &[Step], terminal: Terminal) -> String {
    let width = steps.iter().map(|step| step.rule.chars().count()).max().unwrap_or_default();
    let line = |step: &Step| {
        let (style, word) = match step.verdict {
            Verdict::Allowed => (Style::Good, "allows   "),
            Verdict::Denied => (Style::Bad, "denies   "),
            Verdict::NoOpinion => (Style::Dim, "abstains "),
        };
        format!("{:width$}  {} {}\n", clean(&step.rule), terminal.out(style, word), clean(&step.why))
    };
    steps.iter().map(line).collect()
}
