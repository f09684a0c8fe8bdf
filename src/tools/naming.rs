//! Canonical tool names: a server's own name while it is unique in configuration order, else `server__tool`.
//!
//! Names match `^[a-zA-Z0-9_-]{1,64}$`. A server that is down keeps its names, so that its coming back, or a later
//! server's coming up, renames nothing.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

/// Longest name that model APIs take, in characters.
const MAX_NAME: usize = 64;

/// The names of all servers' tools, those of servers that are down included.
#[derive(Default)]
pub(super) struct NameBook {
    known: HashMap<String, Vec<String>>,
}

/// A tool's names: the one it is listed under, and the one that always resolves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolNames {
    pub(super) canonical: String,
    pub(super) qualified: String,
}

impl NameBook {
    /// Names for every tool of `servers` (name and its tools' own names, in configuration order), by server and tool.
    pub(super) fn assign(
        &mut self,
        servers: &[(String, Vec<String>)],
    ) -> HashMap<(String, String), ToolNames> {
        let mut taken: HashSet<String> = HashSet::new();
        let mut names = HashMap::new();
        for (server, tools) in servers {
            if !tools.is_empty() {
                self.known.insert(server.clone(), tools.clone());
            }
            for tool in self.known.get(server).into_iter().flatten() {
                let qualified =
                    unique(&format!("{}__{}", clean(server), clean(tool)), server, tool, &HashSet::new());
                let plain = fit(&clean(tool), server, tool);
                let canonical =
                    if taken.contains(&plain) { unique(&qualified, server, tool, &taken) } else { plain };
                taken.insert(canonical.clone());
                names.insert((server.clone(), tool.clone()), ToolNames { canonical, qualified });
            }
        }
        names
    }
}

/// `text` with every character that a name may not have replaced.
fn clean(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' })
        .collect();
    if clean.is_empty() { "_".to_owned() } else { clean }
}

fn fit(name: &str, server: &str, tool: &str) -> String {
    if name.len() <= MAX_NAME { name.to_owned() } else { hashed(name, server, tool) }
}

fn unique(name: &str, server: &str, tool: &str, taken: &HashSet<String>) -> String {
    let name = fit(name, server, tool);
    if taken.contains(&name) { hashed(&name, server, tool) } else { name }
}

/// `name` cut to make room for a hash of where it comes from.
fn hashed(name: &str, server: &str, tool: &str) -> String {
    let digest = Sha256::digest(format!("{server}\0{tool}").as_bytes());
    let suffix: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let room = MAX_NAME - 1 - suffix.len();
    format!("{}_{suffix}", &name[..name.len().min(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign(book: &mut NameBook, servers: &[(&str, &[&str])]) -> HashMap<(String, String), ToolNames> {
        let servers: Vec<(String, Vec<String>)> = servers
            .iter()
            .map(|(s, t)| ((*s).to_owned(), t.iter().map(|t| (*t).to_owned()).collect()))
            .collect();
        book.assign(&servers)
    }

    fn canonical(names: &HashMap<(String, String), ToolNames>, server: &str, tool: &str) -> String {
        names[&(server.to_owned(), tool.to_owned())].canonical.clone()
    }

    #[test]
    fn the_later_of_two_gets_its_servers_name() {
        let names = assign(&mut NameBook::default(), &[("a", &["read"]), ("b", &["read", "write"])]);
        assert_eq!(canonical(&names, "a", "read"), "read");
        assert_eq!(canonical(&names, "b", "read"), "b__read");
        assert_eq!(canonical(&names, "b", "write"), "write");
        assert_eq!(names[&("a".to_owned(), "read".to_owned())].qualified, "a__read");
    }

    #[test]
    fn a_server_that_is_down_keeps_its_names() {
        let mut book = NameBook::default();
        let before = assign(&mut book, &[("a", &["read"]), ("b", &["read"])]);
        let while_down = assign(&mut book, &[("a", &[]), ("b", &["read"])]);
        assert_eq!(canonical(&while_down, "b", "read"), canonical(&before, "b", "read"));
        let added = assign(&mut book, &[("a", &["read"]), ("b", &["read"]), ("c", &["read", "new"])]);
        assert!(before.iter().all(|(tool, names)| added[tool] == *names));
    }

    #[test]
    fn every_name_is_legal_and_unique() {
        let long = "x".repeat(200);
        let names = assign(
            &mut NameBook::default(),
            &[
                ("s é", &["a b", "a.b", "工具", "", &long, &format!("{long}y")]),
                ("a", &["b__c"]),
                ("a__b", &["c"]),
            ],
        );
        let all: Vec<&String> = names.values().map(|n| &n.canonical).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "{all:?}");
        for name in all {
            assert!((1..=64).contains(&name.len()), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')), "{name}");
        }
    }
}
