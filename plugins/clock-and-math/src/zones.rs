//! Time zones by name, and moments in them described for models.

use jiff::civil::Weekday;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};
use serde::Serialize;

/// Longest zone name that is looked at.
const MAX_NAME: usize = 64;
/// Most zones that a message proposes.
const MAX_PROPOSALS: usize = 5;

/// The time zones that the plugin brings along: the whole IANA database.
pub(crate) struct Zones {
    database: TimeZoneDatabase,
    /// Where no zone is named.
    pub(crate) default: TimeZone,
}

impl Zones {
    /// All zones, with the default zone of the configuration, or else UTC.
    ///
    /// # Errors
    /// When there is no zone of that name.
    pub(crate) fn new(default: Option<&str>) -> Result<Self, String> {
        let mut zones = Self { database: TimeZoneDatabase::bundled(), default: TimeZone::UTC };
        if let Some(name) = default {
            zones.default = zones.get(Some(name))?;
        }
        Ok(zones)
    }

    /// The zone of that name; upper and lower case are the same. `+05:30` and the like are zones, too.
    ///
    /// # Errors
    /// When there is none: proposes some that sound alike.
    pub(crate) fn get(&self, name: Option<&str>) -> Result<TimeZone, String> {
        let Some(name) = name.map(str::trim).filter(|name| !name.is_empty()) else {
            return Ok(self.default.clone());
        };
        if name.len() > MAX_NAME {
            return Err(format!("a time zone's name has at most {MAX_NAME} characters"));
        }
        if name.eq_ignore_ascii_case("utc") || name.eq_ignore_ascii_case("z") {
            return Ok(TimeZone::UTC);
        }
        if let Some(offset) = fixed_offset(name) {
            return Ok(TimeZone::fixed(offset));
        }
        self.database.get(name).map_err(|_| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> String {
        let wanted = name.replace(' ', "_").to_lowercase();
        let wanted = wanted.rsplit('/').next().unwrap_or(&wanted).to_owned();
        let alike = self.database.available();
        let alike = alike.map(|zone| zone.to_string()).filter(|zone| {
            let zone = zone.to_lowercase();
            wanted.len() > 2 && zone.contains(&wanted) && !zone.starts_with("posix/")
        });
        let alike: Vec<String> = alike.take(MAX_PROPOSALS).collect();
        if alike.is_empty() {
            return format!(
                "there is no time zone `{name}`; use an IANA name such as `Europe/Berlin`, or `UTC`"
            );
        }
        format!("there is no time zone `{name}`; did you mean {}?", alike.join(", "))
    }
}

/// `+02:00`, `-0330`, `UTC+2`.
fn fixed_offset(name: &str) -> Option<Offset> {
    let upper = name.to_ascii_uppercase();
    let text = upper.strip_prefix("UTC").or(upper.strip_prefix("GMT")).unwrap_or(&upper).trim();
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['+', '-'])?;
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "0"),
    };
    let number = |text: &str| {
        let short = !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        short.then(|| text.parse::<i32>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|minutes| *minutes < 60)?);
    let seconds = (hours * 60 + minutes) * 60;
    Offset::from_seconds(if negative { -seconds } else { seconds }).ok()
}

/// A moment in a time zone, in the parts a model may want.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Moment {
    /// With the zone's offset from UTC, as in RFC 3339.
    pub(crate) datetime: String,
    /// The zone's name.
    pub(crate) time_zone: String,
    /// English name of the day.
    pub(crate) weekday: String,
    /// The zone's offset from UTC at that moment.
    pub(crate) utc_offset: String,
    /// The zone's name for its time at that moment, such as `CEST`.
    pub(crate) abbreviation: String,
    /// Whether daylight saving time is on.
    pub(crate) daylight_saving: bool,
    /// Seconds since 1970 in UTC.
    pub(crate) unix_seconds: i64,
}

