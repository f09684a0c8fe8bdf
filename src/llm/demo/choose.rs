//! Which tool the user's words ask for: fixed rules that give the same answer every time.
//!
//! A tool is chosen when its name is in the words, when they hold a statement for it (SQL), or when most words of its
//! name are there, themselves or as what people say instead.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::words::{name_words, stem, synonyms, words};

/// The least share of a name's words that must be there.
const THRESHOLD: f64 = 0.6;

/// A tool as the request describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) parameters: Schema,
}

/// The parts of a parameter schema that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Schema {
    pub(super) properties: Map<String, Value>,
    pub(super) required: Vec<String>,
}

/// What a SQL statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SqlKind {
    Read,
    Write,
    Create,
}

/// The function tools among a request's `tools`; those that cannot be read are left out.
pub(super) fn tools(entries: &[impl AsRef<[u8]>]) -> Vec<Tool> {
    #[derive(Deserialize)]
    struct Entry {
        function: Tool,
    }
    let read = |entry: &[u8]| serde_json::from_slice::<Entry>(entry).ok().map(|entry| entry.function);
    entries.iter().filter_map(|entry| read(entry.as_ref())).collect()
}

/// The tool that `text` asks for. With `must`, the likeliest one even if it is not likely.
pub(super) fn choose<'a>(tools: &'a [Tool], text: &str, must: bool) -> Option<&'a Tool> {
    if let Some(tool) = named(tools, text) {
        return Some(tool);
    }
    if let Some((kind, _)) = sql(text)
        && let Some(tool) = sql_tool(tools, kind)
    {
        return Some(tool);
    }
    let spoken: Vec<String> = words(text);
    let mut best: Option<(&Tool, f64)> = None;
    for tool in tools {
        let score = score(tool, &spoken);
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((tool, score));
        }
    }
    best.filter(|(_, score)| must || *score >= THRESHOLD).map(|(tool, _)| tool)
}

/// The tool whose whole name of several words is in the text; the longest name wins.
fn named<'a>(tools: &'a [Tool], text: &str) -> Option<&'a Tool> {
    let is_name_char = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let tokens: Vec<&str> = text.split(|c: char| !is_name_char(c)).collect();
    let is_meant = |tool: &&Tool| {
        tokens.contains(&tool.name.as_str())
            && (name_words(&tool.name).len() > 1 || text.contains(&format!("`{}`", tool.name)))
    };
    tools.iter().filter(is_meant).max_by_key(|tool| tool.name.len())
}

/// The share of the name's words that were spoken, and a little for words of the description.
fn score(tool: &Tool, spoken: &[String]) -> f64 {
    let stems: Vec<String> = spoken.iter().map(|word| stem(word)).collect();
    let name = name_words(&tool.name);
    let (mut points, mut exact) = (0.0, false);
    for word in &name {
        if stems.contains(&stem(word)) {
            points += 1.0;
            exact = true;
        } else {
            let said = synonyms(word).iter().filter(|synonym| spoken.iter().any(|said| said == *synonym));
            // Words that begin any question say less than others.
            let weights =
                said.map(|word| if matches!(*word, "what" | "which" | "show" | "it") { 0.7 } else { 0.8 });
            points += weights.fold(0.0, f64::max);
        }
    }
    if !exact || name.is_empty() {
        return 0.0;
    }
    let described = words(&tool.description);
    let common =
        stems.iter().filter(|word| word.len() > 3 && described.iter().any(|d| stem(d) == **word)).count();
    let share = points / f64::from(u32::try_from(name.len()).unwrap_or(u32::MAX));
    share + 0.05 * f64::from(u32::try_from(common.min(3)).unwrap_or(0))
}

/// The SQL statement in `text`, and what it does.
pub(super) fn sql(text: &str) -> Option<(SqlKind, &str)> {
    const STARTS: [(&str, &str, SqlKind); 9] = [
        ("select", " from ", SqlKind::Read),
        ("with", " select ", SqlKind::Read),
        ("explain", " select ", SqlKind::Read),
        ("insert into", "", SqlKind::Write),
        ("replace into", "", SqlKind::Write),
        ("update", " set ", SqlKind::Write),
        ("delete from", "", SqlKind::Write),
        ("create table", "", SqlKind::Create),
        ("select", "", SqlKind::Read),
    ];
    // ASCII case keeps every byte where it is; line breaks count as the spaces they stand for.
    let lower: String = text
        .chars()
        .map(|c| if c.is_whitespace() && c.is_ascii() { ' ' } else { c.to_ascii_lowercase() })
        .collect();
    let found = STARTS.iter().enumerate().filter_map(|(rank, (start, needs, kind))| {
        let at = lower.match_indices(start).map(|(at, _)| at).find(|at| is_word(&lower, *at, start.len()))?;
        let rest = &lower[at + start.len()..];
        let holds = if rank == STARTS.len() - 1 {
            // `select 1`: no table, so something that only SQL has must follow.
            rest.trim_start().starts_with(|c: char| c.is_ascii_digit() || matches!(c, '*' | '\'' | '('))
        } else {
            rest.contains(needs)
        };
        holds.then_some((at, *kind))
    });
    let (at, kind) = found.min_by_key(|(at, _)| *at)?;
    Some((kind, text[at..].trim().trim_matches(|c| matches!(c, '`' | '"')).trim()))
}

fn is_word(text: &str, at: usize, length: usize) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    !letter(text[..at].chars().next_back()) && !letter(text[at + length..].chars().next())
}

/// The tool that takes SQL of this kind.
fn sql_tool(tools: &[Tool], kind: SqlKind) -> Option<&Tool> {
    let verbs: &[&str] = match kind {
        SqlKind::Read => &["read", "select", "query", "run", "execute"],
        SqlKind::Write => &["write", "execute", "modify", "run"],
        SqlKind::Create => &["create", "write", "execute", "run"],
    };
    let takes_sql = |tool: &&Tool| {
        tool.parameters.properties.keys().any(|name| is_sql_parameter(name))
            && (tool.description.to_lowercase().contains("sql")
                || ["query", "table", "sql"].iter().any(|word| tool.name.to_lowercase().contains(word)))
    };
    verbs.iter().find_map(|verb| {
        tools.iter().filter(takes_sql).find(|tool| name_words(&tool.name).iter().any(|word| word == verb))
    })
}

/// Whether a parameter of that name takes SQL.
pub(super) fn is_sql_parameter(name: &str) -> bool {
    matches!(name, "query" | "sql" | "statement" | "sql_query")
}
