//! What each tool may do, decided while SQLite compiles the statement.
//!
//! The authorizer is asked about every table, function, pragma and schema change a statement contains, whatever it
//! begins with: `WITH ... INSERT`, `VACUUM INTO` and triggers are seen for what they are. What comes of a tool is then
//! checked once more on the compiled statement. Everything that is not named here is refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, Statement};

use crate::database::{Failure, Link, explain};

/// The tools that take SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// `read_query`: anything that only reads.
    Read,
    /// `write_query`: INSERT, UPDATE, DELETE and REPLACE.
    Write,
    /// `create_table`: CREATE TABLE.
    CreateTable,
}

/// Tables of this server's own; only `append_insight` writes to them.
pub(crate) const OWN_PREFIX: &str = "_witgate_";

/// Pragmas that only tell something; each also is a table-valued function.
const INFORMATION: [&str; 18] = [
    "collation_list",
    "compile_options",
    "data_version",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "page_size",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Pragmas that tell something without a value and change it with one.
const INFORMATION_WITHOUT_VALUE: [&str; 3] = ["application_id", "schema_version", "user_version"];

/// The rule in force on a connection, and what its authorizer saw.
#[derive(Clone, Default)]
pub(crate) struct Rules(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// `None` while the server itself works.
    rule: Option<Rule>,
    seen: Seen,
}

#[derive(Clone, Default)]
struct Seen {
    /// The first thing that was refused.
    refusal: Option<String>,
    writes: bool,
    creates: bool,
}

impl Rules {
    /// Puts a new connection under rules; without one in force everything is allowed.
    pub(crate) fn install(connection: &mut Connection) -> rusqlite::Result<Self> {
        let rules = Self::default();
        let told = rules.clone();
        connection.authorizer(Some(move |context: AuthContext<'_>| told.authorize(&context)))?;
        Ok(rules)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Seen {
        self.state().seen.clone()
    }

    fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        let mut state = self.state();
        let Some(rule) = state.rule else { return Authorization::Allow };
        match judge(rule, context) {
            Ok(()) => {
                state.seen.note(&context.action);
                Authorization::Allow
            }
            Err(refusal) => {
                state.seen.refusal.get_or_insert(refusal);
                Authorization::Deny
            }
        }
    }
}

impl Seen {
    fn note(&mut self, action: &AuthAction<'_>) {
        match action {
            AuthAction::Insert { .. } | AuthAction::Update { .. } | AuthAction::Delete { .. } => {
                self.writes = true;
            }
            AuthAction::CreateTable { .. } => self.creates = true,
            _ => {}
        }
    }
}

/// A statement that keeps to its tool's rule. The rule stays in force until this is dropped, since SQLite compiles
/// again when the schema changes and some statements compile others while they run.
pub(crate) struct Allowed<'c> {
    pub(crate) statement: Statement<'c>,
    in_force: InForce<'c>,
}

struct InForce<'c>(&'c Rules);

impl Drop for InForce<'_> {
    fn drop(&mut self) {
        self.0.state().rule = None;
    }
}

/// Compiles `sql` for the tool of `rule`.
pub(crate) fn prepare<'c>(link: &'c Link, sql: &str, rule: Rule) -> Result<Allowed<'c>, Failure> {
    *link.rules.state() = State { rule: Some(rule), seen: Seen::default() };
    let in_force = InForce(&link.rules);
    match link.connection.prepare(sql) {
        Ok(statement) => {
            check(&statement, rule, &link.rules.seen())?;
            Ok(Allowed { statement, in_force })
        }
        Err(error) => Err(in_force.failure(&link.connection, &error)),
    }
}

impl Allowed<'_> {
    /// What SQLite said while the statement ran, in words.
    pub(crate) fn failure(self, connection: &Connection, error: &rusqlite::Error) -> Failure {
        self.in_force.failure(connection, error)
    }
}

