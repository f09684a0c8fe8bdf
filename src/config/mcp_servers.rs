//! `servers_config.json`: the MCP servers to connect to, in the order of the file, which decides who keeps a tool name.
//!
//! Reads the `mcpServers` form and VS Code's `servers`. What is wrong with the file itself (syntax, unknown keys, types)
//! is an error of the whole file; what depends on the environment (an unset `${VAR}`, an address made of one) is a
//! `problem` of that server only, so that the others still start. Nothing is started or looked up on disk here.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::bail;
use serde::Deserialize;

use self::pairs::Pairs;
use super::deserialize::from_node;
use super::error::{Error, nearest};
use super::secret::Secret;
use super::value::{Node, Table, Value};
use super::{expand, file, json};

mod pairs;
#[cfg(test)]
mod tests;

/// Keys of other clients that mean nothing to a gateway.
const IGNORED_KEYS: [&str; 5] = ["autoApprove", "alwaysAllow", "description", "gallery", "version"];

/// Top-level keys of other clients that mean nothing to a gateway.
const IGNORED_TOP_KEYS: [&str; 2] = ["$schema", "inputs"];

/// The keys in which `${VAR}` is replaced.
const EXPANDED_KEYS: [&str; 6] = ["command", "args", "env", "cwd", "url", "headers"];

/// One entry of `servers_config.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpServerConfig {
    /// Its key in the file; unique.
    pub name: String,
    /// How it is reached.
    pub transport: McpTransport,
    /// True when it must not be started.
    pub disabled: bool,
    /// Limit for one tool call in milliseconds, where the file gives one (`timeout`).
    pub timeout_ms: Option<u64>,
    /// Limits for single tools in milliseconds, by the server's own tool names (`toolTimeouts`).
    pub tool_timeouts_ms: BTreeMap<String, u64>,
    /// The server's own names of tools that must not be offered (`disabledTools`).
    pub disabled_tools: Vec<String>,
    /// Why it cannot be started, with file and line; its transport then holds unexpanded text.
    pub problem: Option<String>,
}

/// How a server is reached. `Debug` shows no argument, header value or query: any of them may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum McpTransport {
    /// A child process that speaks on its stdin and stdout.
    Stdio {
        /// Program: a name or a path.
        command: String,
        /// Arguments.
        args: Vec<String>,
        /// Variables added to its environment, in the order of the file.
        env: Vec<(String, Secret)>,
        /// Folder it is started in; absolute if the gateway's working folder is.
        cwd: PathBuf,
    },
    /// HTTP with a server-sent event stream, as of protocol version 2024-11-05.
    LegacySse {
        /// Address of the event stream.
        url: String,
        /// Headers of every request.
        headers: Vec<(String, Secret)>,
    },
    /// Streamable HTTP, as of protocol version 2025-03-26.
    StreamableHttp {
        /// Address of the endpoint.
        url: String,
        /// Headers of every request.
        headers: Vec<(String, Secret)>,
    },
}

impl McpTransport {
    /// `stdio`, `sse` or `http`, as `type` in the file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Stdio { .. } => "stdio",
            Self::LegacySse { .. } => "sse",
            Self::StreamableHttp { .. } => "http",
        }
    }
}

impl fmt::Debug for McpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio { command, args, env, cwd } => f
                .debug_struct("Stdio")
                .field("command", command)
                .field("args", &format_args!("[{} redacted]", args.len()))
                .field("env", env)
                .field("cwd", cwd)
                .finish(),
            Self::LegacySse { url, headers } | Self::StreamableHttp { url, headers } => f
                .debug_struct(if self.kind() == "sse" { "LegacySse" } else { "StreamableHttp" })
                .field("url", &url.split(['?', '#']).next().unwrap_or_default())
                .field("headers", headers)
                .finish(),
        }
    }
}