impl Moment {
    /// The parts of a moment, to the second.
    #[must_use]
    pub(crate) fn new(moment: &Zoned) -> Self {
        let info = moment.time_zone().to_offset_info(moment.timestamp());
        Self {
            datetime: rfc3339(moment),
            time_zone: zone_name(moment.time_zone()),
            weekday: weekday_name(moment.weekday()).to_owned(),
            utc_offset: offset_text(info.offset()),
            abbreviation: info.abbreviation().to_owned(),
            daylight_saving: info.dst().is_dst(),
            unix_seconds: moment.timestamp().as_second(),
        }
    }

    /// One line for people: `Saturday 2026-11-21 08:55:27 in Europe/Berlin (CET, UTC+01:00)`.
    #[must_use]
    pub(crate) fn sentence(&self) -> String {
        let (date, time) = self.datetime.split_once('T').unwrap_or((&self.datetime, ""));
        let time = time.get(..8).unwrap_or(time);
        let zone = &self.time_zone;
        let named = self.abbreviation.bytes().all(|b| b.is_ascii_alphabetic()) && self.abbreviation != *zone;
        let short = if named { format!("{}, ", self.abbreviation) } else { String::new() };
        format!("{} {date} {time} in {zone} ({short}UTC{})", self.weekday, self.utc_offset)
    }
}

/// `2026-11-21T08:55:27+01:00`.
#[must_use]
pub(crate) fn rfc3339(moment: &Zoned) -> String {
    let civil = moment.datetime();
    let (date, time) = (civil.date(), civil.time());
    let clock = format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
    format!("{date}T{clock}{}", offset_text(moment.offset()))
}

fn offset_text(offset: Offset) -> String {
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let (minutes, rest) = (seconds.unsigned_abs() / 60, seconds.unsigned_abs() % 60);
    let tail = if rest == 0 { String::new() } else { format!(":{rest:02}") };
    format!("{sign}{:02}:{:02}{tail}", minutes / 60, minutes % 60)
}

/// A zone's name, or its offset where it has none.
#[must_use]
pub(crate) fn zone_name(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => offset_text(zone.to_offset(Timestamp::UNIX_EPOCH)),
    }
}

/// English names, as models expect them.
#[must_use]
pub(crate) fn weekday_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_by_name_and_by_offset() {
        let zones = Zones::new(None).unwrap();
        let name = |text| zone_name(&zones.get(Some(text)).unwrap());
        assert_eq!(name("europe/berlin"), "Europe/Berlin");
        assert_eq!(name("utc"), "UTC");
        assert_eq!(name("+05:30"), "+05:30");
        assert_eq!(name("UTC-3"), "-03:00");
        assert_eq!(name("-0330"), "-03:30");
        assert_eq!(name(""), "UTC");
    }

    #[test]
    fn a_wrong_name_brings_proposals() {
        let zones = Zones::new(None).unwrap();
        let error = |text: &str| zones.get(Some(text)).unwrap_err();
        assert_eq!(error("New York"), "there is no time zone `New York`; did you mean America/New_York?");
        assert_eq!(
            error("Germany/Berlin"),
            "there is no time zone `Germany/Berlin`; did you mean Europe/Berlin?"
        );
        assert!(error("Atlantis").contains("IANA name"), "{}", error("Atlantis"));
        assert!(error(&"x".repeat(100)).contains("64 characters"));
        assert!(error("+25:61").contains("no time zone"));
        assert!(error("+99").contains("no time zone"));
        assert!(Zones::new(Some("Atlantis")).is_err());
    }

    #[test]
    fn a_moment_is_told_in_full() {
        let zones = Zones::new(Some("America/St_Johns")).unwrap();
        let moment = Timestamp::from_second(1_750_000_000).unwrap().to_zoned(zones.default);
        let told = Moment::new(&moment);
        assert_eq!(told.datetime, "2025-06-15T12:36:40-02:30");
        assert_eq!(told.weekday, "Sunday");
        assert!(told.daylight_saving);
        assert_eq!(told.sentence(), "Sunday 2025-06-15 12:36:40 in America/St_Johns (NDT, UTC-02:30)");
    }
}
