//! Checks arguments and structured results against a tool's JSON Schema, and says what is wrong and where.
//!
//! Promises: nothing is fetched for a schema (no remote or file references), patterns run in linear time or with a
//! bounded number of steps, a schema that could hold a thread is refused before use, and every message names the path
//! of the value at fault, unless finding it would be too much work. Source: JSON Schema 2020-12 (the default of MCP)
//! and the older drafts a schema may name in `$schema`.

mod references;
mod weight;

use std::fmt::Write as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, ValidationOptions, Validator};
use serde_json::{Map, Value};

use self::weight::Weight;
use crate::domain::{ToolError, ToolErrorKind};

/// Errors told at once: enough for a model to mend its call in one go.
const MAX_ERRORS: usize = 5;

/// Alternatives of an `anyOf` or `oneOf` whose error is told.
const MAX_ALTERNATIVES: usize = 4;

/// The longest value repeated in a message, and the longest message, in bytes.
const MAX_VALUE_BYTES: usize = 120;
const MAX_MESSAGE_BYTES: usize = 600;

/// The largest compiled pattern, in bytes: about a hundred times what everyday patterns need.
const PATTERN_BYTES: usize = 4 * 1024 * 1024;

/// Steps a pattern with look-around or back-references may take on one value before it counts as not matching.
const PATTERN_STEPS: usize = 20_000;

/// A compiled schema.
pub(super) struct Schema {
    validator: Validator,
    weight: Weight,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violations {
    /// For the caller, with the values at fault.
    pub(super) message: String,
    /// For the log, without any value.
    pub(super) masked: String,
}

impl Schema {
    /// Compiles a schema of at most `max_bytes` of JSON.
    ///
    /// # Errors
    /// What is wrong with the schema, in words for the operator.
    pub(super) fn compile(schema: &Value, max_bytes: usize) -> Result<Self, String> {
        let bytes = json_bytes(schema);
        if bytes > max_bytes {
            return Err(format!("it has {bytes} bytes, more than {max_bytes} (tools.max_schema_bytes)"));
        }
        let weight = weigh(schema)?;
        let linear = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
        let bounded = PatternOptions::fancy_regex()
            .backtrack_limit(PATTERN_STEPS)
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_BYTES);
        build(schema, |options| options.with_pattern_options(linear))
            .or_else(|_| build(schema, |options| options.with_pattern_options(bounded)))
            .map(|validator| Self { validator, weight })
    }

    /// What is wrong with `value`, if anything; paths begin with `root`.
    pub(super) fn violations(&self, value: &Value, root: &str) -> Option<Violations> {
        if self.validator.is_valid(value) {
            return None;
        }
        // The validator collects what is wrong with every alternative of every part before it tells the first error.
        if !self.weight.is_light_on(value) {
            let masked = format!("{root}: too large or too deeply nested to say what is wrong with it");
            return Some(Violations { message: masked.clone(), masked });
        }
        let errors = self.validator.iter_errors(value);
        let mut found = Violations { message: String::new(), masked: String::new() };
        for (at, error) in errors.enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            if at == MAX_ERRORS {
                found.message.push_str("; and more");
                break;
            }
            let path = error.instance_path().as_str();
            // Writing to a string cannot fail.
            let _ = write!(found.message, "{separator}{root}{path}: {}", describe(&error));
            let _ = write!(found.masked, "{separator}{root}{path}: {}", error.kind().keyword());
        }
        Some(found)
    }
}

/// Reads the arguments of a call as a model or client wrote them; nothing and `null` mean no arguments.
///
/// # Errors
/// [`ToolErrorKind::InvalidArguments`], with line and column where the JSON is broken.
pub(super) fn parse_arguments(text: &str, max_bytes: usize) -> Result<Map<String, Value>, ToolError> {
    let invalid = |message: String| ToolError::new(ToolErrorKind::InvalidArguments, message);
    if text.len() > max_bytes {
        let message = format!("the arguments have {} bytes, more than {max_bytes}", text.len());
        return Err(invalid(format!("{message} (tools.max_argument_bytes)")));
    }
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(invalid(format!("the arguments must be a JSON object, not {}", kind_of(&other)))),
        Err(error) => Err(invalid(format!("the arguments are not valid JSON: {error}"))),
    }
}

/// The length of `value` as compact JSON, without writing it anywhere.
pub(super) fn json_bytes(value: &Value) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX,
    }
}

/// The longest start of `text` of at most `max` bytes that ends between two characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn build(
    schema: &Value,
    configure: impl FnOnce(ValidationOptions<'static>) -> ValidationOptions<'static>,
) -> Result<Validator, String> {
    let options = configure(jsonschema::options()).offline().with_draft(draft_of(schema));
    caught(|| options.build(schema))?.map_err(|error| {
        let place = error.instance_path().as_str();
        format!("at `#{place}`: {}", cut(&error.to_string(), MAX_MESSAGE_BYTES))
    })
}

fn weigh(schema: &Value) -> Result<Weight, String> {
    let weight = caught(|| weight::weigh(schema, draft_of(schema)))?;
    weight.map_err(|reason| cut(&reason, MAX_MESSAGE_BYTES).to_owned())
}

/// A server may name a dialect of its own; what it says is then read as the default dialect of MCP.
fn draft_of(schema: &Value) -> Draft {
    match Draft::default().detect(schema) {
        Draft::Unknown => Draft::Draft202012,
        draft => draft,
    }
}

/// The schema comes from outside, and a defect of the compiler must not take the gateway's tools down.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| "the schema compiler failed on it".to_owned())
}

fn describe(error: &ValidationError<'_>) -> String {
    let is_short = json_bytes(error.instance()) <= MAX_VALUE_BYTES;
    let mut text = if is_short { error.to_string() } else { error.masked_with("the value").to_string() };
    text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES));
    if let ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } =
        error.kind()
    {
        let reasons = context.iter().filter_map(|alternative| alternative.first()).take(MAX_ALTERNATIVES);
        for (at, reason) in reasons.enumerate() {
            let mut why = reason.masked_with("the value").to_string();
            why.truncate(why.floor_char_boundary(MAX_VALUE_BYTES));
            let separator = if at == 0 { " (" } else { ", " };
            let _ = write!(text, "{separator}{}: {why}", at + 1);
        }
        if !context.is_empty() {
            text.push(')');
        }
    }
    text
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
