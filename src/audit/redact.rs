//! Takes secrets out of what is written down.
//!
//! Works by name (keys that look like a secret's, and rules), by shape (API keys, tokens, passwords in addresses) and by
//! value (secrets the gateway itself was given). It cannot know every secret: `arguments = "none"` writes none of them.
//! In doubt it hides too much.

mod shapes;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::config::{ArgumentMode, Config};
use crate::config::secret::Secret;

/// What stands in the place of a secret.
pub(super) const HIDDEN: &str = "[redacted]";

/// The most of one call's arguments that is written, in bytes of JSON.
const MAX_ARGUMENT_BYTES: usize = 64 * 1024;

/// Shorter texts are no secrets worth the name, and would be found everywhere.
const SHORTEST_SECRET: usize = 6;

/// Bytes of a long argument that are read beyond those shown.
const WINDOW_BYTES: usize = 4096;

/// The most that is shown of a text that is no argument, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

/// What is read of such a text. The bytes beyond those shown tell what was begun in them: a secret is not shown in half.
pub(super) const KEPT_TEXT_BYTES: usize = 4 * MAX_TEXT_BYTES;

/// How often JSON within a JSON string is looked into.
const MAX_NESTED_TEXTS: usize = 4;

/// What to hide.
pub(super) struct Redactor {
    mode: ArgumentMode,
    rules: Vec<Vec<String>>,
    max_chars: usize,
    known: Vec<Secret>,
}

impl Redactor {
    /// By the rules of `config`; `known` are secrets that must not appear anywhere.
    pub(super) fn new(config: &Config, known: Vec<Secret>) -> Self {
        let rules =
            config.redact.iter().map(|rule| rule.to_lowercase().split('.').map(str::to_owned).collect());
        Self {
            mode: config.arguments,
            rules: rules.collect(),
            max_chars: config.max_text_chars,
            known: known.into_iter().filter(|secret| secret.expose().len() >= SHORTEST_SECRET).collect(),
        }
    }

    /// Arguments as they are written: a JSON value; `None` where nothing of them is.
    pub(super) fn arguments(&self, text: &str) -> Option<Value> {
        let omitted = || Some(Value::from(format!("[{} bytes left out]", text.len())));
        match self.mode {
            ArgumentMode::None => None,
            ArgumentMode::Full => {
                Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
            }
            // What cannot be read cannot be cleaned.
            ArgumentMode::Redacted if text.trim().is_empty() => Some(Value::Object(Map::new())),
            ArgumentMode::Redacted => {
                let Ok(value) = serde_json::from_str(text) else { return omitted() };
                let cleaned = self.value(value, &mut Vec::new(), 0);
                if cleaned.to_string().len() > MAX_ARGUMENT_BYTES { omitted() } else { Some(cleaned) }
            }
        }
    }

    /// The name of something: a principal, a tool, a path.
    pub(super) fn name(&self, text: &str) -> String {
        self.beginning(text, shapes::hide_in_name)
    }

    /// What something was done to: a name, or the address of a resource, which may hold a password like any other text.
    pub(super) fn target(&self, text: &str) -> String {
        if text.contains("://") || text.contains('?') { self.text(text) } else { self.name(text) }
    }

    /// A text that is no argument, such as a reason.
    pub(super) fn text(&self, text: &str) -> String {
        self.beginning(text, shapes::hide)
    }

    /// A text as `hide` leaves it, cut where it is long.
    fn beginning(&self, text: &str, hide: impl Fn(&str, usize) -> String) -> String {
        let text = &text[..text.floor_char_boundary(KEPT_TEXT_BYTES)];
        let clean = self.without_known(text);
        if text.len() <= MAX_TEXT_BYTES {
            return hide(&clean, usize::MAX);
        }
        // As far from the end as before: half of something known may stand there.
        let behind = text.len() - MAX_TEXT_BYTES;
        let hidden = hide(&clean, MAX_TEXT_BYTES.min(clean.len().saturating_sub(behind)));
        format!("{}... [cut]", &hidden[..hidden.floor_char_boundary(MAX_TEXT_BYTES)])
    }

