//! Finds personal data in text, whole or in pieces, and puts something else in its place.
//!
//! The result does not depend on how the text is cut: text is let go only when nothing that can follow would make it part
//! of a match. What is held back is the beginning of such a match, at most an address of full length.

use crate::email::Email;
use crate::text::{Verdict, Window, is_word};
use crate::{card, iban, phone};

/// How much of the text before is kept to see what a number follows: `tel:` and two characters.
const CONTEXT_BYTES: usize = 8;
/// What a hidden character becomes.
const MASK: char = '*';
/// So many letters and digits stay when a number is masked.
const SHOWN_DIGITS: usize = 4;

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// An e-mail address.
    Email,
    /// A telephone number.
    Phone,
    /// A payment card's number.
    Card,
    /// An international bank account number.
    Iban,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 4] = [Self::Email, Self::Phone, Self::Card, Self::Iban];

    /// The kind's name, in the configuration and in labels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Iban => "iban",
        }
    }
}

/// What is put in the place of a match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// The kind in brackets: `[email]`.
    #[default]
    Label,
    /// The match with all but its end hidden: `**** **** **** 1111`, `***@*******.com`.
    Mask,
    /// This text; `{kind}` in it stands for the kind.
    Text(String),
}

/// What to look for, what to leave alone, and what to put in its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// The kinds to look for.
    pub(crate) kinds: Vec<Kind>,
    /// What is put in the place of a match.
    pub(crate) replacement: Replacement,
    /// What stays as it is.
    pub(crate) allow: AllowList,
}

/// Addresses, domains and numbers that are no secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowList {
    addresses: Vec<String>,
    domains: Vec<String>,
    numbers: Vec<String>,
}

impl AllowList {
    /// Adds an e-mail address, a domain (its subdomains included; `example.com` or `@example.com`), or a number. False
    /// where the entry is none of these.
    pub(crate) fn add(&mut self, entry: &str) -> bool {
        let entry = entry.trim().to_lowercase();
        if let Some((local, domain)) = entry.split_once('@') {
            let list = if local.is_empty() { &mut self.domains } else { &mut self.addresses };
            list.push(if local.is_empty() { domain.to_owned() } else { entry.clone() });
            return !domain.is_empty();
        }
        let number = significant(&entry);
        let has_letters = number.bytes().any(|byte| byte.is_ascii_alphabetic());
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        if digits >= 5 && !(has_letters && entry.contains('.')) {
            self.numbers.push(number);
            return true;
        }
        self.domains.push(entry.trim_start_matches("*.").to_owned());
        has_letters && entry.contains('.')
    }

    fn has(&self, kind: Kind, found: &str) -> bool {
        if kind != Kind::Email {
            return !self.numbers.is_empty() && self.numbers.contains(&significant(found).to_lowercase());
        }
        if self.domains.is_empty() && self.addresses.is_empty() {
            return false;
        }
        let found = found.to_lowercase();
        let domain = found.rsplit('@').next().unwrap_or_default();
        self.addresses.contains(&found)
            || self.domains.iter().any(|allowed| {
                domain.strip_suffix(allowed.as_str()).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
            })
    }
}

/// Letters and digits only.
fn significant(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}

impl Rules {
    /// Redacts a complete text and counts what was replaced. `None` where there is nothing to redact.
    pub(crate) fn redact(&self, text: &str, counts: &mut Counts) -> Option<String> {
        let mut out = String::new();
        let scan = self.scan(&Window { text, at_end: true }, 0, &mut out, counts);
        scan.has_replaced.then_some(out)
    }

    /// Redacts a window from `from` on, and tells how far it could decide.
    fn scan(&self, window: &Window<'_>, from: usize, out: &mut String, counts: &mut Counts) -> Scan {
        let text = window.text;
        let mut email = Email::default();
        let mut scan = Scan { end: from, has_replaced: false };
        let mut copied = from;
        let mut is_in_word = text[..from].chars().next_back().is_some_and(is_word);
        while let Some(c) = text[scan.end..].chars().next() {
            let is_word = is_word(c);
            if is_word && is_in_word || !is_word && c != '+' && c != '(' {
                is_in_word = is_word;
                scan.end += c.len_utf8();
                continue;
            }
            let (kind, verdict) = self.judge(window, &mut email, scan.end, c);
            match verdict {
                Verdict::Need => break,
                Verdict::No => {
                    is_in_word = is_word;
                    scan.end += c.len_utf8();
                }
                Verdict::Match(end) => {
                    let found = &text[scan.end..end];
                    is_in_word = true;
                    if !self.allow.has(kind, found) {
                        out.push_str(&text[copied..scan.end]);
                        self.replace(kind, found, out);
                        copied = end;
                        counts.0[kind as usize] += 1;
                        scan.has_replaced = true;
                    }
                    scan.end = end;
                }
            }
        }
        out.push_str(&text[copied..scan.end]);
        scan
    }

