//! A sign that something is going on, for people who wait.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal::Terminal;

/// Pause between two pictures.
const TICK: Duration = Duration::from_millis(100);

/// Shows that something is going on; nothing at all where nobody is looking. Vanishes when dropped.
pub(super) struct Spinner(Option<ProgressBar>);

impl Spinner {
    /// Shows `label` with something that turns.
    pub(super) fn start(terminal: Terminal, label: &str) -> Self {
        if !(terminal.stdout && terminal.stderr) {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner:.dim} {msg:.dim} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(TICK);
        Self(Some(bar))
    }

    /// Removes it from the screen.
    pub(super) fn stop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop();
    }
}
