//! A window into text that may still grow, and what a recogniser can say about a place in it.
//!
//! A recogniser must never conclude anything from the window's end while more text can follow: it says
//! [`Verdict::Need`]. That one rule makes the result independent of how a stream is cut.

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peek {
    /// This character.
    Char(char),
    /// The text ends here.
    End,
    /// The window ends here, and more text may follow.
    Unknown,
}

/// What a recogniser says about a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing begins here, whatever follows.
    No,
    /// More text is needed to tell.
    Need,
    /// Something begins here and ends before this place.
    Match(usize),
}

/// Text and whether it is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<'a> {
    /// The text, with a little of what came before the first place of interest.
    pub(crate) text: &'a str,
    /// True where nothing follows the text.
    pub(crate) at_end: bool,
}

impl Window<'_> {
    /// What stands at `at`, which must be the border of a character.
    #[inline]
    pub(crate) fn peek(&self, at: usize) -> Peek {
        match self.text.as_bytes().get(at) {
            Some(byte) if byte.is_ascii() => Peek::Char(char::from(*byte)),
            Some(_) => self.text[at..].chars().next().map_or(Peek::End, Peek::Char),
            None if self.at_end => Peek::End,
            None => Peek::Unknown,
        }
    }

    /// The digit at `at` as a number, where there is one.
    #[inline]
    pub(crate) fn digit(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0')
    }

    /// The two characters before `at`, the nearer one first.
    pub(crate) fn before(&self, at: usize) -> (Option<char>, Option<char>) {
        let mut back = self.text[..at].chars().rev();
        (back.next(), back.next())
    }
}

/// Letters that names and addresses are written with: Latin, Greek and Cyrillic, and accents that follow their letter.
/// Scripts without spaces between words are left out on purpose: an address may stand right after such a letter.
#[inline]
pub(crate) fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic()
        || matches!(c, '\u{C0}'..='\u{24F}' | '\u{300}'..='\u{36F}' | '\u{370}'..='\u{52F}' | '\u{1E00}'..='\u{1FFF}')
            && !matches!(c, '\u{D7}' | '\u{F7}')
}

/// A letter or a digit: what words and numbers consist of.
#[inline]
pub(crate) fn is_word(c: char) -> bool {
    c.is_ascii_digit() || is_letter(c)
}

/// A space that stays on the line.
#[inline]
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{A0}' | '\u{2009}' | '\u{202F}')
}

/// A hyphen, or what typesetting makes of one.
#[inline]
pub(crate) fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{2011}' | '\u{2013}')
}
