//! A gateway as its users run it: the real binary in a folder of its own, and its end when the test is over.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Client;
use super::upstream::Upstream;
use super::{PATIENCE, eventually};

/// The words of the log line that tells the address.
const LISTENING: &str = "listening on http://";

/// How long a gateway gets to stop by itself when a test drops it.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A running gateway; it is stopped when dropped.
pub(crate) struct Gateway {
    process: Process,
    folder: Arc<TempDir>,
    client: Client,
}

/// What a gateway is started with.
pub(crate) struct Builder {
    folder: Arc<TempDir>,
    config: String,
    servers: Value,
    /// The bundled plugins that serve; `None` for those that do where nothing is set.
    bundled: Option<Vec<String>>,
    env: Vec<(String, String)>,
}

impl Gateway {
    /// A gateway with settings to be added. No plugin serves: most tests are about other things.
    pub(crate) fn builder() -> Builder {
        Builder {
            folder: Arc::new(tempfile::tempdir().unwrap()),
            config: String::new(),
            servers: json!({"mcpServers": {}}),
            bundled: Some(Vec::new()),
            env: Vec::new(),
        }
    }

    /// A gateway in front of `upstream`, without tools.
    pub(crate) async fn start(upstream: &Upstream) -> Self {
        Self::builder().upstream(upstream).start().await
    }

    /// A gateway in front of `upstream` with the tools of the bundled `sqlite-server`.
    pub(crate) async fn with_tools(upstream: &Upstream) -> Self {
        Self::builder().upstream(upstream).sqlite().start().await
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its address, as `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.client.address()
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log.lock().unwrap().join("\n")
    }

    /// The process id.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// A builder for another gateway in the same folder.
    pub(crate) fn again(&self) -> Builder {
        Builder { folder: Arc::clone(&self.folder), ..Self::builder() }
    }

    /// Asks it to stop, without waiting.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::SIGTERM);
    }

    /// Kills it with no chance to clean up.
    pub(crate) async fn kill(mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait().await;
    }

    /// Waits for its end.
    pub(crate) async fn wait(mut self) -> ExitStatus {
        self.process.wait().await
    }

    /// Stops it in good order.
    pub(crate) async fn stop(self) {
        self.terminate();
        let log = Arc::clone(&self.process.log);
        let status = self.wait().await;
        assert!(status.success(), "the gateway ended with {status}:\n{}", log.lock().unwrap().join("\n"));
    }
}

/// Talking to a gateway is what most tests do, so it can be done on the gateway itself.
impl std::ops::Deref for Gateway {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Builder {
    /// In front of this upstream, by the plain environment variables.
    pub(crate) fn upstream(self, upstream: &Upstream) -> Self {
        self.env("OPENAI_BASE_URL", &upstream.base_url())
            .env("OPENAI_API_KEY", "sk-scripted-upstream-key")
            .env("DEFAULT_MODEL", "m1")
    }

    /// Its folder, for files that have to be there before it starts.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// More lines for `gateway.toml`.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// One more MCP server.
    pub(crate) fn server(mut self, name: &str, config: Value) -> Self {
        self.servers["mcpServers"][name] = config;
        self
    }

    /// The bundled `sqlite-server`, with a database in the gateway's folder.
    pub(crate) fn sqlite(self) -> Self {
        self.server("sqlite", json!({"command": env!("CARGO_BIN_EXE_sqlite-server"), "args": ["tools.db"]}))
    }

    /// A plugin that is in the binary, with `file` as its operator's file. Its calls may take their time, unless the file
    /// has limits of its own: the machine may be busy.
    pub(crate) fn bundled(mut self, name: &str, file: &str) -> Self {
        let plugins = self.folder().join("plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        let limits = if file.contains("limits") { "" } else { super::plugins::PATIENT };
        std::fs::write(plugins.join(format!("{name}.toml")), format!("{limits}{file}")).unwrap();
        self.bundled.get_or_insert_default().push(name.to_owned());
        self
    }

    /// The plugins that serve where nobody has set anything.
    pub(crate) fn default_plugins(mut self) -> Self {
        self.bundled = None;
        self
    }

    /// One more environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the files and starts the process, which may fail to come up.
    pub(crate) fn spawn(self) -> Process {
        self.write_files();
        Process::spawn(self.command(), self.folder)
    }

    /// Writes the files that the process reads.
    pub(crate) fn write_files(&self) {
        std::fs::write(self.folder.path().join("gateway.toml"), &self.config).unwrap();
        std::fs::write(self.folder.path().join("servers_config.json"), self.servers.to_string()).unwrap();
    }

    /// The command that would be run, without the files.
    pub(crate) fn command(&self) -> Command {
        self.command_of("serve")
    }

    /// Another command of the program, with the same surroundings.
    pub(crate) fn command_of(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
        // Nothing of the machine's own settings may leak in: no keys, no proxies, no RUST_LOG.
        command.arg(name).current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.folder.path());
        if let Some(bundled) = &self.bundled {
            command.env("WITGATE_PLUGINS__BUNDLED", json!(bundled).to_string());
        }
        command.env("PORT", "0").env("HOST", "127.0.0.1").env("RUST_LOG", "info,witgate=debug");
        // On a busy machine servers take their time to start, and a test wants its tools.
        command.env("WITGATE_SERVER__TOOLS_WAIT_MS", PATIENCE.as_millis().to_string());
        // Plugins are compiled once for all gateways: without optimisation the compiler takes seconds for each.
        command.env("WITGATE_PLUGINS__CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/compiled-plugins"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the gateway and waits until it listens.
    ///
    /// # Panics
    /// When it does not, with its log.
    pub(crate) async fn start(self) -> Gateway {
        let folder = Arc::clone(&self.folder);
        let mut process = self.spawn();
        let start = Instant::now();
        let address = loop {
            if let Some(address) = process.address() {
                break address;
            }
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "the gateway ended with {ended:?}:\n{}", process.log_text());
            assert!(start.elapsed() < PATIENCE, "the gateway does not listen:\n{}", process.log_text());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        Gateway { process, folder, client: Client::new(address) }
    }
}

/// A process with its stderr collected; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Where it runs; kept as long as it does.
    _folder: Arc<TempDir>,
}

impl Process {
    fn spawn(mut command: Command, folder: Arc<TempDir>) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        Self { child, log, _folder: folder }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        // A process that has ended already needs no signal.
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    /// What it wrote to stderr so far.
    pub(crate) fn log_text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    fn address(&self) -> Option<SocketAddr> {
        let log = self.log.lock().unwrap();
        let rest = log.iter().find_map(|line| line.split_once(LISTENING))?.1;
        rest.split(|c: char| !(c.is_ascii_digit() || ".:[]".contains(c))).next()?.parse().ok()
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the gateway has ended", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > STOP_PATIENCE || std::thread::panicking() {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}\n--- end ---", self.log_text());
        }
    }
}

/// The processes below `pid`, as (pid, command line).
pub(crate) fn descendants(pid: i32) -> Vec<(i32, String)> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        if let Some(parent) = parent_of(child) {
            parents.push((child, parent));
        }
    }
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&above) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(child, _)| *child));
        at += 1;
    }
    found.split_off(1).into_iter().map(|pid| (pid, command_line(pid))).collect()
}

/// Whether the process is there and not merely waiting to be reaped.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may contain anything; after it come the state and the parent.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(PathBuf::from(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}
