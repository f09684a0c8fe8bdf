//! The `[plugins]` section: the folder, and the limits that all plugins share.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bundled;
use super::manifest::bounded;

/// The most memory one plugin instance can be granted: all that 32-bit addresses reach.
const MAX_MEMORY_MB: u64 = 4096;

/// The `[plugins]` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder that plugins are dropped into. It need not exist. Default `plugins`.
    pub dir: PathBuf,
    /// Plugins inside the gateway's binary that serve. Default `["clock-and-math"]`.
    pub bundled: Vec<String>,
    /// Whether the folder is watched. Without, changes take effect on demand only. Default true.
    pub watch: bool,
    /// Names of plugins that must be serving: while one of them is not, requests get 503. Default none.
    pub required: Vec<String>,
    /// Largest component, in mebibytes. Default 128.
    #[serde(deserialize_with = "bounded::<_, 1, 1024>")]
    pub max_component_mb: u64,
    /// Calls and open replies at the same time, over all plugins. Default 1000.
    #[serde(deserialize_with = "bounded::<_, 1, 10_000>")]
    pub max_instances: u64,
    /// The most that a plugin's `limits.memory_mb` can be. Default 256.
    #[serde(deserialize_with = "bounded::<_, 1, MAX_MEMORY_MB>")]
    pub max_instance_memory_mb: u64,
    /// Folder for compiled code. By default `cache/plugins` in `data_dir`.
    pub cache_dir: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("plugins"),
            bundled: vec!["clock-and-math".to_owned()],
            watch: true,
            required: Vec::new(),
            max_component_mb: 128,
            max_instances: 1000,
            max_instance_memory_mb: 256,
            cache_dir: None,
        }
    }
}

impl Config {
    /// The same with absolute paths: relative ones start from `working_dir`.
    ///
    /// # Errors
    /// A cache folder within the plugins folder: whoever may drop plugins must not be able to change compiled code. A
    /// bundled plugin that does not exist.
    pub fn resolved(mut self, working_dir: &Path, data_dir: &Path) -> Result<Self, String> {
        if let Some(fault) = bundled::unknown(&self.bundled) {
            return Err(fault);
        }
        self.dir = working_dir.join(&self.dir);
        let cache = match &self.cache_dir {
            Some(dir) => working_dir.join(dir),
            None => data_dir.join("cache").join("plugins"),
        };
        if normal(&cache).starts_with(normal(&self.dir)) {
            return Err(format!(
                "plugins.cache_dir: {} lies within the plugins folder {}; compiled code must be kept where no plugin is \
                 dropped",
                cache.display(),
                self.dir.display()
            ));
        }
        self.cache_dir = Some(cache);
        Ok(self)
    }
}

/// `path` as the system would go it, as far as it exists; without `.` and `..` in any case.
fn normal(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::CurDir => {}
            part => plain.push(part),
        }
    }
    let known = plain.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    match known {
        Some((ancestor, real)) => plain.strip_prefix(ancestor).map_or(real.clone(), |rest| real.join(rest)),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_from_the_working_folder() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let config = Config::default().resolved(folder.path(), &data).unwrap();
        assert_eq!(config.dir, folder.path().join("plugins"));
        assert_eq!(config.cache_dir, Some(data.join("cache/plugins")));
    }

    #[test]
    fn compiled_code_is_kept_away_from_the_drop_folder() {
        let folder = tempfile::tempdir().unwrap();
        let resolve = |cache: &str| {
            let config = Config { cache_dir: Some(PathBuf::from(cache)), ..Config::default() };
            config.resolved(folder.path(), folder.path())
        };
        assert!(resolve("compiled").is_ok());
        assert!(resolve("plugins-cache").is_ok());
        for cache in ["plugins", "plugins/cache", "x/../plugins/cache", "./plugins/./c"] {
            assert!(resolve(cache).unwrap_err().contains("lies within the plugins folder"), "{cache}");
        }
        #[cfg(unix)]
        {
            std::fs::create_dir(folder.path().join("plugins")).unwrap();
            std::os::unix::fs::symlink(folder.path().join("plugins"), folder.path().join("link")).unwrap();
            assert!(resolve("link/cache").is_err());
        }
    }
}
