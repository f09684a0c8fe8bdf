//! Plugins that are replaced, broken, removed and regranted again and again under a full load of streams: no reply fails,
//! and none is processed by two versions of one plugin.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;

use crate::guests::replacing_letter;
use crate::harness::plugins::{PATIENT, gateway_with};
use crate::harness::script::{Step, chunk, frame, text_chunk};
use crate::harness::{Gateway, Reply, Upstream, ask, ask_stream};

/// Swaps of one file each; a look at the folder puts one of each plugin into force.
const SWAPS: usize = 1000;

/// Plugins that each reply goes through. Each writes its version over a letter of its own.
const LETTERS: &[u8] = b"abcdefghij";

/// Versions of each plugin.
const VERSIONS: &[u8] = b"ABCDEF";

const CLIENTS: usize = 16;

/// Pieces of a reply, each with all letters, and the pause after each: a reply sees several looks at the folder.
const PIECES: usize = 16;
const PAUSE: Duration = Duration::from_millis(50);

/// One plugin's files as they are in the folder, and what they mean.
#[derive(Clone, Copy)]
struct Files {
    component: Component,
    is_enabled: bool,
    order: i32,
    /// What is written over the plugin's letter; the letter itself where nothing serves.
    serving: u8,
}

#[derive(Clone, Copy, PartialEq)]
enum Component {
    Missing,
    Broken,
    Good(u8),
}

/// When a version could be met: from before its files were there until after the next one's were taken in.
struct Span {
    serving: u8,
    from: Instant,
    until: Option<Instant>,
}

struct Swaps {
    gateway: Arc<Gateway>,
    files: Vec<Files>,
    /// Components by plugin and version.
    components: Vec<Vec<Vec<u8>>>,
    history: Arc<Mutex<Vec<Vec<Span>>>>,
    rng: Rng,
}

impl Swaps {
    /// Changes one file of the plugin.
    fn swap(&mut self, plugin: usize) {
        let mut files = self.files[plugin];
        let name = char::from(LETTERS[plugin]);
        let (wasm, toml) = (format!("{name}.wasm"), format!("{name}.toml"));
        let before = Instant::now();
        match self.rng.u8(0..10) {
            0 | 1 => {
                files.component = Component::Broken;
                let broken = self.broken(plugin);
                self.gateway.drop_in(&wasm, &broken);
            }
            2 if files.component != Component::Missing => {
                files.component = Component::Missing;
                std::fs::remove_file(self.gateway.plugin_path(&wasm)).unwrap();
            }
            3 => {
                files.is_enabled = !files.is_enabled;
                self.gateway.drop_in(&toml, files.manifest().as_bytes());
            }
            4 | 5 => {
                files.order += 1;
                self.gateway.drop_in(&toml, files.manifest().as_bytes());
            }
            _ => {
                let mut version = self.rng.usize(..VERSIONS.len());
                if files.component == Component::Good(VERSIONS[version]) {
                    version = (version + 1) % VERSIONS.len();
                }
                files.component = Component::Good(VERSIONS[version]);
                self.gateway.drop_in(&wasm, &self.components[plugin][version]);
            }
        }
        files.serving = match files.component {
            Component::Missing => LETTERS[plugin],
            _ if !files.is_enabled => LETTERS[plugin],
            Component::Good(version) => version,
            // The last good version goes on.
            Component::Broken => files.serving,
        };
        if files.serving != self.files[plugin].serving {
            let span = Span { serving: files.serving, from: before, until: None };
            self.history.lock().unwrap()[plugin].push(span);
        }
        self.files[plugin] = files;
    }

    fn broken(&mut self, plugin: usize) -> Vec<u8> {
        let good = &self.components[plugin][0];
        match self.rng.u8(0..3) {
            0 => good[..self.rng.usize(..good.len())].to_vec(),
            1 => wat::parse_str(crate::component::module("")).unwrap(),
            _ => std::iter::repeat_with(|| self.rng.u8(..)).take(300).collect(),
        }
    }

    /// What has been replaced is met by nobody who comes from now on.
    fn close_spans(&self) {
        let now = Instant::now();
        for spans in self.history.lock().unwrap().iter_mut() {
            let current = spans.len() - 1;
            spans[..current].iter_mut().for_each(|span| span.until = span.until.or(Some(now)));
        }
    }

    /// The whole reply that the folder stands for now.
    async fn check(&self) {
        let reply = self.gateway.complete(&ask("go")).await;
        let shown = reply["choices"][0]["message"]["content"].as_str().unwrap();
        let expected: String = self.files.iter().map(|files| char::from(files.serving)).collect();
        assert_eq!(shown, expected.repeat(PIECES));
    }
}

impl Files {
    fn manifest(&self) -> String {
        format!("{PATIENT}enabled = {}\norder = {}\n", self.is_enabled, self.order)
    }
}

