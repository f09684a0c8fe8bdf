//! The processes below the guard: found in `/proc` on Linux, by process group elsewhere.

use nix::sys::signal::Signal;
#[cfg(target_os = "linux")]
use nix::sys::signal::kill;
#[cfg(not(target_os = "linux"))]
use nix::sys::signal::killpg;
use nix::unistd::Pid;

/// Sends `signal` to every process below this one that is not in `told` yet, and notes it there (SIGKILL is repeated);
/// false when there is none. `server` was the leader of the server's process group.
#[cfg(target_os = "linux")]
pub(super) fn signal(server: Pid, signal: Signal, told: &mut Vec<Pid>) -> bool {
    let _ = server;
    let below = linux::below(Pid::this());
    for pid in &below {
        if signal == Signal::SIGKILL || !told.contains(pid) {
            let _ = kill(*pid, signal);
            // A stopped process acts on nothing but SIGKILL until it goes on.
            let _ = kill(*pid, Signal::SIGCONT);
            told.push(*pid);
        }
    }
    !below.is_empty()
}

/// Sends `signal` to the server's process group; false when nothing of it is left.
#[cfg(not(target_os = "linux"))]
pub(super) fn signal(server: Pid, signal: Signal, told: &mut Vec<Pid>) -> bool {
    if signal == Signal::SIGKILL || !told.contains(&server) {
        told.push(server);
        return killpg(server, signal).is_ok();
    }
    killpg(server, None).is_ok()
}

#[cfg(target_os = "linux")]
mod linux {
    use super::Pid;

    /// All processes below `root`, zombies left out.
    pub(super) fn below(root: Pid) -> Vec<Pid> {
        let all = processes();
        let mut found = vec![root];
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            let children = all.iter().filter(|(pid, of)| *of == parent && !found.contains(pid));
            let children: Vec<Pid> = children.map(|(pid, _)| *pid).collect();
            found.extend(children);
            next += 1;
        }
        found.split_off(1)
    }

    /// Every living process with its parent.
    fn processes() -> Vec<(Pid, Pid)> {
        let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
        let stats = folder.flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(entry.path().join("stat")).ok()?;
            Some((Pid::from_raw(pid), parent(&stat)?))
        });
        stats.collect()
    }

    /// The parent in a line of `/proc/<pid>/stat`, `None` for a zombie. The name before it may hold anything but ends
    /// with the last `)`.
    pub(super) fn parent(stat: &[u8]) -> Option<Pid> {
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let mut fields = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace();
        let state = fields.next()?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        fields.next()?.parse().ok().map(Pid::from_raw)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn reads_the_parent_behind_any_name() {
        assert_eq!(linux::parent(b"12 (a) b) c) S 7 12 12 0"), Some(Pid::from_raw(7)));
        assert_eq!(linux::parent(b"12 (gone) Z 7 12 12 0"), None);
        assert_eq!(linux::parent(b"garbage"), None);
    }

    #[test]
    fn finds_a_grandchild() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let own = Pid::from_raw(child.id().cast_signed());
        let started = std::time::Instant::now();
        let grandchild = loop {
            if let Some(pid) = linux::below(own).first() {
                break *pid;
            }
            assert!(started.elapsed().as_secs() < 10, "no grandchild");
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        assert!(linux::below(Pid::this()).contains(&grandchild));
        kill(grandchild, Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }
}
