//! What tools are called: plain while unique, `server__tool` on a collision, and never something else later.
//!
//! Promises: every name matches `^[a-zA-Z0-9_-]{1,64}$`, no two tools share one, and the names of a server that is down
//! stay its own. While names are not settled (the first seconds of the gateway, when servers become ready in any order)
//! the order of the configuration alone decides; afterwards a name once given stays with its tool.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

/// The longest name the OpenAI API takes, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Hexadecimal digits of the hash that tells cut or colliding names apart.
const HASH_CHARS: usize = 8;

/// Tools of one server that are remembered; beyond, those it no longer offers are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Stands between the server's and the tool's name.
const SEPARATOR: &str = "__";

/// Gives names to the tools of a list of servers that only grows.
pub(super) struct Namer {
    servers: Vec<ServerNames>,
}

/// The names of one tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolNames {
    /// The name callers are given.
    pub(super) canonical: String,
    /// Other names that find the tool: `server__tool` as brought to the allowed form, which no other tool has, and as
    /// written by the server.
    pub(super) aliases: [String; 2],
    /// The name its server has for it, where that is not in the allowed form and leads to no other tool.
    pub(super) own: Option<String>,
}

struct ServerNames {
    server: String,
    /// The server's name in the allowed form, unlike every other server's.
    prefix: String,
    tools: Vec<KnownTool>,
    by_raw: HashMap<String, usize>,
}

struct KnownTool {
    raw: String,
    /// The tool's name in the allowed form, unlike every other tool's of this server.
    local: String,
    /// `server__tool` in the allowed form, unlike every name of every other tool.
    qualified: Option<String>,
    canonical: Option<String>,
}

impl Namer {
    /// A namer for servers in configuration order.
    pub(super) fn new<'a>(servers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut namer = Self { servers: Vec::new() };
        servers.into_iter().for_each(|server| namer.add(server));
        namer
    }

    /// Adds a server after the others. Names already given stay.
    pub(super) fn add(&mut self, server: &str) {
        let prefixes: HashSet<String> = self.servers.iter().map(|server| server.prefix.clone()).collect();
        let prefix = unique(&fit(server), server, &prefixes);
        let server = server.to_owned();
        self.servers.push(ServerNames { server, prefix, tools: Vec::new(), by_raw: HashMap::new() });
    }

    /// Names what each server offers now (its own tool names, in the servers' order). An empty list is a server that
    /// is down: its names stay reserved.
    pub(super) fn assign(&mut self, offered: &[Vec<&str>], settled: bool) {
        for (server, names) in self.servers.iter_mut().zip(offered) {
            server.learn(names);
            if !settled {
                server.tools.iter_mut().for_each(|tool| (tool.qualified, tool.canonical) = (None, None));
            }
        }
        let known = || self.servers.iter().flat_map(|server| &server.tools);
        let given = known().flat_map(|tool| tool.canonical.iter().chain(&tool.qualified));
        let mut taken: HashSet<String> = given.cloned().collect();
        for server in &mut self.servers {
            for at in 0..server.tools.len() {
                let tool = &server.tools[at];
                if tool.qualified.is_none() {
                    let name = unique(&fit(&server.qualified(&tool.local)), &server.identity(tool), &taken);
                    taken.insert(name.clone());
                    server.tools[at].qualified = Some(name);
                }
            }
        }
        for at in 0..self.servers.len() {
            for tool in 0..self.servers[at].tools.len() {
                if self.servers[at].tools[tool].canonical.is_none() {
                    let name = self.choose(&self.servers[at].tools[tool], &taken);
                    taken.extend(name.clone());
                    self.servers[at].tools[tool].canonical = name;
                }
            }
        }
    }

    /// The names of the tool its server calls `raw`; `None` before it was assigned any.
    pub(super) fn names(&self, at: usize, raw: &str) -> Option<ToolNames> {
        let server = self.servers.get(at)?;
        let tool = &server.tools[*server.by_raw.get(raw)?];
        let written = [server.server.as_str(), SEPARATOR, raw].concat();
        let own = !raw.is_empty() && fit(raw) != raw && self.owner_of(raw) == Some(at);
        Some(ToolNames {
            canonical: tool.canonical.clone()?,
            aliases: [tool.qualified.clone()?, written],
            own: own.then(|| raw.to_owned()),
        })
    }

    /// The server whose tool is found by its own name: the first that has its name to itself, whether it is up or down.
    fn owner_of(&self, raw: &str) -> Option<usize> {
        let poses = |other: &ServerNames| {
            [&other.server, &other.prefix]
                .into_iter()
                .any(|name| raw.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(SEPARATOR)))
        };
        let keeps_name = |server: &ServerNames| {
            let tool = server.by_raw.get(raw).map(|at| &server.tools[*at]);
            tool.is_some_and(|tool| tool.canonical.as_ref() == Some(&tool.local))
        };
        if self.servers.iter().any(poses) { None } else { self.servers.iter().position(keeps_name) }
    }

    /// The tool's plain name where that is free, else the one with its server's.
    fn choose(&self, tool: &KnownTool, taken: &HashSet<String>) -> Option<String> {
        // A tool that is itself called `server__tool` would stand in the way of that server's tool of that name.
        let poses = self.servers.iter().any(|other| {
            tool.local.strip_prefix(other.prefix.as_str()).is_some_and(|rest| rest.starts_with(SEPARATOR))
        });
        if !poses && !taken.contains(&tool.local) {
            return Some(tool.local.clone());
        }
        tool.qualified.clone()
    }
}

