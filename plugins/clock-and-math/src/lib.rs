//! Tools: what time it is anywhere, times in other zones, calendar arithmetic, and exact decimal expressions.
//!
//! No network and no grant is needed: the time zones of the IANA database are part of the component. See `README.md`.

#[cfg(test)]
mod calculator_tests;
mod calendar;
mod clock;
mod expression;
mod now;
mod number;
mod schemas;
#[cfg(test)]
mod tests;
mod zones;

use serde::{Deserialize, Serialize};
use witgate_plugin::tools::{Entry, ToolAnnotations, ToolDefinition};
use witgate_plugin::{CallContext, Error, Tool, ToolError, ToolProvider, ToolResult};

use calendar::DateCalculate;
use clock::{ConvertTime, CurrentTime};
use zones::Zones;

/// The plugin.
struct ClockAndMath;

witgate_plugin::export!(ClockAndMath: tools);

impl ToolProvider for ClockAndMath {
    const TOOLS: &[Entry] = AllTools::TOOLS;

    /// A mistake in the configuration keeps the plugin from being loaded.
    fn list() -> Result<Vec<ToolDefinition>, Error> {
        Config::zones()?;
        AllTools::list()
    }
}

/// The tools, whatever the configuration.
struct AllTools;

impl ToolProvider for AllTools {
    const TOOLS: &[Entry] = &[
        Entry::of::<CurrentTime>(),
        Entry::of::<ConvertTime>(),
        Entry::of::<DateCalculate>(),
        Entry::of::<Calculate>(),
    ];
}

/// The `[config]` table.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The time zone where a call names none; UTC where this names none either.
    time_zone: Option<String>,
}

impl Config {
    fn zones() -> Result<Zones, Error> {
        let config: Self = witgate_plugin::config()?;
        Zones::new(config.time_zone.as_deref())
            .map_err(|why| Error::Internal(format!("`time_zone` in the plugin's [config] table: {why}")))
    }
}

/// What only changes with time reads the clock: the same call gives another answer later.
const CLOCK: ToolAnnotations = ToolAnnotations { idempotent_hint: Some(true), ..ToolAnnotations::PURE };

impl Tool for CurrentTime {
    const NAME: &str = "current_time";
    const TITLE: Option<&str> = Some("Current time");
    const DESCRIPTION: &str = "Tells the current date, time and weekday in a time zone.";
    const INPUT_SCHEMA: &str = schemas::CURRENT_TIME;
    const OUTPUT_SCHEMA: Option<&str> = Some(schemas::MOMENT);
    const ANNOTATIONS: ToolAnnotations = CLOCK;

    fn call(self, _ctx: &CallContext) -> Result<ToolResult, ToolError> {
        answer(self.run(now::now(), &Config::zones()?))
    }
}

impl Tool for ConvertTime {
    const NAME: &str = "convert_time";
    const TITLE: Option<&str> = Some("Convert time");
    const DESCRIPTION: &str =
        "Converts a time from one time zone to another, with the daylight saving rules of that day.";
    const INPUT_SCHEMA: &str = schemas::CONVERT_TIME;
    const OUTPUT_SCHEMA: Option<&str> = Some(schemas::CONVERSION);
    const ANNOTATIONS: ToolAnnotations = CLOCK;

    fn call(self, _ctx: &CallContext) -> Result<ToolResult, ToolError> {
        answer(self.run(now::now(), &Config::zones()?))
    }
}

impl Tool for DateCalculate {
    const NAME: &str = "date_calculate";
    const TITLE: Option<&str> = Some("Calculate with dates");
    const DESCRIPTION: &str = "Calculates with dates: `add` or `subtract` years, months, weeks, days, hours, minutes and \
        seconds; `difference` tells the time between two dates; `describe` tells a date's weekday, ISO week and more.";
    const INPUT_SCHEMA: &str = schemas::DATE_CALCULATE;
    const ANNOTATIONS: ToolAnnotations = CLOCK;

    fn call(self, _ctx: &CallContext) -> Result<ToolResult, ToolError> {
        answer(self.run(now::now(), &Config::zones()?))
    }
}

/// Arguments of `calculate`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Calculate {
    expression: String,
    decimal_places: Option<u32>,
}

/// What `calculate` answers.
#[derive(Serialize)]
struct Calculated {
    expression: String,
    result: String,
    exact: bool,
}

impl Tool for Calculate {
    const NAME: &str = "calculate";
    const TITLE: Option<&str> = Some("Calculate");
    const DESCRIPTION: &str = "Computes an arithmetic expression exactly: decimals and fractions are not rounded on the \
        way. Operators: + - * / % (remainder) ^ (power) and parentheses. Functions: abs, ceil, floor, max, min, round, \
        sqrt. Constants: pi, e. Example: round(1250 * (1 + 3.5/100)^10, 2)";
    const INPUT_SCHEMA: &str = schemas::CALCULATE;
    const OUTPUT_SCHEMA: Option<&str> = Some(schemas::CALCULATED);
    const ANNOTATIONS: ToolAnnotations = ToolAnnotations::PURE;

    fn call(self, _ctx: &CallContext) -> Result<ToolResult, ToolError> {
        answer(self.run())
    }
}

impl Calculate {
    fn run(self) -> Result<(String, Calculated), String> {
        let number = expression::evaluate(&self.expression).map_err(|error| error.to_string())?;
        let (result, exact) = match self.decimal_places {
            Some(places) => number.to_places(places.min(100)),
            None => number.to_decimal(),
        };
        let text = if exact { result.clone() } else { format!("{result} (rounded)") };
        Ok((text, Calculated { expression: self.expression, result, exact }))
    }
}

/// Text for people and models, and the parts beside it. What went wrong is for the model to mend.
fn answer<T: Serialize>(outcome: Result<(String, T), String>) -> Result<ToolResult, ToolError> {
    match outcome {
        Ok((text, parts)) => {
            let json = serde_json::to_string(&parts).map_err(ToolError::failed)?;
            Ok(ToolResult { structured_json: Some(json), ..ToolResult::text(text) })
        }
        Err(why) => Ok(ToolResult::error(why)),
    }
}
