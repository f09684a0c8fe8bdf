//! E-mail addresses: `local@domain.tld` as people write them (a practical part of RFC 5321, with letters beyond ASCII).
//!
//! Not recognised: quoted local parts, address literals (`a@[192.0.2.1]`), domains without a dot (`root@localhost`), and
//! `git@`, which is how repositories are addressed.

use crate::text::{Peek, Verdict, Window, is_letter, is_word};

/// Longest local part in bytes (RFC 5321 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;
/// Longest domain in bytes (RFC 5321 4.5.3.1.2, less the last dot).
const MAX_DOMAIN_BYTES: usize = 253;

/// Recognises addresses from left to right; remembers what it has seen, so that no text is read twice for each word in it.
#[derive(Default)]
pub(crate) struct Email {
    /// Up to here the characters before are known to be of a local part.
    run_end: usize,
    /// An `@` that no domain follows.
    dead_at: Option<usize>,
}

impl Email {
    /// Whether an address begins at `start`, where a word begins. Must be asked from left to right.
    pub(crate) fn verdict(&mut self, window: &Window<'_>, start: usize) -> Verdict {
        let mut at = self.run_end.max(start);
        while at - start <= MAX_LOCAL_BYTES {
            match window.peek(at) {
                Peek::Char(c) if is_local(c) => at += c.len_utf8(),
                _ => break,
            }
        }
        self.run_end = at;
        if at - start > MAX_LOCAL_BYTES {
            return Verdict::No;
        }
        match window.peek(at) {
            Peek::Unknown => return Verdict::Need,
            Peek::Char('@') if self.dead_at != Some(at) && &window.text[start..at] != "git" => {}
            _ => return Verdict::No,
        }
        let verdict = domain(window, at + 1);
        if verdict == Verdict::No {
            self.dead_at = Some(at);
        }
        verdict
    }
}

fn is_local(c: char) -> bool {
    is_word(c) || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'')
}

/// The longest domain that begins at `start`.
fn domain(window: &Window<'_>, start: usize) -> Verdict {
    let mut found = Verdict::No;
    let mut label = start;
    loop {
        let mut at = label;
        let mut letters_end = label;
        loop {
            match window.peek(at) {
                _ if at - start > MAX_DOMAIN_BYTES => return found,
                Peek::Unknown => return Verdict::Need,
                Peek::Char(c) if is_word(c) || (c == '-' && at > label) => {
                    if letters_end == at && is_letter(c) {
                        letters_end += c.len_utf8();
                    }
                    at += c.len_utf8();
                }
                _ => break,
            }
        }
        if at == label {
            return found;
        }
        if label > start {
            let text = &window.text[label..at];
            let stem = text.trim_end_matches('-');
            if window.text[label..letters_end].chars().nth(1).is_some()
                && (letters_end == at || window.text.as_bytes()[letters_end] == b'-')
                && !text.starts_with("xn--")
            {
                found = Verdict::Match(letters_end);
            } else if stem.len() > 4 && text.starts_with("xn--") {
                found = Verdict::Match(label + stem.len());
            }
        }
        if window.peek(at) != Peek::Char('.') {
            // A window that ends here has been answered in the inner loop.
            return found;
        }
        label = at + 1;
    }
}
