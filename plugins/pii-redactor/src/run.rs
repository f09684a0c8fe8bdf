//! A run of digit groups with the separators that telephone numbers are written with.

use crate::text::{Peek, Window, is_dash, is_space};

/// More groups than any telephone number has.
const MAX_GROUPS: usize = 10;
/// More digits than any telephone number has (ITU-T E.164: 15, and a prefix to dial abroad).
pub(crate) const MAX_DIGITS: usize = 18;
/// An area code in parentheses comes after so many digits at most: `+123 (45)`.
const MAX_DIGITS_BEFORE_PARENTHESIS: usize = 4;

/// What stands before a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Separator {
    /// Nothing: the first group.
    #[default]
    None,
    /// A space.
    Space,
    /// A hyphen, dot or slash: something holds the groups together.
    Tight,
    /// A parenthesis, opened or closed.
    Parenthesis,
}

/// Digits without a separator.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Group {
    /// Where the group ends in the text.
    pub(crate) end: usize,
    /// How many digits.
    pub(crate) digits: usize,
    /// What stands before it.
    pub(crate) separator: Separator,
}

/// Groups of digits that may be one number.
#[derive(Debug, Default)]
pub(crate) struct Run {
    groups: [Group; MAX_GROUPS],
    count: usize,
    digits: [u8; MAX_DIGITS],
    total: usize,
    /// More text may make the run longer.
    pub(crate) is_open: bool,
    /// The last group may become longer.
    pub(crate) is_partial: bool,
    /// The run begins with `+`.
    pub(crate) is_international: bool,
    /// The run begins with an area code in parentheses.
    pub(crate) is_parenthesised: bool,
}

impl Run {
    /// Reads the run at `start`, where a digit, `+` or `(` stands. `None` where no number follows, and an open run
    /// without groups where that cannot be told yet.
    pub(crate) fn read(window: &Window<'_>, start: usize) -> Option<Self> {
        let mut run = Self::default();
        let mut at = start;
        if window.peek(at) == Peek::Char('(') {
            run.is_parenthesised = true;
            at += 1;
        }
        if window.peek(at) == Peek::Char('+') {
            run.is_international = true;
            at += 1;
        }
        let mut is_inside = run.is_parenthesised;
        let mut separator = Separator::None;
        loop {
            let digits = window.text.as_bytes()[at..]
                .iter()
                .take(MAX_DIGITS + 1 - run.total)
                .take_while(|byte| byte.is_ascii_digit());
            let length = digits.clone().count();
            if length == 0 && run.count == 0 {
                run.is_open = window.peek(at) == Peek::Unknown;
                return run.is_open.then_some(run);
            }
            if run.total + length > MAX_DIGITS {
                break;
            }
            for (place, byte) in run.digits[run.total..].iter_mut().zip(digits) {
                *place = byte - b'0';
            }
            at += length;
            run.total += length;
            run.groups[run.count] = Group { end: at, digits: length, separator };
            run.count += 1;
            if window.peek(at) == Peek::Unknown {
                run.is_open = true;
                run.is_partial = true;
                break;
            }
            if run.count == MAX_GROUPS {
                break;
            }
            if run.is_parenthesised && run.count == 1 && window.peek(at) != Peek::Char(')') {
                return None;
            }
            match skip_separator(window, at, run.total, &mut is_inside) {
                Next::Digit(next, found) => (at, separator) = (next, found),
                Next::Unknown => {
                    run.is_open = true;
                    break;
                }
                Next::Other => break,
            }
        }
        (run.count > 0).then_some(run)
    }

    /// The groups, in order.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups[..self.count]
    }

    /// The digits of all groups.
    pub(crate) fn digits(&self) -> &[u8] {
        &self.digits[..self.total]
    }

    /// The most groups from the first on that have `digits` in that range together, and no single digit at their end
    /// that they can do without.
    pub(crate) fn groups_within(&self, digits: std::ops::RangeInclusive<usize>) -> Option<usize> {
        let mut total = 0;
        let mut best = None;
        for (index, group) in self.groups().iter().enumerate() {
            if best.is_some() && group.digits == 1 && group.separator == Separator::Space {
                break;
            }
            total += group.digits;
            if digits.contains(&total) {
                best = Some(index + 1);
            }
        }
        best
    }
}

enum Next {
    Digit(usize, Separator),
    Unknown,
    Other,
}

/// The separator at `at`, if a digit follows it.
fn skip_separator(window: &Window<'_>, at: usize, digits: usize, is_inside: &mut bool) -> Next {
    let mut next = at;
    let mut separator = None;
    if let Peek::Char(c) = window.peek(next)
        && is_space(c)
    {
        next += c.len_utf8();
        separator = Some(Separator::Space);
    }
    match window.peek(next) {
        Peek::Char('(') if !*is_inside && digits <= MAX_DIGITS_BEFORE_PARENTHESIS => {
            next += 1;
            *is_inside = true;
            separator = Some(Separator::Parenthesis);
        }
        Peek::Char(')') if *is_inside && separator.is_none() => {
            next += 1;
            *is_inside = false;
            separator = Some(Separator::Parenthesis);
            if let Peek::Char(c) = window.peek(next)
                && (is_space(c) || is_dash(c) || c == '/')
            {
                next += c.len_utf8();
            }
        }
        Peek::Char('.') if separator.is_none() => {
            next += 1;
            separator = Some(Separator::Tight);
        }
        Peek::Char(c) if is_dash(c) || c == '/' => {
            next += c.len_utf8();
            separator = Some(Separator::Tight);
            if let Peek::Char(c) = window.peek(next)
                && is_space(c)
            {
                next += c.len_utf8();
            }
        }
        _ => {}
    }
    match (window.peek(next), separator) {
        (Peek::Unknown, _) => Next::Unknown,
        (Peek::Char(c), Some(separator)) if c.is_ascii_digit() => Next::Digit(next, separator),
        _ => Next::Other,
    }
}
