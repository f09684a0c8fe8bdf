//! Points in time as people and programs write them: RFC 3339, always in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// The end of the year 9999: later points have no four-digit year.
const LAST_S: u64 = 253_402_300_799;

/// `2026-11-21T10:15:00.123Z`, to the millisecond. Points before 1970 or after 9999 become the nearest one in between.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().min(LAST_S);
    let (year, month, day) = date_of(seconds / DAY_S);
    let of_day = seconds % DAY_S;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        since.subsec_millis()
    )
}

/// The point that `text` names: `2026-11-21T10:15:00Z`, with a fraction or an offset such as `+02:00` as well. `None` for
/// everything else, and for points before 1970.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = bytes.get(from..to)?;
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let is_date = year >= 1970 && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    // A leap second is the second after it, as in POSIX.
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut nanos = 0;
    if is(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let shown = digits.min(9);
        nanos = number(at + 1, at + 1 + shown)? * 10_u64.pow(u32::try_from(9 - shown).ok()?);
        at += 1 + digits;
    }
    let seconds = days_since_1970(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second;
    let seconds = if is(at, b"Zz") && bytes.len() == at + 1 {
        seconds
    } else if is(at, b"+-") && is(at + 3, b":") && bytes.len() == at + 6 {
        let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
        if hours > 23 || minutes > 59 {
            return None;
        }
        let offset = hours * 3600 + minutes * 60;
        if is(at, b"+") { seconds.checked_sub(offset)? } else { seconds + offset }
    } else {
        return None;
    };
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + Duration::from_nanos(nanos))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let years = year - 1970;
    // Leap days between the two first of January.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let leap_days = leaps(year - 1) - leaps(1969);
    let of_year: u64 = (1..month).map(|month| days_in(year, month)).sum();
    years * 365 + leap_days + of_year + day - 1
}

fn date_of(days: u64) -> (u64, u64, u64) {
    // A year is at least 365 days, so this is never too early; at most a few steps back are left.
    let mut year = 1970 + days / 365;
    while days_since_1970(year, 1, 1) > days {
        year -= 1;
    }
    let mut left = days - days_since_1970(year, 1, 1);
    let mut month = 1;
    while left >= days_in(year, month) {
        left -= days_in(year, month);
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn known_points() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_234_567_890, "2009-02-13T23:31:30.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (LAST_S, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(rfc3339(at(seconds)), text);
            assert_eq!(parse_rfc3339(text), Some(at(seconds)), "{text}");
        }
        assert_eq!(rfc3339(at(LAST_S + 1)), "9999-12-31T23:59:59.000Z");
        assert_eq!(rfc3339(at(1) + Duration::from_micros(7_999)), "1970-01-01T00:00:01.007Z");
    }

    #[test]
    fn every_day_there_and_back() {
        for day in 0..200_000 {
            let time = at(day * DAY_S + 3_723);
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
        }
    }

    #[test]
    fn other_spellings() {
        let noon = parse_rfc3339("2026-11-21T12:00:00Z").unwrap();
        for same in [
            "2026-11-21t12:00:00z",
            "2026-11-21 12:00:00.000Z",
            "2026-11-21T14:30:00+02:30",
            "2026-11-21T11:00:00-01:00",
        ] {
            assert_eq!(parse_rfc3339(same), Some(noon), "{same}");
        }
        let fine = parse_rfc3339("2026-11-21T12:00:00.1234567891Z").unwrap();
        assert_eq!(fine.duration_since(noon).unwrap(), Duration::from_nanos(123_456_789));
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T12:00:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T12:00:00.Z",
            "2026-11-21T12:00:00+0200",
            "2026-11-21T12:00:00Z ",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "２０２６-11-21T12:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }
}
