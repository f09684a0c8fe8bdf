//! Tests of the drop folder with a builder that only remembers what it was given: generations, failures, files in every
//! state of being written, and the watcher with real files.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::task::AbortOnDropHandle;

use super::super::catalog::{Catalog, PluginState};
use super::super::inspect::tests::Builder;
use super::super::manifest::OnFailure;
use super::*;

const RESPONSE: &str = "witgate:plugin/response@0.1.0";
const AUTH: &str = "witgate:plugin/auth@0.1.0";

/// Far longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Fake {
    name: String,
    version: String,
    on_failure: OnFailure,
    replaced: Option<String>,
}

#[derive(Clone, Default)]
struct FakeBuilder {
    builds: Arc<AtomicUsize>,
    refuse: Arc<Mutex<Vec<String>>>,
}

impl Build for FakeBuilder {
    type Plugin = Fake;

    async fn build(&self, source: Source<Fake>) -> Result<Fake, LoadError> {
        self.builds.fetch_add(1, Ordering::SeqCst);
        let version = source.inspection.version.unwrap_or_default();
        assert_ne!(version, "panic", "as a bug in the builder would");
        if self.refuse.lock().unwrap().contains(&version) {
            return Err(LoadError::new("it does not start"));
        }
        let replaced = source.previous.map(|previous| previous.version.clone());
        Ok(Fake { name: source.name, version, on_failure: source.manifest.on_failure, replaced })
    }
}

struct Folder {
    dir: tempfile::TempDir,
    builder: FakeBuilder,
    plugins: PluginFolder<Fake>,
    _task: AbortOnDropHandle<()>,
}

impl Folder {
    async fn open(config: Config, files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::create_dir_all(dir.path().join("plugins")).unwrap();
            fs::write(dir.path().join("plugins").join(name), bytes).unwrap();
        }
        let config = config.resolved(dir.path(), dir.path()).unwrap();
        let builder = FakeBuilder::default();
        let (plugins, task) = PluginFolder::open(config, Variables::default(), builder.clone()).await;
        Self { dir, builder, plugins, _task: task }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("plugins").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.dir.path().join("plugins")).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Reloads and tells what changed.
    async fn reload(&self) -> Vec<(String, Change)> {
        let report = self.plugins.reload().await.unwrap();
        assert_eq!(report.generation, self.plugins.catalog().generation);
        report.plugins.into_iter().map(|plugin| (plugin.name, plugin.change)).collect()
    }

    async fn reload_one(&self) -> Change {
        let changes = self.reload().await;
        assert_eq!(changes.len(), 1, "{changes:?}");
        changes[0].1
    }

    fn serving(&self) -> Vec<String> {
        let catalog = self.plugins.catalog();
        catalog.plugins.iter().map(|plugin| format!("{} {}", plugin.name, plugin.version)).collect()
    }

    fn status(&self, name: &str) -> super::super::PluginStatus {
        self.plugins.statuses().iter().find(|status| status.name == name).cloned().unwrap()
    }

    /// Waits until the catalog is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Catalog<Fake>) -> bool) {
        let mut changes = self.plugins.changes();
        let seen = tokio::time::timeout(PATIENCE, async {
            while !wanted(&self.plugins.catalog()) {
                changes.changed().await.unwrap();
            }
        });
        seen.await.unwrap_or_else(|_| panic!("{what}: {:?}", self.plugins.statuses()));
    }
}

fn component(export: &str, version: &str) -> Vec<u8> {
    Builder::new().export(export).custom("version", version.as_bytes()).bytes()
}

fn watched() -> Config {
    Config { bundled: Vec::new(), ..Config::default() }
}

fn unwatched() -> Config {
    Config { watch: false, ..watched() }
}

fn first(catalog: &Catalog<Fake>) -> Option<&str> {
    catalog.plugins.first().map(|plugin| plugin.version.as_str())
}

#[tokio::test]
async fn what_lies_in_the_folder_is_loaded_in_order() {
    let folder = Folder::open(
        unwatched(),
        &[
            ("b.wasm", &component(RESPONSE, "1")),
            ("a.wasm", &component(RESPONSE, "2")),
            ("last.wasm", &component(AUTH, "3")),
            ("last.toml", b"order = 500\non_failure = \"open\""),
            ("first.wasm", &component(RESPONSE, "4")),
            ("first.toml", b"order = -1"),
            ("off.wasm", b"not even looked at"),
            ("off.toml", b"enabled = false"),
        ],
    )
    .await;
    assert_eq!(folder.serving(), ["first 4", "a 2", "b 1", "last 3"]);
    assert_eq!(folder.plugins.catalog().plugins[3].on_failure, OnFailure::Open);
    let status = folder.status("last");
    assert_eq!((status.state, status.exports), (PluginState::Serving, vec!["auth"]));
    assert_eq!(status.sha256.map(|sha| sha.len()), Some(64));
    assert!(status.loaded_ms.is_some() && status.error.is_none());
    assert_eq!(folder.status("off").state, PluginState::Disabled);
}