impl ServerNames {
    fn qualified(&self, local: &str) -> String {
        [self.prefix.as_str(), SEPARATOR, local].concat()
    }

    /// What hashes tell `tool` from all others by.
    fn identity(&self, tool: &KnownTool) -> String {
        [self.server.as_str(), "\0", &tool.raw].concat()
    }

    fn learn(&mut self, offered: &[&str]) {
        let mut new: Vec<&str> =
            offered.iter().copied().filter(|raw| !self.by_raw.contains_key(*raw)).collect();
        if self.tools.len() + new.len() > MAX_REMEMBERED {
            let current: HashSet<&str> = offered.iter().copied().collect();
            self.tools.retain(|tool| current.contains(tool.raw.as_str()));
            self.by_raw = self.tools.iter().enumerate().map(|(at, tool)| (tool.raw.clone(), at)).collect();
        }
        // A tool whose name needs no change keeps it, whatever stands before it in the list.
        new.sort_by_key(|raw| fit(raw) != *raw);
        let mut locals: HashSet<String> = self.tools.iter().map(|tool| tool.local.clone()).collect();
        for raw in new {
            if self.by_raw.contains_key(raw) {
                continue;
            }
            let local = unique(&fit(raw), raw, &locals);
            locals.insert(local.clone());
            self.by_raw.insert(raw.to_owned(), self.tools.len());
            self.tools.push(KnownTool { raw: raw.to_owned(), local, qualified: None, canonical: None });
        }
    }
}

/// `name` in the allowed form: other characters become `_`, and a long name ends in a hash of the whole.
fn fit(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let fitted: String = name.chars().map(allowed).collect();
    match fitted.len() {
        0 => "tool".to_owned(),
        1..=MAX_NAME_CHARS => fitted,
        _ => with_hash(&fitted, name),
    }
}

/// `fitted` itself while it is free, else with a hash of `identity`.
fn unique(fitted: &str, identity: &str, taken: &HashSet<String>) -> String {
    if !taken.contains(fitted) {
        return fitted.to_owned();
    }
    let mut salted = identity.to_owned();
    loop {
        let candidate = with_hash(fitted, &salted);
        if !taken.contains(&candidate) {
            return candidate;
        }
        salted.push('\0');
    }
}

fn with_hash(fitted: &str, identity: &str) -> String {
    let digest = Sha256::digest(identity.as_bytes());
    let hash: String = digest.iter().take(HASH_CHARS / 2).map(|byte| format!("{byte:02x}")).collect();
    let kept = fitted.len().min(MAX_NAME_CHARS - HASH_CHARS - 1);
    format!("{}_{hash}", &fitted[..kept])
}

#[cfg(test)]
mod tests;
