//! The SQLite MCP server, driven as a client would: the real binary, over its standard streams.

mod client;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use client::{Answer, Client, binary};

/// Counts for a very long time.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000000) SELECT count(*) FROM n";

#[test]
fn every_protocol_version_works() {
    let versions = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];
    for version in versions {
        let mut client = if version == "2026-07-28" {
            Client::start_stateless(&[":memory:"], version)
        } else {
            Client::start(&[":memory:"], version)
        };
        let tools = client.request("tools/list", json!({}))["result"]["tools"].clone();
        let mut names: Vec<&str> =
            tools.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        let expected =
            ["append_insight", "create_table", "describe_table", "list_tables", "read_query", "write_query"];
        assert_eq!(names, expected, "{version}");
        client.ok("create_table", "CREATE TABLE t (x)");
        client.ok("write_query", "INSERT INTO t VALUES (7)");
        assert_eq!(client.ok("read_query", "SELECT x FROM t").text(), r#"[{"x":7}]"#, "{version}");
        assert!(client.close().success());
    }
}

#[test]
fn tools_say_what_they_are() {
    let mut client = Client::in_memory();
    let tools = client.request("tools/list", json!({}))["result"]["tools"].clone();
    for tool in tools.as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        let reads = matches!(name, "read_query" | "list_tables" | "describe_table");
        let hints = &tool["annotations"];
        assert_eq!(hints["readOnlyHint"], reads, "{name}");
        assert_eq!(hints["destructiveHint"], name == "write_query", "{name}");
        assert_eq!(hints["idempotentHint"], reads, "{name}");
        assert_eq!(hints["openWorldHint"], false, "{name}");
        assert!(tool["description"].as_str().unwrap().len() > 20, "{name}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{name}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{name}");
        // Clients that check formats complain of those they do not know.
        assert!(!tool.to_string().contains(r#""format":"uint"#), "{tool}");
        for (argument, schema) in tool["inputSchema"]["properties"].as_object().unwrap() {
            assert!(schema["description"].as_str().unwrap().len() > 20, "{name}.{argument}");
        }
    }
}

#[test]
fn rows_keep_order_and_values() {
    let mut client = Client::in_memory();
    let answer = client.ok(
        "read_query",
        "SELECT 9223372036854775807 AS z, -1 AS a, 1.5 AS m, 1e999 AS inf, NULL AS none, 'ü \"' AS t,
         x'0001ff' AS b, 1 AS a, CAST(x'ff' AS TEXT) AS broken",
    );
    let expected = r#"[{"z":9223372036854775807,"a":-1,"m":1.5,"inf":"Infinity","none":null,"t":"ü \"","b":{"type":"blob","bytes":3,"base64":"AAH/"},"a:1":1,"broken":{"type":"blob","bytes":1,"base64":"/w=="}}]"#;
    assert_eq!(answer.text(), expected);
    let structured = &answer.structured;
    assert_eq!(structured["rows"], serde_json::from_str::<Value>(expected).unwrap());
    assert_eq!((&structured["row_count"], &structured["truncated"]), (&json!(1), &json!(false)));
    assert_eq!(client.ok("read_query", "SELECT 1 WHERE 0").text(), "[]");
}

#[test]
fn long_results_are_cut_and_say_so() {
    let mut client = Client::in_memory();
    let series = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)";
    let answer = client.ok("read_query", &format!("{series} SELECT i FROM n"));
    assert_eq!(answer.structured["row_count"], 1000);
    assert_eq!(answer.structured["truncated"], true);
    assert_eq!(serde_json::from_str::<Value>(answer.text()).unwrap().as_array().unwrap().len(), 1000);
    assert!(answer.texts[1].contains("Only the first 1000 rows"), "{:?}", answer.texts[1]);

    let answer = client.ok("read_query", &format!("{series} SELECT i, hex(zeroblob(5000)) FROM n"));
    assert!(answer.text().len() <= 200_000);
    assert_eq!(answer.structured["row_count"], 19);

    let answer = client.ok("read_query", "SELECT zeroblob(30000000)");
    assert_eq!(answer.structured["row_count"], 0);
    assert!(answer.texts[1].contains("substr"), "{:?}", answer.texts[1]);

    let exactly = client.ok("read_query", &format!("{series} SELECT i FROM n LIMIT 1000"));
    assert_eq!(exactly.structured["truncated"], false);
}

