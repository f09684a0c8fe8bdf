//! The tool `date_calculate`: adding to dates, the time between two, and what a date is.

use jiff::civil::Date;
use jiff::{Span, Timestamp, Unit};
use serde::{Deserialize, Serialize};

use super::clock::Reading;
use super::zones::{Zones, rfc3339, weekday_name};

/// Arguments of `date_calculate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DateCalculate {
    operation: Operation,
    start: Option<String>,
    end: Option<String>,
    time_zone: Option<String>,
    #[serde(default)]
    years: i64,
    #[serde(default)]
    months: i64,
    #[serde(default)]
    weeks: i64,
    #[serde(default)]
    days: i64,
    #[serde(default)]
    hours: i64,
    #[serde(default)]
    minutes: i64,
    #[serde(default)]
    seconds: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Add,
    Subtract,
    Difference,
    Describe,
}

/// What `date_calculate` answers.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// Of `add` and `subtract`.
    Sum(Sum),
    /// Of `difference`.
    Difference(Box<Difference>),
    /// Of `describe`.
    Day(Day),
}

/// A date that was calculated.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Sum {
    start: String,
    result: String,
    #[serde(flatten)]
    day: Day,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// What a date is in the calendar.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Day {
    date: String,
    weekday: &'static str,
    iso_week: String,
    day_of_year: i16,
    days_in_month: i8,
    quarter: i8,
    leap_year: bool,
}

/// The time between two dates: negative where the end comes first.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Difference {
    start: String,
    end: String,
    /// Calendar units that add up to the difference.
    years: i64,
    months: i64,
    days: i64,
    hours: i64,
    minutes: i64,
    seconds: i64,
    /// Whole days between the two.
    total_days: i64,
    /// All seconds between the two, where times were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_seconds: Option<i64>,
    /// Days from Monday to Friday from the earlier date up to, but not including, the later one.
    weekdays: i64,
}

impl DateCalculate {
    /// Calculates: text for people, and the parts.
    ///
    /// # Errors
    /// When a date cannot be read, is missing, or the result lies beyond the years -9999 to 9999.
    pub(crate) fn run(&self, now: Timestamp, zones: &Zones) -> Result<(String, Answer), String> {
        let start = self.read(self.start.as_deref().unwrap_or("today"), now, zones)?;
        let amounts =
            [self.years, self.months, self.weeks, self.days, self.hours, self.minutes, self.seconds];
        let adds = matches!(self.operation, Operation::Add | Operation::Subtract);
        if !adds && amounts.iter().any(|amount| *amount != 0) {
            return Err("years, months and so on go with the operations add and subtract only".into());
        }
        if self.end.is_some() && self.operation != Operation::Difference {
            return Err("`end` goes with the operation difference only".into());
        }
        match self.operation {
            Operation::Add | Operation::Subtract if amounts.iter().all(|amount| *amount == 0) => {
                Err("give an amount: years, months, weeks, days, hours, minutes or seconds".into())
            }
            Operation::Add => self.sum(&start, self.span()?),
            Operation::Subtract => self.sum(&start, self.span()?.negate()),
            Operation::Difference => {
                let end = self.end.as_deref().ok_or("the operation difference needs `end`")?;
                let end = self.read(end, now, zones)?;
                difference(&start, &end)
            }
            Operation::Describe => {
                let day = Day::new(start.date);
                let text = day.sentence(&day.date);
                Ok((text, Answer::Day(day)))
            }
        }
    }

    fn read(&self, text: &str, now: Timestamp, zones: &Zones) -> Result<Reading, String> {
        Reading::of(text, self.time_zone.as_deref(), now, zones)
    }

