//! The tools `current_time` and `convert_time`, and how times are read.

use jiff::civil::{Date, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use super::zones::{Moment, Zones, rfc3339, zone_name};

/// Longest date or time that is looked at.
const MAX_TEXT: usize = 100;

/// Arguments of `current_time`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CurrentTime {
    time_zone: Option<String>,
}

impl CurrentTime {
    /// The moment `now` in the zone that is asked for.
    ///
    /// # Errors
    /// When there is no such zone.
    pub(crate) fn run(&self, now: Timestamp, zones: &Zones) -> Result<(String, Moment), String> {
        let zone = zones.get(self.time_zone.as_deref())?;
        let moment = Moment::new(&now.to_zoned(zone));
        Ok((moment.sentence(), moment))
    }
}

/// Arguments of `convert_time`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConvertTime {
    time: String,
    from_time_zone: Option<String>,
    to_time_zone: String,
}

/// What `convert_time` answers.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Conversion {
    /// The moment where it came from.
    pub(crate) from: Moment,
    /// The same moment in the other zone.
    pub(crate) to: Moment,
    /// How many hours the other zone's clocks are ahead at that moment.
    pub(crate) hours_ahead: f64,
    /// What was special about the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl ConvertTime {
    /// The moment in both zones; a time without a date is one of today.
    ///
    /// # Errors
    /// When the time cannot be read or a zone is not known.
    pub(crate) fn run(&self, now: Timestamp, zones: &Zones) -> Result<(String, Conversion), String> {
        let target = zones.get(Some(&self.to_time_zone))?;
        let read = Reading::of(&self.time, self.from_time_zone.as_deref(), now, zones)?;
        let (from, note) = read.moment()?;
        let to = from.with_time_zone(target);
        let ahead = to.offset().seconds() - from.offset().seconds();
        let conversion = Conversion {
            from: Moment::new(&from),
            to: Moment::new(&to),
            hours_ahead: f64::from(ahead) / 3600.0,
            note,
        };
        let mut text = format!("{}\nis {}", conversion.from.sentence(), conversion.to.sentence());
        if let Some(note) = &conversion.note {
            text.push_str("\nNote: ");
            text.push_str(note);
        }
        Ok((text, conversion))
    }
}

/// A date, a time or both, as written.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The day.
    pub(crate) date: Date,
    /// The time of day, where one is given.
    pub(crate) time: Option<Time>,
    /// The zone it is meant in.
    pub(crate) zone: TimeZone,
    /// True where the zone follows from the text itself (`Z`, an offset, `now`), so that nothing is ambiguous.
    instant: Option<Timestamp>,
}

impl Reading {
    /// Reads `now`, `today`, `14:30`, `2026-03-08`, `2026-03-08T14:30`, or the same with an offset or `Z`.
    ///
    /// # Errors
    /// When it is none of these, or the zone is not known.
    pub(crate) fn of(text: &str, zone: Option<&str>, now: Timestamp, zones: &Zones) -> Result<Self, String> {
        let text = text.trim();
        let named = zone.map(|zone| zones.get(Some(zone))).transpose()?;
        let zone = named.clone().unwrap_or_else(|| zones.default.clone());
        let current = now.to_zoned(zone.clone());
        let date = current.date();
        if text.eq_ignore_ascii_case("now") {
            return Ok(Self { date, time: Some(current.time()), zone, instant: Some(now) });
        }
        if text.eq_ignore_ascii_case("today") {
            return Ok(Self { date, time: None, zone, instant: None });
        }
        let plain_time = text.len() <= 8 && text.get(1..3).is_some_and(|start| start.contains(':'));
        if plain_time {
            let padded = if text.find(':') == Some(1) { format!("0{text}") } else { text.to_owned() };
            let time = padded.parse::<Time>().map_err(|_| unreadable(text))?;
            return Ok(Self { date, time: Some(time), zone, instant: None });
        }
        let pieces = Pieces::parse(text.get(..MAX_TEXT).unwrap_or(text)).map_err(|_| unreadable(text))?;
        let (date, time) = (pieces.date(), pieces.time());
        if pieces.time_zone_annotation().is_some() {
            return Err(format!("name the time zone apart from the time, not as in `{text}`"));
        }
        let Some(offset) = pieces.to_numeric_offset() else {
            return Ok(Self { date, time, zone, instant: None });
        };
        let fixed = if offset.is_zero() { TimeZone::UTC } else { TimeZone::fixed(offset) };
        let civil = date.to_datetime(time.unwrap_or(Time::midnight()));
        let instant = fixed.to_timestamp(civil).map_err(|error| error.to_string())?;
        let moment = instant.to_zoned(named.unwrap_or(fixed));
        let (date, time) = (moment.date(), Some(moment.time()));
        Ok(Self { date, time, zone: moment.time_zone().clone(), instant: Some(instant) })
    }

    /// The moment it means, and a note where clocks changed just then. A day without a time begins at midnight.
    ///
    /// # Errors
    /// When it lies beyond the calendar.
    pub(crate) fn moment(&self) -> Result<(Zoned, Option<String>), String> {
        if let Some(instant) = self.instant {
            return Ok((instant.to_zoned(self.zone.clone()), None));
        }
        let civil = self.date.to_datetime(self.time.unwrap_or(Time::midnight()));
        let ambiguous = self.zone.to_ambiguous_zoned(civil);
        let offset = ambiguous.offset();
        let moment = ambiguous.compatible().map_err(|error| error.to_string())?;
        let name = zone_name(&self.zone);
        let note = match offset {
            AmbiguousOffset::Unambiguous { .. } => None,
            AmbiguousOffset::Gap { .. } => {
                let used = rfc3339(&moment);
                Some(format!("{civil} does not exist in {name}: clocks go forward then. {used} was taken."))
            }
            AmbiguousOffset::Fold { .. } => {
                let used = rfc3339(&moment);
                Some(format!(
                    "{civil} comes twice in {name}: clocks go back then. The first, {used}, was taken."
                ))
            }
        };
        Ok((moment, note))
    }
}

