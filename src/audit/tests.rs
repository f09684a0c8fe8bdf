//! The log as its users see it: lines in files.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::domain::{Principal, PrincipalKind, RequestId, TraceId};

const LONG: Duration = Duration::from_secs(20);

fn event(target: &str) -> AuditEvent {
    let trace_id = TraceId::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let subject = AuditSubject {
        peer: Some([192, 0, 2, 1].into()),
        trace_id,
        ..AuditSubject::from(&Principal::new("user:7", PrincipalKind::User))
    };
    AuditEvent {
        subject,
        request_id: RequestId::parse("req_1").unwrap(),
        via: "rest",
        action: "tool_call",
        target: target.to_owned(),
        server: Some("sqlite".to_owned()),
        arguments: Some(r#"{"query":"SELECT 1","password":"hunter2"}"#.to_owned()),
        outcome: AuditOutcome::Success,
        duration: Some(Duration::from_micros(1_234)),
        result_bytes: Some(12),
    }
}

fn log(config: &Config, folder: &TempDir) -> AuditLog {
    AuditLog::open(config, folder.path(), Vec::new()).unwrap()
}

fn lines(path: PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The files put aside, the oldest first.
fn aside(folder: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path().join("audit")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| !path.ends_with("audit.jsonl"));
    files.sort();
    files
}

#[tokio::test]
async fn an_event_is_one_line() {
    let folder = TempDir::new().unwrap();
    let log = log(&Config::default(), &folder);
    log.record(event("read_query"));
    let mut denied = event("wg_0123456789abcdef");
    denied.outcome = AuditOutcome::Denied { rule: "scope".to_owned(), status: 403 };
    (denied.arguments, denied.duration, denied.result_bytes, denied.server) = (None, None, None, None);
    log.record(denied);
    assert!(log.flush(LONG).await);
    let mut lines = lines(folder.path().join("audit/audit.jsonl"));
    let time = lines[0].as_object_mut().unwrap().shift_remove("time").unwrap();
    assert!(crate::domain::time::parse_rfc3339(time.as_str().unwrap()).is_some(), "{time}");
    assert_eq!(
        lines[0].to_string(),
        json!({
            "action": "tool_call", "outcome": "success", "principal": "user:7", "peer": "192.0.2.1", "via": "rest",
            "target": "read_query", "server": "sqlite",
            "arguments": {"query": "SELECT 1", "password": "[redacted]"},
            "result_bytes": 12, "duration_ms": 1.234, "request_id": "req_1",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        })
        .to_string()
    );
    assert_eq!(
        (&lines[1]["outcome"], &lines[1]["rule"], &lines[1]["status"], &lines[1]["target"]),
        (&json!("denied"), &json!("scope"), &json!(403), &json!("[redacted]"))
    );
}

#[test]
fn the_end_writes_everything() {
    let folder = TempDir::new().unwrap();
    let log = log(&Config::default(), &folder);
    for number in 0..3000 {
        log.record(event(&number.to_string()));
    }
    drop(log);
    let lines = lines(folder.path().join("audit/audit.jsonl"));
    assert!(
        lines
            .iter()
            .enumerate()
            .all(|(at, line)| line["target"].as_str().and_then(|text| text.parse().ok()) == Some(at))
    );
    assert_eq!(lines.len(), 3000);
}

#[test]
fn switched_off_it_leaves_no_trace() {
    let folder = TempDir::new().unwrap();
    let log = log(&Config { enabled: false, ..Config::default() }, &folder);
    assert!(!log.is_on() && !log.keeps_arguments());
    log.record(event("x"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let without = Config { arguments: ArgumentMode::None, ..Config::default() };
    let log = AuditLog::open(&without, folder.path(), Vec::new()).unwrap();
    assert!(log.is_on() && !log.keeps_arguments());
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let folder = TempDir::new().unwrap();
    drop(log(&Config::default(), &folder));
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("audit"), mode("audit/audit.jsonl")), (0o700, 0o600));
}

#[test]
fn many_writers_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let log = log(&Config::default(), &folder);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let log = log.clone();
            scope.spawn(move || {
                for number in 0..500 {
                    log.record(event(&format!("{writer}-{number}")));
                }
            });
        }
    });
    drop(log);
    let lines = lines(folder.path().join("audit/audit.jsonl"));
    let targets: BTreeSet<&str> = lines.iter().map(|line| line["target"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), targets.len()), (4000, 4000));
}

