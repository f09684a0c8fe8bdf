//! What secrets look like: the names they go by, and their forms in running text.

use super::HIDDEN;

/// Words that make a key a secret's, where the key is split at capitals and at everything that is no letter or digit.
const SECRET_WORDS: [&str; 22] = [
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "jwt",
    "key",
    "keys",
    "otp",
    "pass",
    "passcode",
    "passwd",
    "password",
    "passwords",
    "pin",
    "pwd",
    "secret",
    "secrets",
    "token",
    "tokens",
];

/// The same for keys written in one piece.
const SECRET_PARTS: [&str; 11] = [
    "accesskey",
    "apikey",
    "authorization",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "signature",
    "token",
];

/// What comes before a secret without a name; the length is that of the shortest thing that counts.
const PREFIXES: [(&str, usize); 8] = [
    ("wg_", 8),
    ("sk-", 16),
    ("sk_", 16),
    ("ghp_", 16),
    ("github_pat_", 16),
    ("xoxb-", 10),
    ("AKIA", 12),
    ("eyJ", 16),
];

/// What is secret enough within a word.
const LONG: usize = 20;

/// Schemes of an `Authorization` header.
const SCHEMES: [&str; 3] = ["bearer", "basic", "digest"];

/// Whether what `key` names is most likely a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    let mut words: Vec<String> = vec![String::new()];
    let mut was_lower = false;
    for c in key.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    let joined = words.concat();
    words.iter().any(|word| SECRET_WORDS.contains(&word.as_str()))
        || SECRET_PARTS.iter().any(|part| joined.contains(part))
}

/// `text` without what looks like a secret in it. Reads it once, from left to right; of a long text only so much is made
/// clean as begins within the first `limit` bytes.
pub(super) fn hide(text: &str, limit: usize) -> String {
    hide_with(text, limit, named_value)
}

/// The same for a name such as `key:a1b2`, where what follows the colon is no secret: only keys and tokens themselves.
pub(super) fn hide_in_name(text: &str, limit: usize) -> String {
    hide_with(text, limit, |_, _| None)
}

/// `named` finds the secret that follows a word.
fn hide_with(
    text: &str,
    limit: usize,
    named: impl for<'a> Fn(&str, &'a str) -> Option<(&'a str, &'a str)>,
) -> String {
    if text.contains("PRIVATE KEY-----") {
        return HIDDEN.to_owned();
    }
    let mut clean = String::with_capacity(text.len().min(limit));
    let mut rest = text;
    while let Some(first) = rest.chars().next().filter(|_| text.len() - rest.len() < limit) {
        if !is_word(first) {
            let keep = first.len_utf8();
            if let Some(after) = user_info(rest) {
                clean.push_str("://");
                clean.push_str(HIDDEN);
                rest = after;
                continue;
            }
            clean.push_str(&rest[..keep]);
            rest = &rest[keep..];
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let lower = word.to_ascii_lowercase();
        if is_secret_shape(word) {
            clean.push_str(HIDDEN);
            rest = after;
        } else if let Some((between, after)) = named(&lower, after) {
            clean.push_str(word);
            clean.push_str(between);
            clean.push_str(HIDDEN);
            rest = after;
        } else {
            clean.push_str(word);
            rest = after;
        }
    }
    clean
}

/// Letters, digits and what joins them in keys and tokens.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// A word that is, or holds, a key or a token.
fn is_secret_shape(word: &str) -> bool {
    let last_dot = word.rfind('.');
    PREFIXES.iter().any(|(prefix, shortest)| {
        word.match_indices(prefix).any(|(at, _)| {
            let tail = &word[at + prefix.len()..];
            let is_token = *prefix != "eyJ" || last_dot.is_some_and(|dot| dot > at);
            // `task-force` holds `sk-`: behind a letter only a long tail counts.
            let begins = !word[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
            tail.len() >= if begins { *shortest } else { LONG } && is_token
        })
    })
}

/// After `word`: what stands between it and its secret, and what follows that. `Bearer x`, `--token x`, `password = 'x'`,
/// `"token": "x"`, `?apikey=x`.
fn named_value<'a>(word: &str, after: &'a str) -> Option<(&'a str, &'a str)> {
    let is_scheme = word == "bearer";
    if !is_scheme && !is_secret_key(word) {
        return None;
    }
    let marks = after.find(|c: char| !(c.is_whitespace() || "'\"`\\=:>".contains(c))).unwrap_or(after.len());
    let (between, value) = after.split_at(marks);
    // `Bearer x`, and `--password x` in a command line.
    let is_before = is_scheme || word.starts_with("--");
    let assigns = between.contains(['=', ':']) || (is_before && between.starts_with(char::is_whitespace));
    if !assigns || value.is_empty() {
        return None;
    }
    // `Authorization: Bearer x`: the scheme is no secret, what follows it is.
    let (between, value) = match after_scheme(value) {
        Some(value) => (&after[..after.len() - value.len()], value),
        None => (between, value),
    };
    Some((between, &value[value_end(value, between)..]))
}

/// What follows `Bearer ` and the like at the beginning of `value`.
fn after_scheme(value: &str) -> Option<&str> {
    let rest = SCHEMES.iter().find_map(|scheme| {
        let (first, rest) = value.split_at_checked(scheme.len())?;
        first.eq_ignore_ascii_case(scheme).then_some(rest)
    })?;
    rest.starts_with(char::is_whitespace).then(|| rest.trim_start())
}

/// Where a value ends: at its quotation mark, if it began with one, else at the first blank or separator.
fn value_end(value: &str, between: &str) -> usize {
    let quote = between.chars().next_back().filter(|c| "'\"`".contains(*c));
    let ends = |c: char| match quote {
        Some(quote) => c == quote,
        None => c.is_whitespace() || "'\"`&;,)}]".contains(c),
    };
    value.find(ends).unwrap_or(value.len())
}

/// After `://user:password@`, what follows `://user:password`.
fn user_info(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("://")?;
    let end = rest.find(|c: char| c.is_whitespace() || "/?#'\"".contains(c)).unwrap_or(rest.len());
    let at = rest[..end].rfind('@')?;
    rest[..at].contains(':').then(|| &rest[at..])
}