#[test]
fn read_query_only_reads() {
    let mut client = Client::in_memory();
    client.ok("create_table", "CREATE TABLE t (x)");
    client.ok("write_query", "INSERT INTO t VALUES (1), (2)");
    let refused = [
        ("INSERT INTO t VALUES (3)", "write_query"),
        ("WITH a AS (SELECT 3) INSERT INTO t SELECT * FROM a", "write_query"),
        ("DELETE FROM t RETURNING x", "write_query"),
        ("UPDATE t SET x = 5", "write_query"),
        ("EXPLAIN DELETE FROM t", "write_query"),
        ("/* SELECT */ DROP TABLE t", "DROP TABLE"),
        ("CREATE TABLE u (x)", "create_table"),
        ("CREATE TEMP TABLE u (x)", "CREATE TEMP TABLE"),
        ("SELECT 1; DROP TABLE t", "DROP TABLE"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("PRAGMA user_version = 5", "PRAGMA user_version with a value"),
        ("PRAGMA query_only = 0", "PRAGMA query_only"),
        ("PRAGMA writable_schema = ON", "PRAGMA writable_schema"),
        ("PRAGMA journal_mode = DELETE", "PRAGMA journal_mode"),
        ("PRAGMA database_list", "PRAGMA database_list"),
        ("ATTACH 'other.db' AS o", "one database"),
        ("VACUUM", "writes"),
        ("VACUUM INTO 'copy.db'", "writes"),
        ("BEGIN IMMEDIATE", "transaction"),
        ("SAVEPOINT a", "transaction"),
        ("SELECT load_extension('x')", "loads no extensions"),
        ("SELECT * FROM t WHERE x = ?", "literals"),
        ("", "no rows"),
        ("-- nothing", "no rows"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM users", "The database has: t"),
        ("SELECT y FROM t", "describe_table"),
    ];
    for (query, hint) in refused {
        let text = client.refused("read_query", query);
        assert!(text.contains(hint), "{query}: {text}");
    }
    assert_eq!(client.rows("SELECT x FROM t"), json!([{"x": 1}, {"x": 2}]));
    for query in [
        "  SELECT 1 ;  -- trailing",
        "VALUES (1), (2)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "EXPLAIN QUERY PLAN SELECT * FROM t",
        "PRAGMA table_info(t)",
        "SELECT * FROM pragma_table_info('t')",
        "PRAGMA user_version",
        "PRAGMA integrity_check",
        "SELECT json_extract('{\"a\":1}', '$.a')",
    ] {
        client.ok("read_query", query);
    }
}

#[test]
fn write_query_only_changes_rows() {
    let mut client = Client::in_memory();
    client.ok("create_table", "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT UNIQUE)");
    let changed = |answer: &Answer| answer.structured["affected_rows"].clone();
    assert_eq!(changed(&client.ok("write_query", "INSERT INTO t (x) VALUES ('a'), ('b')")), 2);
    let with = "WITH n(x) AS (VALUES ('c')) INSERT INTO t (x) SELECT x FROM n";
    assert_eq!(changed(&client.ok("write_query", with)), 1);
    assert_eq!(changed(&client.ok("write_query", "UPDATE t SET x = x || '!' WHERE id > 1")), 2);
    assert_eq!(changed(&client.ok("write_query", "UPDATE t SET x = 1 WHERE 0")), 0);
    assert_eq!(changed(&client.ok("write_query", "REPLACE INTO t VALUES (1, 'A')")), 1);
    let returning = client.ok("write_query", "DELETE FROM t WHERE id = 3 RETURNING id, x");
    assert_eq!(returning.structured["rows"], json!([{"id": 3, "x": "c!"}]));
    assert_eq!(changed(&returning), 1);

    let refused = [
        ("SELECT * FROM t", "read_query"),
        ("EXPLAIN DELETE FROM t", "read_query"),
        ("DROP TABLE t", "DROP TABLE"),
        ("ALTER TABLE t ADD COLUMN y", "ALTER TABLE"),
        ("CREATE TABLE u (x)", "create_table"),
        ("CREATE INDEX i ON t (x)", "CREATE INDEX"),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END", "CREATE TRIGGER"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("INSERT INTO t (x) VALUES ('d'); DROP TABLE t", "DROP TABLE"),
        ("INSERT INTO t (x) VALUES ('d'); INSERT INTO t (x) VALUES ('e')", "one statement"),
        ("PRAGMA user_version = 5", "PRAGMA user_version"),
        ("ATTACH 'other.db' AS o", "one database"),
        ("VACUUM", "INSERT, UPDATE, DELETE or REPLACE"),
        ("VACUUM INTO '/tmp/sqlite-server-must-not-write-this'", "INSERT, UPDATE, DELETE or REPLACE"),
        ("ANALYZE", "refused"),
        ("REINDEX", "REINDEX"),
        ("BEGIN", "transaction of its own"),
        ("COMMIT", "transaction of its own"),
        ("INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 0, 'x')", "sqlite_"),
        ("DELETE FROM t WHERE load_extension('x')", "loads no extensions"),
        ("INSERT INTO t (x) VALUES (:x)", "literals"),
        ("", "changes no rows"),
        ("INSERT INTO t (x) VALUES ('A')", "UNIQUE constraint failed: t.x"),
        ("INSERT INTO u VALUES (1)", "The database has: t"),
        ("INSERT INTO t (nope) VALUES (1)", "describe_table"),
    ];
    for (query, hint) in refused {
        let text = client.refused("write_query", query);
        assert!(text.contains(hint), "{query}: {text}");
    }
    assert!(!Path::new("/tmp/sqlite-server-must-not-write-this").exists());
    assert_eq!(client.rows("SELECT x FROM t"), json!([{"x": "A"}, {"x": "b!"}]));
}

#[test]
fn create_table_only_creates_tables() {
    let mut client = Client::in_memory();
    let tables = [
        "CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT NOT NULL UNIQUE DEFAULT (upper('x')) CHECK (length(x) > 0)) STRICT",
        "CREATE TABLE b (p, q, a_id REFERENCES a (id) ON DELETE CASCADE, g AS (p || q), PRIMARY KEY (p, q)) WITHOUT ROWID",
        "create table c as select 1 as one, 'x' as two",
        "CREATE TABLE IF NOT EXISTS d (x);",
    ];
    for sql in tables {
        assert_eq!(client.ok("create_table", sql).structured, json!({"created": true}), "{sql}");
    }
    let again = client.ok("create_table", "CREATE TABLE IF NOT EXISTS d (y)");
    assert_eq!(again.structured, json!({"created": false}));
    assert_eq!(client.rows("SELECT * FROM c"), json!([{"one": 1, "two": "x"}]));

    let refused = [
        ("CREATE TABLE d (x)", "already exists"),
        ("SELECT 1", "one CREATE TABLE"),
        ("EXPLAIN CREATE TABLE e (x)", "one CREATE TABLE"),
        ("INSERT INTO d VALUES (1)", "write_query"),
        ("DROP TABLE d", "DROP TABLE"),
        ("CREATE TABLE e (x); DROP TABLE d", "DROP TABLE"),
        ("CREATE TABLE e (x); CREATE TABLE f (x)", "one statement"),
        ("CREATE TEMP TABLE e (x)", "CREATE TEMP TABLE"),
        ("CREATE VIRTUAL TABLE e USING fts5(x)", "CREATE VIRTUAL TABLE"),
        ("CREATE INDEX i ON d (x)", "CREATE INDEX"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("CREATE TRIGGER g AFTER INSERT ON d BEGIN SELECT 1; END", "CREATE TRIGGER"),
        ("CREATE TABLE _witgate_insights (x)", "this server's own"),
        ("CREATE TABLE other.e (x)", "unknown database"),
        ("ATTACH 'x' AS y", "one database"),
        ("PRAGMA user_version = 3", "PRAGMA user_version"),
        ("VACUUM", "one CREATE TABLE"),
        ("", "one CREATE TABLE"),
    ];
    for (query, hint) in refused {
        let text = client.refused("create_table", query);
        assert!(text.contains(hint), "{query}: {text}");
    }
    let listed = client.call("list_tables", json!({})).structured["tables"].clone();
    let names: Vec<&Value> = listed.as_array().unwrap().iter().map(|table| &table["name"]).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
}

#[test]
fn tables_are_described() {
    let mut client = Client::in_memory();
    assert_eq!(client.call("list_tables", json!({})).text(), "[]");
    client.ok("create_table", "CREATE TABLE a (id INTEGER PRIMARY KEY)");
    let sql = "CREATE TABLE \"b c\" (p TEXT NOT NULL DEFAULT 'x', q REFERENCES a ON DELETE CASCADE, g AS (p), UNIQUE (q, p))";
    client.ok("create_table", sql);
    let answer = client.call("describe_table", json!({"table_name": "B C"}));
    assert_eq!(answer.structured, serde_json::from_str::<Value>(answer.text()).unwrap());
    assert_eq!(
        answer.structured,
        json!({
            "name": "b c", "type": "table",
            "columns": [
                {"name": "p", "type": "TEXT", "not_null": true, "default": "'x'", "primary_key": 0, "generated": false},
                {"name": "q", "type": "", "not_null": false, "default": null, "primary_key": 0, "generated": false},
                {"name": "g", "type": "", "not_null": false, "default": null, "primary_key": 0, "generated": true},
            ],
            "foreign_keys": [{"column": "q", "references_table": "a", "references_column": null, "on_delete": "CASCADE"}],
            "indexes": [{"name": "sqlite_autoindex_b c_1", "unique": true, "columns": ["q", "p"]}],
            "sql": sql,
        })
    );
    let listed = client.call("list_tables", json!({}));
    assert_eq!(listed.text(), r#"[{"name":"a","type":"table"},{"name":"b c","type":"table"}]"#);
    for unknown in ["nope", "", "a'; DROP TABLE a; --"] {
        let answer = client.call("describe_table", json!({"table_name": unknown}));
        assert!(answer.is_error && answer.text().contains("a, b c"), "{answer:?}");
    }
}

#[test]
fn wrong_arguments_are_told_to_the_model() {
    let mut client = Client::in_memory();
    let wrong = [
        (json!({}), "`query`"),
        (json!({"sql": "SELECT 1"}), "`query`"),
        (json!({"query": 5}), "expected a string"),
    ];
    for (arguments, hint) in wrong {
        let answer = client.call("read_query", arguments);
        assert!(answer.is_error && answer.text().contains(hint), "{answer:?}");
    }
    let unknown = client.request("tools/call", json!({"name": "nope", "arguments": {}}));
    assert!(unknown["error"].is_object(), "{unknown}");
}

#[test]
fn insights_are_kept_with_the_database() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.db");
    let path = path.to_str().unwrap();
    let memo = |client: &mut Client| {
        let message = client.request("resources/read", json!({"uri": "memo://insights"}));
        let contents = &message["result"]["contents"][0];
        assert_eq!(
            (&contents["uri"], &contents["mimeType"]),
            (&json!("memo://insights"), &json!("text/plain"))
        );
        contents["text"].as_str().unwrap().to_owned()
    };
    let mut client = Client::start(&[path], "2025-06-18");
    let resources = client.request("resources/list", json!({}))["result"]["resources"].clone();
    assert_eq!(resources[0]["uri"], "memo://insights");
    assert!(memo(&mut client).contains("No insights"));
    assert_eq!(client.rows("SELECT count(*) AS n FROM sqlite_schema"), json!([{"n": 0}]));
    for insight in ["Sales rise in May.", "  Ünïcode, it's fine  "] {
        assert!(!client.call("append_insight", json!({"insight": insight})).is_error);
    }
    assert!(client.call("append_insight", json!({"insight": "  "})).is_error);
    assert!(client.close().success());

    let mut client = Client::start(&[path], "2025-06-18");
    assert_eq!(memo(&mut client), "Insights found so far:\n\n- Sales rise in May.\n- Ünïcode, it's fine");
    assert_eq!(client.call("list_tables", json!({})).text(), "[]");
    let text = client.refused("write_query", "DELETE FROM _witgate_insights");
    assert!(text.contains("this server's own"), "{text}");
    let unknown = client.request("resources/read", json!({"uri": "file:///etc/passwd"}));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("memo://insights"), "{unknown}");
}

#[test]
fn a_statement_that_takes_too_long_is_interrupted() {
    let mut client = Client::start(&[":memory:", "--timeout-ms", "2000"], "2025-06-18");
    client.ok("create_table", "CREATE TABLE t (x)");
    let text = client.refused("read_query", ENDLESS);
    assert!(text.contains("longer than 2000 ms"), "{text}");
    let text = client.refused("write_query", &format!("INSERT INTO t {ENDLESS}"));
    assert!(text.contains("nothing was changed"), "{text}");
    assert_eq!(client.rows("SELECT count(*) AS n FROM t"), json!([{"n": 0}]));
}

#[test]
fn a_cancelled_statement_makes_room_and_is_not_answered() {
    let mut client = Client::in_memory();
    let id = client.post("tools/call", json!({"name": "read_query", "arguments": {"query": ENDLESS}}));
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}));
    let start = Instant::now();
    assert_eq!(client.rows("SELECT 1 AS one"), json!([{"one": 1}]));
    // The statement's own limit is 30 s.
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(client.close().success());
}