impl InForce<'_> {
    fn failure(self, connection: &Connection, error: &rusqlite::Error) -> Failure {
        let refusal = self.0.seen().refusal;
        // Lifted first, because explaining asks the database for its tables.
        drop(self);
        refusal.map_or_else(|| explain(connection, error), Failure)
    }
}

fn check(statement: &Statement<'_>, rule: Rule, seen: &Seen) -> Result<(), Failure> {
    if statement.parameter_count() > 0 {
        return Err(Failure::new(
            "the statement has placeholders (`?`, `:name`), and there is nothing to fill them with: write the \
             values into it as literals",
        ));
    }
    let problem = match rule {
        Rule::Read if !statement.readonly() => "read_query only reads, and this statement writes",
        Rule::Read if statement.column_count() == 0 => {
            "this statement gives no rows: read_query takes a SELECT (or WITH ... SELECT, VALUES, EXPLAIN)"
        }
        Rule::Write if statement.readonly() && !seen.writes => {
            "this statement changes no rows: write_query takes INSERT, UPDATE, DELETE or REPLACE; use read_query to read"
        }
        Rule::Write if statement.is_explain() != 0 => {
            "use read_query to EXPLAIN a SELECT; write_query runs statements"
        }
        Rule::Write if !seen.writes => "write_query takes INSERT, UPDATE, DELETE or REPLACE only",
        Rule::CreateTable if !seen.creates || statement.is_explain() != 0 => {
            "create_table takes one CREATE TABLE statement; use read_query to read and write_query to change rows"
        }
        Rule::Read | Rule::Write | Rule::CreateTable => return Ok(()),
    };
    Err(Failure::new(problem))
}

fn judge(rule: Rule, context: &AuthContext<'_>) -> Result<(), String> {
    let refused = || Err(refusal(rule, &context.action));
    match context.action {
        AuthAction::Select | AuthAction::Recursive | AuthAction::Read { .. } => Ok(()),
        AuthAction::Function { function_name } if is(function_name, "load_extension") => {
            Err("load_extension() is refused: this server loads no extensions".to_owned())
        }
        AuthAction::Function { .. } => Ok(()),
        AuthAction::Pragma { pragma_name, pragma_value } if only_tells(pragma_name, pragma_value) => Ok(()),
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            Err("ATTACH, DETACH and VACUUM are refused: this server works with its one database only"
                .to_owned())
        }
        AuthAction::Insert { table_name } | AuthAction::Delete { table_name } => {
            judge_change(rule, table_name, context)
        }
        AuthAction::Update { table_name, .. } => judge_change(rule, table_name, context),
        AuthAction::CreateTable { table_name } if rule == Rule::CreateTable => keep_off_own(table_name),
        // SQLite makes one for each UNIQUE and PRIMARY KEY of the new table.
        AuthAction::CreateIndex { index_name, .. }
            if rule == Rule::CreateTable && index_name.starts_with("sqlite_autoindex_") =>
        {
            Ok(())
        }
        _ => refused(),
    }
}

fn judge_change(rule: Rule, table_name: &str, context: &AuthContext<'_>) -> Result<(), String> {
    // Every change of the schema is a change of this table first; what kind of change it is comes next.
    let is_schema = ["sqlite_master", "sqlite_temp_master"].iter().any(|schema| is(table_name, schema));
    match rule {
        Rule::CreateTable if is_schema => Ok(()),
        Rule::Write if !is_schema => keep_off_own(table_name),
        Rule::Read | Rule::Write if is_schema => Ok(()),
        Rule::Read | Rule::Write | Rule::CreateTable => Err(refusal(rule, &context.action)),
    }
}

fn keep_off_own(table_name: &str) -> Result<(), String> {
    let own = table_name.get(..OWN_PREFIX.len()).is_some_and(|start| is(start, OWN_PREFIX));
    if own {
        return Err(format!(
            "`{table_name}` is refused: names that begin with `{OWN_PREFIX}` are this server's own"
        ));
    }
    Ok(())
}

