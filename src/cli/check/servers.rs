//! MCP servers: every one is started once, asked for its tools, and stopped again.

use std::collections::HashMap;
use std::time::Duration;

use super::report::{Area, Finding, ServerFacts, State};
use crate::config::mcp_servers::McpServerConfig;
use crate::tools::mcp::{McpConfig, McpServers, ServerState, ServerStatus};

/// Lines of a server's standard error that are shown when it failed.
const STDERR_LINES: usize = 5;

/// Starts all servers at the same time, each for at most `limit`. No child process is left when this returns.
pub(super) async fn check(servers: Vec<McpServerConfig>, config: McpConfig, limit: Duration) -> Vec<Finding> {
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let config = McpConfig { handshake_timeout_ms: config.handshake_timeout_ms.min(limit_ms), ..config };
    let running = McpServers::start(servers, config);
    running.settled(limit).await;
    let tools: HashMap<String, Vec<String>> = running
        .sources()
        .iter()
        .map(|source| {
            let tools = source.tools();
            (source.name().to_owned(), tools.iter().map(|tool| tool.definition().name.clone()).collect())
        })
        .collect();
    let statuses = running.states();
    running.shutdown().await;
    statuses
        .into_iter()
        .map(|status| finding(tools.get(&status.name).cloned().unwrap_or_default(), status, limit))
        .collect()
}

fn finding(tools: Vec<String>, status: ServerStatus, limit: Duration) -> Finding {
    let why = || status.last_error.clone().unwrap_or_else(|| "it gave no reason".to_owned());
    let (state, summary) = match status.state {
        ServerState::Ready if tools.is_empty() => {
            (State::Warning, format!("{}, but it has no tools", facts_in_words(&status, 0)))
        }
        ServerState::Ready => (State::Ok, facts_in_words(&status, tools.len())),
        ServerState::Failed => (State::Failed, why()),
        ServerState::Restarting => (State::Failed, format!("it ended right after its start: {}", why())),
        ServerState::Starting => (
            State::Failed,
            format!("its start was not done after {} s (--timeout gives it longer)", limit.as_secs()),
        ),
        ServerState::Disabled => (State::Skipped, "disabled in the file".to_owned()),
    };
    let mut details = Vec::new();
    if !tools.is_empty() {
        details.push(format!("tools: {}", tools.join(", ")));
    }
    if state == State::Failed {
        let skipped = status.stderr_tail.len().saturating_sub(STDERR_LINES);
        details.extend(status.stderr_tail[skipped..].iter().map(|line| format!("stderr: {line}")));
    }
    let server = ServerFacts {
        transport: status.transport.to_owned(),
        protocol_version: status.protocol_version,
        handshake_ms: status.handshake_ms,
        tools,
    };
    Finding { details, server: Some(server), ..Finding::new(Area::Servers, status.name, state, summary) }
}

fn facts_in_words(status: &ServerStatus, tools: usize) -> String {
    let mut words = vec![status.transport.to_owned()];
    words.extend(status.protocol_version.as_ref().map(|version| format!("MCP {version}")));
    words.push(if tools == 1 { "1 tool".to_owned() } else { format!("{tools} tools") });
    words.extend(status.handshake_ms.map(|duration| format!("ready in {duration} ms")));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: ServerState) -> ServerStatus {
        ServerStatus {
            name: "s".into(),
            transport: "stdio",
            state,
            protocol_version: Some("2025-06-18".into()),
            handshake_ms: Some(12),
            tools: 0,
            last_error: Some("`nosuch` was not found".into()),
            stderr_tail: (1..=9).map(|n| format!("line {n}")).collect(),
            restarts: 0,
        }
    }

    fn of(state: ServerState, tools: &[&str]) -> Finding {
        finding(tools.iter().map(|name| (*name).to_owned()).collect(), status(state), Duration::from_secs(3))
    }

    #[test]
    fn servers_that_work() {
        let finding = of(ServerState::Ready, &["a", "b"]);
        assert_eq!(finding.state, State::Ok);
        assert_eq!(finding.summary, "stdio, MCP 2025-06-18, 2 tools, ready in 12 ms");
        assert_eq!(finding.details, ["tools: a, b"]);
        assert_eq!(of(ServerState::Ready, &[]).state, State::Warning);
        assert_eq!(of(ServerState::Disabled, &[]).state, State::Skipped);
    }

    #[test]
    fn servers_that_do_not_work_say_why() {
        let finding = of(ServerState::Failed, &[]);
        assert_eq!((finding.state, finding.summary.as_str()), (State::Failed, "`nosuch` was not found"));
        assert_eq!(finding.details.len(), STDERR_LINES);
        assert_eq!(finding.details[4], "stderr: line 9");
        assert!(of(ServerState::Starting, &[]).summary.contains("not done after 3 s"));
        assert!(of(ServerState::Restarting, &[]).summary.contains("right after its start: `nosuch`"));
    }
}
