//! Rows as JSON objects: columns in their order, integers exact, blobs marked, and never more than a model can read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Statement;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};

/// The most rows a result has.
pub(crate) const MAX_ROWS: usize = 1000;

/// The most JSON text a result has, in bytes.
pub(crate) const MAX_BYTES: usize = 200_000;

/// One row: column name to value.
pub(crate) type Row = Map<String, Value>;

/// The rows of a result.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    /// The rows as a JSON array.
    pub(crate) text: String,
    /// True when there were more than fit.
    pub(crate) truncated: bool,
}

/// What to do with rows beyond the limit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Do not ask for them.
    Leave,
    /// Step over them: the statement has effects that must be finished.
    Finish,
}

/// Runs the statement and takes the rows that fit.
pub(crate) fn collect(statement: &mut Statement<'_>, rest: Rest) -> rusqlite::Result<Rows> {
    let names = column_names(statement);
    let mut found = Rows { text: "[".to_owned(), ..Rows::default() };
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if !found.truncated {
            found.truncated = !found.add(row, &names)?;
        }
        if found.truncated && rest == Rest::Leave {
            break;
        }
    }
    found.text.push(']');
    Ok(found)
}

impl Rows {
    /// False when the row does not fit.
    fn add(&mut self, row: &rusqlite::Row<'_>, names: &[String]) -> rusqlite::Result<bool> {
        if self.rows.len() == MAX_ROWS {
            return Ok(false);
        }
        let mut object = Row::with_capacity(names.len());
        let mut size = 0;
        for (column, name) in names.iter().enumerate() {
            let value = row.get_ref(column)?;
            // Before it is encoded: a value can be much longer than all that is shown.
            size += bytes(value);
            if size > MAX_BYTES {
                return Ok(false);
            }
            object.insert(name.clone(), json_value(value));
        }
        let text = Value::Object(object.clone()).to_string();
        if self.text.len() + text.len() + 2 > MAX_BYTES {
            return Ok(false);
        }
        if !self.rows.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(&text);
        self.rows.push(object);
        Ok(true)
    }

    /// What the reader of a truncated result should know.
    pub(crate) fn note(&self) -> Option<String> {
        let shown = self.rows.len();
        match (self.truncated, shown) {
            (false, _) => None,
            (true, 0) => Some(format!(
                "The first row alone is longer than {MAX_BYTES} bytes, so no row is shown. Select fewer columns, or \
                 parts of long values with substr(column, 1, 1000) and length(column)."
            )),
            (true, _) => Some(format!(
                "Only the first {shown} rows are shown; a result has at most {MAX_ROWS} rows and {MAX_BYTES} bytes. \
                 Narrow the query down, aggregate, or page through it with ORDER BY ... LIMIT ... OFFSET."
            )),
        }
    }
}

/// Names as keys: one that occurs again gets a number, as SQLite itself does in subqueries.
fn column_names(statement: &Statement<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(statement.column_count());
    for name in statement.column_names() {
        let mut unique = name.to_owned();
        let mut number = 1;
        while names.contains(&unique) {
            unique = format!("{name}:{number}");
            number += 1;
        }
        names.push(unique);
    }
    names
}

fn bytes(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 8,
    }
}

fn json_value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::from(number),
        // JSON has no infinities; SQLite has no NaN.
        ValueRef::Real(number) if number.is_infinite() => {
            Value::from(if number > 0.0 { "Infinity" } else { "-Infinity" })
        }
        ValueRef::Real(number) => Value::from(number),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            // SQLite stores whatever it is given as text; these bytes are none.
            Err(_) => blob(bytes),
        },
        ValueRef::Blob(bytes) => blob(bytes),
    }
}

fn blob(bytes: &[u8]) -> Value {
    json!({"type": "blob", "bytes": bytes.len(), "base64": STANDARD.encode(bytes)})
}