#[tokio::test]
async fn unchanged_content_is_not_loaded_again() {
    let folder = Folder::open(unwatched(), &[("a.wasm", &component(RESPONSE, "1"))]).await;
    let before = folder.plugins.catalog();
    folder.write("a.wasm", &component(RESPONSE, "1"));
    assert_eq!(folder.reload_one().await, Change::Unchanged);
    folder.write("a.toml", b"# nothing new");
    assert_eq!(folder.reload_one().await, Change::Unchanged);
    assert_eq!(folder.builder.builds.load(Ordering::SeqCst), 1);
    assert!(Arc::ptr_eq(&before, &folder.plugins.catalog()));
    folder.write("a.toml", b"on_failure = \"open\"");
    assert_eq!(folder.reload_one().await, Change::Loaded);
    let catalog = folder.plugins.catalog();
    assert_eq!((catalog.generation, catalog.plugins[0].on_failure), (before.generation + 1, OnFailure::Open));
    assert_eq!(catalog.plugins[0].replaced.as_deref(), Some("1"));
    assert_eq!(before.plugins[0].on_failure, OnFailure::Closed, "whoever holds the old generation keeps it");
}

#[tokio::test]
async fn a_failed_load_keeps_the_last_good_version() {
    let folder = Folder::open(unwatched(), &[("a.wasm", &component(AUTH, "1"))]).await;
    let generation = folder.plugins.catalog().generation;
    for (bytes, error) in [
        (&b"rubbish"[..], "a.wasm: no WebAssembly file"),
        (&component(AUTH, "2")[..20], "a.wasm: incomplete"),
        (&component("witgate:plugin/auth@0.2.0", "2"), "a.wasm: exports `witgate:plugin/auth@0.2.0`"),
        (&component(AUTH, "panic"), "a.wasm: loading it failed within the gateway"),
    ] {
        folder.write("a.wasm", bytes);
        assert_eq!(folder.reload_one().await, Change::Failed);
        let status = folder.status("a");
        assert_eq!((status.state, status.version.as_deref()), (PluginState::Stale, Some("1")));
        assert!(status.error.clone().unwrap().starts_with(error), "{status:?}");
        assert_eq!(folder.serving(), ["a 1"]);
    }
    folder.write("a.toml", b"oder = 1");
    assert_eq!(folder.reload_one().await, Change::Failed);
    let error = folder.status("a").error.unwrap();
    assert!(error.starts_with("a.toml:1:1: unknown key oder"), "{error}");
    let catalog = folder.plugins.catalog();
    assert_eq!((catalog.generation, catalog.failed_auth.len()), (generation, 0));
    fs::remove_file(folder.path("a.toml")).unwrap();
    folder.write("a.wasm", &component(AUTH, "1"));
    assert_eq!(folder.reload_one().await, Change::Unchanged);
    assert_eq!(folder.status("a").state, PluginState::Serving);
    folder.write("a.wasm", &component(AUTH, "3"));
    assert_eq!(folder.reload_one().await, Change::Loaded);
    assert_eq!(folder.serving(), ["a 3"]);
}

#[tokio::test]
async fn a_builders_refusal_is_tried_again_on_demand() {
    let folder = Folder::open(unwatched(), &[]).await;
    folder.builder.refuse.lock().unwrap().push("1".to_owned());
    folder.write("a.wasm", &component(RESPONSE, "1"));
    assert_eq!(folder.reload_one().await, Change::Failed);
    assert_eq!(folder.status("a").error.as_deref(), Some("a.wasm: it does not start"));
    assert_eq!((folder.status("a").state, folder.serving().len()), (PluginState::Failed, 0));
    folder.builder.refuse.lock().unwrap().clear();
    assert_eq!(folder.reload_one().await, Change::Loaded);
}

