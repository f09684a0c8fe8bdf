//! Guests' words in the log: whole lines, limits, and characters that must not act.

use std::io;

use super::*;

/// The log lines that `run` writes, as JSON objects.
fn logged(run: impl FnOnce(&Arc<PluginLog>)) -> Vec<serde_json::Value> {
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || run(&PluginLog::new("chatty".into())));
    let bytes = captured.0.lock().unwrap();
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn messages(run: impl FnOnce(&Arc<PluginLog>)) -> Vec<String> {
    logged(run).iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn streams_are_logged_line_by_line() {
    let lines = logged(|log| {
        let (mut out, mut err) = (log.stream(Source::Stdout), log.stream(Source::Stderr));
        out.write(Bytes::from_static(b"one\r\ntw")).unwrap();
        err.write(Bytes::from_static(b"oops\n")).unwrap();
        out.clone().write(Bytes::from_static(b"o\n\nunfinished")).unwrap();
    });
    let lines: Vec<_> = lines
        .iter()
        .map(|line| (line["target"].as_str().unwrap(), line["stream"].as_str().unwrap(), &line["message"]))
        .collect();
    assert_eq!(
        lines,
        [
            ("plugin", "stdout", &"one".into()),
            ("plugin", "stderr", &"oops".into()),
            ("plugin", "stdout", &"two".into()),
            ("plugin", "stdout", &"".into()),
            ("plugin", "stdout", &"unfinished".into()),
        ]
    );
}

#[test]
fn the_log_interface_keeps_level_and_fields() {
    let lines = logged(|log| {
        let fields = [("user", "alice"), ("why", "no \"key\""), ("none", "")];
        let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned()));
        log.write(Level::WARN, "refused", &fields);
        log.write(Level::TRACE, "step", &[]);
    });
    assert_eq!(lines[0]["level"], "WARN");
    assert_eq!(lines[0]["plugin"], "chatty");
    assert_eq!(lines[0]["stream"], "log");
    assert_eq!(lines[0]["fields"], r#"user=alice why="no \"key\"" none="""#);
    assert_eq!(lines[1]["level"], "TRACE");
    assert_eq!(lines[1].get("fields"), None);
}

#[test]
fn long_lines_are_cut() {
    let lines = messages(|log| {
        let mut out = log.stream(Source::Stdout);
        for _ in 0..100 {
            out.write(Bytes::from(vec![b'x'; 1_000])).unwrap();
        }
        out.write(Bytes::from_static(b" end\nnext\n")).unwrap();
        out.write(Bytes::from(vec![b'y'; MAX_LINE_BYTES])).unwrap();
        out.write(Bytes::from_static(b"\n")).unwrap();
        // A character of three bytes across the border is left out as a whole.
        log.write(Level::INFO, &"\u{20ac}".repeat(MAX_LINE_BYTES), &[]);
    });
    assert_eq!(lines[0], format!("{} [cut]", "x".repeat(MAX_LINE_BYTES)));
    assert_eq!(lines[1], "next");
    assert_eq!(lines[2], "y".repeat(MAX_LINE_BYTES));
    assert_eq!(lines[3], format!("{} [cut]", "\u{20ac}".repeat(MAX_LINE_BYTES / 3)));
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_flood_is_dropped_and_counted() {
    let lines = logged(|log| {
        let mut out = log.stream(Source::Stdout);
        for _ in 0..1_000 {
            out.write(Bytes::from_static(b"a\n")).unwrap();
            log.write(Level::INFO, "b", &[]);
        }
        assert_eq!(log.dropped(), 2_000 - MAX_LINES);
    });
    assert_eq!(lines.len() as u64, MAX_LINES + 1);
    let last = lines.last().unwrap();
    assert_eq!(last["message"], "plugin `chatty` wrote more than 200 lines in one call; 1800 were dropped");
    assert_eq!(last["dropped"], 1_800);
}

#[test]
fn control_characters_are_shown_and_not_obeyed() {
    let lines = messages(|log| {
        log.write(Level::INFO, "a\nINFO forged: \u{1b}[2J\u{202e}txt\u{2028}\u{0}\u{7f}\tb", &[]);
        log.stream(Source::Stderr).write(Bytes::from_static(b"\x1b]0;title\x07\xff\n")).unwrap();
    });
    assert_eq!(lines[0], r"a\nINFO forged: \u{1b}[2J\u{202e}txt\u{2028}\u{0}\u{7f}\tb");
    assert_eq!(lines[1], "\\u{1b}]0;title\\u{7}\u{fffd}");
}
