//! What every command does first: read the configuration, and decide where log lines go.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::Context;

use super::args::GlobalArgs;
use crate::config::Settings;
use crate::gateway::Config;
use crate::telemetry;

/// The log of a conversation is started anew when it is longer than this, in bytes.
const MAX_LOG_BYTES: u64 = 4 * 1024 * 1024;

/// What was read.
pub(super) struct Loaded {
    /// The layers: for variables, and to tell what was read.
    pub(super) settings: Settings,
    /// The whole configuration.
    pub(super) config: Config,
}

impl Loaded {
    /// Reads the files, variables and flags.
    ///
    /// # Errors
    /// Whatever is wrong in any of them, with its place.
    pub(super) fn read(global: &GlobalArgs) -> anyhow::Result<Self> {
        let settings = Settings::load(&global.load_options())?;
        let config = Config::load(&settings, global.servers.as_deref())?;
        Ok(Self { settings, config })
    }

    /// Logs as the configuration has it: for the gateway itself.
    ///
    /// # Errors
    /// When the filter is wrong.
    pub(super) fn log(&self) -> anyhow::Result<()> {
        Ok(telemetry::init(&self.config.log, self.rust_log().as_deref())?)
    }

    /// Logs for a command that has its own way to tell what matters: lines of `level` and worse, unless a flag or
    /// `RUST_LOG` asks for more. `log.level` is the gateway's and does not count.
    ///
    /// # Errors
    /// When the filter is wrong.
    pub(super) fn log_only(&self, level: &str, global: &GlobalArgs) -> anyhow::Result<()> {
        Ok(telemetry::init(&self.quieter(level, global), self.rust_log().as_deref())?)
    }

    /// As [`Self::log_only`], into `name` in the data folder, where it does not disturb a prompt.
    ///
    /// # Errors
    /// When the filter is wrong or the file cannot be written.
    pub(super) fn log_to_file(&self, name: &str, level: &str, global: &GlobalArgs) -> anyhow::Result<()> {
        let folder = &self.config.data_dir;
        let path = folder.join(name);
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {} (data_dir)", folder.display()))?;
        let file = open_log(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(telemetry::init_to_file(&self.quieter(level, global), self.rust_log().as_deref(), file)?)
    }

    fn quieter(&self, level: &str, global: &GlobalArgs) -> telemetry::Config {
        match global.log_level {
            Some(_) => self.config.log.clone(),
            None => telemetry::Config { level: level.to_owned(), ..self.config.log.clone() },
        }
    }

    fn rust_log(&self) -> Option<String> {
        self.settings.env("RUST_LOG").map(|filter| filter.expose().to_owned())
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    if file.metadata()?.len() > MAX_LOG_BYTES {
        file.set_len(0)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_log_is_appended_to_until_it_is_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.log");
        open_log(&path).unwrap().write_all(b"one\n").unwrap();
        open_log(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        open_log(&path).unwrap().set_len(MAX_LOG_BYTES + 1).unwrap();
        open_log(&path).unwrap().write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    }
}