/// The servers of the file at `path`, which errors call `shown`. Children run in `working_dir` unless their entry says
/// otherwise; `lookup` answers `${VAR}`.
///
/// # Errors
/// When the file is missing or wrong: file, line, column, server, key and, for a wrong name, the nearest right one.
pub fn load(
    path: &Path,
    shown: &str,
    working_dir: &Path,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<McpServerConfig>> {
    match file::read(path, shown)? {
        Some(text) => parse(shown, &text, working_dir, lookup),
        None => bail!("{shown}: no such file"),
    }
}

/// The servers in `text`, the content of the file `shown`. See [`load`].
///
/// # Errors
/// As [`load`].
pub fn parse(
    shown: &str,
    text: &str,
    working_dir: &Path,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<McpServerConfig>> {
    let document = json::parse(shown, text)?;
    let Value::Table(document) = document.value else {
        bail!("{}: the file must hold an object with the key mcpServers", document.origin);
    };
    let Some((section, servers)) = section(document)? else { return Ok(Vec::new()) };
    let mut configs = Vec::with_capacity(servers.0.len());
    for entry in servers.0 {
        if entry.key.trim().is_empty() {
            bail!("{}: a server needs a name", entry.origin);
        }
        let config = server(&entry.key, entry.node, working_dir, lookup);
        let config = config.map_err(|error| error.within(&entry.key).within(&section).at(&entry.origin))?;
        configs.push(config);
    }
    Ok(configs)
}

/// The table of servers and the key it is under.
fn section(document: Table) -> anyhow::Result<Option<(String, Table)>> {
    let mut found: Option<(String, Table)> = None;
    for entry in document.0 {
        match entry.key.as_str() {
            "mcpServers" | "servers" => {
                let Value::Table(table) = entry.node.value else {
                    bail!("{}: {} must be an object of servers", entry.node.origin, entry.key);
                };
                if let Some((first, _)) = found {
                    bail!("{}: both {first} and {} are given; keep one of them", entry.origin, entry.key);
                }
                found = Some((entry.key, table));
            }
            key if IGNORED_TOP_KEYS.contains(&key) => {}
            key => {
                let hint = nearest(key, ["mcpServers", "servers"].into_iter()).unwrap_or("mcpServers");
                bail!("{}: unknown key {key}; did you mean {hint}?", entry.origin);
            }
        }
    }
    Ok(found)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawServer {
    #[serde(rename = "type")]
    kind: Option<Kind>,
    command: Option<String>,
    args: Vec<String>,
    env: Pairs,
    cwd: Option<PathBuf>,
    url: Option<String>,
    headers: Pairs,
    disabled: bool,
    #[serde(alias = "timeout_ms", alias = "timeoutMs")]
    timeout: Option<NonZeroU64>,
    tool_timeouts: BTreeMap<String, NonZeroU64>,
    disabled_tools: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
enum Kind {
    #[serde(rename = "stdio")]
    Stdio,
    #[serde(rename = "sse")]
    Sse,
    #[serde(rename = "http", alias = "streamable-http", alias = "streamableHttp", alias = "streamable_http")]
    Http,
}

fn server(
    name: &str,
    mut node: Node,
    working_dir: &Path,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<McpServerConfig, Error> {
    let mut problem = None;
    if let Value::Table(table) = &mut node.value {
        table.0.retain(|entry| {
            !IGNORED_KEYS.contains(&entry.key.as_str()) && !matches!(entry.node.value, Value::Null)
        });
        for entry in &mut table.0 {
            if EXPANDED_KEYS.contains(&entry.key.as_str()) {
                let key = format!("{name}.{}", entry.key);
                expand_node(&mut entry.node, &key, lookup, &mut problem);
            }
        }
    }
    let origin = node.origin.clone();
    let raw: RawServer = from_node(&node)?;
    let (disabled, timeout_ms) = (raw.disabled, raw.timeout.map(NonZeroU64::get));
    let tool_timeouts_ms =
        raw.tool_timeouts.iter().map(|(tool, limit)| (tool.clone(), limit.get())).collect();
    let disabled_tools = raw.disabled_tools.clone();
    let transport = transport(raw, working_dir).map_err(|error| error.at(&origin))?;
    let problem = problem.or_else(|| {
        let wrong = unusable(&transport)?;
        Some(format!("{origin}: {name}: {wrong}"))
    });
    let name = name.to_owned();
    Ok(McpServerConfig { name, transport, disabled, timeout_ms, tool_timeouts_ms, disabled_tools, problem })
}

fn transport(raw: RawServer, working_dir: &Path) -> Result<McpTransport, Error> {
    let url = match (raw.kind, raw.command, raw.url) {
        (_, Some(_), Some(_)) => {
            return Err(Error::other("has both command and url; a server has one of them"));
        }
        (None, None, None) => {
            return Err(Error::other("needs command (a program to start) or url (a server to connect to)"));
        }
        (Some(Kind::Stdio), None, _) => return Err(Error::other("type stdio needs command")),
        (Some(Kind::Sse | Kind::Http), _, None) => return Err(Error::other("type sse or http needs url")),
        (None | Some(Kind::Stdio), Some(command), None) => {
            if !raw.headers.0.is_empty() {
                return Err(Error::other("headers belong to a server with url"));
            }
            let cwd = raw.cwd.map_or_else(|| working_dir.to_owned(), |cwd| working_dir.join(cwd));
            return Ok(McpTransport::Stdio { command, args: raw.args, env: raw.env.0, cwd });
        }
        (_, None, Some(url)) => url,
    };
    if !raw.args.is_empty() || !raw.env.0.is_empty() || raw.cwd.is_some() {
        return Err(Error::other("args, env and cwd belong to a server with command"));
    }
    let headers = raw.headers.0;
    let legacy = match raw.kind {
        Some(kind) => matches!(kind, Kind::Sse),
        // By its name, an endpoint `/sse` speaks the legacy protocol; every other address gets the current one.
        None => url.split(['?', '#']).next().is_some_and(|path| path.trim_end_matches('/').ends_with("/sse")),
    };
    Ok(if legacy {
        McpTransport::LegacySse { url, headers }
    } else {
        McpTransport::StreamableHttp { url, headers }
    })
}

/// Why a transport cannot work; names the key and never shows a value.
fn unusable(transport: &McpTransport) -> Option<String> {
    let (url, headers) = match transport {
        McpTransport::Stdio { command, .. } => {
            return command.trim().is_empty().then(|| "command is empty".to_owned());
        }
        McpTransport::LegacySse { url, headers } | McpTransport::StreamableHttp { url, headers } => {
            (url, headers)
        }
    };
    let is_address = url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if !is_address {
        return Some("url must be an address like https://host/path".to_owned());
    }
    headers.iter().find_map(|(name, value)| {
        let name_fits = http::HeaderName::try_from(name.as_str()).is_ok();
        let value_fits = http::HeaderValue::try_from(value.expose()).is_ok();
        (!name_fits || !value_fits).then(|| {
            let part = if name_fits { "value" } else { "name" };
            format!("headers.{name}: the {part} has characters that HTTP does not allow")
        })
    })
}

/// Replaces `${VAR}` in every string of `node` and notes the first one that cannot be.
fn expand_node(
    node: &mut Node,
    key: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    problem: &mut Option<String>,
) {
    match &mut node.value {
        Value::String(text) => match expand::expand(text, lookup) {
            Ok(expanded) => *text = expanded,
            Err(wrong) => {
                problem.get_or_insert_with(|| format!("{}: {key}: {wrong}", node.origin));
            }
        },
        Value::List(items) => {
            for (position, item) in items.iter_mut().enumerate() {
                expand_node(item, &format!("{key}[{position}]"), lookup, problem);
            }
        }
        Value::Table(table) => {
            for entry in &mut table.0 {
                expand_node(&mut entry.node, &format!("{key}.{}", entry.key), lookup, problem);
            }
        }
        _ => {}
    }
}