#[tokio::test]
async fn an_auth_policy_that_never_loaded_and_a_required_plugin_are_told_of() {
    let config = Config { required: vec!["guard".to_owned(), "b".to_owned()], ..unwatched() };
    let folder =
        Folder::open(config, &[("policy.wasm", &component(AUTH, "1")), ("policy.toml", b"nonsense")]).await;
    let gaps = || {
        let catalog = folder.plugins.catalog();
        (catalog.failed_auth.join(" "), catalog.missing_required.join(" "))
    };
    assert_eq!(gaps(), ("policy".to_owned(), "guard b".to_owned()));
    assert_eq!(folder.status("policy").exports, ["auth"]);
    folder.write("guard.wasm", &component(AUTH, "1"));
    folder.write("b.wasm", b"unknown");
    folder.write("policy.toml", b"enabled = false");
    folder.reload().await;
    assert_eq!(gaps(), (String::new(), "b".to_owned()));
    folder.write("b.wasm", &component(RESPONSE, "1"));
    folder.write("guard.toml", b"enabled = false");
    folder.reload().await;
    assert_eq!(gaps(), (String::new(), "guard".to_owned()));
    fs::remove_file(folder.path("guard.toml")).unwrap();
    folder.reload().await;
    assert_eq!(gaps(), (String::new(), String::new()));
}