#[test]
fn the_end_of_input_ends_a_running_statement() {
    let mut client = Client::in_memory();
    client.post("tools/call", json!({"name": "read_query", "arguments": {"query": ENDLESS}}));
    let start = Instant::now();
    assert!(client.close().success());
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn memory_is_bounded() {
    let mut client = Client::in_memory();
    let text = client.refused("read_query", "SELECT hex(zeroblob(500000000))");
    assert!(text.contains("too big") || text.contains("memory"), "{text}");
    let text = client.refused("read_query", "SELECT 'a' LIKE replace(hex(zeroblob(50000)), '0', '%')");
    assert!(text.contains("too complex"), "{text}");
    assert_eq!(client.rows("SELECT 1 AS one"), json!([{"one": 1}]));
}

#[test]
fn existing_databases_keep_their_ways() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("wal.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch(
            "PRAGMA journal_mode = wal;
             CREATE TABLE t (x);
             CREATE TABLE log (x);
             CREATE VIEW v AS SELECT x FROM t;
             CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.x); END;
             CREATE VIRTUAL TABLE f USING fts5(x);",
        )
        .unwrap();
    let mut client = Client::start(&[path.to_str().unwrap()], "2025-06-18");
    let answer = client.ok("write_query", "INSERT INTO t VALUES ('via trigger')");
    assert_eq!(answer.structured["affected_rows"], 1);
    client.ok("write_query", "INSERT INTO f VALUES ('full text search')");
    assert_eq!(client.rows("SELECT x FROM f WHERE f MATCH 'text'"), json!([{"x": "full text search"}]));
    assert_eq!(client.rows("SELECT x FROM v"), json!([{"x": "via trigger"}]));
    let logged: String = other.query_row("SELECT x FROM log", [], |row| row.get(0)).unwrap();
    assert_eq!(logged, "via trigger");
    let listed = client.call("list_tables", json!({})).structured["tables"].clone();
    assert_eq!(
        listed,
        json!([{"name": "f", "type": "virtual"}, {"name": "log", "type": "table"}, {"name": "t", "type": "table"},
               {"name": "v", "type": "view"}])
    );
    // Another program's change of the schema is seen at once.
    other.execute_batch("CREATE TABLE late (x)").unwrap();
    assert_eq!(client.rows("SELECT count(*) AS n FROM late"), json!([{"n": 0}]));
}

