//! One configuration error: where it was written, which key, what was expected, and the nearest right name.
//!
//! Promises: the text of a value is shown only where the key does not look like one of a secret.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::environment::variable_name;
use super::value::Origin;

/// What is wrong with one value or key.
#[derive(Clone, Debug)]
pub(super) struct Error {
    /// Where; filled in by the innermost place that knows it.
    origin: Option<Box<Origin>>,
    /// Keys from the top; list positions are `[n]`.
    path: Vec<String>,
    problem: Box<Problem>,
}

#[derive(Clone, Debug)]
enum Problem {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownVariant { text: String, known: &'static [&'static str] },
    MissingKey { key: &'static str },
    Wrong { wanted: String, got: String, shown: Option<String> },
    Other(String),
}

impl Error {
    /// An error that is not about one type or key; `message` follows the name of the key.
    pub(super) fn other(message: impl Into<String>) -> Self {
        Self::new(Problem::Other(message.into()))
    }

    fn new(problem: Problem) -> Self {
        Self { origin: None, path: Vec::new(), problem: Box::new(problem) }
    }

    /// The same error, at `origin` unless a more precise place is known.
    pub(super) fn at(mut self, origin: &Origin) -> Self {
        self.origin.get_or_insert_with(|| Box::new(origin.clone()));
        self
    }

    /// The same error, below `key`.
    pub(super) fn within(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }

    /// The key that is at fault, to be taken out to see what else is wrong; none where taking it out cannot help.
    pub(super) fn faulty(&self) -> Option<Vec<String>> {
        let mut path = self.path.clone();
        match self.problem.as_ref() {
            Problem::UnknownKey { key, .. } => path.push(key.clone()),
            Problem::MissingKey { .. } => return None,
            _ => {
                // Without one item, the positions of the others would no longer be those in the file.
                while path.last().is_some_and(|last| last.starts_with('[')) {
                    path.pop();
                }
            }
        }
        (!path.is_empty()).then_some(path)
    }

    fn key(&self, last: Option<&str>) -> String {
        let mut out = String::new();
        for part in self.path.iter().map(String::as_str).chain(last) {
            if !out.is_empty() && !part.starts_with('[') {
                out.push('.');
            }
            out.push_str(part);
        }
        out
    }

    /// The name of `key` beside this error's key, as it would be written where the error is.
    fn spelled(&self, key: &str) -> String {
        if self.origin.as_ref().and_then(|origin| origin.variable()).is_none() {
            return key.to_owned();
        }
        let path = self.path.iter().map(|part| part.trim_matches(['[', ']'])).chain([key]);
        variable_name(path)
    }

    fn write_unknown_key(&self, f: &mut fmt::Formatter<'_>, key: &str, known: &[&str]) -> fmt::Result {
        write!(f, "unknown key {}", self.key(Some(key)))?;
        match nearest(key, known.iter().copied()) {
            Some(name) => write!(f, "; did you mean {}?", self.spelled(name)),
            None if known.is_empty() => f.write_str("; no key is known here"),
            None => write!(f, "; known here: {}", known.join(", ")),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        let key = self.key(None);
        match self.problem.as_ref() {
            Problem::UnknownKey { key, known } => self.write_unknown_key(f, key, known),
            Problem::UnknownVariant { text, known } => {
                write!(f, "{key} must be one of {}, not {text:?}", known.join(", "))?;
                match nearest(text, known.iter().copied()) {
                    Some(name) => write!(f, "; did you mean {name}?"),
                    None => Ok(()),
                }
            }
            Problem::MissingKey { key: missing } if key.is_empty() => {
                write!(f, "the key {missing} is missing")
            }
            Problem::MissingKey { key: missing } => write!(f, "{key} lacks the key {missing}"),
            Problem::Wrong { wanted, got, shown } => {
                let subject = if key.is_empty() { "this" } else { &key };
                let shown = shown.as_deref().filter(|_| !looks_secret(&self.path));
                write!(f, "{subject} must be {wanted}, not {}", shown.unwrap_or(got))
            }
            Problem::Other(message) if key.is_empty() => f.write_str(message),
            Problem::Other(message) => write!(f, "{key}: {message}"),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::other(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let wanted = in_words(&expected.to_string());
        let (got, shown) = describe(unexpected);
        Self::new(Problem::Wrong { wanted, got, shown })
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownVariant { text: variant.to_owned(), known })
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey { key: field.to_owned(), known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::MissingKey { key: field })
    }
}

/// The name in `known` that `name` was probably meant to be.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Below this the two names have too little in common to be a slip of the finger.
    const ALIKE: f64 = 0.8;
    // Short names share too few letters for the measure above; one slip is still one slip.
    let one_slip = |other: &str| name.len() > 2 && strsim::damerau_levenshtein(name, other) == 1;
    let score =
        |other: &str| strsim::jaro_winkler(name, other).max(if one_slip(other) { ALIKE } else { 0.0 });
    let scored = known.map(|candidate| (score(candidate), candidate));
    let best = scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, candidate)| candidate)
}

/// Serde's names of types, for people.
fn in_words(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list, for example [\"a\", \"b\"]",
        "a map" => "a table",
        "path string" => "a path",
        _ if expected.starts_with("a nonzero ") => "a whole number, 1 or more",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    }
    .to_owned()
}

/// The kind of value that was found, and its text where it has one.
fn describe(unexpected: Unexpected<'_>) -> (String, Option<String>) {
    match unexpected {
        Unexpected::Bool(value) => ("a boolean".to_owned(), Some(value.to_string())),
        Unexpected::Unsigned(value) => ("a number".to_owned(), Some(value.to_string())),
        Unexpected::Signed(value) => ("a number".to_owned(), Some(value.to_string())),
        Unexpected::Float(value) => ("a number".to_owned(), Some(value.to_string())),
        Unexpected::Str(text) => ("a string".to_owned(), Some(format!("the string {text:?}"))),
        Unexpected::Unit | Unexpected::Option => ("null".to_owned(), None),
        Unexpected::Seq => ("a list".to_owned(), None),
        Unexpected::Map => ("a table".to_owned(), None),
        other => (other.to_string(), None),
    }
}

/// Errs on the side of hiding: a hidden timeout is a nuisance, a shown key is a leak.
fn looks_secret(path: &[String]) -> bool {
    const WORDS: [&str; 8] = ["key", "secret", "token", "password", "auth", "header", "env", "cookie"];
    path.iter().any(|part| {
        let part = part.to_ascii_lowercase();
        WORDS.iter().any(|word| part.contains(word))
    })
}
