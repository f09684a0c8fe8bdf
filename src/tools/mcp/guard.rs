//! The guard: a small process between the gateway and one stdio server, so that nothing the server started survives.
//!
//! The gateway runs itself again as `witgate __guard <lifeline> <grace ms> <program> <args..>`. The guard hands its own
//! stdin, stdout and stderr to the server (it copies no byte), becomes the reaper of everything below it, and waits for
//! the first of two ends: the server exits, or the lifeline closes. The lifeline is a pipe whose write end only the
//! gateway holds, so it closes however the gateway ends, SIGKILL included. Then every process below is asked to stop
//! (SIGTERM), given a grace, and killed: also those that left the process group (`setsid`), because orphans fall to the
//! reaper (Linux; elsewhere the process group is all that can be reached). The guard ends as the server did.
//!
//! It runs before any runtime or logging is set up, on plain threads.

mod descendants;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, killpg, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The hidden first argument.
pub const ARGUMENT: &str = "__guard";

/// Exit status when the program could not be started, as shells have it; the reason is the last line on stderr.
pub const CANNOT_START: u8 = 127;

/// Start of the line on stderr that says why a program could not be started.
pub const CANNOT_START_PREFIX: &str = "cannot start ";

/// How long killed processes may take to go; they are beyond help after that (stuck in the kernel).
const KILL_WAIT: Duration = Duration::from_secs(5);

/// Pause between two looks at the processes that should be going.
const POLL: Duration = Duration::from_millis(10);

/// Runs the guard with the arguments after `__guard`: lifeline descriptor, grace in milliseconds, program, arguments.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args;
    let mut number = || args.next().and_then(|arg| arg.to_str().and_then(|arg| arg.parse::<u32>().ok()));
    let (Some(lifeline), Some(grace)) = (number(), number()) else {
        return complain("__guard is internal: it is started by the gateway");
    };
    let Some(program) = args.next() else {
        return complain("__guard is internal: it is started by the gateway");
    };
    match open_lifeline(lifeline) {
        Ok(lifeline) => {
            let mut command = Command::new(&program);
            command.args(args);
            guard(command, &program, lifeline, Duration::from_millis(u64::from(grace)))
        }
        Err(error) => complain(&format!("{CANNOT_START_PREFIX}{}: no lifeline: {error}", program.display())),
    }
}

/// Opens the inherited pipe anew, close-on-exec this time, and closes the inherited descriptor: the server gets neither.
fn open_lifeline(descriptor: u32) -> std::io::Result<File> {
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    let lifeline = File::open(format!("{folder}/{descriptor}"))?;
    if let Ok(descriptor) = i32::try_from(descriptor) {
        nix::unistd::close(descriptor)?;
    }
    Ok(lifeline)
}

fn guard(mut command: Command, program: &OsString, lifeline: File, grace: Duration) -> ExitCode {
    // A name of its own, so that `killall witgate` reaches the gateway and leaves the guard to do its work.
    #[cfg(target_os = "linux")]
    {
        let _ = nix::sys::prctl::set_name(c"witgate-guard");
        let _ = nix::sys::prctl::set_child_subreaper(true);
    }
    // Blocked before any thread starts, so that only the thread that waits for them gets them. The standard library
    // gives the child an empty mask again.
    let mut stops = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        stops.add(signal);
    }
    let _ = stops.thread_block();

    let server = match command.process_group(0).spawn() {
        Ok(child) => Pid::from_raw(child.id().cast_signed()),
        Err(error) => return complain(&format!("{CANNOT_START_PREFIX}{}: {error}", program.display())),
    };
    release_standard_streams();
    let stop = Arc::new(Stop::default());
    watch(stop.clone(), server, grace, move || {
        let mut lifeline = lifeline;
        while matches!(lifeline.read(&mut [0u8; 16]), Ok(1..)) {}
    });
    watch(stop.clone(), server, grace, move || {
        let _ = stops.wait();
    });

    let status = reap_until(server);
    stop.over.store(true, Ordering::SeqCst);
    // What the server leaves behind shares the grace that began when the server was told to stop.
    let spent = stop.since.get().map_or(Duration::ZERO, Instant::elapsed);
    sweep(server, grace.saturating_sub(spent));
    end_like(status)
}

/// What the threads of one guard know together.
#[derive(Default)]
struct Stop {
    /// When the server was told to stop, if it was.
    since: OnceLock<Instant>,
    /// The server has been reaped: its number may belong to someone else.
    over: AtomicBool,
}

/// Starts a thread that waits for `end` and then stops the server and all below it, unless it is over already.
fn watch(stop: Arc<Stop>, server: Pid, grace: Duration, end: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        end();
        if stop.over.load(Ordering::SeqCst) || stop.since.set(Instant::now()).is_err() {
            return;
        }
        descendants::signal(server, Signal::SIGTERM, &mut Vec::new());
        std::thread::sleep(grace);
        if !stop.over.load(Ordering::SeqCst) {
            let _ = killpg(server, Signal::SIGKILL);
        }
    });
}

/// Waits for the server, reaping orphans that fell to this process meanwhile.
fn reap_until(server: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(None, None) {
            Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))) if pid == server => {
                return Some(status);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Ends everything the server left behind: SIGTERM, the grace, SIGKILL, until nothing is left.
fn sweep(server: Pid, grace: Duration) {
    for (signal, wait) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, KILL_WAIT)] {
        let deadline = Instant::now() + wait;
        let mut told = Vec::new();
        loop {
            if !descendants::signal(server, signal, &mut told) && nothing_left() {
                return;
            }
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Reaps what has ended; true when this process has no child any more.
fn nothing_left() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return true,
        }
    }
}

/// Lets go of the server's streams, so that the gateway sees their end when the server closes them.
fn release_standard_streams() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

/// Ends this process the way the server ended, by the same signal if it was one.
fn end_like(status: Option<WaitStatus>) -> ExitCode {
    match status {
        Some(WaitStatus::Exited(_, code)) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)),
        Some(WaitStatus::Signaled(_, signal, _)) => {
            // The server has left a core file already, if anyone wanted one.
            #[cfg(target_os = "linux")]
            let _ = nix::sys::prctl::set_dumpable(false);
            let _ = SigSet::all().thread_unblock();
            let _ = raise(signal);
            // A signal that was ignored here; shells tell it this way.
            ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(1))
        }
        _ => ExitCode::FAILURE,
    }
}

fn complain(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::from(CANNOT_START)
}

/// The start of a guard for `program`; the caller adds the lifeline's descriptor with [`Invocation::command`].
#[derive(Debug)]
pub(super) struct Invocation<'a> {
    /// The `witgate` executable.
    pub(super) guard: &'a std::path::Path,
    /// The server's program.
    pub(super) program: &'a std::path::Path,
    /// Its arguments.
    pub(super) args: &'a [String],
    /// Time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
}

impl Invocation<'_> {
    /// The command that starts the guard in a process group of its own: a Ctrl-C at the terminal is the gateway's.
    pub(super) fn command(&self, lifeline: i32) -> Command {
        let mut command = Command::new(self.guard);
        command
            .arg0("witgate")
            .arg(ARGUMENT)
            .arg(lifeline.to_string())
            .arg(self.grace.as_millis().to_string())
            .arg(self.program)
            .args(self.args)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}
