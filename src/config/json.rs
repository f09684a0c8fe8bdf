//! Reads JSON into raw values that know their line and column.
//!
//! Promises: syntax errors have a position in the whole file, and a key that occurs twice is an error, since readers of
//! JSON disagree on which of the two counts.

use std::fmt;

use anyhow::bail;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::Error;
use super::value::{Entry, Node, Origin, Positions, Table, Value};

/// Deeper than any real file; bounds the stack.
const MAX_DEPTH: usize = 32;

/// The value a JSON document holds. `shown` names the file in errors.
pub(super) fn parse(shown: &str, text: &str) -> anyhow::Result<Node> {
    let document: &RawValue = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let problem = error.to_string();
            let problem = problem.split(" at line ").next().unwrap_or_default();
            bail!("{shown}:{line}:{column}: not valid JSON: {problem}");
        }
    };
    let source = Source { text, positions: Positions::new(shown, text) };
    Ok(source.node(document, 0)?)
}

struct Source<'a> {
    text: &'a str,
    positions: Positions<'a>,
}

impl Source<'_> {
    /// Where `raw`, a slice of the document, begins.
    fn origin(&self, raw: &RawValue) -> Origin {
        let offset = (raw.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        self.positions.origin(offset)
    }

    fn node(&self, raw: &RawValue, depth: usize) -> Result<Node, Error> {
        let origin = self.origin(raw);
        if depth > MAX_DEPTH {
            return Err(Error::other(format!("nested more than {MAX_DEPTH} levels deep")).at(&origin));
        }
        let value = self.value(raw, depth).map_err(|error| error.at(&origin))?;
        Ok(Node { origin, value })
    }

    fn value(&self, raw: &RawValue, depth: usize) -> Result<Value, Error> {
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'{') => Value::Table(self.table(read::<Pairs<'_>>(text)?, depth)?),
            Some(b'[') => {
                let items = read::<Vec<&RawValue>>(text)?.into_iter().enumerate();
                let items = items.map(|(position, item)| {
                    self.node(item, depth + 1).map_err(|error| error.within(&format!("[{position}]")))
                });
                Value::List(items.collect::<Result<_, _>>()?)
            }
            Some(b'"') => Value::String(read(text)?),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'n') => Value::Null,
            _ => match text.parse() {
                Ok(value) => Value::Integer(value),
                Err(_) => Value::Float(read(text)?),
            },
        })
    }

    fn table(&self, pairs: Pairs<'_>, depth: usize) -> Result<Table, Error> {
        let mut table = Table::default();
        for (raw_key, raw_value) in pairs.0 {
            let key: String = read(raw_key.get())?;
            let origin = self.origin(raw_key);
            if let Some(first) = table.0.iter().find(|entry| entry.key == key) {
                let message = format!("{key:?} appears twice; it is first at {}", first.origin);
                return Err(Error::other(message).at(&origin));
            }
            let node = self.node(raw_value, depth + 1).map_err(|error| error.within(&key))?;
            table.0.push(Entry { key, origin, node });
        }
        Ok(table)
    }
}

/// Reads a part of a document whose syntax has been checked.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| {
        let problem = error.to_string();
        Error::other(problem.split(" at line ").next().unwrap_or_default())
    })
}

/// Keys and values as they were written.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
