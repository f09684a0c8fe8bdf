//! `witgate tools`: the tools of the MCP servers and plugins, listed or called, without a model.
//!
//! Starts servers and plugins in this process, waits until every one is ready or has failed, and stops them again. A call
//! is that of the operator of this machine, and goes the way of all others: names, validation, timeouts and retries are the
//! same, policies are asked, and it is written to the audit log.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::{GlobalArgs, ToolsArgs, ToolsCommand};
use super::loading::Loaded;
use super::local::missing_servers;
use super::spinner::Spinner;
use super::terminal::{Style, Terminal, clean, note, one_line, print};
use super::{Outcome, signals};
use crate::access::{Access, Credential, Door, WasmPolicies};
use crate::audit::AuditLog;
use crate::domain::{ProgressListener, ToolDefinition, ToolResult, ids};
use crate::gateway::{flush_audit, open_audit};
use crate::plugin_host::PluginHost;
use crate::toolbox::{CallError, CallSite, Toolbox};
use crate::tools::mcp::McpServers;
use crate::tools::wasm::WasmTools;
use crate::tools::{ToolRegistry, ToolSnapshot};

/// Time on top of the handshake's own limit, which ends the wait for servers in every ordinary case.
pub(super) const EXTRA_WAIT: Duration = Duration::from_secs(5);

/// Longest JSON read from standard input, in bytes.
const MAX_ARGUMENTS_BYTES: u64 = 16 * 1024 * 1024;

/// How like a name must be to be suggested, from 0 to 1.
const LIKENESS: f64 = 0.75;

/// Most names that are suggested.
const MAX_SUGGESTIONS: usize = 5;

/// Longest description in the list, in characters.
const MAX_DESCRIPTION: usize = 100;

/// Runs the command.
///
/// # Errors
/// When the settings are wrong or there is no such tool. A tool that fails is [`Outcome::Failed`].
pub(super) async fn run(
    args: &ToolsArgs,
    global: &GlobalArgs,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    // Before any server is started: wrong input costs nothing.
    let arguments = match &args.command {
        ToolsCommand::Call { arguments, .. } => checked_arguments(arguments)?,
        ToolsCommand::List { .. } => String::new(),
    };
    let loaded = Loaded::read(global)?;
    // What goes wrong with servers and tools is told in plain words.
    loaded.log_only("off", global)?;
    let config = loaded.config;
    let audit = match &args.command {
        ToolsCommand::Call { .. } => open_audit(&config)?,
        ToolsCommand::List { .. } => AuditLog::none(),
    };
    let wait = Duration::from_millis(config.tools.mcp.handshake_timeout_ms) + EXTRA_WAIT;
    let servers = McpServers::start(config.mcp_servers, config.tools.mcp.clone());
    let work = async {
        settle(&servers, wait, terminal).await;
        let plugins = PluginHost::start(config.plugins, config.variables, config.data_dir).await?;
        let plugin_tools = Arc::new(WasmTools::new(plugins.folder()));
        // Made when all tools are there: which server started first must not decide who keeps a name.
        let registry =
            Arc::new(ToolRegistry::with_newcomers(config.tools, servers.sources(), Some(plugin_tools)));
        match &args.command {
            ToolsCommand::List { json } => {
                tell_missing(&servers, terminal);
                list(&registry.snapshot(), *json, terminal)
            }
            ToolsCommand::Call { name, json, .. } => {
                let policies = Arc::new(WasmPolicies::new(plugins.folder()));
                let access = Access::new(&config.access, None, policies).with_audit(audit.clone());
                let toolbox = Toolbox::new(registry, audit.clone());
                call(&servers, &access, &toolbox, (name, &arguments), *json, terminal).await
            }
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        signal = signals::any() => signal,
    };
    servers.shutdown().await;
    flush_audit(&audit).await;
    outcome
}

/// Waits until every server is ready or has failed.
pub(super) async fn settle(servers: &McpServers, wait: Duration, terminal: Terminal) {
    let _spinner = Spinner::start(terminal, "starting MCP servers");
    servers.settled(wait).await;
}

/// Names the servers whose tools are missing.
pub(super) fn tell_missing(servers: &McpServers, terminal: Terminal) {
    for line in missing_servers(servers) {
        note(&format!("{} {}\n", terminal.err(Style::Warning, "warning:"), clean(&line)));
    }
}

/// The arguments as JSON text of an object.
pub(super) fn checked_arguments(given: &str) -> anyhow::Result<String> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        let mut input = io::stdin().lock().take(MAX_ARGUMENTS_BYTES + 1);
        input.read_to_string(&mut text).context("cannot read standard input")?;
        if text.len() as u64 > MAX_ARGUMENTS_BYTES {
            bail!("the arguments have more than {MAX_ARGUMENTS_BYTES} bytes");
        }
    }
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(serde_json::Value::Object(_)) => Ok(text),
        Ok(_) => bail!("the arguments must be a JSON object such as '{{\"query\": \"SELECT 1\"}}'"),
        Err(error) => {
            bail!("the arguments are not JSON: {error}; an example is '{{\"query\": \"SELECT 1\"}}'")
        }
    }
}

