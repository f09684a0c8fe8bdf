//! Files as people bring them, and the exact words for each way of getting one wrong.

use super::*;

fn lookup(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("s3cret".to_owned()),
        "HOST" => Some("example.org".to_owned()),
        "LINES" => Some("a\nb".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Vec<McpServerConfig> {
    parse("servers.json", text, Path::new("/srv"), &lookup).unwrap()
}

fn error(text: &str) -> String {
    parse("servers.json", text, Path::new("/srv"), &lookup).unwrap_err().to_string()
}

/// The one server with these keys.
fn one(keys: &str) -> McpServerConfig {
    read(&format!(r#"{{"mcpServers": {{"a": {keys}}}}}"#)).remove(0)
}

/// The error of the one server with these keys, on line 1.
fn one_error(keys: &str) -> String {
    error(&format!("{{\"mcpServers\": {{\n\"a\": {keys}}}}}"))
}

fn pair(name: &str, value: &str) -> (String, Secret) {
    (name.to_owned(), value.into())
}

#[test]
fn reads_a_reference_file_in_its_order() {
    let servers = read(
        r#"{"mcpServers": {
            "sqlite": {"command": "sqlite-server", "args": ["database.db"], "env": {"DB_PATH": "p", "N": 1, "B": true, "X": null}},
            "jianshu": {"type": "sse", "url": "http://your-sse-server/sse"},
            "a": {"url": "https://h/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}, "disabled": true, "autoApprove": []}
        }}"#,
    );
    assert_eq!(servers.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["sqlite", "jianshu", "a"]);
    let stdio = McpTransport::Stdio {
        command: "sqlite-server".into(),
        args: vec!["database.db".into()],
        env: vec![pair("DB_PATH", "p"), pair("N", "1"), pair("B", "true")],
        cwd: "/srv".into(),
    };
    assert_eq!(servers[0].transport, stdio);
    assert_eq!(
        servers[1].transport,
        McpTransport::LegacySse { url: "http://your-sse-server/sse".into(), headers: vec![] }
    );
    let headers = vec![pair("Authorization", "Bearer s3cret")];
    assert_eq!(servers[2].transport, McpTransport::StreamableHttp { url: "https://h/mcp".into(), headers });
    assert_eq!(servers.iter().map(|s| s.disabled).collect::<Vec<_>>(), [false, false, true]);
    assert!(servers.iter().all(|server| server.problem.is_none()));
}

#[test]
fn reads_the_vs_code_form() {
    let text = r#"{"inputs": [], "servers": {"a": {"type": "stdio", "command": "x", "cwd": "sub", "env": {"T": "${env:TOKEN}"}}}}"#;
    let McpTransport::Stdio { env, cwd, .. } = read(text).remove(0).transport else { panic!("stdio") };
    assert_eq!((env, cwd), (vec![pair("T", "s3cret")], PathBuf::from("/srv/sub")));
    assert_eq!(read("{}"), []);
}

#[test]
fn the_type_decides_and_the_address_stands_in_for_it() {
    let kind = |keys: &str| one(keys).transport.kind();
    assert_eq!(kind(r#"{"url": "http://h/mcp"}"#), "http");
    assert_eq!(kind(r#"{"url": "http://h/sse"}"#), "sse");
    assert_eq!(kind(r#"{"url": "http://h/a/sse/?x=/mcp"}"#), "sse");
    assert_eq!(kind(r#"{"url": "http://h/mcp?x=/sse"}"#), "http");
    assert_eq!(kind(r#"{"url": "http://h/sse", "type": "http"}"#), "http");
    for name in ["streamable-http", "streamableHttp"] {
        assert_eq!(kind(&format!(r#"{{"url": "http://h/sse", "type": "{name}"}}"#)), "http");
    }
    assert_eq!(kind(r#"{"url": "http://h/mcp", "type": "sse"}"#), "sse");
}

#[test]
fn limits_and_disabled_tools() {
    let server =
        one(r#"{"command": "x", "timeout": 5000, "toolTimeouts": {"slow": 60000}, "disabledTools": ["rm"]}"#);
    assert_eq!(server.timeout_ms, Some(5000));
    assert_eq!(server.tool_timeouts_ms, BTreeMap::from([("slow".to_owned(), 60000)]));
    assert_eq!(server.disabled_tools, ["rm"]);
    assert_eq!(one(r#"{"command": "x", "timeout_ms": 7}"#).timeout_ms, Some(7));
}

#[test]
fn an_unset_variable_stops_only_its_server() {
    let servers = read(
        "{\"mcpServers\": {\n\"a\": {\"command\": \"x\",\n  \"env\": {\"K\": \"${NOPE}\"}},\n\"b\": {\"command\": \"${NOPE:-y}\"}}}",
    );
    let wanted = "servers.json:3:16: a.env.K: the variable NOPE is not set; set it in the environment or in .env, or \
                  write ${NOPE:-default}";
    assert_eq!(servers[0].problem.as_deref(), Some(wanted));
    assert_eq!(servers[1].problem, None);
    let McpTransport::Stdio { command, .. } = &servers[1].transport else { panic!("stdio") };
    assert_eq!(command, "y");
}

#[test]
fn what_expansion_made_is_checked() {
    let problem = |keys: &str| one(keys).problem;
    assert_eq!(problem(r#"{"url": "https://${HOST}/mcp"}"#), None);
    let wanted = "servers.json:1:22: a: url must be an address like https://host/path";
    for url in ["ftp://h/x", "example.org/mcp", "http:///x", ""] {
        assert_eq!(problem(&format!(r#"{{"url": "{url}"}}"#)).as_deref(), Some(wanted), "{url}");
    }
    assert_eq!(
        problem(r#"{"url": "http://h", "headers": {"X": "${LINES}"}}"#).as_deref(),
        Some("servers.json:1:22: a: headers.X: the value has characters that HTTP does not allow")
    );
    assert_eq!(problem(r#"{"command": " "}"#).as_deref(), Some("servers.json:1:22: a: command is empty"));
}

#[test]
fn broken_json_names_line_and_column() {
    assert_eq!(
        error("{\"mcpServers\": {\n  \"a\": {\"command\": }}}"),
        "servers.json:2:20: not valid JSON: expected value"
    );
    assert_eq!(
        error("{\"mcpServers\": {\n  \"a\": {}"),
        "servers.json:2:9: not valid JSON: EOF while parsing an object"
    );
    assert_eq!(error("[]"), "servers.json:1:1: the file must hold an object with the key mcpServers");
    let deep = format!("{{\"mcpServers\": {}{}}}", "[".repeat(40), "]".repeat(40));
    assert!(error(&deep).contains("nested more than 32 levels deep"));
}

#[test]
fn wrong_keys_name_server_and_nearest_key() {
    assert_eq!(
        one_error(r#"{"comand": "x"}"#),
        "servers.json:2:7: unknown key mcpServers.a.comand; did you mean command?"
    );
    assert_eq!(
        error(r#"{"mcpserver": {}}"#),
        "servers.json:1:2: unknown key mcpserver; did you mean mcpServers?"
    );
    assert_eq!(
        one_error(r#"{"command": "x", "args": ["a", 2]}"#),
        "servers.json:2:37: mcpServers.a.args[1] must be a string, not 2"
    );
    assert_eq!(
        one_error(r#"{"command": "x", "timeout": 0}"#),
        "servers.json:2:34: mcpServers.a.timeout must be a whole number, 1 or more, not 0"
    );
    assert_eq!(
        one_error(r#"{"command": "x", "env": {"TOKEN": ["s3cret"]}}"#),
        "servers.json:2:40: mcpServers.a.env.TOKEN must be a string, not a list"
    );
    assert_eq!(
        one_error(r#"{"type": "see", "url": "http://h"}"#),
        "servers.json:2:15: mcpServers.a.type must be one of stdio, sse, http, streamable-http, streamableHttp, \
         streamable_http, not \"see\"; did you mean sse?"
    );
    assert_eq!(one_error("3"), "servers.json:2:6: mcpServers.a must be a table, not 3");
}

#[test]
fn contradictions_are_told() {
    let cases = [
        ("{}", "needs command (a program to start) or url (a server to connect to)"),
        (r#"{"command": "x", "url": "http://h"}"#, "has both command and url; a server has one of them"),
        (r#"{"type": "stdio"}"#, "type stdio needs command"),
        (r#"{"type": "sse", "command": "x"}"#, "type sse or http needs url"),
        (r#"{"type": "stdio", "url": "http://h"}"#, "type stdio needs command"),
        (r#"{"url": "http://h", "args": ["x"]}"#, "args, env and cwd belong to a server with command"),
        (r#"{"command": "x", "headers": {"A": "b"}}"#, "headers belong to a server with url"),
    ];
    for (keys, wanted) in cases {
        assert_eq!(one_error(keys), format!("servers.json:2:6: mcpServers.a: {wanted}"), "{keys}");
    }
    assert_eq!(
        error("{\"mcpServers\": {\"a\": {\"command\": \"x\"},\n\"a\": {\"command\": \"y\"}}}"),
        "servers.json:2:1: mcpServers: \"a\" appears twice; it is first at servers.json:1:17"
    );
    assert_eq!(
        error(r#"{"servers": {}, "mcpServers": {}}"#),
        "servers.json:1:17: both servers and mcpServers are given; keep one of them"
    );
}

#[test]
fn debug_shows_no_secret() {
    let servers = read(
        r#"{"mcpServers": {
            "a": {"command": "x", "args": ["--token", "${TOKEN}"], "env": {"T": "${TOKEN}"}},
            "b": {"url": "http://h/mcp?key=${TOKEN}", "headers": {"A": "${TOKEN}"}}}}"#,
    );
    let shown = format!("{servers:?}");
    assert!(!shown.contains("s3cret") && shown.contains("[redacted]"), "{shown}");
}
