//! Patterns for names: `*` stands for any characters, `?` for one, everything else for itself.

use serde::Deserialize;

/// A pattern such as `read_*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Pattern(String);

impl Pattern {
    /// Whether the whole of `text` fits. Upper and lower case differ.
    #[must_use]
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let mut pattern = self.0.chars();
        // Where to go on when the last `*` has to take one character more.
        let mut retry = None;
        loop {
            let mut ahead = pattern.clone();
            match ahead.next() {
                Some('*') => {
                    retry = Some((ahead.clone(), rest.clone()));
                    pattern = ahead;
                    continue;
                }
                Some(wanted) if rest.clone().next().is_some_and(|next| wanted == '?' || wanted == next) => {
                    rest.next();
                    pattern = ahead;
                    continue;
                }
                None if rest.clone().next().is_none() => return true,
                _ => {}
            }
            let Some((after_star, mut from)) = retry else { return false };
            if from.next().is_none() {
                return false;
            }
            rest = from.clone();
            pattern = after_star.clone();
            retry = Some((after_star, from));
        }
    }

    /// Whether the pattern is empty, which no name is.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn stars_and_question_marks() {
        let matches = |pattern: &str, text: &str| Pattern(pattern.into()).matches(text);
        for (pattern, text) in [
            ("*", ""),
            ("*", "anything"),
            ("read_*", "read_file"),
            ("read_*", "read_"),
            ("*_file", "read_file"),
            ("/v1/*", "/v1/chat/completions"),
            ("a*b*c", "a-b-b-c"),
            ("a*b*c", "abc"),
            ("**", "x"),
            ("r??d", "read"),
            ("größe-?", "größe-ä"),
            ("user:alice", "user:alice"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "x"),
            ("read_*", "unread_file"),
            ("*_file", "read_files"),
            ("read", "reader"),
            ("read", "rea"),
            ("a*b*c", "a-c-b"),
            ("?", ""),
            ("READ_*", "read_file"),
            ("[rw]*", "read"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = Pattern("a*".repeat(40) + "b");
        assert!(!pattern.matches(&"a".repeat(2_000)));
    }
}