#[tokio::test]
async fn a_full_file_is_put_aside_and_the_oldest_deleted() {
    let folder = TempDir::new().unwrap();
    let config = Config { max_file_mb: 1, max_files: 2, max_text_chars: 50_000, ..Config::default() };
    let log = log(&config, &folder);
    let keep = folder.path().join("audit/audit-notes.jsonl");
    fs::write(&keep, "mine").unwrap();
    let mut large = event("x");
    large.arguments = Some(json!({"text": "x".repeat(50_000)}).to_string());
    for number in 0..100 {
        log.record(AuditEvent { target: number.to_string(), ..large.clone() });
        assert!(log.flush(LONG).await);
    }
    drop(log);
    assert_eq!(fs::read_to_string(&keep).unwrap(), "mine", "another's file is left alone");
    fs::remove_file(keep).unwrap();
    let files = aside(&folder);
    assert_eq!(files.len(), 2);
    let mut last = Vec::new();
    for file in files.into_iter().chain([folder.path().join("audit/audit.jsonl")]) {
        assert!(fs::metadata(&file).unwrap().len() <= 1024 * 1024);
        last.extend(lines(file));
    }
    let numbers: Vec<u32> =
        last.iter().map(|line| line["target"].as_str().unwrap().parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    assert!(numbers[0] > 0 && numbers.ends_with(&[99]), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_logs_share_a_file_and_lose_nothing_while_it_is_put_aside() {
    const LOGS: usize = 4;
    const EVENTS: usize = 100;
    let folder = TempDir::new().unwrap();
    let config = Config { max_file_mb: 1, max_files: 0, max_text_chars: 50_000, ..Config::default() };
    let arguments = json!({"text": "x".repeat(40_000)}).to_string();
    // Each opens the file for itself, as processes do, and has a thread of its own.
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..LOGS {
        let (log, arguments) = (log(&config, &folder), arguments.clone());
        writers.spawn(async move {
            for number in 0..EVENTS {
                let arguments = Some(arguments.clone());
                log.record(AuditEvent { arguments, ..event(&format!("{writer}-{number}")) });
                // One line at a time, so that the logs take turns.
                assert!(log.flush(LONG).await);
            }
        });
    }
    writers.join_all().await;
    let files = aside(&folder);
    assert!(files.len() >= 10, "{files:?}");
    let mut targets = Vec::new();
    for file in files.into_iter().chain([folder.path().join("audit/audit.jsonl")]) {
        assert!(fs::metadata(&file).unwrap().len() <= 1024 * 1024);
        targets.extend(lines(file).into_iter().map(|line| line["target"].as_str().unwrap().to_owned()));
    }
    let distinct: BTreeSet<&String> = targets.iter().collect();
    assert_eq!((targets.len(), distinct.len()), (LOGS * EVENTS, LOGS * EVENTS));
}

#[tokio::test]
async fn a_line_that_somebody_died_over_costs_no_other() {
    let folder = TempDir::new().unwrap();
    let log = log(&Config::default(), &folder);
    let path = folder.path().join("audit/audit.jsonl");
    fs::write(&path, "{\"time\":\"2026-").unwrap();
    log.record(event("whole"));
    assert!(log.flush(LONG).await);
    let text = fs::read_to_string(path).unwrap();
    let (torn, whole) = text.split_once('\n').unwrap();
    assert_eq!(torn, "{\"time\":\"2026-");
    assert_eq!(serde_json::from_str::<Value>(whole).unwrap()["target"], "whole");
}

#[tokio::test]
async fn a_lock_that_nobody_lets_go_of_holds_up_nobody_but_the_writer() {
    let folder = TempDir::new().unwrap();
    let log = log(&Config::default(), &folder);
    let path = folder.path().join("audit/audit.jsonl");
    let held = fs::File::open(&path).unwrap();
    held.lock().unwrap();
    log.record(event("late"));
    assert!(!log.flush(Duration::from_millis(300)).await);
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    held.unlock().unwrap();
    assert!(log.flush(LONG).await);
    assert_eq!(lines(path)[0]["target"], "late");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_pipe_is_a_log_too() {
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsRawFd;

    let folder = TempDir::new().unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let file = PathBuf::from(format!("/proc/self/fd/{}", write.as_raw_fd()));
    let log = log(&Config { file, ..Config::default() }, &folder);
    for target in ["one", "two"] {
        log.record(event(target));
        assert!(log.flush(LONG).await);
    }
    let lines =
        BufReader::new(read).lines().take(2).map(|line| serde_json::from_str::<Value>(&line.unwrap()));
    let targets: Vec<Value> = lines.map(|line| line.unwrap()["target"].clone()).collect();
    assert_eq!(targets, ["one", "two"]);
}

#[tokio::test]
async fn old_files_leave() {
    let folder = TempDir::new().unwrap();
    let old = folder.path().join("audit/audit-20200101T000000.000Z.jsonl");
    fs::create_dir(folder.path().join("audit")).unwrap();
    fs::write(&old, "").unwrap();
    let week = Duration::from_secs(7 * 86_400);
    fs::File::options().append(true).open(&old).unwrap().set_modified(SystemTime::now() - week).unwrap();
    drop(log(&Config { max_age_days: 8, ..Config::default() }, &folder));
    assert!(old.exists());
    drop(log(&Config { max_age_days: 6, ..Config::default() }, &folder));
    assert!(!old.exists());
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew() {
    let folder = TempDir::new().unwrap();
    let log = log(&Config::default(), &folder);
    let path = folder.path().join("audit/audit.jsonl");
    log.record(event("first"));
    assert!(log.flush(LONG).await);
    fs::rename(&path, folder.path().join("audit/audit.jsonl.1")).unwrap();
    log.record(event("second"));
    assert!(log.flush(LONG).await);
    fs::remove_file(&path).unwrap();
    log.record(event("third"));
    assert!(log.flush(LONG).await);
    assert_eq!(lines(folder.path().join("audit/audit.jsonl.1"))[0]["target"], "first");
    let lines = lines(path);
    assert_eq!((lines.len(), &lines[0]["target"]), (1, &json!("third")));
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_at_once() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("audit"), "a file").unwrap();
    let error = AuditLog::open(&Config::default(), folder.path(), Vec::new()).unwrap_err().to_string();
    assert!(error.contains("audit/audit.jsonl") && error.contains("audit.file"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_disk_that_fails_for_a_while_loses_what_finds_no_place_and_says_so() {
    let folder = TempDir::new().unwrap();
    let log = log(&Config::default(), &folder);
    let (place, away) = (folder.path().join("audit"), folder.path().join("away"));
    fs::rename(&place, &away).unwrap();
    fs::write(&place, "a file where the folder was").unwrap();
    // The thread takes the first and is stuck with it.
    log.record(event("stuck"));
    assert!(!log.flush(Duration::from_millis(300)).await);
    for number in 0..QUEUE + 100 {
        log.record(event(&number.to_string()));
    }
    fs::remove_file(&place).unwrap();
    fs::rename(&away, &place).unwrap();
    assert!(log.flush(LONG).await);
    drop(log);
    let lines = lines(place.join("audit.jsonl"));
    let lost: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
    let kept = lines.iter().filter(|line| line["action"] == "tool_call").count() as u64;
    assert!(lost >= 100, "{lost}");
    assert_eq!(lost + kept, QUEUE as u64 + 101);
}

#[test]
fn arguments_give_way_before_events_do() {
    let folder = TempDir::new().unwrap();
    let log = log(&Config { arguments: ArgumentMode::Full, ..Config::default() }, &folder);
    let inner = log.0.as_ref().unwrap();
    inner.counts.waiting_bytes.fetch_add(MAX_WAITING_BYTES, Ordering::Relaxed);
    log.record(event("x"));
    drop(log);
    let lines = lines(folder.path().join("audit/audit.jsonl"));
    assert_eq!(lines[0]["arguments"], "[left out: the log was behind]");
}

#[tokio::test]
async fn long_texts_are_cut_before_they_wait_and_counted() {
    const LONGEST: usize = 5 * KEPT_TEXT_BYTES;
    let folder = TempDir::new().unwrap();
    let log = log(&Config::default(), &folder);
    let long = || "x://key=a,".repeat(100_000);
    let mut event = AuditEvent { server: Some(long()), ..event(&long()) };
    event.subject = AuditSubject { principal: long(), name: Some(long()), ..event.subject };
    let failed = AuditEvent { outcome: AuditOutcome::Failed(long()), ..event.clone() };
    let denied = AuditEvent { outcome: AuditOutcome::Denied { rule: long(), status: 403 }, ..event };
    assert_eq!(
        [failed.clone().cut_texts(KEPT_TEXT_BYTES), denied.clone().cut_texts(KEPT_TEXT_BYTES)],
        [LONGEST; 2]
    );
    // There is room for one with its arguments, if nothing of the texts is forgotten and nothing of them counted twice.
    let waiting = &log.0.as_ref().unwrap().counts.waiting_bytes;
    let room = LONGEST + failed.arguments.as_ref().unwrap().len();
    for (event, missing) in [(failed, 0), (denied, 1)] {
        let others = MAX_WAITING_BYTES - room + missing;
        waiting.fetch_add(others, Ordering::Relaxed);
        log.record(event);
        assert!(log.flush(LONG).await);
        assert_eq!(waiting.swap(0, Ordering::Relaxed), others);
    }
    let lines = lines(folder.path().join("audit/audit.jsonl"));
    assert!(lines[0]["arguments"].is_object() && lines[1]["arguments"].is_string(), "{lines:?}");
    for line in lines {
        let texts = [&line["target"], &line["principal"], &line["name"]];
        let outcome = line.get("reason").or(line.get("rule")).unwrap();
        for text in texts.into_iter().chain([outcome]).map(|text| text.as_str().unwrap()) {
            assert!(text.starts_with("x://key=") && text.ends_with("... [cut]"), "{text}");
        }
        assert!(line.to_string().len() < LONGEST, "{line}");
    }
}
