//! The MCP side: six tools and the insights memo as a resource.

use std::sync::Arc;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::schema_for_output;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, ContentBlock, Implementation, ListResourcesResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource, ResourceContents,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::database::{Database, Failure, Link, explain};
use crate::insights::{self, MEMO_URI};
use crate::rows::{self, Rest, Row};
use crate::rules::{self, Rule};
use crate::tables::{self, Table, TableList};

const INSTRUCTIONS: &str = "Works with one SQLite database. Begin with list_tables and describe_table, read with \
    read_query, change rows with write_query, add tables with create_table. One statement to a call, values written \
    as literals (text in 'single quotes'). Findings worth keeping go to append_insight; the resource memo://insights \
    has them all.";

/// The server.
#[derive(Clone)]
pub(crate) struct SqliteServer {
    database: Arc<Database>,
    tool_router: ToolRouter<Self>,
}

#[derive(Deserialize, JsonSchema)]
struct ReadQuery {
    /// One SQLite statement that only reads: SELECT, WITH ... SELECT, VALUES, EXPLAIN QUERY PLAN, or a PRAGMA that
    /// tells something. Values are literals, no placeholders. A result has at most 1000 rows: use WHERE, LIMIT and
    /// aggregates.
    query: String,
}

#[derive(Deserialize, JsonSchema)]
struct WriteQuery {
    /// One INSERT, UPDATE, DELETE or REPLACE statement in SQLite's dialect, also with WITH, ON CONFLICT or RETURNING.
    /// Values are literals, no placeholders.
    query: String,
}

#[derive(Deserialize, JsonSchema)]
struct CreateTable {
    /// One CREATE TABLE statement in SQLite's dialect, for example CREATE TABLE IF NOT EXISTS notes (id INTEGER
    /// PRIMARY KEY, text TEXT NOT NULL).
    query: String,
}

#[derive(Deserialize, JsonSchema)]
struct DescribeTable {
    /// Name of the table or view, as list_tables gives it.
    table_name: String,
}

#[derive(Deserialize, JsonSchema)]
struct AppendInsight {
    /// The finding, as one self-contained sentence or short paragraph.
    insight: String,
}

/// Result of `read_query`.
#[derive(Serialize, JsonSchema)]
struct QueryResult {
    /// The rows: column name to value. A blob is {"type": "blob", "bytes": length, "base64": data}.
    rows: Vec<Row>,
    /// Number of rows here.
    #[schemars(transform = without_format)]
    row_count: usize,
    /// True when the query has more rows than are here.
    truncated: bool,
}

/// Result of `write_query`.
#[derive(Serialize, JsonSchema)]
struct WriteResult {
    /// Rows inserted, updated or deleted, those changed by triggers and foreign keys not counted.
    #[schemars(transform = without_format)]
    affected_rows: u64,
    /// What a RETURNING clause returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<Row>>,
    /// True when RETURNING returned more rows than are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
}

/// Result of `create_table`.
#[derive(Serialize, JsonSchema)]
struct CreateResult {
    /// False when a table of that name existed already (IF NOT EXISTS) and nothing was changed.
    created: bool,
}

/// Result of `append_insight`.
#[derive(Serialize, JsonSchema)]
struct InsightResult {
    /// Number of insights in the memo now.
    insights: i64,
}

/// `uint64` and the like are Rust's: clients that check formats complain of those they do not know.
fn without_format(schema: &mut Schema) {
    schema.remove("format");
}

#[tool_router]
impl SqliteServer {
    /// A server over `database`.
    pub(crate) fn new(database: Database) -> Self {
        Self { database: Arc::new(database), tool_router: Self::tool_router() }
    }