    fn without_known<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.known.iter().fold(Cow::Borrowed(text), |clean, secret| match clean.contains(secret.expose()) {
            true => Cow::Owned(clean.replace(secret.expose(), HIDDEN)),
            false => clean,
        })
    }

    fn value(&self, value: Value, path: &mut Vec<String>, depth: usize) -> Value {
        match value {
            Value::Object(map) => {
                let mut clean = Map::new();
                let is_secrets = names_a_secret(&map);
                for (key, value) in map {
                    path.push(key.to_lowercase());
                    let is_value = is_secrets && key.eq_ignore_ascii_case("value");
                    let is_hidden = is_value || shapes::is_secret_key(&key) || self.has_rule(path);
                    let value = if is_hidden { hidden(&value) } else { self.value(value, path, depth) };
                    path.pop();
                    // Keys come from the caller as well.
                    clean.insert(self.shown(&key), value);
                }
                Value::Object(clean)
            }
            Value::Array(items) => {
                // What follows `--password` in a command line.
                let mut is_next = false;
                let clean = items.into_iter().map(|item| {
                    let is_hidden = std::mem::replace(&mut is_next, is_secret_option(&item));
                    if is_hidden && !is_next { hidden(&item) } else { self.value(item, path, depth) }
                });
                clean.collect::<Vec<_>>().into()
            }
            Value::String(text) => Value::String(self.argument_text(&text, path, depth)),
            // The key of somebody else may consist of digits.
            Value::Number(number) => match self.text(&number.to_string()) {
                text if text.contains(HIDDEN) => Value::String(text),
                _ => Value::Number(number),
            },
            other => other,
        }
    }

    /// Text of an argument, which may itself be JSON.
    fn argument_text(&self, text: &str, path: &mut Vec<String>, depth: usize) -> String {
        if depth < MAX_NESTED_TEXTS
            && text.trim_start().starts_with(['{', '[', '"'])
            && let Ok(inner) = serde_json::from_str::<Value>(text)
        {
            return self.cut(&self.value(inner, path, depth + 1).to_string());
        }
        self.shown(text)
    }

    /// The beginning of a text. Only so much is read of it as can come to be seen.
    fn shown(&self, text: &str) -> String {
        let clean = self.without_known(text);
        let window = self.max_chars.saturating_mul(4).saturating_add(WINDOW_BYTES);
        let beginning = &clean[..clean.floor_char_boundary(window)];
        let hidden = shapes::hide(beginning, usize::MAX);
        if beginning.len() < clean.len() {
            let end = hidden.char_indices().nth(self.max_chars).map_or(hidden.len(), |(end, _)| end);
            return format!("{}... [{} characters]", &hidden[..end], text.chars().count());
        }
        self.cut(&hidden)
    }

    fn cut(&self, text: &str) -> String {
        match text.char_indices().nth(self.max_chars) {
            Some((end, _)) => format!("{}... [{} characters]", &text[..end], text.chars().count()),
            None => text.to_owned(),
        }
    }

    /// Whether a rule fits the end of `path`; places in lists are no part of it.
    fn has_rule(&self, path: &[String]) -> bool {
        self.rules.iter().any(|rule| {
            rule.len() <= path.len()
                && rule.iter().rev().zip(path.iter().rev()).all(|(pattern, name)| fits(pattern, name))
        })
    }
}

/// Nothing stays nothing, so that it can be told from something.
fn hidden(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        _ => Value::String(HIDDEN.to_owned()),
    }
}

/// Whether this is a pair such as `{"name": "password", "value": "..."}`, as lists of headers and variables have them.
fn names_a_secret(map: &Map<String, Value>) -> bool {
    let is_name = |key: &str| ["name", "key", "header", "field", "variable", "option"].contains(&key);
    map.iter().any(|(key, value)| {
        is_name(&key.to_ascii_lowercase()) && value.as_str().is_some_and(shapes::is_secret_key)
    })
}

/// `--password`, whose value is what comes next.
fn is_secret_option(value: &Value) -> bool {
    let option = value.as_str().filter(|text| text.starts_with('-'));
    option.is_some_and(|text| !text.contains(['=', ' ']) && shapes::is_secret_key(text))
}

/// Whether `name` is what `pattern` says, `*` standing for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests;