    /// What begins with the character `c` at `at`. The kinds are asked in a fixed order; one that needs more text to tell
    /// has the next ones wait.
    fn judge(&self, window: &Window<'_>, email: &mut Email, at: usize, c: char) -> (Kind, Verdict) {
        for kind in [Kind::Email, Kind::Iban, Kind::Card, Kind::Phone] {
            if !self.kinds.contains(&kind) {
                continue;
            }
            let verdict = match kind {
                Kind::Email if is_word(c) => email.verdict(window, at),
                Kind::Iban if c.is_ascii_alphabetic() => iban::verdict(window, at),
                Kind::Card if c.is_ascii_digit() => card::verdict(window, at),
                Kind::Phone if c.is_ascii_digit() || !is_word(c) => phone::verdict(window, at),
                _ => Verdict::No,
            };
            if verdict != Verdict::No {
                return (kind, verdict);
            }
        }
        (Kind::Email, Verdict::No)
    }

    fn replace(&self, kind: Kind, found: &str, out: &mut String) {
        match &self.replacement {
            Replacement::Label => out.extend(["[", kind.name(), "]"]),
            Replacement::Text(text) => out.push_str(&text.replace("{kind}", kind.name())),
            Replacement::Mask => mask(kind, found, out),
        }
    }
}

/// Hides all letters and digits but the last four; of an address all but the last part of its domain.
fn mask(kind: Kind, found: &str, out: &mut String) {
    let shown = match kind {
        Kind::Email => found.len() - found.rfind('.').unwrap_or(found.len()),
        _ => found
            .bytes()
            .rev()
            .scan(0, |seen, byte| {
                *seen += usize::from(byte.is_ascii_alphanumeric());
                (*seen <= SHOWN_DIGITS).then_some(())
            })
            .count(),
    };
    let (hidden, shown) = found.split_at(found.len() - shown);
    out.extend(hidden.chars().map(|c| if is_word(c) { MASK } else { c }));
    out.push_str(shown);
}

/// How many matches of each kind were replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts([usize; Kind::ALL.len()]);

impl Counts {
    /// How many of one kind.
    pub(crate) fn of(&self, kind: Kind) -> usize {
        self.0[kind as usize]
    }

    /// How many of all kinds.
    pub(crate) fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

struct Scan {
    /// Up to here all is decided and in the output.
    end: usize,
    has_replaced: bool,
}

/// One text that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// A little of what has gone, and what is held back.
    buffer: String,
    /// Where the held text begins in the buffer.
    held_from: usize,
}

impl Stream {
    /// Takes the next piece and appends to `out` what can go on. Tells whether that is exactly the piece.
    pub(crate) fn push(&mut self, rules: &Rules, piece: &str, out: &mut String, counts: &mut Counts) -> bool {
        let held_nothing = self.held().is_empty();
        self.buffer.push_str(piece);
        let has_replaced = self.release(rules, false, out, counts);
        held_nothing && !has_replaced && self.held().is_empty()
    }

    /// Ends the text, or interrupts it, and appends what was held back to `out`.
    pub(crate) fn finish(&mut self, rules: &Rules, out: &mut String, counts: &mut Counts) {
        self.release(rules, true, out, counts);
    }

    /// What is held back.
    pub(crate) fn held(&self) -> &str {
        &self.buffer[self.held_from..]
    }

    fn release(&mut self, rules: &Rules, at_end: bool, out: &mut String, counts: &mut Counts) -> bool {
        let window = Window { text: &self.buffer, at_end };
        let scan = rules.scan(&window, self.held_from, out, counts);
        let mut keep_from = scan.end.saturating_sub(CONTEXT_BYTES);
        while !self.buffer.is_char_boundary(keep_from) {
            keep_from += 1;
        }
        self.buffer.drain(..keep_from);
        self.held_from = scan.end - keep_from;
        scan.has_replaced
    }
}
