//! The command line as people and scripts meet it: the real binary, its two outputs and its exit code.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than any command here needs; only there so that a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A working folder of its own, with none of this machine's settings.
struct Folder(tempfile::TempDir);

/// What a command left.
#[derive(Debug)]
struct Output {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, file: &str, content: &str) -> Self {
        fs::write(self.0.path().join(file), content).unwrap();
        self
    }

    /// The bundled SQLite server as `sqlite`, and `others` after it.
    fn with_servers(self, others: &Value) -> Self {
        let mut servers =
            json!({"sqlite": {"command": env!("CARGO_BIN_EXE_sqlite-server"), "args": ["test.db"]}});
        for (name, server) in others.as_object().unwrap() {
            servers[name] = server.clone();
        }
        self.with("servers_config.json", &json!({ "mcpServers": servers }).to_string())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
        command.args(arguments).current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments).spawn().unwrap())
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        // A command that fails early does not read it, which is its own affair.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        finish(child)
    }
}

impl Output {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn finish(mut child: Child) -> Output {
    let read = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        })
    };
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (out, err) = (read(Box::new(out)), read(Box::new(err)));
    let start = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the command hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Output { code, out: out.join().unwrap(), err: err.join().unwrap() }
}

/// The finding about `name` in a report of `check --json`.
fn finding<'r>(report: &'r Value, name: &str) -> &'r Value {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.find(|check| check["name"] == name).unwrap_or_else(|| panic!("nothing about {name} in {report:#}"))
}

