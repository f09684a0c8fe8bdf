//! International bank account numbers (ISO 13616): country, length of that country, check digits modulo 97; solid or in
//! groups.

use crate::text::{Peek, Verdict, Window, is_dash, is_space, is_word};

const MAX_LENGTH: usize = 34;
/// Groups are never shorter, so that a number of bounded length takes a bounded number of bytes.
const MIN_GROUP: usize = 2;

/// Whether an account number begins at `start`, where a word begins.
pub(crate) fn verdict(window: &Window<'_>, start: usize) -> Verdict {
    let mut number = [0; MAX_LENGTH];
    let mut count = 0;
    let mut length = MAX_LENGTH;
    let mut group = 0;
    let mut at = start;
    while count < length {
        let next = match window.peek(at) {
            Peek::Unknown => return Verdict::Need,
            Peek::End => return Verdict::No,
            Peek::Char(c) => c,
        };
        if next.is_ascii_alphanumeric() {
            let is_letter = next.is_ascii_alphabetic();
            if (count < 2) != is_letter && count < 4 {
                return Verdict::No;
            }
            number[count] = next.to_ascii_uppercase() as u8;
            count += 1;
            group += 1;
            at += 1;
            if count == 2 {
                let Some(known) = country_length(&number[..2]) else { return Verdict::No };
                length = known;
            }
        } else if count >= 4 && group >= MIN_GROUP && (is_space(next) || is_dash(next)) {
            group = 0;
            at += next.len_utf8();
        } else {
            return Verdict::No;
        }
    }
    match window.peek(at) {
        Peek::Unknown => Verdict::Need,
        Peek::Char(c) if is_word(c) || c == '_' => Verdict::No,
        _ if is_checked(&number[..length]) => Verdict::Match(at),
        _ => Verdict::No,
    }
}

/// ISO 7064 modulo 97-10, over the number with its first four characters moved to the end.
fn is_checked(number: &[u8]) -> bool {
    let (head, tail) = number.split_at(4);
    let rest = tail.iter().chain(head).fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    rest == 1
}

/// Length of the account numbers of a country (the IBAN registry of SWIFT).
fn country_length(country: &[u8]) -> Option<usize> {
    Some(match country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FK" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"MN" | b"XK" => 20,
        b"CH" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"CR" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"NI" | b"PL" | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}
