//! Where passwords come from: typed unseen, from standard input, or from a variable. Never from the command line, which
//! everyone on the machine can see.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, bail};

use super::args::PasswordFrom;
use crate::cli::loading::Loaded;
use crate::cli::terminal::note;
use crate::config::secret::Secret;

/// A password for `name`, from where `from` says, else typed twice.
///
/// # Errors
/// When there is none, or the two differ.
pub(super) fn ask(name: &str, from: &PasswordFrom, loaded: &Loaded) -> anyhow::Result<Secret> {
    if let Some(variable) = &from.password_env {
        let found = loaded.settings.env(variable).filter(|password| !password.is_empty());
        return found
            .with_context(|| format!("the variable {variable} is not set, in the environment or .env"));
    }
    if from.password_stdin {
        return line(&mut io::stdin().lock()).context("cannot read the password from standard input");
    }
    if !io::stdin().is_terminal() {
        bail!(
            "there is no terminal to type a password at: use --password-stdin and send it as the first line, or name a \
             variable with --password-env"
        );
    }
    let first = unseen(&format!("Password for {name}: "))?;
    let second = unseen("The same again: ")?;
    if first != second {
        bail!("the two passwords differ; nothing was changed");
    }
    Ok(first)
}

fn line(input: &mut impl BufRead) -> anyhow::Result<Secret> {
    let mut text = String::new();
    input.read_line(&mut text)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        bail!("it is empty");
    }
    Ok(Secret::new(text))
}

/// A line that is not shown while it is typed.
#[cfg(unix)]
fn unseen(prompt: &str) -> anyhow::Result<Secret> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

    struct Restore(nix::sys::termios::Termios);

    impl Drop for Restore {
        fn drop(&mut self) {
            if tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0).is_err() {
                note("the terminal could not be reset; `stty sane` does it\n");
            }
        }
    }

    let before = tcgetattr(io::stdin()).context("the terminal cannot be asked how it is set")?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    silent.local_flags.insert(LocalFlags::ECHONL);
    let _restore = Restore(before);
    tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)
        .context("the terminal cannot be made to hide input")?;
    note(prompt);
    line(&mut io::stdin().lock()).context("no password was typed")
}

/// Elsewhere nothing keeps a terminal from showing it.
#[cfg(not(unix))]
fn unseen(_prompt: &str) -> anyhow::Result<Secret> {
    bail!("a password cannot be typed unseen here: use --password-stdin or --password-env")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_as_it_is() {
        for (sent, taken) in [("a b \n", "a b "), ("x\r\ny\n", "x"), ("no end", "no end")] {
            assert_eq!(line(&mut sent.as_bytes()).unwrap().expose(), taken);
        }
        assert!(line(&mut "\n".as_bytes()).is_err() && line(&mut "".as_bytes()).is_err());
    }
}
