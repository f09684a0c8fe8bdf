//! The plugins folder of a gateway under test, what the gateway tells about it, and what the process holds.

use std::path::PathBuf;

use serde_json::Value;

use super::gateway::Builder;
use super::{Gateway, Upstream, eventually};

/// The operator's key of gateways made by [`gateway_with`].
const KEY: &str = "sk-operator-of-plugins";

/// What a plugin's file begins with where no test is about its limits: calls take longer on a busy machine.
pub(crate) const PATIENT: &str = "limits = { call_timeout_ms = 60000, queue_timeout_ms = 60000 }\n";

/// A gateway in front of `upstream`, open for chats, with an operator's key and these files in its plugins folder, and no
/// other plugins.
pub(crate) fn gateway_with<'a>(
    upstream: &Upstream,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Builder {
    let builder =
        Gateway::builder().upstream(upstream).env("WITGATE_API_KEY", KEY).config("plugins.bundled = []");
    let dir = builder.folder().join("plugins");
    std::fs::create_dir_all(&dir).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    builder
}

impl Gateway {
    /// Where a file of the plugins folder lies.
    pub(crate) fn plugin_path(&self, file: &str) -> PathBuf {
        self.folder().join("plugins").join(file)
    }

    /// Puts a file into the plugins folder at one stroke, as an operator should.
    pub(crate) fn drop_in(&self, file: &str, bytes: &[u8]) {
        let unfinished = self.plugin_path(&format!(".{file}.part"));
        std::fs::write(&unfinished, bytes).unwrap();
        std::fs::rename(unfinished, self.plugin_path(file)).unwrap();
    }

    /// Has the gateway look at its folder; what it says it found.
    pub(crate) async fn reload_plugins(&self) -> Value {
        let request = self.request("POST", "/api/v1/plugins/reload").header("authorization", &bearer());
        request.send().await.expect(200)
    }

    /// What the gateway tells about one plugin.
    pub(crate) async fn plugin(&self, name: &str) -> Value {
        let path = format!("/api/v1/plugins/{name}");
        self.request("GET", &path).header("authorization", &bearer()).send().await.expect(200)
    }

    /// Waits until so many calls of a plugin run or wait.
    pub(crate) async fn until_running(&self, name: &str, count: u64) {
        eventually(&format!("{count} calls of {name} run"), async || {
            self.plugin(name).await["running"] == count
        })
        .await;
    }

    /// Waits until a line of the log has all these words: it may come a moment after an answer.
    pub(crate) async fn until_logged(&self, words: &[&str]) {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        eventually(&format!("{words:?} are logged"), async || self.log().lines().any(has_all)).await;
    }

    /// Memory that the process holds, in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Files and connections that the process has open.
    #[cfg(target_os = "linux")]
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Other requests are answered: one that needs no model, and a chat that no plugin has to do with.
    pub(crate) async fn answers_others(&self) {
        assert_eq!(self.get("/healthz").await.status, 200);
        let body = serde_json::json!({"model": "plain", "messages": [{"role": "user", "content": "hello"}]});
        let reply = self.complete(&body).await;
        assert_eq!(reply["choices"][0]["message"]["content"], "hello", "{reply}");
    }
}

fn bearer() -> String {
    format!("Bearer {KEY}")
}

/// An upstream whose models say what they are told, and know these names beside `plain`.
pub(crate) fn echo(models: &[&str]) -> Upstream {
    let upstream = Upstream::scripted(|request| {
        let asked = request.messages();
        let told = asked.last().map(|message| message["content"].as_str().unwrap_or_default().to_owned());
        super::Reply::text(&told.unwrap_or_default())
    });
    let model =
        |id: &&str| serde_json::json!({"id": id, "object": "model", "created": 1, "owned_by": "scripted"});
    let models: Vec<Value> = ["plain", "m1"].iter().chain(models).map(model).collect();
    upstream.set_models(serde_json::json!({"object": "list", "data": models}));
    upstream
}

/// A chat request to a model of its own.
pub(crate) fn ask_model(model: &str, text: &str, stream: bool) -> Value {
    serde_json::json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})
}
