//! What `user` and `key` share: the database of users and keys, the audit log, and tables.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use serde::Serialize;
use serde_json::Value;

use crate::access::accounts::{AccountError, Accounts, Page, User};
use crate::audit::{AuditEvent, AuditLog, AuditSubject};
use crate::cli::args::GlobalArgs;
use crate::cli::loading::Loaded;
use crate::cli::terminal::{Terminal, clean, one_line, print};
use crate::domain::{Principal, PrincipalKind, RequestId};
use crate::gateway::{ACCOUNTS_FILE, open_audit};

/// Users or keys asked for at once.
const PAGE: u64 = 500;

/// The longest that the end waits for the audit log.
const FLUSH: Duration = Duration::from_secs(5);

/// The longest cell of a table, in characters.
const MAX_CELL: usize = 60;

/// The users and keys of a data folder.
pub(super) struct Registry {
    pub(super) loaded: Loaded,
    pub(super) accounts: Accounts,
    audit: AuditLog,
}

impl Registry {
    /// Opens what the settings name; a running gateway may have it open as well.
    ///
    /// # Errors
    /// When the settings are wrong, or the folder cannot be written.
    pub(super) async fn open(global: &GlobalArgs) -> anyhow::Result<Self> {
        let loaded = Loaded::read(global)?;
        loaded.log_only("error", global)?;
        let accounts = Accounts::open(&loaded.config.data_dir.join(ACCOUNTS_FILE)).await?;
        let audit = open_audit(&loaded.config)?;
        Ok(Self { loaded, accounts, audit })
    }

    /// The user with this name or number.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn user(&self, wanted: &str) -> anyhow::Result<User> {
        match self.accounts.user_named(wanted).await {
            Ok(user) => return Ok(user),
            Err(AccountError::NoUserNamed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if let Ok(id) = wanted.parse()
            && let Ok(user) = self.accounts.user(id).await
        {
            return Ok(user);
        }
        bail!("there is no user `{wanted}`; `witgate access user list` shows all users")
    }

    /// Writes down what was done.
    pub(super) async fn tell(&self, action: &'static str, target: String, details: &Value) {
        let subject = AuditSubject::from(&Principal::new("cli", PrincipalKind::User));
        let mut event = AuditEvent::new(subject, RequestId::generate(), "cli", action, target);
        event.arguments = self.audit.keeps_arguments().then(|| details.to_string());
        self.audit.record(event);
        if !self.audit.flush(FLUSH).await {
            tracing::error!("the audit log could not be written");
        }
    }
}

/// The page that begins at `offset`.
pub(super) fn page(offset: usize) -> Page {
    Page { offset: offset as u64, limit: PAGE }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Prints `value` as JSON.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}

/// Rows under `head`, lined up; names are foreign text.
pub(super) fn table(head: &[&str], rows: &[Vec<String>], terminal: Terminal) -> String {
    let clean_rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell, MAX_CELL)).collect()).collect();
    let width = |at: usize| {
        let cells = clean_rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([head[at].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut text = format!("{}\n", terminal.out(crate::cli::terminal::Style::Bold, &line(&head)));
    for row in &clean_rows {
        text.push_str(&clean(&line(row)));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_are_clean() {
        let rows = [vec!["1".to_owned(), "a\u{1b}b".to_owned()], vec!["20".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "NAME"], &rows, Terminal::none()), "ID  NAME\n1   a\u{241b}b\n20\n");
    }
}
