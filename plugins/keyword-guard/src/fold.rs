//! What counts as the same text: letters of any case, any white space, the usual spellings of quotes and hyphens.
//!
//! A character folds to at most three others. Not done: Unicode normalisation, so `é` and `e` with an accent after it are
//! two things.

/// What a character becomes before it is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Folded {
    /// These characters; unused places hold `None`.
    Chars([Option<char>; 3]),
    /// White space; a run of it is one space.
    Space,
    /// Nothing: the character cannot be seen.
    Nothing,
}

/// Folds a character.
pub(crate) fn fold(c: char) -> Folded {
    let one = |c| Folded::Chars([Some(c), None, None]);
    match c {
        c if c.is_ascii() && !c.is_ascii_whitespace() => one(c.to_ascii_lowercase()),
        '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FE0E}' | '\u{FE0F}' | '\u{FEFF}' => {
            Folded::Nothing
        }
        c if c.is_whitespace() => Folded::Space,
        'ß' | 'ẞ' => Folded::Chars([Some('s'), Some('s'), None]),
        'ς' => one('σ'),
        // The dot of a Turkish capital, which its small letter has anyway.
        'İ' => one('i'),
        '\u{2018}' | '\u{2019}' | '\u{2BC}' => one('\''),
        '\u{201C}' | '\u{201D}' | '\u{201E}' => one('"'),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => one('-'),
        // Letters as wide as Chinese ones.
        '\u{FF01}'..='\u{FF5E}' => {
            let narrow = char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c);
            one(narrow.to_ascii_lowercase())
        }
        c => {
            let mut lower = c.to_lowercase();
            Folded::Chars([lower.next(), lower.next(), lower.next()])
        }
    }
}

/// Whether a word goes on over this character. Scripts that put no space between words have no words in this sense.
pub(crate) fn is_word(c: char) -> bool {
    match c {
        c if c.is_ascii() => c.is_ascii_alphanumeric() || c == '_',
        // Accents that follow their letter.
        '\u{300}'..='\u{36F}' => true,
        // Thai, Lao, Myanmar, Khmer; kana; Han.
        '\u{E00}'..='\u{EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' => false,
        '\u{2E80}'..='\u{A4CF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}' => false,
        c => c.is_alphanumeric(),
    }
}