    #[tool(
        description = "Run one statement that only reads the SQLite database (SELECT and the like) and get its rows \
            as a JSON array of objects.",
        output_schema = schema_for_output::<QueryResult>(),
        annotations(title = "Read", read_only_hint = true, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn read_query(
        &self,
        Parameters(ReadQuery { query }): Parameters<ReadQuery>,
        cancelled: CancellationToken,
    ) -> CallToolResult {
        result(self.database.read(cancelled, move |link| read(link, &query)).await)
    }

    #[tool(
        description = "Change rows of the SQLite database with one INSERT, UPDATE, DELETE or REPLACE statement and get \
            the number of affected rows. The change is permanent.",
        output_schema = schema_for_output::<WriteResult>(),
        annotations(title = "Write", read_only_hint = false, destructive_hint = true, idempotent_hint = false, open_world_hint = false)
    )]
    async fn write_query(
        &self,
        Parameters(WriteQuery { query }): Parameters<WriteQuery>,
        cancelled: CancellationToken,
    ) -> CallToolResult {
        result(self.database.write(cancelled, move |link| write(link, &query)).await)
    }

    #[tool(
        description = "Create a table in the SQLite database with one CREATE TABLE statement.",
        output_schema = schema_for_output::<CreateResult>(),
        annotations(title = "Create table", read_only_hint = false, destructive_hint = false, idempotent_hint = false, open_world_hint = false)
    )]
    async fn create_table(
        &self,
        Parameters(CreateTable { query }): Parameters<CreateTable>,
        cancelled: CancellationToken,
    ) -> CallToolResult {
        result(self.database.write(cancelled, move |link| create(link, &query)).await)
    }

    #[tool(
        description = "List the tables and views of the SQLite database.",
        output_schema = schema_for_output::<TableList>(),
        annotations(title = "List tables", read_only_hint = true, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn list_tables(&self, cancelled: CancellationToken) -> CallToolResult {
        let list = |link: &Link| {
            let list = tables::list(&link.connection)?;
            Ok(answer(json!(list.tables).to_string(), &list))
        };
        result(self.database.read(cancelled, list).await)
    }

    #[tool(
        description = "Describe a table or view of the SQLite database: columns with types, defaults and keys, foreign \
            keys, indexes, and the statement that created it.",
        output_schema = schema_for_output::<Table>(),
        annotations(title = "Describe table", read_only_hint = true, destructive_hint = false, idempotent_hint = true, open_world_hint = false)
    )]
    async fn describe_table(
        &self,
        Parameters(DescribeTable { table_name }): Parameters<DescribeTable>,
        cancelled: CancellationToken,
    ) -> CallToolResult {
        let describe = move |link: &Link| {
            let table = tables::describe(&link.connection, &table_name)?;
            Ok(answer(json!(table).to_string(), &table))
        };
        result(self.database.read(cancelled, describe).await)
    }

    #[tool(
        description = "Add a finding about the data to the insights memo (the resource memo://insights). It is kept \
            with the database for later conversations.",
        output_schema = schema_for_output::<InsightResult>(),
        annotations(title = "Append insight", read_only_hint = false, destructive_hint = false, idempotent_hint = false, open_world_hint = false)
    )]
    async fn append_insight(
        &self,
        Parameters(AppendInsight { insight }): Parameters<AppendInsight>,
        cancelled: CancellationToken,
    ) -> CallToolResult {
        let append = move |link: &Link| {
            let insights = insights::append(&link.connection, &insight)?;
            let text = format!("Insight added to the memo, which has {insights} now.");
            Ok(answer(text, &InsightResult { insights }))
        };
        result(self.database.write(cancelled, append).await)
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for SqliteServer {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        let name = Implementation::new("sqlite-server", env!("CARGO_PKG_VERSION")).with_title("SQLite");
        ServerConfig::new(capabilities).with_server_info(name).with_instructions(INSTRUCTIONS)
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let memo = Resource::new(MEMO_URI, "insights")
            .with_title("Insights memo")
            .with_description("What was learned from the data so far, one finding to a line.")
            .with_mime_type("text/plain");
        Ok(ListResourcesResult::with_all_items(vec![memo]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != MEMO_URI {
            let text = format!("there is no resource `{}`; the only one is {MEMO_URI}", request.uri);
            return Err(ErrorData::resource_not_found(text, None));
        }
        match self.database.read(context.ct, |link| insights::memo(&link.connection)).await {
            Ok(memo) => Ok(ReadResourceResult::new(vec![ResourceContents::text(memo, MEMO_URI)]).into()),
            Err(Failure(text)) => Err(ErrorData::internal_error(text, None)),
        }
    }
}

fn read(link: &Link, query: &str) -> Result<CallToolResult, Failure> {
    let mut allowed = rules::prepare(link, query, Rule::Read)?;
    let found = match rows::collect(&mut allowed.statement, Rest::Leave) {
        Ok(found) => found,
        Err(error) => return Err(allowed.failure(&link.connection, &error)),
    };
    let note = found.note();
    let structured =
        QueryResult { row_count: found.rows.len(), truncated: found.truncated, rows: found.rows };
    let mut result = answer(found.text, &structured);
    // A block of its own, so that the first one stays JSON.
    result.content.extend(note.map(ContentBlock::text));
    Ok(result)
}

fn write(link: &Link, query: &str) -> Result<CallToolResult, Failure> {
    let mut allowed = rules::prepare(link, query, Rule::Write)?;
    let returns = allowed.statement.column_count() > 0;
    let found = match rows::collect(&mut allowed.statement, Rest::Finish) {
        Ok(found) => found,
        Err(error) => return Err(allowed.failure(&link.connection, &error)),
    };
    let note = found.note();
    let structured = WriteResult {
        affected_rows: link.connection.changes(),
        rows: returns.then_some(found.rows),
        truncated: returns.then_some(found.truncated),
    };
    let mut result = answer(json!(structured).to_string(), &structured);
    result.content.extend(note.map(ContentBlock::text));
    Ok(result)
}

fn create(link: &Link, query: &str) -> Result<CallToolResult, Failure> {
    let version = || -> Result<i64, Failure> {
        let version = link.connection.pragma_query_value(None, "schema_version", |row| row.get(0));
        version.map_err(|error| explain(&link.connection, &error))
    };
    let before = version()?;
    let mut allowed = rules::prepare(link, query, Rule::CreateTable)?;
    if let Err(error) = allowed.statement.raw_execute() {
        return Err(allowed.failure(&link.connection, &error));
    }
    drop(allowed);
    let created = version()? != before;
    let text = if created {
        "The table was created."
    } else {
        "A table of that name exists already; nothing was changed."
    };
    Ok(answer(text.to_owned(), &CreateResult { created }))
}

fn answer(text: String, structured: &impl Serialize) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    // Only a map with keys that are no strings cannot become JSON, and there is none here.
    result.structured_content = serde_json::to_value(structured).ok().filter(Value::is_object);
    result
}

fn result(outcome: Result<CallToolResult, Failure>) -> CallToolResult {
    outcome.unwrap_or_else(|Failure(text)| CallToolResult::error(vec![ContentBlock::text(text)]))
}
