//! MCP servers as child processes: what dies comes back, what hangs disturbs nobody, and nothing survives its gateway.
//!
//! The servers are shell scripts that speak just enough of the protocol, so that nothing but a POSIX shell is needed.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Map;
use witgate::config::mcp_servers::{McpServerConfig, McpTransport};
use witgate::domain::{
    Principal, PrincipalKind, RequestId, ToolContext, ToolError, ToolErrorKind, ToolResult,
};
use witgate::tools::Tool;
use witgate::tools::mcp::{McpConfig, McpServers, ServerState, ServerStatus};

/// An upper bound that only guards against hanging.
const LONG: Duration = Duration::from_secs(60);

/// A server with the tools `pid`, `hang` and, on a second page, `late`. It repeats on stderr what it reads, talks nonsense
/// on stdout first, and answers a call of `hang` never.
const SERVER: &str = r#"
echo 'Welcome to the {"server"}'
while read -r line; do
  echo "$line" >&2
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  case $line in
    *'"method":"initialize"'*)
      answer '{"protocolVersion":"2024-11-05","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *'"cursor":"2"'*)
      answer '{"tools":[{"name":"late","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"tools/list"'*)
      answer '{"tools":[{"name":"pid","inputSchema":{"type":"object"}},{"name":"hang"}],"nextCursor":"2"}' ;;
    *'"name":"pid"'*)
      answer '{"content":[{"type":"text","text":"'$$'"}]}' ;;
    *'"method":"ping"'*)
      answer '{}' ;;
  esac
done
"#;

/// A server of protocol version 2026-07-28, which knows no `initialize`.
const MODERN_SERVER: &str = r#"
while read -r line; do
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  answer() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$1"; }
  case $line in
    *'"method":"initialize"'*)
      answer '"error":{"code":-32601,"message":"Method not found"}' ;;
    *'"method":"server/discover"'*)
      answer '"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}' ;;
    *'"method":"tools/list"'*)
      answer '"result":{"resultType":"complete","tools":[{"name":"ask","inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"private"}' ;;
    *'"method":"tools/call"'*)
      answer '"result":{"resultType":"input_required","requestState":"s"}' ;;
  esac
done
"#;

fn witgate() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_witgate"))
}

