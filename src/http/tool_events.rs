//! Tool calls and results in the form both APIs tell clients about them while a turn runs.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::{ToolCall, ToolResult};

/// `{id, name, arguments}`
#[derive(Debug, Serialize)]
pub(super) struct CallEvent<'a> {
    id: &'a str,
    name: &'a str,
    /// The arguments object; the model's own text where that is not an object.
    arguments: Value,
}

impl<'a> From<&'a ToolCall> for CallEvent<'a> {
    fn from(call: &'a ToolCall) -> Self {
        let text = call.arguments.as_str();
        let object = serde_json::from_str::<Map<String, Value>>(text).map(Value::Object);
        let arguments = match object {
            Ok(object) => object,
            // Models leave the arguments out for tools that take none.
            Err(_) if text.trim().is_empty() => Value::Object(Map::new()),
            Err(_) => Value::from(text),
        };
        Self { id: &call.id, name: &call.name, arguments }
    }
}

/// `{id, name, is_error, content}`
#[derive(Debug, Serialize)]
pub(super) struct ResultEvent<'a> {
    id: &'a str,
    name: &'a str,
    is_error: bool,
    /// The result as text.
    content: String,
}

impl<'a> ResultEvent<'a> {
    pub(super) fn new(call: &'a ToolCall, result: &ToolResult) -> Self {
        Self { id: &call.id, name: &call.name, is_error: result.is_error, content: result.to_text() }
    }
}