fn only_tells(name: &str, value: Option<&str>) -> bool {
    let listed = |names: &[&str]| names.iter().any(|known| is(name, known));
    match value {
        // These two would be changed by a value.
        Some(_) if is(name, "encoding") || is(name, "page_size") => false,
        Some(_) => listed(&INFORMATION),
        None => listed(&INFORMATION) || listed(&INFORMATION_WITHOUT_VALUE),
    }
}

fn is(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn refusal(rule: Rule, action: &AuthAction<'_>) -> String {
    let what = describe(action);
    let hint = match (rule, action) {
        (
            Rule::Read | Rule::CreateTable,
            AuthAction::Insert { .. } | AuthAction::Update { .. } | AuthAction::Delete { .. },
        ) => ". Use write_query to change rows",
        (Rule::Read | Rule::Write, AuthAction::CreateTable { .. }) => ". Use create_table to create a table",
        (Rule::Write, AuthAction::Pragma { .. }) => ". Use read_query for PRAGMAs that tell something",
        (_, AuthAction::CreateTempTable { .. }) => ", since the other tools would not see it",
        (_, AuthAction::Transaction { .. } | AuthAction::Savepoint { .. }) => {
            ": each statement is a transaction of its own"
        }
        _ => "",
    };
    match rule {
        Rule::Read => format!("read_query only reads: {what} is refused{hint}"),
        Rule::Write => {
            format!("write_query runs INSERT, UPDATE, DELETE and REPLACE only: {what} is refused{hint}")
        }
        Rule::CreateTable => format!("create_table runs CREATE TABLE only: {what} is refused{hint}"),
    }
}

fn describe(action: &AuthAction<'_>) -> String {
    match action {
        AuthAction::Insert { table_name } => format!("INSERT into `{table_name}`"),
        AuthAction::Update { table_name, .. } => format!("UPDATE of `{table_name}`"),
        AuthAction::Delete { table_name } => format!("DELETE from `{table_name}`"),
        AuthAction::Pragma { pragma_name, pragma_value: Some(_) } => {
            format!("PRAGMA {pragma_name} with a value")
        }
        AuthAction::Pragma { pragma_name, .. } => format!("PRAGMA {pragma_name}"),
        AuthAction::CreateTable { .. } => "CREATE TABLE".to_owned(),
        AuthAction::CreateTempTable { .. } => "CREATE TEMP TABLE".to_owned(),
        AuthAction::CreateVtable { .. } => "CREATE VIRTUAL TABLE".to_owned(),
        AuthAction::CreateIndex { .. } | AuthAction::CreateTempIndex { .. } => "CREATE INDEX".to_owned(),
        AuthAction::CreateTrigger { .. } | AuthAction::CreateTempTrigger { .. } => {
            "CREATE TRIGGER".to_owned()
        }
        AuthAction::CreateView { .. } | AuthAction::CreateTempView { .. } => "CREATE VIEW".to_owned(),
        AuthAction::DropTable { .. } | AuthAction::DropTempTable { .. } | AuthAction::DropVtable { .. } => {
            "DROP TABLE".to_owned()
        }
        AuthAction::DropIndex { .. } | AuthAction::DropTempIndex { .. } => "DROP INDEX".to_owned(),
        AuthAction::DropTrigger { .. } | AuthAction::DropTempTrigger { .. } => "DROP TRIGGER".to_owned(),
        AuthAction::DropView { .. } | AuthAction::DropTempView { .. } => "DROP VIEW".to_owned(),
        AuthAction::AlterTable { .. } => "ALTER TABLE".to_owned(),
        AuthAction::Transaction { .. } => "a transaction statement".to_owned(),
        AuthAction::Savepoint { .. } => "SAVEPOINT".to_owned(),
        AuthAction::Analyze { .. } => "ANALYZE".to_owned(),
        AuthAction::Reindex { .. } => "REINDEX".to_owned(),
        _ => "this kind of statement".to_owned(),
    }
}
