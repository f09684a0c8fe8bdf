//! Payment card numbers (ISO/IEC 7812): 13 to 19 digits, solid or in groups, with an issuer's prefix, a length that
//! issuer uses, and a right check digit.

use crate::text::{Peek, Verdict, Window, is_dash, is_space, is_word};

const MIN_DIGITS: usize = 13;
const MAX_DIGITS: usize = 19;
/// The first group of a number is never shorter.
const MIN_FIRST_GROUP: usize = 4;

/// Whether a card number begins at `start`, where a number begins.
pub(crate) fn verdict(window: &Window<'_>, start: usize) -> Verdict {
    if let (Some('.' | ','), Some(before)) = window.before(start)
        && before.is_ascii_digit()
    {
        return Verdict::No;
    }
    let mut digits = [0; MAX_DIGITS];
    let mut count = 0;
    let mut at = start;
    let mut separator = None;
    let mut found = Verdict::No;
    loop {
        while let Some(digit) = window.digit(at) {
            let Some(place) = digits.get_mut(count) else { return found };
            *place = digit;
            count += 1;
            at += 1;
        }
        if count >= MIN_FIRST_GROUP && !may_be_issued(&digits) {
            return Verdict::No;
        }
        let next = match window.peek(at) {
            Peek::Unknown => return Verdict::Need,
            Peek::End => None,
            Peek::Char(c) => Some(c),
        };
        if count < MIN_FIRST_GROUP {
            return Verdict::No;
        }
        if count >= MIN_DIGITS && is_issued(&digits[..count]) && passes_luhn(&digits[..count]) {
            match ends_number(window, at) {
                None => return Verdict::Need,
                Some(true) => found = Verdict::Match(at),
                Some(false) => {}
            }
        }
        let Some(next) = next.filter(|c| is_space(*c) || is_dash(*c)) else { return found };
        if *separator.get_or_insert(next) != next {
            return found;
        }
        at += next.len_utf8();
        match window.peek(at) {
            Peek::Unknown => return Verdict::Need,
            Peek::Char(c) if c.is_ascii_digit() => {}
            _ => return found,
        }
    }
}

/// Whether a number may end at `at`: no letter follows, and no decimals.
fn ends_number(window: &Window<'_>, at: usize) -> Option<bool> {
    match window.peek(at) {
        Peek::Unknown => None,
        Peek::Char('.' | ',') => match window.peek(at + 1) {
            Peek::Unknown => None,
            Peek::Char(c) => Some(!c.is_ascii_digit()),
            Peek::End => Some(true),
        },
        Peek::Char(c) => Some(!is_word(c) && c != '_'),
        Peek::End => Some(true),
    }
}

/// Whether some issuer's numbers begin with these four digits.
fn may_be_issued(digits: &[u8]) -> bool {
    lengths(prefix(digits)).is_some()
}

fn is_issued(digits: &[u8]) -> bool {
    lengths(prefix(digits)).is_some_and(|lengths| lengths.contains(&digits.len()))
}

/// The first four digits as a number.
fn prefix(digits: &[u8]) -> u32 {
    digits[..MIN_FIRST_GROUP].iter().fold(0, |number, digit| number * 10 + u32::from(*digit))
}

/// The lengths in use for numbers with these first four digits.
fn lengths(prefix: u32) -> Option<&'static [usize]> {
    Some(match prefix {
        // Visa.
        4000..=4999 => &[13, 16, 19],
        // Mastercard.
        5100..=5599 | 2221..=2720 => &[16],
        // American Express.
        3400..=3499 | 3700..=3799 => &[15],
        // Diners Club.
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => &[14, 16, 19],
        // JCB.
        3528..=3589 => &[16, 17, 18, 19],
        // Discover, UnionPay, RuPay.
        6000..=6099 | 6200..=6299 | 6440..=6599 | 8100..=8299 => &[16, 17, 18, 19],
        // Mir.
        2200..=2204 => &[16, 17, 18, 19],
        // Troy.
        9792 => &[16],
        // Maestro.
        5000..=5099 | 5600..=5899 | 6304 | 6759 | 6761..=6763 => &[13, 14, 15, 16, 17, 18, 19],
        _ => return None,
    })
}

/// The check digit of ISO/IEC 7812-1, annex B.
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(*digit) << (place % 2);
            value / 10 + value % 10
        })
        .sum();
    sum.is_multiple_of(10)
}
