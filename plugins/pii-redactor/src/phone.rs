//! Telephone numbers: international ones (`+49 30 123456`, `0049 30 123456`), and national ones in the forms that hardly
//! anything else has.
//!
//! A number is taken for a telephone number by its form alone, so the national forms are chosen with care: a leading 0,
//! or groups of certain lengths. Digits without any separator count only after `+`, `00` or a leading 0, or in `tel:` links.

use crate::run::{Group, MAX_DIGITS, Run, Separator};
use crate::text::{Peek, Verdict, Window, is_space, is_word};

/// Lengths of groups, and whether a number with these digits may have them.
type Form = (&'static [usize], fn(&[u8]) -> bool);

/// National forms without a leading 0.
const FORMS: [Form; 4] = [
    // North America: 555-123-4567 and 1-555-123-4567.
    (&[3, 3, 4], |digits| digits[0] >= 2),
    (&[1, 3, 3, 4], |digits| digits[0] == 1 && digits.get(1).is_none_or(|area| *area >= 2)),
    // Russia and Kazakhstan: 8 (495) 123-45-67.
    (&[1, 3, 3, 2, 2], |digits| matches!(digits[0], 7 | 8)),
    // China: 138 1234 5678.
    (&[3, 4, 4], |digits| digits[0] == 1 && digits.get(1).is_none_or(|second| *second >= 3)),
];

/// Forms that begin with an area code in parentheses, such as Brazil's (11) 91234-5678.
const PARENTHESISED_FORMS: [&[usize]; 3] = [&[3, 3, 4], &[2, 4, 4], &[2, 5, 4]];

/// Digits of an international number with its country's code.
const INTERNATIONAL_DIGITS: std::ops::RangeInclusive<usize> = 8..=15;
/// Digits of a national number with its leading 0.
const NATIONAL_DIGITS: std::ops::RangeInclusive<usize> = 9..=12;

/// Whether a telephone number begins at `start`, where a digit, `+` or `(` stands and no word goes on.
pub(crate) fn verdict(window: &Window<'_>, start: usize) -> Verdict {
    if !may_begin_after(window, start) {
        return Verdict::No;
    }
    let Some(run) = Run::read(window, start) else { return Verdict::No };
    let is_link = is_link(window, start);
    if run.is_open {
        let may_become = is_link || run.groups().is_empty() || may_become_number(&run);
        return if may_become { Verdict::Need } else { Verdict::No };
    }
    let groups = if is_link { run.groups_within(5..=15) } else { groups_of_number(&run) };
    // An area code in parentheses needs a number after it; a number in parentheses is found behind the `(`.
    let Some(groups) = groups.filter(|groups| *groups > 1 || !run.is_parenthesised) else {
        return Verdict::No;
    };
    let is_grouped = groups > 1 && run.groups()[1].separator == Separator::Space;
    if is_grouped && !run.is_international && !run.is_parenthesised && follows_a_number(window, start) {
        return Verdict::No;
    }
    let end = run.groups()[groups - 1].end;
    match window.peek(end) {
        Peek::Char(c) if is_word(c) || c == '_' => Verdict::No,
        _ => Verdict::Match(end),
    }
}

/// Whether what stands before lets a telephone number begin here: not inside of an amount, a version or a longer code.
fn may_begin_after(window: &Window<'_>, start: usize) -> bool {
    match window.before(start) {
        (Some('#' | '$' | '€' | '£' | '@' | '\\' | '_'), _) => false,
        (Some('-' | '.' | '/' | '+' | '*' | '\u{2010}'..='\u{2013}'), Some(c)) => !is_word(c),
        (Some(':' | ','), Some(c)) => !c.is_ascii_digit(),
        (Some(c), _) => !is_word(c),
        (None, _) => true,
    }
}

/// Whether the group is one of a longer row of groups: `1 030 123 456`.
fn follows_a_number(window: &Window<'_>, start: usize) -> bool {
    matches!(window.before(start), (Some(space), Some(c)) if is_space(space) && c.is_ascii_digit())
}

/// Whether the number is the one of a `tel:` link.
fn is_link(window: &Window<'_>, start: usize) -> bool {
    let before = &window.text.as_bytes()[..start];
    before.len() >= 4 && before[before.len() - 4..].eq_ignore_ascii_case(b"tel:")
}

/// Whether more digits may make a number of this open run.
fn may_become_number(run: &Run) -> bool {
    let digits = run.digits();
    if run.is_international {
        return is_country(digits);
    }
    if digits[0] == 0 {
        return run.groups()[0].digits > 1 || run.is_partial && run.groups().len() == 1;
    }
    if run.is_parenthesised {
        return PARENTHESISED_FORMS.iter().any(|form| fits(run, form));
    }
    FORMS.iter().any(|(form, begins)| begins(digits) && fits(run, form))
}

/// Whether the groups read so far are those of the form.
fn fits(run: &Run, form: &[usize]) -> bool {
    let groups = run.groups();
    let complete = groups.len() - usize::from(run.is_partial);
    groups.iter().zip(form).enumerate().all(|(index, (group, length))| {
        group.digits == *length || index >= complete && group.digits < *length
    })
}

/// How many groups of a closed run are a telephone number.
fn groups_of_number(run: &Run) -> Option<usize> {
    let digits = run.digits();
    if run.is_international {
        return international(run, 0);
    }
    if digits[0] == 0 && !(run.is_parenthesised && run.groups()[0].digits == 1) {
        return if digits.get(1) == Some(&0) { dialled_abroad(run) } else { national(run) };
    }
    let has_form = |form: &[usize]| {
        let groups = run.groups();
        let is_whole = groups.len() < form.len() + 1 || groups[form.len()].separator != Separator::Tight;
        let same = groups.len() >= form.len()
            && groups.iter().zip(form).all(|(group, length)| group.digits == *length);
        (same && is_whole).then_some(form.len())
    };
    if run.is_parenthesised {
        return PARENTHESISED_FORMS.iter().find_map(|form| has_form(form));
    }
    FORMS.iter().filter(|(_, begins)| begins(digits)).find_map(|(form, _)| has_form(form))
}

/// An international number, `prefix` digits into the run.
fn international(run: &Run, prefix: usize) -> Option<usize> {
    let digits = run.digits().get(prefix..)?;
    if !is_country(digits) {
        return None;
    }
    match digits {
        // These countries' numbers have one length.
        [] | [1] | [1, 0 | 1, ..] => None,
        [1 | 7, ..] => run.groups_within(11 + prefix..=11 + prefix),
        _ => run.groups_within(INTERNATIONAL_DIGITS.start() + prefix..=INTERNATIONAL_DIGITS.end() + prefix),
    }
}

/// A number after the 00 that most countries dial to get abroad.
fn dialled_abroad(run: &Run) -> Option<usize> {
    let first = run.groups()[0].digits;
    // The zeros stand together, and product codes padded with zeros look like solid numbers of North America.
    let is_code = first < 2
        || first > 11 && run.digits()[2] == 1
        || run.groups().len() == 1 && !(11..=17).contains(&first);
    if is_code { None } else { international(run, 2) }
}

/// A number with a leading 0.
fn national(run: &Run) -> Option<usize> {
    let groups = run.groups();
    let [area, rest @ ..] = groups else { return None };
    if rest.is_empty() {
        let is_ascending = run.digits().windows(2).all(|pair| pair[1] == (pair[0] + 1) % 10);
        return (matches!(area.digits, 10 | 11) && !is_ascending).then_some(1);
    }
    let count = run.groups_within(NATIONAL_DIGITS)?;
    let rest = &rest[..count - 1];
    let has = |test: fn(&Group) -> bool| rest.iter().all(test);
    let is_area = match area.digits {
        // France: five pairs. Elsewhere what follows two digits is longer, and no year.
        2 if has(|group| group.digits == 2) => count == 5,
        2 => has(|group| group.digits > 2) && !is_year(run, groups[1]),
        3..=6 => has(|group| group.digits > 1),
        // Without a separator after the area code there is no telling it from any other number.
        _ => false,
    };
    let is_cut = groups.get(count).is_some_and(|next| next.separator == Separator::Tight);
    (is_area && !is_cut).then_some(count)
}

/// Whether the second group is the year of a month: `01/2024`.
fn is_year(run: &Run, second: Group) -> bool {
    let year = &run.digits()[run.groups()[0].digits..];
    second.digits == 4 && second.separator == Separator::Tight && matches!(year, [1, 9, ..] | [2, 0, ..])
}

/// Whether some country's code begins so. The codes are free of prefixes, so two digits tell all that are not in use.
fn is_country(digits: &[u8]) -> bool {
    debug_assert!(digits.len() <= MAX_DIGITS);
    match digits {
        [] => true,
        [0, ..] => false,
        [2, 8, ..] | [8, 3 | 9, ..] => false,
        _ => true,
    }
}