#[test]
fn help_version_and_wrong_lines() {
    let folder = Folder::new();
    let chat = folder.run(&["chat", "--help"]);
    assert!(chat.code == Some(0) && chat.out.contains("Ctrl-C interrupts an answer"), "{}", chat.out);
    let help = folder.run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["Usage:", "Examples:", "gateway.toml", "WITGATE_URL", "Exit codes:"] {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
    let version = folder.run(&["--version"]);
    assert_eq!(version.out, format!("witgate {}\n", env!("CARGO_PKG_VERSION")));
    for line in [&["--nonsense"][..], &["tools", "call"], &["chat", "--port", "9000"]] {
        let wrong = folder.run(line);
        assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""), "{line:?}");
        assert!(wrong.err.contains("error:"), "{}", wrong.err);
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_its_name_is_in_the_error() {
    let folder = Folder::new().with("gateway.toml", "[log]\nlevel = \"info\"\n");
    let wrong = folder.run(&["serve", "--log-level", "loud"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.starts_with("error: ") && wrong.err.contains("\"loud\""), "{}", wrong.err);
    let missing = folder.run(&["serve", "--config", "other.toml"]);
    assert_eq!(missing.err, "error: other.toml: no such file\n");
}

#[test]
fn check_names_line_and_key_of_every_fault() {
    let folder = Folder::new().with("gateway.toml", "[server]\nprot = 9000\n").with(
        "servers_config.json",
        "{\n  \"mcpServers\": {\n    \"db\": {\n      \"comand\": \"x\"\n    }\n  }\n}\n",
    );
    let report = folder.run(&["check", "--offline", "--json"]);
    assert_eq!(report.code, Some(1));
    let report = report.json();
    assert_eq!(report["ok"], false);
    let summary = finding(&report, "gateway.toml")["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("gateway.toml:2:") && summary.contains("prot") && summary.contains("port"),
        "{summary}"
    );
    let summary = finding(&report, "servers_config.json")["summary"].as_str().unwrap();
    assert!(summary.starts_with("servers_config.json:4:") && summary.contains("comand"), "{summary}");
    let table = folder.run(&["check", "--offline"]);
    assert_eq!(table.code, Some(1));
    assert!(table.out.contains("FAIL  gateway.toml") && table.out.contains("2 problems"), "{}", table.out);
}

#[test]
fn check_starts_every_server_and_says_why_one_does_not() {
    let folder = Folder::new().with_servers(&json!({
        "missing": {"command": "no-such-program-anywhere"},
        "unset": {"command": "x", "env": {"TOKEN": "${WITGATE_TEST_NOT_SET}"}},
        "ending": {"command": "sh", "args": ["-c", "echo no database >&2; exit 3"]},
        "silent": {"command": "sh", "args": ["-c", "exec sleep 60"]},
        "off": {"command": "x", "disabled": true},
    }));
    let output = folder.run(&["check", "--offline", "--json", "--port", "0", "--timeout", "15"]);
    assert_eq!(output.code, Some(1), "{}", output.err);
    let report = output.json();
    let sqlite = finding(&report, "sqlite");
    assert_eq!(sqlite["state"], "ok", "{sqlite}");
    assert!(sqlite["server"]["tools"].as_array().unwrap().contains(&json!("list_tables")), "{sqlite}");
    assert!(sqlite["server"]["protocol_version"].is_string() && sqlite["server"]["handshake_ms"].is_u64());
    let failed = |name: &str, words: &str| {
        let finding = finding(&report, name);
        assert_eq!(finding["state"], "failed", "{finding}");
        assert!(finding.to_string().contains(words), "{finding}");
    };
    failed("missing", "no-such-program-anywhere");
    failed("unset", "WITGATE_TEST_NOT_SET");
    failed("ending", "stderr: no database");
    failed("silent", "");
    assert_eq!(finding(&report, "off")["state"], "skipped");
    assert!(!folder.path().join("data").exists(), "a check changes nothing");
}

/// What would keep the gateway from starting.
#[test]
fn check_finds_what_the_start_would() {
    let folder = Folder::new().with("gateway.toml", "[access]\ntoken_ttl_s = 5\n").with_servers(&json!({}));
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/audit"), "in the way").unwrap();
    let output = folder.run(&["check", "--offline", "--json", "--port", "0"]);
    assert_eq!(output.code, Some(1));
    let report = output.json();
    for (name, words) in [("access tokens", "access.token_ttl_s is 5"), ("audit log", "(audit.file)")] {
        let found = finding(&report, name);
        assert_eq!(found["state"], "failed", "{found}");
        assert!(found["summary"].as_str().unwrap().contains(words), "{found}");
    }
}

#[test]
fn check_is_content_with_a_folder_that_works() {
    let folder = Folder::new().with_servers(&json!({}));
    let output = folder.run(&["check", "--port", "0"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.out.contains("ok    sqlite") && output.out.contains("Everything works"), "{}", output.out);
    assert!(!output.out.contains('\u{1b}'), "colours are for terminals: {}", output.out);
}

#[test]
fn tools_are_listed_and_called() {
    let folder = Folder::new().with_servers(&json!({}));
    let list = folder.run(&["tools", "list"]);
    assert_eq!(list.code, Some(0), "{}", list.err);
    let line = list.out.lines().find(|line| line.starts_with("list_tables ")).unwrap();
    assert!(line.contains(" sqlite "), "{line}");
    let described = folder.run(&["tools", "list", "--json"]).json();
    let tool = described.as_array().unwrap().iter().find(|tool| tool["name"] == "read_query").unwrap();
    assert_eq!(tool["inputSchema"]["type"], "object");

    let create = r#"{"query": "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)"}"#;
    assert_eq!(folder.run(&["tools", "call", "create_table", create]).code, Some(0));
    let tables = folder.run(&["tools", "call", "list_tables"]);
    assert!(tables.code == Some(0) && tables.out.contains("notes"), "{tables:?}");
    let rows = folder
        .run_with_input(&["tools", "call", "read_query", "-", "--json"], r#"{"query": "SELECT 40 + 2"}"#);
    let rows = rows.json();
    assert_eq!(rows["isError"], false);
    assert!(rows["content"].to_string().contains("42"), "{rows}");
    let sum = folder.run(&["tools", "call", "calculate", r#"{"expression": "0.1 + 0.2"}"#]);
    assert!(sum.code == Some(0) && sum.out.contains("0.3"), "plugins bring tools, too: {sum:?}");
}

#[test]
fn a_tool_that_fails_is_an_exit_code() {
    let folder = Folder::new().with_servers(&json!({}));
    let failed = |arguments: &[&str], words: &str| {
        let output = folder.run(arguments);
        assert_eq!((output.code, output.out.as_str()), (Some(1), ""), "{output:?}");
        assert!(output.err.contains(words), "{}", output.err);
    };
    failed(&["tools", "call", "read_query", r#"{"query": "SELECT * FROM nowhere"}"#], "nowhere");
    failed(&["tools", "call", "read_query", "{}"], "query");
    failed(&["tools", "call", "list_table"], "did you mean `list_tables`?");
    failed(&["tools", "call", "list_tables", "[]"], "must be a JSON object");
}

#[test]
fn a_question_is_answered_by_a_gateway_of_its_own() {
    let folder = Folder::new();
    let once = folder.run(&["chat", "Hello", "there"]);
    assert_eq!(once.code, Some(0), "{}", once.err);
    assert!(once.out.trim().len() > 5 && once.out.ends_with('\n'), "{once:?}");
    let input = folder.run_with_input(&["chat", "Repeat", "this:", "-"], "a line of a file\n");
    assert_eq!(input.code, Some(0), "{}", input.err);
    let empty = folder.run(&["chat", " "]);
    assert_eq!((empty.code, empty.err.as_str()), (Some(1), "error: there is no question\n"));
}

#[test]
fn lines_of_standard_input_are_one_conversation_with_tools() {
    let folder = Folder::new().with_servers(&json!({}));
    let input = "/tool create_table {\"query\": \"CREATE TABLE orders (id INTEGER)\"}\nWhich tables are there?\nquit\nnot asked\n";
    let output = folder.run_with_input(&["chat"], input);
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert!(output.out.contains("orders"), "{}", output.out);
    assert!(output.err.contains("-> list_tables {}\n<- list_tables: "), "{}", output.err);
    let sessions = rows(&folder, "data/witgate.db", "SELECT count(*) AS n FROM sessions");
    assert!(sessions.contains("1"), "{sessions}");
    let quiet = folder.run_with_input(&["chat", "--quiet"], "Which tables are there?\n");
    assert!(quiet.out.contains("orders") && !quiet.err.contains("->"), "{quiet:?}");
}

/// Asks a database of the folder with the bundled server.
fn rows(folder: &Folder, database: &str, query: &str) -> String {
    let server =
        json!({"mcpServers": {"s": {"command": env!("CARGO_BIN_EXE_sqlite-server"), "args": [database]}}});
    fs::write(folder.path().join("other.json"), server.to_string()).unwrap();
    let arguments = json!({ "query": query }).to_string();
    folder.run(&["tools", "call", "read_query", &arguments, "--servers", "other.json"]).out
}

/// `witgate serve` in `folder` on a free port; killed at the end.
struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    fn start(folder: &Folder) -> Self {
        let mut child = folder.command(&["--port", "0"]).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = log.find_map(|line| {
            let line = line.unwrap();
            line.contains("listening on http://").then_some(line)
        });
        let line = line.unwrap_or_else(|| panic!("the gateway ended"));
        // Nobody reads the rest; the gateway must not be stopped by a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        let url = line.split("listening on ").nth(1).unwrap().split_whitespace().next().unwrap();
        Self { child, url: url.to_owned() }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn chat_talks_to_a_running_gateway_and_check_sees_it() {
    let folder = Folder::new()
        .with(".env", "WITGATE_API_KEY=sesame\n")
        .with("gateway.toml", "access.chat = \"required\"\n");
    let serving = Serving::start(&folder);
    let elsewhere = Folder::new();
    let asked = |key: Option<(&str, &str)>, arguments: &[&str]| {
        let mut command = elsewhere.command(arguments);
        command.env("WITGATE_URL", &serving.url).envs(key);
        finish(command.spawn().unwrap())
    };
    let refused = asked(None, &["chat", "Hello"]);
    assert!(refused.code == Some(1) && refused.err.contains("--key-env"), "{refused:?}");
    let answered = asked(Some(("MY_KEY", "sesame")), &["chat", "--key-env", "MY_KEY", "Hello"]);
    assert!(answered.code == Some(0) && !answered.out.is_empty(), "{answered:?}");
    let usual = asked(Some(("WITGATE_API_KEY", "sesame")), &["chat", "Hello"]);
    assert_eq!(usual.code, Some(0), "{usual:?}");
    let nobody =
        asked(Some(("MY_KEY", "sesame")), &["chat", "--session", "ses_0", "--key-env", "MY_KEY", "Hello"]);
    assert!(nobody.code == Some(1) && nobody.err.contains("no such session"), "{nobody:?}");
    assert!(!elsewhere.path().join("data").exists(), "no gateway of its own was started");

    let port = serving.url.rsplit(':').next().unwrap();
    let report = folder.run(&["check", "--offline", "--json", "--port", port]);
    assert_eq!(finding(&report.json(), "port")["state"], "warning", "{report:?}");
}

#[test]
fn nobody_at_the_address_is_said_plainly() {
    let output = Folder::new().run(&["chat", "--url", "http://127.0.0.1:1", "Hello"]);
    assert_eq!(output.code, Some(1));
    assert!(output.err.starts_with("error: cannot connect to http://127.0.0.1:1: "), "{}", output.err);
}

#[cfg(unix)]
#[test]
fn ctrl_c_interrupts_an_answer() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let folder = Folder::new().with("gateway.toml", "llm.demo_word_delay_ms = 2000\n");
    let mut child = folder.command(&["chat", "Hello"]).spawn().unwrap();
    let mut first = [0u8; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let start = Instant::now();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = finish(child);
    assert_eq!(output.code, Some(130), "{output:?}");
    assert!(output.out.ends_with('\n'), "the line is ended: {output:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "it did not wait for the whole answer");
}