/// Streams replies until it is told to stop, and counts them.
async fn stream_on(
    gateway: Arc<Gateway>,
    history: Arc<Mutex<Vec<Vec<Span>>>>,
    stop: Arc<AtomicBool>,
    replies: Arc<AtomicU64>,
) {
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let stream = gateway.completion(&ask_stream("go")).stream().await;
        let begun = Instant::now();
        let reply = stream.collect().await;
        assert_eq!((reply.error.as_ref(), reply.finish().as_str()), (None, "stop"), "{reply:?}");
        let text = reply.text();
        let (first, _) = text.split_at(LETTERS.len());
        assert_eq!(text, first.repeat(PIECES), "two versions in one reply");
        let history = history.lock().unwrap();
        for (spans, letter) in history.iter().zip(first.bytes()) {
            let met = |span: &&Span| span.from <= begun && span.until.is_none_or(|until| until >= asked);
            let possible: Vec<char> = spans.iter().filter(met).map(|span| char::from(span.serving)).collect();
            assert!(possible.contains(&char::from(letter)), "{first}: {possible:?} were there");
        }
        drop(history);
        replies.fetch_add(1, Ordering::Relaxed);
    }
}

/// A model that says all letters again and again, slowly where the reply is streamed.
fn slow_letters() -> Upstream {
    Upstream::scripted(|request| {
        let letters = std::str::from_utf8(LETTERS).unwrap();
        if request.json()["stream"] != true {
            return Reply::text(&letters.repeat(PIECES));
        }
        let mut steps =
            vec![Step::Bytes(frame(&chunk("m1", &json!({"role": "assistant", "content": ""}), None)))];
        for _ in 0..PIECES {
            steps.push(Step::Bytes(frame(&text_chunk(letters))));
            steps.push(Step::Sleep(PAUSE));
        }
        steps.push(Step::Bytes(frame(&chunk("m1", &json!({}), Some("stop")))));
        steps.push(Step::Bytes(b"data: [DONE]\n\n".to_vec()));
        Reply::steps(steps)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_swaps_under_streams_fail_and_mix_nothing() {
    let upstream = slow_letters();
    let versions = |letter: &u8| {
        VERSIONS.iter().map(|to| replacing_letter(char::from(*letter), char::from(*to))).collect()
    };
    let components: Vec<Vec<Vec<u8>>> = LETTERS.iter().map(versions).collect();
    let builder = gateway_with(&upstream, []).env("RUST_LOG", "warn,witgate::gateway=info");
    // Each reply holds an instance of each plugin.
    let builder = builder.env("WITGATE_PLUGINS__MAX_INSTANCES", "256");
    let gateway = Arc::new(builder.start().await);
    let (stop, replies) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let unprocessed = |letter: &u8| vec![Span { serving: *letter, from: Instant::now(), until: None }];
    let history = Arc::new(Mutex::new(LETTERS.iter().map(unprocessed).collect()));
    let nothing =
        |letter: &u8| Files { component: Component::Missing, is_enabled: true, order: 0, serving: *letter };
    let mut swaps = Swaps {
        gateway: Arc::clone(&gateway),
        files: LETTERS.iter().map(nothing).collect(),
        components,
        history: Arc::clone(&history),
        rng: Rng::with_seed(7),
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (gateway, history) = (Arc::clone(&gateway), Arc::clone(&history));
            tokio::spawn(stream_on(gateway, history, Arc::clone(&stop), Arc::clone(&replies)))
        })
        .collect();
    let began = Instant::now();
    let (mut resident, mut files) = (0, 0);
    for round in 0..SWAPS / LETTERS.len() {
        (0..LETTERS.len()).for_each(|plugin| swaps.swap(plugin));
        gateway.reload_plugins().await;
        swaps.close_spans();
        swaps.check().await;
        assert!(clients.iter().all(|client| !client.is_finished()), "a client has given up");
        if round == 30 {
            (resident, files) = (gateway.resident_kb(), gateway.open_files());
        }
    }
    let took = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let replies = replies.load(Ordering::Relaxed);
    eprintln!(
        "hot swap: {SWAPS} swaps in {took:.1} s ({:.0} a second), {replies} streamed replies ({:.0} a second), memory \
         {resident} -> {} KiB, open files {files} -> {}",
        SWAPS as f64 / took,
        replies as f64 / took,
        gateway.resident_kb(),
        gateway.open_files(),
    );
    assert!(replies as usize >= CLIENTS * 2, "the clients streamed {replies} replies");
    let grown = gateway.resident_kb().saturating_sub(resident);
    assert!(grown < 48 << 10, "the swaps left {grown} KiB behind");
    assert!(gateway.open_files() <= files + 8, "{} files are open, after {files}", gateway.open_files());
}
