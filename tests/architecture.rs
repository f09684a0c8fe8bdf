//! The floor plan, enforced: which room may import which, who owns which dependency, and how files look.
//!
//! Reads the sources as text with a small tokenizer, so it needs no compiler and no crate. Cargo forbids cycles between
//! crates and says nothing about modules inside one; this test does. `ARCHITECTURE.md` has the plan in words.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Floors, the lowest first. A room may import rooms on lower floors only; rooms on one floor never import each other.
const FLOORS: [&[&str]; 11] = [
    &["config"],
    &["domain"],
    &["plugin_host", "audit", "database"],
    &["access", "llm", "tools", "sessions", "response"],
    &["toolbox"],
    &["chat"],
    &["http", "mcp_server"],
    &["telemetry"],
    &["gateway"],
    &["cli"],
    &["main"],
];

/// Dependencies with an owner: crate, and the files or folders that may name it. Tests inside a room may use any crate.
const OWNERS: [(&str, &[&str]); 31] = [
    ("axum", &["src/http"]),
    ("hyper", &["src/http", "src/plugin_host/egress"]),
    ("hyper_util", &["src/http"]),
    ("tower", &["src/http"]),
    ("tower_http", &["src/http"]),
    ("prometheus_client", &["src/http"]),
    ("utoipa", &["src/http"]),
    ("utoipa_swagger_ui", &["src/http"]),
    ("argon2", &["src/access"]),
    ("jsonwebtoken", &["src/access"]),
    ("wildmatch", &["src/access"]),
    ("icu_normalizer", &["src/access"]),
    // The command line is a client of a gateway over HTTP, also with TLS; it must not talk to a model past the gateway.
    ("reqwest", &["src/llm", "src/tools/mcp", "src/access/oidc", "src/cli/client"]),
    ("rmcp", &["src/tools/mcp", "src/mcp_server", "src/bin/sqlite-server"]),
    ("rusqlite", &["src/database", "src/sessions", "src/access", "src/bin/sqlite-server"]),
    ("clap", &["src/main", "src/cli", "src/bin/sqlite-server"]),
    ("anyhow", &["src/main", "src/cli", "src/gateway", "src/config"]),
    ("tracing_subscriber", &["src/telemetry", "src/bin/sqlite-server"]),
    ("toml", &["src/config", "src/cli"]),
    // What makes components, for authors; the gateway itself only takes them.
    ("wit_bindgen_c", &["src/cli/plugin"]),
    ("wit_bindgen_core", &["src/cli/plugin"]),
    ("wit_component", &["src/cli/plugin"]),
    ("tokio_rustls", &["src/plugin_host/egress"]),
    ("rustls_platform_verifier", &["src/plugin_host/egress"]),
    ("wasmtime", &["src/plugin_host"]),
    ("wasmtime_wasi", &["src/plugin_host"]),
    ("wasmtime_wasi_http", &["src/plugin_host"]),
    ("wasmtime_wasi_config", &["src/plugin_host"]),
    ("wasmparser", &["src/plugin_host", "src/cli/plugin"]),
    ("notify", &["src/plugin_host"]),
    ("jsonschema", &["src/tools"]),
];

const MAX_LINES: usize = 500;

#[test]
fn rooms_import_downward_only() {
    report(&sources(&["src"]).iter().flat_map(|(path, text)| imports_upward(path, text)).collect::<Vec<_>>());
}

