//! `witgate chat` in a terminal: a real pseudo-terminal, keys as a person presses them, and what is then on the screen.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::json;

/// Longer than anything here needs; only there so that a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(60);

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";

struct Session {
    child: Child,
    keys: File,
    /// Kept open, so that the terminal's mode can still be asked for when the program has ended.
    terminal: OwnedFd,
    screen: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
}

impl Session {
    /// `witgate chat` in a folder with the bundled SQLite server and a slow demo model.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = json!({"command": env!("CARGO_BIN_EXE_sqlite-server"), "args": ["test.db"]});
        let servers = json!({"mcpServers": {"sqlite": server}}).to_string();
        fs::write(folder.path().join("servers_config.json"), servers).unwrap();
        fs::write(folder.path().join("gateway.toml"), "llm.demo_word_delay_ms = 300\n").unwrap();
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
        command.arg("chat").current_dir(folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", folder.path()).env("TERM", "xterm").env("NO_COLOR", "1");
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, shown) = (File::from(pty.master.try_clone().unwrap()), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end of the terminal is an error on Linux.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, keys: File::from(pty.master), terminal: pty.slave, screen, folder }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown, forgets everything up to it, and returns that.
    fn until(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            {
                let mut screen = self.screen.lock().unwrap();
                if let Some(at) = screen.find(text) {
                    let rest = screen.split_off(at + text.len());
                    return std::mem::replace(&mut screen, rest);
                }
            }
            assert!(start.elapsed() < PATIENCE, "no {text:?} in {:?}", self.screen.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the end, and checks that the terminal is as it was before.
    fn ends_with(&mut self, code: i32) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the program does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(code));
        let mode = tcgetattr(&self.terminal).unwrap().local_flags;
        assert!(mode.contains(LocalFlags::ECHO | LocalFlags::ICANON), "the terminal was left in raw mode");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_conversation_with_tools_commands_and_an_interruption() {
    let mut session = Session::start();
    let greeting = session.until("> ");
    assert!(greeting.contains("demo, 6 tools"), "{greeting}");

    session.press("Which tables are there?\r");
    session.until("-> list_tables {}");
    session.until("<- list_tables: ");
    session.until("> ");

    session.press("Tell me a long story\r");
    session.until("\r\n");
    session.until(" ");
    session.signal(Signal::SIGINT);
    session.until("(interrupted)");
    session.until("> ");

    session.press("/session\r");
    let shown = session.until("> ");
    assert!(shown.contains("ses_"), "the first message's session goes on: {shown}");
    session.press("/tools\r");
    session.until("sqlite: ready, 6 tools");
    session.until("> ");
    session.press("/nonsense\r");
    session.until("is not a command");
    session.until("> ");

    session.press("quit\r");
    session.ends_with(0);
    let history =
        fs::read_to_string(session.folder.path().join(".local/state/witgate/chat_history")).unwrap();
    assert!(history.contains("Which tables are there?"), "{history}");
}

#[test]
fn ways_to_leave() {
    let mut session = Session::start();
    session.until("> ");
    session.press(CTRL_C);
    session.until("(Ctrl-C again or Ctrl-D leaves)");
    session.until("> ");
    session.press("half a line");
    session.until("half a line");
    session.press(CTRL_C);
    let cleared = session.until("> ");
    assert!(!cleared.contains("leaves"), "with something typed, it clears the line: {cleared}");
    session.press(CTRL_C);
    session.until("(Ctrl-C again or Ctrl-D leaves)");
    session.until("> ");
    session.press(CTRL_C);
    session.ends_with(0);

    let mut session = Session::start();
    session.until("> ");
    session.press(CTRL_D);
    session.ends_with(0);

    let mut session = Session::start();
    session.until("> ");
    session.signal(Signal::SIGTERM);
    session.ends_with(130);
}
