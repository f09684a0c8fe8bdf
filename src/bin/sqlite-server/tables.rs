//! What tables there are and what is in them.

use rusqlite::{Connection, OptionalExtension, Row, params};
use schemars::JsonSchema;
use serde::Serialize;

use crate::database::{Failure, explain};
use crate::rules::OWN_PREFIX;

/// Names told in an error; a longer list would bury what went wrong.
const NAMES_IN_ERRORS: usize = 50;

/// Result of `list_tables`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TableList {
    /// Tables and views, by name.
    pub(crate) tables: Vec<TableName>,
}

/// A table or view.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TableName {
    /// Its name.
    pub(crate) name: String,
    /// `table`, `view` or `virtual`.
    pub(crate) r#type: String,
}

/// Result of `describe_table`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Table {
    /// Its name.
    name: String,
    /// `table`, `view` or `virtual`.
    r#type: String,
    /// Its columns, in order.
    columns: Vec<Column>,
    /// References to other tables.
    foreign_keys: Vec<ForeignKey>,
    /// Its indexes.
    indexes: Vec<Index>,
    /// The statement that created it.
    sql: Option<String>,
}

/// A column.
#[derive(Serialize, JsonSchema)]
struct Column {
    /// Its name.
    name: String,
    /// Its declared type; empty when there is none.
    r#type: String,
    /// True when it refuses NULL.
    not_null: bool,
    /// Its default, as an SQL expression.
    default: Option<String>,
    /// Position within the primary key, from 1; 0 when it is not part of it.
    primary_key: i64,
    /// True when it is computed from other columns and cannot be written.
    generated: bool,
}

/// A column that refers to another table.
#[derive(Serialize, JsonSchema)]
struct ForeignKey {
    /// The column here.
    column: String,
    /// The table it refers to.
    references_table: String,
    /// The column there; absent for the primary key.
    references_column: Option<String>,
    /// What happens here when the row there is deleted.
    on_delete: String,
}

/// An index.
#[derive(Serialize, JsonSchema)]
struct Index {
    /// Its name.
    name: String,
    /// True when no two rows may be alike in it.
    unique: bool,
    /// Its columns; null for an expression.
    columns: Vec<Option<String>>,
}

/// All tables and views but SQLite's and this server's own.
pub(crate) fn list(connection: &Connection) -> Result<TableList, Failure> {
    let tables = names(connection).map_err(|error| explain(connection, &error))?;
    Ok(TableList { tables })
}

/// One table in full.
pub(crate) fn describe(connection: &Connection, name: &str) -> Result<Table, Failure> {
    let described = find(connection, name)
        .and_then(|found| found.map(|table| columns_and_all(connection, table)).transpose());
    match described {
        Ok(Some(table)) => Ok(table),
        Ok(None) => {
            Err(Failure::new(format!("there is no table named `{name}`. {}", what_there_is(connection))))
        }
        Err(error) => Err(explain(connection, &error)),
    }
}

/// One sentence that names the tables.
pub(crate) fn what_there_is(connection: &Connection) -> String {
    let Ok(tables) = names(connection) else { return "list_tables lists the tables".to_owned() };
    let listed: Vec<&str> = tables.iter().take(NAMES_IN_ERRORS).map(|table| table.name.as_str()).collect();
    match tables.len() - listed.len() {
        _ if tables.is_empty() => "The database has no tables yet; create_table creates one".to_owned(),
        0 => format!("The database has: {}", listed.join(", ")),
        more => format!("The database has: {} and {more} more", listed.join(", ")),
    }
}

fn names(connection: &Connection) -> rusqlite::Result<Vec<TableName>> {
    let sql = "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow'
               AND substr(name, 1, 7) <> 'sqlite_' AND substr(name, 1, length(?1)) <> ?1
               ORDER BY name COLLATE NOCASE";
    let mut statement = connection.prepare(sql)?;
    let rows =
        statement.query_map([OWN_PREFIX], |row| Ok(TableName { name: row.get(0)?, r#type: row.get(1)? }))?;
    rows.collect()
}

fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<TableName>> {
    let sql = "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";
    connection
        .query_row(sql, [name], |row| Ok(TableName { name: row.get(0)?, r#type: row.get(1)? }))
        .optional()
}

fn columns_and_all(connection: &Connection, table: TableName) -> rusqlite::Result<Table> {
    let name = table.name;
    let columns = all(
        connection,
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) WHERE hidden <> 1",
        &name,
        |row| {
            Ok(Column {
                name: row.get(0)?,
                r#type: row.get(1)?,
                not_null: row.get(2)?,
                default: row.get(3)?,
                primary_key: row.get(4)?,
                generated: row.get::<_, i64>(5)? >= 2,
            })
        },
    )?;
    let foreign_keys = all(
        connection,
        "SELECT \"from\", \"table\", \"to\", on_delete FROM pragma_foreign_key_list(?1) ORDER BY id, seq",
        &name,
        |row| {
            Ok(ForeignKey {
                column: row.get(0)?,
                references_table: row.get(1)?,
                references_column: row.get(2)?,
                on_delete: row.get(3)?,
            })
        },
    )?;
    let mut indexes =
        all(connection, "SELECT name, \"unique\" FROM pragma_index_list(?1) ORDER BY seq", &name, |row| {
            Ok(Index { name: row.get(0)?, unique: row.get(1)?, columns: Vec::new() })
        })?;
    for index in &mut indexes {
        let sql = "SELECT name FROM pragma_index_info(?1) ORDER BY seqno";
        index.columns = all(connection, sql, &index.name, |row| row.get(0))?;
    }
    let sql = "SELECT sql FROM sqlite_schema WHERE name = ?1 AND type IN ('table', 'view')";
    let sql = connection.query_row(sql, params![name], |row| row.get(0)).optional()?.flatten();
    Ok(Table { name, r#type: table.r#type, columns, foreign_keys, indexes, sql })
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    name: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([name], read)?.collect()
}
