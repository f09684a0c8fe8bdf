//! Raw configuration: a tree of values that remember where each of them was written.
//!
//! TOML, JSON, environment variables and flags all become this tree, so layering and error messages exist once. Values
//! have no `Debug`, since any of them may be a secret.

use std::fmt;
use std::sync::Arc;

use super::file::parse_value;

/// Where a value or a key was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In a file; line and column count from 1.
    File {
        /// The file, as the operator would name it.
        file: Arc<str>,
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// In a variable of the process environment.
    Variable {
        /// Its name.
        name: String,
    },
    /// In a variable of an environment file (`.env`).
    FileVariable {
        /// The file.
        file: Arc<str>,
        /// Line, from 1.
        line: usize,
        /// Its name.
        name: String,
    },
    /// In a command line flag.
    Flag {
        /// Its name, with the dashes.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Variable { name } => write!(f, "environment variable {name}"),
            Self::FileVariable { file, line, name } => write!(f, "{file}:{line}: {name}"),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

impl Origin {
    /// The name of the variable, if it is one.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Self::Variable { name } | Self::FileVariable { name, .. } => Some(name),
            Self::File { .. } | Self::Flag { .. } => None,
        }
    }
}

/// A value and where it is from.
#[derive(Clone)]
pub(super) struct Node {
    /// Where it was written.
    pub(super) origin: Origin,
    /// What was written.
    pub(super) value: Value,
}

/// What was written.
#[derive(Clone)]
pub(super) enum Value {
    /// JSON `null`: the same as leaving the key out.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    String(String),
    /// The text of a variable: a string, number, boolean, list or table, whichever the reader wants.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// Keys and values in the order they were written; no key occurs twice.
#[derive(Clone, Default)]
pub(super) struct Table(pub(super) Vec<Entry>);

/// One key of a table.
#[derive(Clone)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key was written.
    pub(super) origin: Origin,
    /// Its value.
    pub(super) node: Node,
}

impl Node {
    /// The value as text, where it is a scalar.
    pub(super) fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Integer(value) => Some(value.to_string()),
            Value::Float(value) => Some(value.to_string()),
            Value::String(text) | Value::Text(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Table(_) => None,
        }
    }

    /// Takes the key at `path` out; list positions are `[n]`. False when it is not there.
    pub(super) fn remove(&mut self, path: &[String]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        match &mut self.value {
            Value::Table(table) if rest.is_empty() => {
                let before = table.0.len();
                table.0.retain(|entry| entry.key != *first);
                table.0.len() < before
            }
            Value::Table(table) => {
                let entry = table.0.iter_mut().find(|entry| entry.key == *first);
                entry.is_some_and(|entry| entry.node.remove(rest))
            }
            Value::List(items) => {
                let position = first.trim_matches(['[', ']']).parse::<usize>();
                position.ok().and_then(|at| items.get_mut(at)).is_some_and(|item| item.remove(rest))
            }
            _ => false,
        }
    }

    /// Puts `value` at `path` below this node; tables and list items on the way are made as needed.
    fn set(&mut self, path: &[String], value: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if let Value::Text(text) = &self.value
            && let Some(parsed) = parse_value(text, &self.origin)
        {
            *self = parsed;
        }
        if let Value::List(items) = &mut self.value
            && let Ok(index) = first.parse::<usize>()
            && index <= items.len()
        {
            if index == items.len() {
                items.push(Self { origin: value.origin.clone(), value: Value::Table(Table::default()) });
            }
            items[index].set(rest, value);
            return;
        }
        if !matches!(self.value, Value::Table(_)) {
            *self = Self { origin: value.origin.clone(), value: Value::Table(Table::default()) };
        }
        if let Value::Table(table) = &mut self.value {
            table.set(path, value);
        }
    }
}

impl Table {
    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The value at `path`.
    pub(super) fn find(&self, path: &[String]) -> Option<&Node> {
        let (first, rest) = path.split_first()?;
        let node = self.get(first)?;
        match &node.value {
            _ if rest.is_empty() => Some(node),
            Value::Table(table) => table.find(rest),
            _ => None,
        }
    }

    /// Puts `value` at `path`, over whatever a lower layer has there.
    pub(super) fn set(&mut self, path: &[String], value: Node) {
        let Some((first, rest)) = path.split_first() else { return };
        let known =
            self.0.iter().position(|entry| entry.key == *first || same_in_variable(&entry.key, first));
        if let Some(known) = known {
            self.0[known].node.set(rest, value);
            return;
        }
        let origin = value.origin.clone();
        let mut node = Node { origin: origin.clone(), value: Value::Table(Table::default()) };
        node.set(rest, value);
        self.0.push(Entry { key: first.clone(), origin, node });
    }
}

/// Variable names cannot spell every key: `gpt-4o` in the file is `GPT_4O` there.
fn same_in_variable(key: &str, segment: &str) -> bool {
    let spelled = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    spelled.eq(segment.chars())
}

/// Finds line and column of byte offsets in a text.
pub(super) struct Positions<'a> {
    file: Arc<str>,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Positions<'a> {
    /// Positions in `text`, the content of `file`.
    pub(super) fn new(file: &str, text: &'a str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { file: file.into(), text, line_starts: std::iter::once(0).chain(starts).collect() }
    }

    /// Where byte `offset` is.
    pub(super) fn origin(&self, offset: usize) -> Origin {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        Origin::File { file: Arc::clone(&self.file), line, column }
    }
}