#[tokio::test]
async fn removal_removes_and_names_are_checked() {
    let folder = Folder::open(
        unwatched(),
        &[
            ("a.wasm", &component(RESPONSE, "1")),
            ("My Plugin.wasm", &component(RESPONSE, "1")),
            ("lost.toml", b""),
        ],
    )
    .await;
    assert_eq!(folder.serving(), ["a 1"]);
    assert!(folder.status("My Plugin").error.unwrap().contains("not a name for a plugin"));
    fs::remove_file(folder.path("a.wasm")).unwrap();
    let report = folder.plugins.reload().await.unwrap();
    let removed = report.plugins.iter().find(|plugin| plugin.name == "a").unwrap();
    assert_eq!(removed.change, Change::Removed);
    assert_eq!(report.warnings, ["lost.toml: there is no lost.wasm beside it"]);
    assert!(folder.serving().is_empty());
    fs::remove_dir_all(folder.dir.path().join("plugins")).unwrap();
    assert_eq!(folder.reload().await, [("My Plugin".to_owned(), Change::Removed)]);
    folder.write("b.wasm", &component(RESPONSE, "1"));
    folder.reload().await;
    assert_eq!(folder.serving(), ["b 1"]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_changes_nothing() {
    let folder = Folder::open(unwatched(), &[("a.wasm", &component(RESPONSE, "1"))]).await;
    let plugins = folder.dir.path().join("plugins");
    fs::rename(&plugins, folder.dir.path().join("away")).unwrap();
    fs::write(&plugins, "a file").unwrap();
    let report = folder.plugins.reload().await.unwrap();
    assert!(report.plugins.is_empty() && report.warnings[0].contains("cannot be read"), "{report:?}");
    assert_eq!(folder.serving(), ["a 1"]);
}

#[tokio::test]
async fn a_component_beyond_the_limit_is_not_read() {
    let config = Config { max_component_mb: 1, ..unwatched() };
    let folder = Folder::open(config, &[("a.wasm", &component(RESPONSE, "1"))]).await;
    // A file with a hole: large without taking any space.
    fs::File::options().write(true).open(folder.path("a.wasm")).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(folder.reload_one().await, Change::Failed);
    assert!(
        folder.status("a").error.unwrap().contains("larger than 1 MiB, the limit plugins.max_component_mb")
    );
    assert_eq!(folder.serving(), ["a 1"]);
}

#[cfg(unix)]
#[tokio::test]
async fn strange_files_fail_and_the_others_are_loaded() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = Folder::open(unwatched(), &[("good.wasm", &component(RESPONSE, "1"))]).await;
    folder.write("secret.wasm", &component(RESPONSE, "1"));
    fs::set_permissions(folder.path("secret.wasm"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(folder.path("folder.wasm")).unwrap();
    nix::unistd::mkfifo(&folder.path("pipe.wasm"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("loop.wasm", folder.path("loop.wasm")).unwrap();
    symlink("good.wasm", folder.path("linked.wasm")).unwrap();
    folder.reload().await;
    let states: Vec<_> =
        folder.plugins.statuses().iter().map(|status| (status.name.clone(), status.state)).collect();
    // The super-user reads everything.
    let is_readable = fs::File::open(folder.path("secret.wasm")).is_ok();
    let secret = if is_readable { PluginState::Serving } else { PluginState::Failed };
    let expected = [
        ("folder", PluginState::Failed),
        ("good", PluginState::Serving),
        ("linked", PluginState::Serving),
        ("loop", PluginState::Failed),
        ("pipe", PluginState::Failed),
        ("secret", secret),
    ];
    assert_eq!(states, expected.map(|(name, state)| (name.to_owned(), state)));
}

#[tokio::test]
async fn a_file_that_keeps_growing_is_left_alone_until_it_is_complete() {
    let folder = Folder::open(unwatched(), &[("a.wasm", &component(RESPONSE, "1"))]).await;
    let whole = component(RESPONSE, &"2".repeat(100));
    let path = folder.path("a.wasm");
    let writer = tokio::spawn(async move {
        // A slow copy: longer than several looks.
        for end in (0..=whole.len()).step_by(8) {
            fs::write(&path, &whole[..end]).unwrap();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        fs::write(&path, &whole).unwrap();
    });
    while !writer.is_finished() {
        let change = folder.reload_one().await;
        assert_ne!(change, Change::Failed, "{:?}", folder.status("a").error);
    }
    writer.await.unwrap();
    folder.reload().await;
    assert_eq!(folder.serving(), [format!("a {}", "2".repeat(100))]);
}

#[tokio::test]
async fn a_thousand_swaps_leave_nothing_behind() {
    let shared = Arc::new(Shared::default());
    let dir = tempfile::tempdir().unwrap();
    let config = Config { dir: dir.path().to_owned(), ..unwatched() };
    let builder = FakeBuilder::default();
    let mut loader = Loader::new(config, Variables::default(), builder.clone(), Arc::clone(&shared));
    let mut old = Vec::new();
    for swap in 0..1000 {
        let component =
            if swap % 10 == 9 { b"broken".to_vec() } else { component(RESPONSE, &swap.to_string()) };
        let temporary = dir.path().join(".a.wasm.new");
        fs::write(&temporary, component).unwrap();
        fs::rename(&temporary, dir.path().join("a.wasm")).unwrap();
        // Without the waits for writers, which a rename does not need.
        let listing = files::list(dir.path(), &[]).unwrap();
        for (name, candidate) in listing.plugins {
            loader.look_at(&name, candidate, Scan::Changed).await;
        }
        let catalog = shared.catalog();
        assert_eq!(catalog.plugins.len(), 1);
        let expected = if swap % 10 == 9 { swap - 1 } else { swap };
        assert_eq!(catalog.plugins[0].version, expected.to_string());
        old.push(Arc::downgrade(&catalog.plugins[0]));
    }
    assert_eq!(builder.builds.load(Ordering::SeqCst), 900);
    let alive = old.iter().filter(|plugin| plugin.upgrade().is_some()).count();
    assert_eq!(alive, 2, "the last version, seen twice, and none before it");
    assert_eq!(loader.entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_is_followed() {
    let folder = Folder::open(watched(), &[]).await;
    assert_eq!(folder.plugins.catalog().generation, 1);
    // The folder does not exist yet.
    folder.write("a.wasm", &component(RESPONSE, "1"));
    folder.until("made", |catalog| first(catalog) == Some("1")).await;
    folder.write("a.wasm", &component(RESPONSE, "2"));
    folder.until("overwritten", |catalog| first(catalog) == Some("2")).await;
    folder.write(".next", &component(RESPONSE, "3"));
    fs::rename(folder.path(".next"), folder.path("a.wasm")).unwrap();
    folder.until("renamed over", |catalog| first(catalog) == Some("3")).await;
    folder.write("a.toml", b"on_failure = \"open\"");
    folder.until("file added", |catalog| catalog.plugins[0].on_failure == OnFailure::Open).await;
    fs::remove_file(folder.path("a.toml")).unwrap();
    folder.until("file removed", |catalog| catalog.plugins[0].on_failure == OnFailure::Closed).await;
    fs::remove_file(folder.path("a.wasm")).unwrap();
    folder.until("removed", |catalog| catalog.plugins.is_empty()).await;
    fs::remove_dir_all(folder.dir.path().join("plugins")).unwrap();
    folder.write("a.wasm", &component(RESPONSE, "4"));
    folder.until("folder made anew", |catalog| first(catalog) == Some("4")).await;
    // Written in two parts with a pause: never loaded by halves.
    let whole = component(RESPONSE, "5");
    folder.write("b.wasm", &whole[..whole.len() / 2]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    folder.write("b.wasm", &whole);
    folder.until("second plugin", |catalog| catalog.plugins.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_looks_after_the_end() {
    let folder = Folder::open(watched(), &[]).await;
    let plugins = folder.plugins.clone();
    drop(folder);
    let ended = async {
        while plugins.reload().await != Err(ReloadError::Stopped) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test]
async fn many_reloads_at_once_are_bounded() {
    let folder = Folder::open(unwatched(), &[("a.wasm", &component(RESPONSE, "1"))]).await;
    let asked = (0..50).map(|_| {
        let plugins = folder.plugins.clone();
        tokio::spawn(async move { plugins.reload().await })
    });
    let asked: Vec<_> = asked.collect();
    let (mut done, mut busy) = (0, 0);
    for answer in asked {
        match answer.await.unwrap() {
            Ok(report) => {
                assert_eq!(report.plugins.len(), 1);
                done += 1;
            }
            Err(ReloadError::Busy) => busy += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(done >= 16 && done + busy == 50, "{done} {busy}");
}