#[test]
fn dependencies_have_one_owner() {
    report(
        &sources(&["src"])
            .iter()
            .flat_map(|(path, text)| foreign_dependencies(path, text))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let files = sources(&["src", "tests", "benches", "examples", "plugins", "xtask"]);
    report(&files.iter().flat_map(|(path, text)| misshapen(path, text)).collect::<Vec<_>>());
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Rust files below `folders`, as (path from the repository's root, text).
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "there are no sources in {folders:?}");
    found
}

fn misshapen(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//! ") {
        problems.push(format!("{path}: does not begin with //! and what the file is"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        problems.push(format!("{path}: has {lines} lines; split it by idea, {MAX_LINES} is the limit"));
    }
    if path.ends_with("/mod.rs") {
        problems.push(format!("{path}: name it after its folder, beside the folder"));
    }
    problems
}

/// The modules of a file: `src/llm/openai/wire.rs` is `[llm, openai, wire]`.
fn modules(path: &str) -> Vec<&str> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    inner.split('/').collect()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn imports_upward(path: &str, text: &str) -> Vec<String> {
    let own = modules(path);
    let room = own[0];
    if path == "src/lib.rs" {
        return Vec::new();
    }
    let own_floor = floor(room).or((room == "bin").then_some(0));
    let Some(own_floor) = own_floor else {
        return vec![format!("{path}: {room} is on no floor; give it one in tests/architecture.rs")];
    };
    let mut problems = Vec::new();
    for used in paths(text) {
        let supers = used.segments.iter().take_while(|segment| *segment == "super").count();
        let target = match used.segments[0].as_str() {
            // A program's own crate is not the library.
            "witgate" if matches!(room, "main" | "bin") => used.segments.get(1),
            "crate" if room != "bin" => used.segments.get(1),
            "super" if room != "bin" && supers == own.len() + used.inline_modules => {
                used.segments.get(supers)
            }
            _ => None,
        };
        // Names on the crate's own level that are no rooms are macros and re-exports; `*` would hide everything.
        let Some(target) = target.filter(|target| *target != room) else { continue };
        let allowed = match floor(target) {
            Some(_) if target == "telemetry" => matches!(room, "main" | "cli" | "gateway"),
            Some(target_floor) => target_floor < own_floor,
            None => target != "*",
        };
        if !allowed {
            problems.push(format!("{path}:{}: {room} must not import {target}", used.line));
        }
    }
    problems.dedup();
    problems
}

fn foreign_dependencies(path: &str, text: &str) -> Vec<String> {
    let is_test =
        |path: &str| modules(path).iter().any(|module| *module == "tests" || module.ends_with("_tests"));
    let within = |place: &str| path == format!("{place}.rs") || path.starts_with(&format!("{place}/"));
    let mut problems = Vec::new();
    for used in paths(text).into_iter().filter(|used| !used.in_test && !is_test(path)) {
        for (dependency, places) in OWNERS {
            if used.segments[0] == dependency && !places.iter().any(|place| within(place)) {
                problems.push(format!(
                    "{path}:{}: {dependency} belongs to {}",
                    used.line,
                    places.join(" and ")
                ));
            }
        }
    }
    problems
}

/// One path in a source, with the groups of `use` taken apart.
struct Used {
    segments: Vec<String>,
    line: usize,
    /// Modules around it within the file.
    inline_modules: usize,
    /// Whether one of them is `#[cfg(test)]`.
    in_test: bool,
}

/// Every path of two or more segments and everything named by `use`.
fn paths(text: &str) -> Vec<Used> {
    let tokens = tokens(text);
    let token = |at: usize| tokens.get(at).map_or("", |(token, _)| token.as_str());
    let mut found: Vec<Used> = Vec::new();
    let (mut depth, mut open): (usize, Vec<(usize, bool)>) = (0, Vec::new());
    let mut test_item = false;
    let mut at = 0;
    while at < tokens.len() {
        let continues = at > 1 && token(at - 1) == "::" && (is_name(token(at - 2)) || token(at - 2) == ">");
        let mut next = at + 1;
        match token(at) {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                open.retain(|(level, _)| *level <= depth);
            }
            ";" => test_item = false,
            "cfg" if token(at + 2) == "test" => test_item = true,
            "mod" if token(at + 2) == "{" => {
                depth += 1;
                open.push((depth, test_item));
                test_item = false;
                next = at + 3;
            }
            name if name == "use" || (is_name(name) && !continues && token(at + 1) == "::") => {
                let start = if name == "use" { at + 1 } else { at };
                let mut trees = Vec::new();
                next = tree(&tokens, start, &[], &mut trees).max(at + 1);
                let in_test = open.iter().any(|(_, test)| *test);
                let line = tokens[at].1;
                let used = trees.into_iter().filter(|segments| !segments.is_empty());
                found.extend(used.map(|segments| Used {
                    segments,
                    line,
                    inline_modules: open.len(),
                    in_test,
                }));
            }
            _ => {}
        }
        at = next;
    }
    found
}

/// Reads the path or `use` tree at `at` and returns where it ends.
fn tree(tokens: &[(String, usize)], mut at: usize, prefix: &[String], out: &mut Vec<Vec<String>>) -> usize {
    let token = |at: usize| tokens.get(at).map_or("", |(token, _)| token.as_str());
    let mut path = prefix.to_vec();
    if token(at) == "::" {
        at += 1;
    }
    loop {
        if token(at) == "{" {
            at += 1;
            while !matches!(token(at), "}" | "") {
                let end = tree(tokens, at, &path, out);
                // `as name` and the comma.
                at = end.max(at + 1);
                while matches!(token(at), "as" | ",") || token(at - 1) == "as" {
                    at += 1;
                }
            }
            return at + 1;
        }
        if is_name(token(at)) || token(at) == "*" {
            path.push(token(at).to_owned());
            at += 1;
        }
        if token(at) != "::" || !(is_name(token(at + 1)) || matches!(token(at + 1), "{" | "*")) {
            out.push(path);
            return at;
        }
        at += 1;
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single characters with their lines, without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<(String, usize)> {
    let chars: Vec<char> = text.chars().collect();
    let char_at = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let starts_with = |at: usize, word: &str| word.chars().enumerate().all(|(i, c)| char_at(at + i) == c);
    let skip_to = |mut at: usize, end: &str| {
        while at < chars.len() && !starts_with(at, end) {
            at += 1;
        }
        at + end.len()
    };
    let skip_escaped = |mut at: usize, end: char| {
        while at < chars.len() && char_at(at) != end {
            at += if char_at(at) == '\\' { 2 } else { 1 };
        }
        at + 1
    };
    let mut found = Vec::new();
    let (mut at, mut counted, mut line) = (0, 0, 1);
    while at < chars.len() {
        line += chars[counted..at].iter().filter(|c| **c == '\n').count();
        counted = at;
        let c = char_at(at);
        let name_end = (at..=chars.len()).find(|i| !(char_at(*i).is_alphanumeric() || char_at(*i) == '_'));
        let name_end = name_end.unwrap_or(chars.len());
        let hashes = (name_end..).take_while(|i| char_at(*i) == '#').count();
        if starts_with(at, "//") {
            at = skip_to(at, "\n");
        } else if starts_with(at, "/*") {
            at = skip_to(at, "*/");
        } else if c == '"' {
            at = skip_escaped(at + 1, '"');
        } else if c == '\'' && (char_at(at + 1) == '\\' || char_at(at + 2) == '\'') {
            at = skip_escaped(at + 1, '\'');
        } else if name_end > at {
            let name: String = chars[at..name_end].iter().collect();
            let is_raw = matches!(name.as_str(), "r" | "br") && char_at(name_end + hashes) == '"';
            at = name_end;
            if is_raw {
                at = skip_to(name_end + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
            } else if counted == 0 || char_at(counted - 1) != '\'' {
                found.push((name, line));
            }
        } else if starts_with(at, "::") {
            found.push(("::".to_owned(), line));
            at += 2;
        } else {
            if !c.is_whitespace() && c != '\'' {
                found.push((c.to_string(), line));
            }
            at += 1;
        }
    }
    found
}

#[test]
fn upward_imports_are_caught() {
    let caught = |path: &str, text: &str| imports_upward(path, text).len();
    for text in [
        "use crate::chat::ChatEngine;",
        "use crate::{config, domain::{Chunk, ids}, chat as c};",
        "use crate::{\n    domain,\n    tools::{self, Tool},\n};",
        "fn f() -> crate::http::State { todo!() }",
        "use super::super::gateway::Gateway;",
        "use super::super::{sessions};",
        "mod tests { use super::super::super::sessions::Session; }",
        "use crate::telemetry::Config;",
        "use crate::*;",
        "pub(crate) use crate::access::Access;",
    ] {
        assert_eq!(caught("src/llm/openai.rs", text), 1, "{text}");
    }
    for text in [
        "use crate::domain::Chunk; use crate::config::secret::Secret; use crate::llm::Config;",
        "use super::wire; use super::super::Models as M;",
        "mod tests { use super::super::chat; fn f() { super::x() } }",
        "// use crate::chat::X;\n/* crate::chat::X */ const A: &str = \"crate::chat::X\";",
        "const A: &str = r#\"use crate::chat::X;\"#; const B: char = '\"'; fn f<'a>(x: &'a str) {}",
    ] {
        assert_eq!(caught("src/llm/openai.rs", text), 0, "{text}");
    }
    assert_eq!(caught("src/main.rs", "use witgate::cli; use witgate::telemetry;"), 0);
    assert_eq!(caught("src/bin/tool.rs", "use witgate::{config::Settings};"), 1);
    assert_eq!(caught("src/bin/tool/main.rs", "use crate::tools::X; use super::http;"), 0);
    assert_eq!(caught("src/attic.rs", ""), 1, "a room without a floor");
    let problems = imports_upward("src/domain.rs", "\n\nuse crate::llm::X;");
    assert_eq!(problems, ["src/domain.rs:3: domain must not import llm"]);
}

#[test]
fn foreign_dependencies_are_caught() {
    let caught = |path: &str, text: &str| foreign_dependencies(path, text).len();
    assert_eq!(caught("src/chat.rs", "use axum::Router;"), 1);
    assert_eq!(caught("src/chat.rs", "use {axum::Router, ::reqwest};"), 2);
    assert_eq!(caught("src/chat/turn.rs", "#[derive(clap::Parser)] struct A;"), 1);
    assert_eq!(caught("src/tools/mcp_like.rs", "fn f() { rmcp::serve() }"), 1);
    assert_eq!(caught("src/tools/mcp/client.rs", "fn f() { rmcp::serve() }"), 0);
    assert_eq!(caught("src/http.rs", "use axum::{Router, serve};"), 0);
    assert_eq!(caught("src/chat.rs", "use crate::axum::X; fn f() { a.axum(); }"), 0);
    assert_eq!(caught("src/chat.rs", "#[cfg(test)]\nmod tests { use axum::Router; }"), 0);
    assert_eq!(caught("src/chat.rs", "#[cfg(test)]\nmod tests;\nmod x { use axum::Router; }"), 1);
    assert_eq!(caught("src/chat/tests.rs", "use axum::Router;"), 0);
}

#[test]
fn misshapen_files_are_caught() {
    assert_eq!(misshapen("src/a.rs", "//! A.\n"), Vec::<String>::new());
    assert_eq!(misshapen("src/a.rs", "use std::fs;\n").len(), 1);
    assert_eq!(misshapen("src/a/mod.rs", "//! A.\n").len(), 1);
    assert_eq!(misshapen("src/a.rs", &format!("//! A.{}", "\n".repeat(MAX_LINES + 1))).len(), 1);
}
