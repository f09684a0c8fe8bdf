//! What `witgate check` found, for people and for programs.

use serde::Serialize;

use crate::cli::terminal::{Style, Terminal, clean, one_line};

/// Longest name that the others are lined up with, in characters.
const MAX_NAME: usize = 24;

/// Longest detail line, in characters.
const MAX_DETAIL: usize = 400;

/// Everything that was checked, in order.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Nothing failed.
    pub(super) ok: bool,
    /// The single findings.
    pub(super) checks: Vec<Finding>,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Area {
    /// Files and variables.
    Settings,
    /// Upstreams and models.
    Models,
    /// This machine: folder, port.
    Host,
    /// WebAssembly components.
    Plugins,
    /// MCP servers.
    Servers,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It works.
    Ok,
    /// It works, but deserves a look.
    Warning,
    /// It does not work.
    Failed,
    /// It was not tried.
    Skipped,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// What it is about.
    pub(super) area: Area,
    /// The file, upstream or server.
    pub(super) name: String,
    /// How it went.
    pub(super) state: State,
    /// The result in a few words.
    pub(super) summary: String,
    /// More about it: tool names, the last lines of standard error, what to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) details: Vec<String>,
    /// For MCP servers that were started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<ServerFacts>,
}

/// What a started MCP server told.
#[derive(Debug, Serialize)]
pub(super) struct ServerFacts {
    /// `stdio`, `sse` or `http`.
    pub(super) transport: String,
    /// The protocol version agreed on.
    pub(super) protocol_version: Option<String>,
    /// Time from the start to the end of the handshake, in milliseconds.
    pub(super) handshake_ms: Option<u64>,
    /// Names of its tools, as clients see them.
    pub(super) tools: Vec<String>,
}

impl Finding {
    /// A finding without details.
    pub(super) fn new(area: Area, name: impl Into<String>, state: State, summary: impl Into<String>) -> Self {
        Self { area, name: name.into(), state, summary: summary.into(), details: Vec::new(), server: None }
    }

    /// A failure from an error. Its first line is the summary; every further one and every cause is a detail.
    pub(super) fn failure(area: Area, name: impl Into<String>, error: &anyhow::Error) -> Self {
        let mut lines = error.chain().flat_map(|cause| {
            let text = cause.to_string();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        let summary = lines.next().unwrap_or_default();
        let details = lines.collect();
        Self { details, ..Self::new(area, name, State::Failed, summary) }
    }
}

impl Area {
    fn heading(self) -> &'static str {
        match self {
            Self::Settings => "Settings",
            Self::Models => "Models",
            Self::Host => "This machine",
            Self::Plugins => "Plugins",
            Self::Servers => "MCP servers",
        }
    }
}

impl State {
    fn mark(self) -> (&'static str, Style) {
        match self {
            Self::Ok => ("ok  ", Style::Good),
            Self::Warning => ("warn", Style::Warning),
            Self::Failed => ("FAIL", Style::Bad),
            Self::Skipped => ("skip", Style::Dim),
        }
    }
}

impl Report {
    /// The report on these findings.
    pub(super) fn new(checks: Vec<Finding>) -> Self {
        Self { ok: checks.iter().all(|finding| finding.state != State::Failed), checks }
    }

    /// The report as a table for people.
    pub(super) fn table(&self, terminal: &Terminal) -> String {
        let width =
            self.checks.iter().map(|finding| finding.name.chars().count().min(MAX_NAME)).max().unwrap_or(0);
        let mut table = String::new();
        let mut area = None;
        for finding in &self.checks {
            if area != Some(finding.area) {
                let gap = if area.is_some() { "\n" } else { "" };
                table.push_str(&format!("{gap}{}\n", terminal.out(Style::Bold, finding.area.heading())));
                area = Some(finding.area);
            }
            finding.write(&mut table, width, terminal);
        }
        table.push_str(&format!("\n{}\n", self.verdict(terminal)));
        table
    }

    fn verdict(&self, terminal: &Terminal) -> String {
        let count = |state| self.checks.iter().filter(|finding| finding.state == state).count();
        let warnings = match count(State::Warning) {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            many => format!(", {many} warnings"),
        };
        match count(State::Failed) {
            0 => format!("{}{warnings}.", terminal.out(Style::Good, "Everything works")),
            1 => format!("{}{warnings}.", terminal.out(Style::Bad, "1 problem")),
            many => format!("{}{warnings}.", terminal.out(Style::Bad, &format!("{many} problems"))),
        }
    }
}

impl Finding {
    fn write(&self, table: &mut String, width: usize, terminal: &Terminal) {
        let (mark, style) = self.state.mark();
        let name = one_line(&self.name, 200);
        let gap = " ".repeat(width.saturating_sub(name.chars().count()));
        let summary = clean(&self.summary);
        table.push_str(&format!("  {}  {name}{gap}  {summary}\n", terminal.out(style, mark)));
        for detail in &self.details {
            let line = one_line(detail, MAX_DETAIL);
            table.push_str(&format!("        {}\n", terminal.out(Style::Dim, &line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let facts = ServerFacts {
            transport: "stdio".into(),
            protocol_version: Some("2025-06-18".into()),
            handshake_ms: Some(12),
            tools: vec!["list_tables".into()],
        };
        let sqlite = Finding {
            server: Some(facts),
            details: vec!["tools: list_tables".into()],
            ..Finding::new(Area::Servers, "sqlite", State::Ok, "1 tool")
        };
        let broken = Finding {
            details: vec!["\u{1b}[31mboom".into()],
            ..Finding::new(Area::Servers, "broken", State::Failed, "the program ended")
        };
        Report::new(vec![
            Finding::new(Area::Settings, "gateway.toml", State::Ok, "read"),
            Finding::new(Area::Host, "port", State::Warning, "in use"),
            sqlite,
            broken,
        ])
    }

    #[test]
    fn the_table_has_a_line_for_everything() {
        let wanted = "\
Settings
  ok    gateway.toml  read

This machine
  warn  port          in use

MCP servers
  ok    sqlite        1 tool
        tools: list_tables
  FAIL  broken        the program ended
        ␛[31mboom

1 problem, 1 warning.
";
        assert_eq!(report().table(&Terminal::none()), wanted);
    }

    #[test]
    fn a_failure_decides() {
        assert!(!report().ok);
        let good = Report::new(vec![Finding::new(Area::Host, "port", State::Warning, "in use")]);
        assert!(good.ok);
        assert!(good.table(&Terminal::none()).ends_with("\nEverything works, 1 warning.\n"));
    }

    #[test]
    fn programs_get_the_facts() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["checks"][2]["server"]["tools"][0], "list_tables");
        assert_eq!(json["checks"][3]["state"], "failed");
        assert_eq!(json["checks"][0].as_object().unwrap().len(), 4);
    }

    #[test]
    fn every_line_of_an_error_is_kept() {
        let error = anyhow::anyhow!("cause").context("first\nsecond");
        let finding = Finding::failure(Area::Settings, "x", &error);
        assert_eq!(
            (finding.summary.as_str(), finding.details),
            ("first", vec!["second".into(), "cause".into()])
        );
    }
}