fn unreadable(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!(
        "`{shown}` is no date or time; write 2026-03-08, 2026-03-08T14:30, 2026-03-08T14:30:00Z, 14:30, today or now"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Saturday 2026-11-21 07:00:00 in UTC.
    fn now() -> Timestamp {
        "2026-11-21T07:00:00Z".parse().unwrap()
    }

    fn convert(time: &str, from: Option<&str>, to: &str) -> Result<Conversion, String> {
        let zones = Zones::new(None).unwrap();
        let tool =
            ConvertTime { time: time.into(), from_time_zone: from.map(Into::into), to_time_zone: to.into() };
        tool.run(now(), &zones).map(|(_, conversion)| conversion)
    }

    #[test]
    fn now_is_told_in_any_zone() {
        let zones = Zones::new(Some("Asia/Tokyo")).unwrap();
        let tell = |zone: Option<&str>| {
            CurrentTime { time_zone: zone.map(Into::into) }.run(now(), &zones).map(|(text, _)| text)
        };
        assert_eq!(tell(None).unwrap(), "Saturday 2026-11-21 16:00:00 in Asia/Tokyo (JST, UTC+09:00)");
        assert_eq!(tell(Some("UTC")).unwrap(), "Saturday 2026-11-21 07:00:00 in UTC (UTC+00:00)");
        assert_eq!(
            tell(Some("America/Sao_Paulo")).unwrap(),
            "Saturday 2026-11-21 04:00:00 in America/Sao_Paulo (UTC-03:00)"
        );
        assert!(tell(Some("Mars")).is_err());
    }

    #[test]
    fn times_are_converted_with_the_rules_of_their_day() {
        let to = |time, from, to| convert(time, Some(from), to).unwrap().to.datetime;
        assert_eq!(to("2026-01-15T12:00", "America/New_York", "Europe/Berlin"), "2026-01-15T18:00:00+01:00");
        // New York changes its clocks two weeks before Berlin does.
        assert_eq!(to("2026-03-15T12:00", "America/New_York", "Europe/Berlin"), "2026-03-15T17:00:00+01:00");
        assert_eq!(to("2026-07-15 23:30", "Europe/Berlin", "Asia/Kathmandu"), "2026-07-16T03:15:00+05:45");
        // Far beyond the database's table the last rule holds.
        assert_eq!(to("2150-07-01T00:00", "Europe/Berlin", "UTC"), "2150-06-30T22:00:00+00:00");
        assert_eq!(convert("2026-07-15T12:00", Some("UTC"), "Asia/Kathmandu").unwrap().hours_ahead, 5.75);
    }

    #[test]
    fn times_of_today_and_times_with_an_offset() {
        let to = |time, from, to| convert(time, from, to).unwrap().to.datetime;
        assert_eq!(to("9:30", Some("Asia/Tokyo"), "UTC"), "2026-11-21T00:30:00+00:00");
        assert_eq!(to("16:00:05", None, "UTC"), "2026-11-21T16:00:05+00:00");
        assert_eq!(to("now", None, "Asia/Tokyo"), "2026-11-21T16:00:00+09:00");
        assert_eq!(to("2026-11-21T07:00:00Z", None, "Asia/Tokyo"), "2026-11-21T16:00:00+09:00");
        assert_eq!(to("2026-11-21T07:00:00-05:00", Some("Asia/Tokyo"), "UTC"), "2026-11-21T12:00:00+00:00");
        assert_eq!(to("2026-11-21", None, "Asia/Tokyo"), "2026-11-21T09:00:00+09:00");
    }

    #[test]
    fn changing_clocks_are_noted() {
        let gap = convert("2026-03-29T02:30", Some("Europe/Berlin"), "UTC").unwrap();
        assert_eq!(gap.to.datetime, "2026-03-29T01:30:00+00:00");
        assert!(gap.note.unwrap().contains("does not exist"));
        let fold = convert("2026-10-25T02:30", Some("Europe/Berlin"), "UTC").unwrap();
        assert_eq!(fold.to.datetime, "2026-10-25T00:30:00+00:00");
        assert!(fold.note.unwrap().contains("comes twice"));
        let clear = convert("2026-10-25T02:30:00+01:00", Some("Europe/Berlin"), "UTC").unwrap();
        assert_eq!((clear.from.datetime.as_str(), clear.note), ("2026-10-25T02:30:00+01:00", None));
    }

    #[test]
    fn nonsense_is_refused_with_the_forms_that_work() {
        for text in ["", "soon", "25:00", "2026-13-01", "2026-02-30", "14:3", "9999999", "10:00 pm", "日本日"]
        {
            let error = convert(text, None, "UTC").unwrap_err();
            assert!(error.contains("is no date or time; write 2026-03-08"), "{text}: {error}");
        }
        let annotated = convert("2026-03-08T10:00[Europe/Berlin]", None, "UTC").unwrap_err();
        assert!(annotated.contains("apart from the time"), "{annotated}");
    }
}