fn list(tools: &ToolSnapshot, json: bool, terminal: Terminal) -> anyhow::Result<Outcome> {
    let definitions: Vec<&ToolDefinition> = tools.tools().iter().map(|tool| &tool.definition).collect();
    let text =
        if json { serde_json::to_string_pretty(&definitions)? + "\n" } else { table(&definitions, terminal) };
    print(&if terminal.stdout && json { clean(&text).into_owned() } else { text })?;
    Ok(Outcome::Done)
}

/// One line a tool: name, server, the beginning of its description.
fn table(tools: &[&ToolDefinition], terminal: Terminal) -> String {
    if tools.is_empty() {
        return "There are no tools; `witgate check` says why.\n".to_owned();
    }
    let server = |tool: &ToolDefinition| one_line(tool.server.as_deref().unwrap_or("-"), 64);
    let width =
        |text: &dyn Fn(&ToolDefinition) -> usize| tools.iter().map(|tool| text(tool)).max().unwrap_or(0);
    let names = width(&|tool| tool.name.chars().count()).max(4);
    let servers = width(&|tool| server(tool).chars().count()).max(6);
    let heading = format!("{:names$}  {:servers$}  DESCRIPTION", "TOOL", "SERVER");
    let mut table = format!("{}\n", terminal.out(Style::Bold, &heading));
    for tool in tools {
        let first_line = tool.description.trim().lines().next().unwrap_or_default();
        let description = one_line(first_line, MAX_DESCRIPTION);
        let line = format!("{:names$}  {:servers$}  {description}", one_line(&tool.name, 64), server(tool));
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

async fn call(
    servers: &McpServers,
    access: &Access,
    toolbox: &Toolbox,
    (name, arguments): (&str, &str),
    json: bool,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    let scope = Box::pin(access.enter_locally(Door::CommandLine, Credential::Operator)).await?;
    let Some(tool) = toolbox.find(&scope, name) else {
        tell_missing(servers, terminal);
        let tools = toolbox.snapshot();
        bail!(unknown_tool(name, tools.tools().iter().map(|tool| tool.definition.name.as_str())));
    };
    let site = CallSite {
        via: "cli",
        call_id: ids::random_id("call_"),
        session_id: None,
        progress: ProgressListener::default(),
    };
    match toolbox.call(&scope, &tool, arguments, site).await {
        Ok(result) => show(&result, json, terminal),
        Err(error) => {
            let words = match &error {
                CallError::Access(refusal) => refusal.to_string(),
                CallError::Tool(error) => error.message.clone(),
            };
            note(&format!("{} {}\n", terminal.err(Style::Bad, "error:"), clean(&words)));
            Ok(Outcome::Failed)
        }
    }
}

/// A result's text goes to standard output as it is, so that programs get what the tool said; a terminal gets it clean.
fn show(result: &ToolResult, json: bool, terminal: Terminal) -> anyhow::Result<Outcome> {
    let mut text = if json { serde_json::to_string_pretty(result)? } else { result.to_text() };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if result.is_error && !json {
        note(&clean(&text));
    } else {
        print(&if terminal.stdout { clean(&text) } else { text.as_str().into() })?;
    }
    Ok(if result.is_error { Outcome::Failed } else { Outcome::Done })
}

pub(super) fn unknown_tool<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let mut near: Vec<(f64, &str)> = known
        .map(|candidate| {
            let part = candidate.contains(name) || name.contains(candidate);
            (if part { 1.0 } else { strsim::jaro_winkler(name, candidate) }, candidate)
        })
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<String> = near.iter().take(MAX_SUGGESTIONS).map(|(_, name)| format!("`{name}`")).collect();
    let hint = match near.as_slice() {
        [] => "`witgate tools list` shows all tools".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    format!("there is no tool `{name}`; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, server: &str, description: &str) -> ToolDefinition {
        ToolDefinition {
            name: name.into(),
            title: None,
            description: description.into(),
            input_schema: serde_json::json!({"type": "object"}),
            output_schema: None,
            annotations: crate::domain::ToolAnnotations::default(),
            server: Some(server.into()),
        }
    }

    #[test]
    fn the_table_lines_up_and_is_clean() {
        let (one, two) = (tool("list_tables", "db", "List all\nof them"), tool("t", "files", "\u{1b}[2Jx"));
        let wanted =
            "TOOL         SERVER  DESCRIPTION\nlist_tables  db      List all\nt            files   ␛[2Jx\n";
        assert_eq!(table(&[&one, &two], Terminal::none()), wanted);
        assert!(table(&[], Terminal::none()).contains("witgate check"));
    }

    #[test]
    fn arguments_are_an_object() {
        assert_eq!(checked_arguments("{\"a\": 1}").unwrap(), "{\"a\": 1}");
        for (wrong, words) in [("[]", "must be a JSON object"), ("{a}", "not JSON"), ("", "not JSON")] {
            let error = checked_arguments(wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn near_names_are_suggested() {
        let known = ["list_tables", "read_query", "write_query"];
        let words = |name| unknown_tool(name, known.into_iter());
        assert_eq!(words("list_table"), "there is no tool `list_table`; did you mean `list_tables`?");
        assert!(words("query").contains("`read_query` or `write_query`"));
        assert!(words("zzz").ends_with("`witgate tools list` shows all tools"));
    }
}
