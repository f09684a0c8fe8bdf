//! `gateway.toml` in the repository: every key of every room is in it, at its default, its examples can be used, and the
//! manual has the keys as well.
//!
//! Lines `#key = value` are defaults, lines `#     ...` are examples, every other comment is prose.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::de::value::Error as Message;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use witgate::config::{LoadOptions, Settings};
use witgate::{access, audit, chat, http, llm, mcp_server, plugin_host, sessions, telemetry, tools};

const FILE: &str = include_str!("../gateway.toml");
const MANUAL: &str = include_str!("../docs/configuration.md");
const EXAMPLE: &str = "#     ";

#[test]
fn the_file_as_it_is_changes_nothing() {
    check(&settings(FILE));
}

#[test]
fn every_line_shows_a_default() {
    let uncommented = FILE.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => setting,
        _ => line,
    });
    let text = uncommented.collect::<Vec<_>>().join("\n");
    assert_ne!(text, FILE);
    check(&settings(&text));
    assert_eq!(settings(&text).value::<String>("data_dir").unwrap().as_deref(), Some("./data"));
}

#[test]
fn every_key_is_shown() {
    shows::<http::ServerConfig>("server");
    shows::<access::Config>("access");
    shows::<access::IssuerConfig>("access");
    shows::<audit::Config>("audit");
    shows::<llm::Config>("llm");
    shows::<llm::UpstreamConfig>("llm");
    shows::<llm::ModelConfig>("llm");
    shows::<chat::Config>("chat");
    shows::<tools::Config>("tools");
    shows::<tools::ToolOverride>("tools");
    shows::<tools::mcp::McpConfig>("tools.mcp");
    shows::<mcp_server::Config>("mcp_server");
    shows::<plugin_host::Config>("plugins");
    shows::<sessions::Config>("sessions");
    shows::<http::LimitsConfig>("limits");
    shows::<http::CorsConfig>("cors");
    shows::<telemetry::Config>("log");
}

#[test]
fn the_examples_can_be_used() {
    let text: Vec<&str> = FILE.lines().map(|line| line.strip_prefix(EXAMPLE).unwrap_or(line)).collect();
    let settings = settings(&text.join("\n"));
    let llm: llm::Config = settings.section("llm").unwrap();
    assert_eq!((llm.upstreams.len(), llm.models.len()), (1, 1));
    let chat: chat::Config = settings.section("chat").unwrap();
    assert!(chat.system_prompt.is_some());
    let access: access::Config = settings.section("access").unwrap();
    assert!(access.limits.user.requests_per_minute.is_some() && access.limits.service.token_budget.is_some());
    assert_eq!(access.issuers.len(), 1);
    let tools: tools::Config = settings.section("tools").unwrap();
    assert_eq!(tools.overrides.len(), 1);
}

/// Settings of a folder that holds `text` as its `gateway.toml` and nothing else, without an environment.
fn settings(text: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let env = std::iter::empty().collect();
    Settings::load(&LoadOptions { env, working_dir: folder.path().to_owned(), ..LoadOptions::default() })
        .unwrap()
}

/// Every section is at its default and there is no other.
fn check(settings: &Settings) {
    is_default::<http::ServerConfig>(settings, "server");
    is_default::<mcp_server::Config>(settings, "mcp_server");
    is_default::<access::Config>(settings, "access");
    is_default::<audit::Config>(settings, "audit");
    is_default::<llm::Config>(settings, "llm");
    is_default::<chat::Config>(settings, "chat");
    is_default::<tools::Config>(settings, "tools");
    is_default::<plugin_host::Config>(settings, "plugins");
    is_default::<sessions::Config>(settings, "sessions");
    is_default::<http::LimitsConfig>(settings, "limits");
    is_default::<http::CorsConfig>(settings, "cors");
    is_default::<telemetry::Config>(settings, "log");
    settings.value::<String>("data_dir").unwrap();
    settings.finish().unwrap();
}

fn is_default<T: DeserializeOwned + Default + Debug>(settings: &Settings, section: &str) {
    let value: T = settings.section(section).unwrap();
    assert_eq!(format!("{value:#?}"), format!("{:#?}", T::default()), "[{section}]");
}

/// Every field of `T` is in the part of the file that begins with `[section]`.
fn shows<T: DeserializeOwned>(section: &str) {
    let header = format!("[{section}]");
    let part: Vec<&str> = FILE.lines().skip_while(|line| *line != header).collect();
    let end = part.iter().skip(1).position(|line| line.starts_with('[')).map_or(part.len(), |at| at + 1);
    // A key as `key = ..`, a table of a list or map as `[[llm.key]]` or `[llm.key."name"]`, a part as `[tools.key]`.
    let settings = part[..end].iter().filter(|line| !line.starts_with("# ") || line.starts_with(EXAMPLE));
    let mut shown: BTreeSet<&str> = settings
        .filter_map(|line| {
            let line = line.trim_start_matches(['#', ' ', '[']);
            let line = line.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')).unwrap_or(line);
            line.split([' ', '.', ']']).next()
        })
        .collect();
    let parts =
        FILE.lines().filter_map(|line| line.strip_prefix('[')?.strip_prefix(section)?.strip_prefix('.'));
    shown.extend(parts.map(|part| part.trim_end_matches(']')));
    for field in fields::<T>() {
        assert!(shown.contains(field), "gateway.toml does not show {field} of [{section}]");
        let is_other = |line: &str| line.starts_with("##") && !line.starts_with(&format!("### `[{section}"));
        let told = MANUAL.lines().skip_while(|line| !line.ends_with(&format!("`{header}`")));
        let mut told = told.take_while(|line| !is_other(line)).filter(|line| line.contains(field));
        assert!(told.next().is_some(), "docs/configuration.md does not tell of {field} of [{section}]");
    }
}

/// The names of a struct's fields, as its deserializer asks for them.
fn fields<T: DeserializeOwned>() -> Vec<&'static str> {
    struct Probe<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = Message;

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Message> {
            Err(Message::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            _visitor: V,
        ) -> Result<V::Value, Message> {
            self.0.extend(fields);
            Err(Message::custom("the names are known now"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names = Vec::new();
    assert!(T::deserialize(Probe(&mut names)).is_err() && !names.is_empty());
    names
}
