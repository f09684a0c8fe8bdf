//! JSON Schemas of arguments and results.

/// Of `current_time`.
pub(crate) const CURRENT_TIME: &str = r#"{
  "type": "object",
  "properties": {
    "time_zone": {
      "type": "string",
      "description": "IANA name such as Europe/Berlin, UTC, or an offset such as +05:30. Left out: the gateway's zone."
    }
  },
  "additionalProperties": false
}"#;

/// Of `convert_time`.
pub(crate) const CONVERT_TIME: &str = r#"{
  "type": "object",
  "properties": {
    "time": {
      "type": "string",
      "description": "24-hour time with or without a date: 2026-03-08T14:30, 14:30 (today), now, or with an offset as in 2026-03-08T14:30:00Z."
    },
    "from_time_zone": {
      "type": "string",
      "description": "The zone the time is given in: IANA name such as America/New_York, UTC, or an offset. Left out: the time's own offset, or else the gateway's zone."
    },
    "to_time_zone": {
      "type": "string",
      "description": "The zone to convert to: IANA name such as Asia/Tokyo, UTC, or an offset."
    }
  },
  "required": ["time", "to_time_zone"],
  "additionalProperties": false
}"#;

/// Of `date_calculate`.
pub(crate) const DATE_CALCULATE: &str = r#"{
  "type": "object",
  "properties": {
    "operation": { "type": "string", "enum": ["add", "subtract", "difference", "describe"] },
    "start": {
      "type": "string",
      "description": "The date to start from: 2026-01-31, 2026-01-31T14:30, today or now. Left out: today."
    },
    "end": { "type": "string", "description": "For difference: the other date, in the same forms." },
    "time_zone": {
      "type": "string",
      "description": "The zone of dates and times without an offset. Left out: the gateway's zone."
    },
    "years": { "type": "integer" },
    "months": { "type": "integer" },
    "weeks": { "type": "integer" },
    "days": { "type": "integer" },
    "hours": { "type": "integer" },
    "minutes": { "type": "integer" },
    "seconds": { "type": "integer" }
  },
  "required": ["operation"],
  "additionalProperties": false
}"#;

/// Of `calculate`.
pub(crate) const CALCULATE: &str = r#"{
  "type": "object",
  "properties": {
    "expression": {
      "type": "string",
      "maxLength": 2000,
      "description": "For example (19.99 * 3 + 4.50) * 1.19. Numbers have a decimal point and no thousands separators; write 15% as 15/100."
    },
    "decimal_places": {
      "type": "integer",
      "minimum": 0,
      "maximum": 100,
      "description": "Round the result to so many decimal places, halves away from zero."
    }
  },
  "required": ["expression"],
  "additionalProperties": false
}"#;

/// The parts of a moment; a macro, as only literals can be put together at compile time.
macro_rules! moment_parts {
    () => {
        r#""properties": {
    "datetime": { "type": "string", "description": "RFC 3339" },
    "time_zone": { "type": "string" },
    "weekday": { "type": "string" },
    "utc_offset": { "type": "string" },
    "abbreviation": { "type": "string" },
    "daylight_saving": { "type": "boolean" },
    "unix_seconds": { "type": "integer" }
  },
  "required": ["datetime", "time_zone", "weekday", "utc_offset", "abbreviation", "daylight_saving", "unix_seconds"]"#
    };
}

/// A moment, the result of `current_time`.
pub(crate) const MOMENT: &str = concat!(r#"{ "type": "object", "#, moment_parts!(), " }");

/// The result of `convert_time`.
pub(crate) const CONVERSION: &str = concat!(
    r#"{ "type": "object", "properties": { "from": { "type": "object", "#,
    moment_parts!(),
    r#" }, "to": { "type": "object", "#,
    moment_parts!(),
    r#" }, "hours_ahead": { "type": "number" }, "note": { "type": "string" } }, "required": ["from", "to", "hours_ahead"] }"#
);

/// The result of `calculate`.
pub(crate) const CALCULATED: &str = r#"{
  "type": "object",
  "properties": {
    "expression": { "type": "string" },
    "result": { "type": "string", "description": "A decimal number, as text so that no digit is lost." },
    "exact": { "type": "boolean", "description": "False where the result was rounded." }
  },
  "required": ["expression", "result", "exact"]
}"#;