    fn span(&self) -> Result<Span, String> {
        let build = || {
            Span::new()
                .try_years(self.years)?
                .try_months(self.months)?
                .try_weeks(self.weeks)?
                .try_days(self.days)?
                .try_hours(self.hours)?
                .try_minutes(self.minutes)?
                .try_seconds(self.seconds)
        };
        let signs = [self.years, self.months, self.weeks, self.days, self.hours, self.minutes, self.seconds];
        if signs.iter().any(|n| *n < 0) && signs.iter().any(|n| *n > 0) {
            return Err("the amounts must all have the same sign; calculate in two steps".into());
        }
        build().map_err(|_: jiff::Error| "an amount is beyond the calendar (years -9999 to 9999)".into())
    }

    fn sum(&self, start: &Reading, span: Span) -> Result<(String, Answer), String> {
        let by_clock = self.hours != 0 || self.minutes != 0 || self.seconds != 0;
        let beyond = |_| "the result is beyond the calendar (years -9999 to 9999)".to_owned();
        let (from, to, date, note) = if start.time.is_none() && !by_clock {
            let result = start.date.checked_add(span).map_err(beyond)?;
            (start.date.to_string(), result.to_string(), result, None)
        } else {
            let (moment, note) = start.moment()?;
            let result = moment.checked_add(span).map_err(beyond)?;
            (rfc3339(&moment), rfc3339(&result), result.date(), note)
        };
        let only_months = self.weeks == 0 && self.days == 0 && !by_clock;
        let clamped = only_months && date.day() != start.date.day();
        let note = note.or_else(|| {
            clamped.then(|| {
                let (year, month) = (date.year(), date.month());
                format!("{year}-{month:02} has no day {}; its last day was taken", start.date.day())
            })
        });
        let day = Day::new(date);
        let mut text = day.sentence(&to);
        if let Some(note) = &note {
            text.push_str(". Note: ");
            text.push_str(note);
        }
        Ok((text, Answer::Sum(Sum { start: from, result: to, day, note })))
    }
}

impl Day {
    fn new(date: Date) -> Self {
        let week = date.iso_week_date();
        Self {
            date: date.to_string(),
            weekday: weekday_name(date.weekday()),
            iso_week: format!("{:04}-W{:02}", week.year(), week.week()),
            day_of_year: date.day_of_year(),
            days_in_month: date.days_in_month(),
            quarter: (date.month() - 1) / 3 + 1,
            leap_year: date.in_leap_year(),
        }
    }

    fn sentence(&self, shown: &str) -> String {
        format!(
            "{shown} is a {}, day {} of the year, ISO week {}",
            self.weekday, self.day_of_year, self.iso_week
        )
    }
}

fn difference(start: &Reading, end: &Reading) -> Result<(String, Answer), String> {
    let wrong = |error: jiff::Error| error.to_string();
    let dates = start.time.is_none() && end.time.is_none();
    let (from, to, span, total_days, total_seconds) = if dates {
        let span = start.date.until((Unit::Year, end.date)).map_err(wrong)?;
        (start.date.to_string(), end.date.to_string(), span, days_between(start.date, end.date)?, None)
    } else {
        let start = start.moment()?.0;
        let end = end.moment()?.0.with_time_zone(start.time_zone().clone());
        let span = start.until((Unit::Year, &end)).map_err(wrong)?;
        let days = start.until((Unit::Day, &end)).map_err(wrong)?.get_days();
        let seconds = end.timestamp().as_second() - start.timestamp().as_second();
        (rfc3339(&start), rfc3339(&end), span, i64::from(days), Some(seconds))
    };
    let (first, last) = if total_days < 0 { (end.date, start.date) } else { (start.date, end.date) };
    let difference = Difference {
        start: from,
        end: to,
        years: span.get_years().into(),
        months: span.get_months().into(),
        days: span.get_days().into(),
        hours: span.get_hours().into(),
        minutes: span.get_minutes(),
        seconds: span.get_seconds(),
        total_days,
        total_seconds,
        weekdays: weekdays(first, last)?,
    };
    Ok((difference.sentence(), Answer::Difference(Box::new(difference))))
}

