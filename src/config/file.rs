//! Reads TOML into raw values that know their line, and small files into memory.
//!
//! Promises: a missing file is told apart from an unreadable one, and an unreasonably large one is refused unread.

use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, bail};
use toml::de::{DeTable, DeValue};

use super::value::{Entry, Node, Origin, Positions, Table, Value};

/// Far above any sensible configuration; guards against a wrong path, for example a database.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The text of `path` without a byte order mark; `None` when there is no such file or it is a folder. `shown` names it in errors.
pub(super) fn read(path: &Path, shown: &str) -> anyhow::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{shown}: cannot open the file")),
    };
    // Python programmers have folders called `.env`.
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{shown}: cannot read the file"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("{shown}: larger than {MAX_FILE_BYTES} bytes; this is not a configuration file");
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        anyhow::anyhow!("{shown}:{line}: the file is not UTF-8 text")
    })?;
    Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

/// The table a TOML document holds. `shown` names the file in errors.
pub(super) fn parse_toml(shown: &str, text: &str) -> anyhow::Result<Table> {
    let positions = Positions::new(shown, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        let origin = positions.origin(error.span().map_or(0, |span| span.start));
        bail!("{origin}: not valid TOML: {}", error.message());
    }
    Ok(table(document.get_ref(), &|offset| positions.origin(offset))?)
}

/// `text` as one TOML value, all of it from `origin`; `None` when it is none.
pub(super) fn parse_value(text: &str, origin: &Origin) -> Option<Node> {
    let value = DeValue::parse(text.trim()).ok()?;
    node(value.get_ref(), 0, &|_| origin.clone()).ok()
}

/// A value given by a flag.
pub(super) fn from_toml(value: &toml::Value, origin: &Origin) -> Node {
    let value = match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(value) => Value::Integer(*value),
        toml::Value::Float(value) => Value::Float(*value),
        toml::Value::Boolean(value) => Value::Bool(*value),
        toml::Value::Datetime(value) => Value::String(value.to_string()),
        toml::Value::Array(items) => Value::List(items.iter().map(|item| from_toml(item, origin)).collect()),
        toml::Value::Table(entries) => {
            let entries = entries.iter().map(|(key, value)| Entry {
                key: key.clone(),
                origin: origin.clone(),
                node: from_toml(value, origin),
            });
            Value::Table(Table(entries.collect()))
        }
    };
    Node { origin: origin.clone(), value }
}

type At<'a> = &'a dyn Fn(usize) -> Origin;

fn table(source: &DeTable<'_>, at: At<'_>) -> Result<Table, super::error::Error> {
    let entries = source.iter().map(|(key, value)| {
        let origin = at(key.span().start);
        // The header of a table is a better place to point at than the first byte of what it holds.
        let offset =
            if matches!(value.get_ref(), DeValue::Table(_)) { key.span().start } else { value.span().start };
        let node = node(value.get_ref(), offset, at).map_err(|error| error.within(key.get_ref()))?;
        Ok(Entry { key: key.get_ref().to_string(), origin, node })
    });
    entries.collect::<Result<_, _>>().map(Table)
}

fn node(source: &DeValue<'_>, offset: usize, at: At<'_>) -> Result<Node, super::error::Error> {
    let origin = at(offset);
    let value =
        match source {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(value) => {
                let parsed = i64::from_str_radix(value.as_str(), value.radix());
                Value::Integer(parsed.map_err(|_| {
                    super::error::Error::other("the number does not fit in 64 bits").at(&origin)
                })?)
            }
            DeValue::Float(value) => {
                Value::Float(value.as_str().parse().map_err(|_| {
                    super::error::Error::other("the number cannot be represented").at(&origin)
                })?)
            }
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(value) => Value::String(value.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| node(item.get_ref(), item.span().start, at));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            DeValue::Table(entries) => Value::Table(table(entries, at)?),
        };
    Ok(Node { origin, value })
}
