//! Finds phrases in text, whole or in pieces: the leftmost, and of those the longest.
//!
//! Phrases stand in a tree of folded characters. The result does not depend on how the text is cut, since nothing is ever
//! concluded from the end of a text that may go on.

use crate::fold::{Folded, fold, is_word};

/// Longest phrase, in characters.
pub(crate) const MAX_PHRASE_CHARS: usize = 256;
/// Most phrases.
pub(crate) const MAX_PHRASES: usize = 10_000;
/// So many invisible characters and spaces too many may stand within a phrase.
const MAX_SKIPPED: usize = 64;

/// Phrases to look for.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// A tree: the first node is its root.
    nodes: Vec<Node>,
    whole_words: bool,
}

#[derive(Debug, Default)]
struct Node {
    /// The nodes after this one, in the order of their characters.
    next: Vec<(char, usize)>,
    /// The phrase that ends here.
    phrase: Option<usize>,
}

/// What stands next in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing up to here; what comes after may be the beginning of a phrase.
    Clear(usize),
    /// A phrase.
    Phrase {
        /// Where it begins.
        start: usize,
        /// Where it ends.
        end: usize,
        /// Its position in the list.
        phrase: usize,
    },
}

enum Verdict {
    No,
    Need,
    Match { end: usize, phrase: usize },
}

impl Matcher {
    /// A matcher for these phrases; with `whole_words` none is found within a longer word.
    ///
    /// # Errors
    /// Says which phrase cannot be used and why.
    pub(crate) fn new(phrases: &[String], whole_words: bool) -> Result<Self, String> {
        if phrases.is_empty() {
            return Err("there are no phrases to look for".to_owned());
        }
        if phrases.len() > MAX_PHRASES {
            return Err(format!("there are {} phrases; {MAX_PHRASES} are allowed", phrases.len()));
        }
        let mut matcher = Self { nodes: vec![Node::default()], whole_words };
        for (index, phrase) in phrases.iter().enumerate() {
            matcher.add(index, phrase).map_err(|why| format!("phrase {} ({phrase:?}) {why}", index + 1))?;
        }
        Ok(matcher)
    }

    fn add(&mut self, index: usize, phrase: &str) -> Result<(), String> {
        let chars = folded(phrase);
        if chars.is_empty() {
            return Err("is empty".to_owned());
        }
        if chars.len() > MAX_PHRASE_CHARS {
            return Err(format!("is longer than {MAX_PHRASE_CHARS} characters"));
        }
        let mut node = 0;
        for c in chars {
            node = match self.nodes[node].next.binary_search_by_key(&c, |(c, _)| *c) {
                Ok(place) => self.nodes[node].next[place].1,
                Err(place) => {
                    let new = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].next.insert(place, (c, new));
                    new
                }
            };
        }
        self.nodes[node].phrase.get_or_insert(index);
        Ok(())
    }

    /// Looks for the next phrase in `text` from `from` on. `at_end` tells that nothing follows the text.
    pub(crate) fn find(&self, text: &str, from: usize, at_end: bool) -> Found {
        let mut before = text[..from].chars().next_back();
        for (index, c) in text[from..].char_indices() {
            let start = from + index;
            let goes_on = self.whole_words && is_word(c) && before.is_some_and(is_word);
            before = Some(c);
            if goes_on || c.is_ascii() && self.step(0, c.to_ascii_lowercase()).is_none() {
                continue;
            }
            match self.verdict(text, start, at_end) {
                Verdict::No => {}
                Verdict::Need => return Found::Clear(start),
                Verdict::Match { end, phrase } => return Found::Phrase { start, end, phrase },
            }
        }
        Found::Clear(text.len())
    }

    /// The longest phrase that begins at `start`.
    fn verdict(&self, text: &str, start: usize, at_end: bool) -> Verdict {
        let mut found = Verdict::No;
        let mut node = 0;
        let mut skipped = 0;
        let mut after_space = false;
        for (index, c) in text[start..].char_indices() {
            let folded = fold(c);
            let is_skipped = match folded {
                Folded::Nothing => true,
                Folded::Space => after_space,
                Folded::Chars(_) => false,
            };
            if is_skipped {
                skipped += 1;
                if skipped > MAX_SKIPPED || node == 0 {
                    return found;
                }
                continue;
            }
            after_space = matches!(folded, Folded::Space);
            let next = match folded {
                Folded::Chars(chars) => {
                    chars.into_iter().flatten().try_fold(node, |node, c| self.step(node, c))
                }
                _ => self.step(node, ' '),
            };
            let Some(next) = next else { return found };
            node = next;
            if let Some(phrase) = self.nodes[node].phrase {
                let end = start + index + c.len_utf8();
                let goes_on = |next: char| self.whole_words && is_word(c) && is_word(next);
                match text[end..].chars().next() {
                    None if !at_end && self.whole_words && is_word(c) => return Verdict::Need,
                    Some(next) if goes_on(next) => {}
                    _ => found = Verdict::Match { end, phrase },
                }
            }
            if self.nodes[node].next.is_empty() {
                return found;
            }
        }
        if at_end || node == 0 { found } else { Verdict::Need }
    }

    fn step(&self, node: usize, c: char) -> Option<usize> {
        let next = &self.nodes[node].next;
        next.binary_search_by_key(&c, |(c, _)| *c).ok().map(|place| next[place].1)
    }
}

/// A phrase as it is compared: folded, with single spaces, and none at its ends.
fn folded(phrase: &str) -> Vec<char> {
    let mut chars = Vec::new();
    for c in phrase.chars() {
        match fold(c) {
            Folded::Chars(folded) => chars.extend(folded.into_iter().flatten()),
            Folded::Space if chars.last().is_some_and(|c| *c != ' ') => chars.push(' '),
            Folded::Space | Folded::Nothing => {}
        }
    }
    if chars.last() == Some(&' ') {
        chars.pop();
    }
    chars
}