impl Difference {
    fn sentence(&self) -> String {
        let parts = [
            (self.years, "year"),
            (self.months, "month"),
            (self.days, "day"),
            (self.hours, "hour"),
            (self.minutes, "minute"),
            (self.seconds, "second"),
        ];
        let told = parts.iter().filter(|(count, _)| *count != 0).map(|(count, unit)| counted(*count, unit));
        let told = told.collect::<Vec<_>>().join(", ");
        let told = if told.is_empty() { "no time at all".to_owned() } else { told };
        let before = parts.iter().any(|(count, _)| *count < 0);
        let direction = if before { "before" } else { "after" };
        let (start, end) = (&self.start, &self.end);
        let seconds = self.total_seconds.map(|seconds| format!("; {} in all", counted(seconds, "second")));
        let days = counted(self.total_days, "day");
        let seconds = seconds.unwrap_or_default();
        format!(
            "{end} is {told} {direction} {start} (whole days: {days}, Monday to Friday: {}{seconds})",
            self.weekdays
        )
    }
}

fn counted(count: i64, unit: &str) -> String {
    let count = count.unsigned_abs();
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn days_between(start: Date, end: Date) -> Result<i64, String> {
    start.until((Unit::Day, end)).map(|span| i64::from(span.get_days())).map_err(|error| error.to_string())
}

/// Days from Monday to Friday in `first..last`.
fn weekdays(first: Date, last: Date) -> Result<i64, String> {
    let days = days_between(first, last)?.max(0);
    let weekday = i64::from(first.weekday().to_monday_zero_offset());
    let rest = (weekday..weekday + days % 7).filter(|day| day % 7 < 5).count();
    Ok(days / 7 * 5 + i64::try_from(rest).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-11-21T00:00:00Z".parse().unwrap()
    }

    fn run(arguments: Value) -> Result<Value, String> {
        let tool: DateCalculate = serde_json::from_value(arguments).unwrap();
        let zones = Zones::new(None).unwrap();
        tool.run(now(), &zones).map(|(_, answer)| serde_json::to_value(answer).unwrap())
    }

    fn text(arguments: Value) -> String {
        let tool: DateCalculate = serde_json::from_value(arguments).unwrap();
        let zones = Zones::new(None).unwrap();
        tool.run(now(), &zones).unwrap().0
    }

    fn added(start: &str, key: &str, amount: i64) -> String {
        let answer = run(json!({"operation": "add", "start": start, key: amount})).unwrap();
        answer["result"].as_str().unwrap().to_owned()
    }

    #[test]
    fn calendar_units_are_added_as_in_a_calendar() {
        assert_eq!(added("2026-01-31", "months", 1), "2026-02-28");
        assert_eq!(added("2024-02-29", "years", 1), "2025-02-28");
        assert_eq!(added("2026-12-30", "days", 3), "2027-01-02");
        assert_eq!(added("2026-11-21", "weeks", -2), "2026-11-07");
        assert_eq!(added("today", "days", 1), "2026-11-22");
        let back = run(json!({"operation": "subtract", "start": "2026-03-31", "months": 1})).unwrap();
        assert_eq!(back["result"], "2026-02-28");
        assert_eq!(back["note"], "2026-02 has no day 31; its last day was taken");
        assert_eq!(back["weekday"], "Saturday");
    }

    #[test]
    fn hours_are_hours_also_where_clocks_change() {
        let add = |key: &str| {
            let start = "2026-03-28T12:00";
            let amount = if key == "days" { 1 } else { 24 };
            run(json!({"operation": "add", "start": start, "time_zone": "Europe/Berlin", key: amount}))
                .unwrap()["result"]
                .clone()
        };
        assert_eq!(add("days"), "2026-03-29T12:00:00+02:00");
        assert_eq!(add("hours"), "2026-03-29T13:00:00+02:00");
        assert_eq!(added("2026-01-01", "hours", 36), "2026-01-02T12:00:00+00:00");
    }

    #[test]
    fn differences_of_dates() {
        let got =
            run(json!({"operation": "difference", "start": "2024-02-29", "end": "2026-11-21"})).unwrap();
        assert_eq!((&got["years"], &got["months"], &got["days"]), (&json!(2), &json!(8), &json!(23)));
        assert_eq!((&got["total_days"], &got["weekdays"]), (&json!(996), &json!(712)));
        assert_eq!(got.get("total_seconds"), None);
        let back =
            run(json!({"operation": "difference", "start": "2026-11-21", "end": "2026-11-14"})).unwrap();
        assert_eq!((&back["total_days"], &back["weekdays"]), (&json!(-7), &json!(5)));
        assert_eq!(
            text(json!({"operation": "difference", "start": "2026-11-21", "end": "2026-12-25"})),
            "2026-12-25 is 1 month, 4 days after 2026-11-21 (whole days: 34 days, Monday to Friday: 24)"
        );
        assert_eq!(
            text(json!({"operation": "difference", "end": "2026-11-21"})),
            "2026-11-21 is no time at all after 2026-11-21 (whole days: 0 days, Monday to Friday: 0)"
        );
    }

    #[test]
    fn differences_of_moments() {
        let got = run(json!({
            "operation": "difference", "time_zone": "Europe/Berlin",
            "start": "2026-03-28T12:00", "end": "2026-03-29T12:00:01",
        }))
        .unwrap();
        assert_eq!(
            (&got["days"], &got["seconds"], &got["total_seconds"]),
            (&json!(1), &json!(1), &json!(82_801))
        );
        let zones = run(json!({
            "operation": "difference", "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00-05:00",
        }));
        assert_eq!(zones.unwrap()["hours"], 5);
    }

    #[test]
    fn a_date_is_described() {
        let got = run(json!({"operation": "describe", "start": "2027-01-01"})).unwrap();
        let expected = json!({
            "date": "2027-01-01", "weekday": "Friday", "iso_week": "2026-W53", "day_of_year": 1,
            "days_in_month": 31, "quarter": 1, "leap_year": false,
        });
        assert_eq!(got, expected);
        assert_eq!(
            text(json!({"operation": "describe", "start": "2024-12-31"})),
            "2024-12-31 is a Tuesday, day 366 of the year, ISO week 2025-W01"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let error = |arguments| run(arguments).unwrap_err();
        assert!(error(json!({"operation": "add", "start": "2026-01-01"})).contains("give an amount"));
        assert!(error(json!({"operation": "difference"})).contains("needs `end`"));
        assert!(error(json!({"operation": "describe", "days": 1})).contains("add and subtract only"));
        assert!(error(json!({"operation": "add", "days": 1, "end": "today"})).contains("`end` goes with"));
        assert!(error(json!({"operation": "add", "days": 1, "hours": -1})).contains("same sign"));
        for (key, amount) in [("years", 20_000), ("days", i64::MAX), ("seconds", i64::MIN), ("years", 9_000)]
        {
            let error = error(json!({"operation": "add", "start": "2026-01-01", key: amount}));
            assert!(error.contains("beyond the calendar"), "{error}");
        }
    }

    #[test]
    fn weekdays_are_counted_without_counting() {
        let first: Date = "2026-11-16".parse().unwrap();
        for offset in 0..14 {
            let start = first.checked_add(Span::new().days(offset)).unwrap();
            for length in 0..40 {
                let end = start.checked_add(Span::new().days(length)).unwrap();
                let one_by_one = (0..length)
                    .map(|day| start.checked_add(Span::new().days(day)).unwrap())
                    .filter(|day| day.weekday().to_monday_zero_offset() < 5)
                    .count();
                assert_eq!(weekdays(start, end).unwrap(), one_by_one as i64, "{start} {end}");
            }
        }
    }
}