fn shell(name: &str, script: &str) -> McpServerConfig {
    McpServerConfig {
        name: name.to_owned(),
        transport: McpTransport::Stdio {
            command: "sh".to_owned(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: vec![("CONFIGURED".to_owned(), "yes".into())],
            cwd: std::env::temp_dir(),
        },
        disabled: false,
        timeout_ms: Some(1_234),
        tool_timeouts_ms: BTreeMap::from([("hang".to_owned(), 99)]),
        disabled_tools: Vec::new(),
        problem: None,
    }
}

fn settings() -> McpConfig {
    McpConfig { guard_program: Some(witgate()), stop_grace_ms: 300, ..McpConfig::default() }
}

fn status(servers: &McpServers, name: &str) -> ServerStatus {
    servers.states().into_iter().find(|status| status.name == name).expect("configured")
}

fn tool(servers: &McpServers, server: &str, tool: &str) -> Option<Arc<dyn Tool>> {
    let source = servers.sources().into_iter().find(|source| source.name() == server)?;
    source.tools().into_iter().find(|candidate| candidate.definition().name == tool)
}

async fn call(tool: &Arc<dyn Tool>) -> Result<ToolResult, ToolError> {
    let context = ToolContext {
        principal: Principal::new("key:test", PrincipalKind::Service),
        request_id: RequestId::parse("req-of-the-test").expect("sane"),
        session_id: None,
        call_id: "call_1".to_owned(),
        progress: Default::default(),
    };
    tool.call(Map::new(), &context).await
}

async fn pid_of(servers: &McpServers, server: &str) -> Pid {
    let tool = tool(servers, server, "pid").expect("the server is ready");
    Pid::from_raw(call(&tool).await.expect("answers").to_text().parse().expect("a number"))
}

/// Waits for `condition`, looking again and again.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LONG, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_alive(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_fails_its_call_and_comes_back_with_its_tools() {
    let servers = McpServers::start(vec![shell("sh", SERVER)], settings());
    assert!(servers.settled(LONG).await);
    let pid = pid_of(&servers, "sh").await;
    let mut changes = servers.sources()[0].changes();
    changes.mark_unchanged();
    let hang = tool(&servers, "sh", "hang").expect("listed");
    let hanging = {
        let hang = hang.clone();
        tokio::spawn(async move { call(&hang).await })
    };
    eventually("the call reaches the server", || {
        status(&servers, "sh").stderr_tail.iter().any(|line| line.contains(r#""name":"hang""#))
    })
    .await;

    kill(pid, Signal::SIGKILL).expect("it runs");
    let error = hanging.await.expect("no panic").expect_err("the server died");
    assert_eq!(error.kind, ToolErrorKind::Failed);
    assert_eq!(error.message, "server `sh` exited (signal 9) during the call");
    tokio::time::timeout(LONG, changes.changed()).await.expect("the tools left").expect("still there");
    eventually("the tools come back", || tool(&servers, "sh", "pid").is_some()).await;

    assert_ne!(pid_of(&servers, "sh").await, pid);
    assert_eq!(status(&servers, "sh").restarts, 1);
    servers.shutdown().await;
    assert_eq!(status(&servers, "sh").tools, 0);
    let error = call(&hang).await.expect_err("nothing runs any more");
    assert_eq!(error.kind, ToolErrorKind::NotSent);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_of_all_pages_are_listed_and_calls_say_for_whom() {
    let mut config = shell("sh", SERVER);
    config.disabled_tools = vec!["late".to_owned()];
    let servers = McpServers::start(vec![config, shell("all", SERVER)], settings());
    assert!(servers.settled(LONG).await);
    let names = |server: &str| -> Vec<String> {
        let sources = servers.sources();
        let source = sources.iter().find(|source| source.name() == server).expect("configured");
        source.tools().iter().map(|tool| tool.definition().name.clone()).collect()
    };
    assert_eq!(names("all"), ["pid", "hang", "late"]);
    assert_eq!(names("sh"), ["pid", "hang"]);
    assert_eq!(tool(&servers, "sh", "hang").unwrap().timeout(), Some(Duration::from_millis(99)));
    assert_eq!(tool(&servers, "sh", "pid").unwrap().timeout(), Some(Duration::from_millis(1_234)));

    pid_of(&servers, "sh").await;
    let status = status(&servers, "sh");
    assert_eq!(status.protocol_version.as_deref(), Some("2024-11-05"));
    let request = status.stderr_tail.last().expect("the script repeats what it reads");
    assert!(request.contains(r#""witgate/principal":"key:test""#), "{request}");
    assert!(request.contains(r#""witgate/request-id":"req-of-the-test""#), "{request}");
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_is_cancelled_at_the_server() {
    let servers = McpServers::start(vec![shell("sh", SERVER)], settings());
    assert!(servers.settled(LONG).await);
    let hang = tool(&servers, "sh", "hang").expect("listed");
    tokio::select! {
        answer = call(&hang) => panic!("no answer can come: {answer:?}"),
        () = eventually("the call reaches the server", || {
            status(&servers, "sh").stderr_tail.iter().any(|line| line.contains(r#""name":"hang""#))
        }) => {}
    }
    eventually("the server is told", || {
        status(&servers, "sh").stderr_tail.iter().any(|line| line.contains("notifications/cancelled"))
    })
    .await;
    pid_of(&servers, "sh").await;
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_initialize_is_opened_with_discover() {
    let servers = McpServers::start(vec![shell("new", MODERN_SERVER)], settings());
    assert!(servers.settled(LONG).await);
    let now = status(&servers, "new");
    assert_eq!((now.state, now.protocol_version.as_deref()), (ServerState::Ready, Some("2026-07-28")));
    let ask = tool(&servers, "new", "ask").expect("listed");
    let error = call(&ask).await.expect_err("nobody can be asked");
    assert_eq!(error.kind, ToolErrorKind::Failed);
    assert!(error.message.contains("input"), "{}", error.message);
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_becomes_an_older_one_is_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("old");
    let ends_of = |server: &str, method: &str| {
        server.replacen(
            "  case $line in\n",
            &format!("  case $line in\n    *'\"method\":\"{method}\"'*) exit 1 ;;\n"),
            1,
        )
    };
    // Many older servers end when they are asked something they do not know.
    let (before, after) = (ends_of(MODERN_SERVER, "tools/call"), ends_of(SERVER, "server/discover"));
    let script = format!("if [ -e '{}' ]; then {after} else {before} fi", old.display());
    let servers =
        McpServers::start(vec![shell("sh", &script)], McpConfig { restart_min_ms: 20, ..settings() });
    assert!(servers.settled(LONG).await);
    assert_eq!(status(&servers, "sh").protocol_version.as_deref(), Some("2026-07-28"));
    File::create(&old).expect("written");
    let ask = tool(&servers, "sh", "ask").expect("listed");
    call(&ask).await.expect_err("the server ends of it");
    eventually("it is opened as an older one", || tool(&servers, "sh", "pid").is_some()).await;
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_and_silent_servers_disturb_nobody_and_say_what_is_wrong() {
    let mut unset = shell("unset", SERVER);
    unset.problem = Some("servers_config.json:3: the variable TOKEN is not set".to_owned());
    let mut missing = shell("missing", SERVER);
    if let McpTransport::Stdio { command, .. } = &mut missing.transport {
        *command = "no-such-program".to_owned();
    }
    let mut off = shell("off", SERVER);
    off.disabled = true;
    let crash = shell("crash", "echo 'the database is locked' >&2; exit 3");
    let silent = shell("silent", "sleep 600");
    let configs = vec![silent, unset, missing, off, crash, shell("good", SERVER)];
    let servers = McpServers::start(configs, McpConfig { handshake_timeout_ms: 3_600_000, ..settings() });
    eventually("the good server is ready", || status(&servers, "good").state == ServerState::Ready).await;
    eventually("the crash is noticed", || status(&servers, "crash").state == ServerState::Failed).await;

    pid_of(&servers, "good").await;
    assert_eq!(status(&servers, "silent").state, ServerState::Starting);
    assert!(!servers.settled(Duration::from_millis(10)).await);
    assert_eq!(status(&servers, "off").state, ServerState::Disabled);
    let reason = |name: &str| status(&servers, name).last_error.unwrap_or_default();
    assert!(reason("unset").contains("TOKEN is not set"), "{}", reason("unset"));
    assert!(reason("missing").contains("command not found: `no-such-program`"), "{}", reason("missing"));
    assert_eq!(
        reason("crash"),
        "exited (status 3) during the handshake; last on stderr: the database is locked"
    );
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_never_ready_fails_in_time() {
    let config = McpConfig { handshake_timeout_ms: 100, ..settings() };
    let servers = McpServers::start(vec![shell("silent", "exec sleep 600")], config);
    assert!(servers.settled(LONG).await);
    let now = status(&servers, "silent");
    assert_eq!(now.state, ServerState::Failed);
    assert!(now.last_error.unwrap_or_default().contains("handshake_timeout_ms"));
    servers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_its_own_variables_and_not_the_gateways() {
    // Cargo sets this for the test as a shell sets OPENAI_API_KEY for the gateway.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let script =
        r#"echo "${CONFIGURED-unset} ${PATH:+found} ${CARGO_MANIFEST_DIR-hidden}" >&2; exec sleep 600"#;
    let servers = McpServers::start(vec![shell("env", script)], settings());
    eventually("the script speaks", || !status(&servers, "env").stderr_tail.is_empty()).await;
    assert_eq!(status(&servers, "env").stderr_tail, ["yes found hidden"]);
    servers.shutdown().await;
}

/// Starts a stubborn server with a helper that left its process group, and notes their numbers in `folder`.
fn stubborn(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"trap '' TERM
        setsid sh -c 'trap "" TERM; echo $$ > {folder}/helper.new; mv {folder}/helper.new {folder}/helper; sleep 600' &
        while [ ! -e {folder}/helper ]; do sleep 0.01; done
        echo $$ > {folder}/server.new; mv {folder}/server.new {folder}/server
        while :; do sleep 600; done"#
    )
}

fn noted(folder: &Path) -> Option<[Pid; 2]> {
    let read = |name: &str| -> Option<Pid> {
        Some(Pid::from_raw(std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()?))
    };
    Some([read("server")?, read("helper")?])
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_leaves_no_process_however_stubborn() {
    let folder = tempfile::tempdir().expect("a folder");
    let servers = McpServers::start(vec![shell("stubborn", &stubborn(folder.path()))], settings());
    eventually("the server and its helper run", || noted(folder.path()).is_some()).await;
    let processes = noted(folder.path()).expect("just seen");
    assert!(processes.iter().all(|pid| is_alive(*pid)));
    tokio::time::timeout(LONG, servers.shutdown()).await.expect("shutdown is bounded");
    assert!(processes.iter().all(|pid| !is_alive(*pid)), "left behind: {processes:?}");
}

/// A guard as the gateway starts it; the returned write end is the gateway's life.
fn guarded(script: &str) -> (std::process::Child, std::io::PipeWriter) {
    let (read, write) = std::io::pipe().expect("a pipe");
    let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
    nix::fcntl::fcntl(&read, flags).expect("a flag");
    let guard = Command::new(witgate())
        .args(["__guard", &read.as_raw_fd().to_string(), "300", "sh", "-c", script])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the guard starts");
    (guard, write)
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_survives_the_end_of_the_lifeline() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut guard, lifeline) = guarded(&stubborn(folder.path()));
    eventually("the server and its helper run", || noted(folder.path()).is_some()).await;
    let processes = noted(folder.path()).expect("just seen");
    // This is all the kernel does to a gateway that is killed: its end of the pipe closes.
    drop(lifeline);
    eventually("the guard ends", || guard.try_wait().expect("a child").is_some()).await;
    assert!(processes.iter().all(|pid| !is_alive(*pid)), "left behind: {processes:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_is_transparent_and_ends_like_its_server() {
    let (mut guard, lifeline) =
        guarded(r#"read -r line; echo "out $line"; echo "err $line" >&2; ls -l /proc/$$/fd; exit 7"#);
    guard.stdin.take().expect("piped").write_all(b"hello\n").expect("taken");
    let (mut out, mut err) = (String::new(), String::new());
    guard.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    guard.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    assert_eq!(guard.wait().expect("a child").code(), Some(7));
    assert_eq!(err, "err hello\n");
    assert!(out.starts_with("out hello\n"), "{out}");
    // Both ends of a pipe have one name; a server that had either could keep its gateway's death from being seen.
    let pipe = std::fs::read_link(format!("/proc/self/fd/{}", lifeline.as_raw_fd())).expect("a link");
    assert!(out.contains("pipe:[") && !out.contains(pipe.to_str().expect("text")), "{out}");

    let (mut guard, _lifeline) = guarded("kill -9 $$");
    let status = guard.wait().expect("a child");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_run_is_told_from_a_server_that_failed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("server");
    File::create(&program).and_then(|mut file| file.write_all(b"#!/no/such/interpreter\n")).expect("a file");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut config = shell("odd", "");
    config.transport = McpTransport::Stdio {
        command: "./server".to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        cwd: folder.path().to_owned(),
    };
    let servers = McpServers::start(vec![config], settings());
    assert!(servers.settled(LONG).await);
    let reason = status(&servers, "odd").last_error.unwrap_or_default();
    assert!(reason.starts_with("cannot start ") && reason.contains("server"), "{reason}");
    servers.shutdown().await;
}
