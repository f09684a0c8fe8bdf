//! The insights memo: what was learned from the data, kept in the database itself so that the next conversation has it.

use rusqlite::Connection;

use crate::database::{Failure, explain};

/// The resource that shows the memo.
pub(crate) const MEMO_URI: &str = "memo://insights";

/// The longest insight, in characters.
const MAX_CHARACTERS: usize = 10_000;

/// The insights shown; the table keeps all.
const SHOWN: i64 = 500;

/// Adds an insight and returns how many there are.
pub(crate) fn append(connection: &Connection, insight: &str) -> Result<i64, Failure> {
    let insight = insight.trim();
    if insight.is_empty() {
        return Err(Failure::new("the insight is empty"));
    }
    if insight.chars().count() > MAX_CHARACTERS {
        return Err(Failure::new(format!("an insight has at most {MAX_CHARACTERS} characters")));
    }
    let write = || -> rusqlite::Result<i64> {
        // Not before there is an insight: looking at a database must not change it.
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS _witgate_insights (
                 id INTEGER PRIMARY KEY,
                 insight TEXT NOT NULL,
                 created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
             )",
        )?;
        connection.execute("INSERT INTO _witgate_insights (insight) VALUES (?1)", [insight])?;
        connection.query_row("SELECT count(*) FROM _witgate_insights", [], |row| row.get(0))
    };
    write().map_err(|error| explain(connection, &error))
}

/// The memo as text, oldest insight first.
pub(crate) fn memo(connection: &Connection) -> Result<String, Failure> {
    let read = || -> rusqlite::Result<String> {
        let known: bool = connection.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name = '_witgate_insights'",
            [],
            |row| row.get(0),
        )?;
        if !known {
            return Ok("No insights have been found yet.".to_owned());
        }
        let sql = "SELECT insight FROM (SELECT id, insight FROM _witgate_insights ORDER BY id DESC LIMIT ?1)
                   ORDER BY id";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([SHOWN])?;
        let mut memo = "Insights found so far:\n".to_owned();
        while let Some(row) = rows.next()? {
            let insight: String = row.get(0)?;
            memo.push_str("\n- ");
            memo.push_str(&insight);
        }
        Ok(memo)
    };
    read().map_err(|error| explain(connection, &error))
}