#[test]
fn the_database_is_named_by_argument_flag_or_environment() {
    let folder = TempDir::new().unwrap();
    let run = |arguments: &[&str], environment: Option<&str>| {
        let mut command = binary();
        command.args(arguments).envs(environment.map(|path| ("DB_PATH", path)));
        command.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap()
    };
    assert!(run(&["new/folder/a.db"], None).status.success());
    assert!(run(&["--db-path", "b.db"], Some("ignored.db")).status.success());
    assert!(run(&[], Some("c.db")).status.success());
    assert!(run(&["file:d.db?mode=memory"], None).status.success());
    for name in ["new/folder/a.db", "b.db", "c.db", "file:d.db?mode=memory"] {
        assert!(folder.path().join(name).is_file(), "{name}");
    }
    assert!(!folder.path().join("ignored.db").exists());

    for arguments in [&[][..], &[""], &["--nope"], &["a.db", "--timeout-ms", "0"]] {
        let output = run(arguments, None);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains("--help"), "{arguments:?}");
    }
    let missing = run(&[], None);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("DB_PATH"));
    for flag in ["--help", "--version"] {
        let output = run(&[flag], None);
        assert!(output.status.success() && !output.stdout.is_empty(), "{flag}");
    }

    std::fs::write(folder.path().join("garbage"), "no database at all ".repeat(100)).unwrap();
    for bad in ["garbage", "garbage/below.db", "."] {
        let output = run(&[bad], None);
        assert_eq!(output.status.code(), Some(1), "{bad}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(bad), "{bad}");
    }
}
