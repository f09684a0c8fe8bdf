//! A tool for the witgate gateway: counts words.

use serde::{Deserialize, Serialize};
use witgate_plugin::tools::{Entry, ToolAnnotations};
use witgate_plugin::{CallContext, Tool, ToolError, ToolProvider, ToolResult};

/// The arguments of the tool.
#[derive(Deserialize)]
struct CountWords {
    text: String,
}

/// Its structured result.
#[derive(Serialize)]
struct Count {
    words: usize,
}

impl Tool for CountWords {
    const NAME: &str = "count_words";
    const TITLE: Option<&str> = Some("Count words");
    const DESCRIPTION: &str = "Counts the words of a text.";
    const INPUT_SCHEMA: &str = r#"{
        "type": "object",
        "properties": { "text": { "type": "string", "description": "The text." } },
        "required": ["text"],
        "additionalProperties": false
    }"#;
    const OUTPUT_SCHEMA: Option<&str> =
        Some(r#"{ "type": "object", "properties": { "words": { "type": "integer" } }, "required": ["words"] }"#);
    const ANNOTATIONS: ToolAnnotations = ToolAnnotations::PURE;

    fn call(self, _ctx: &CallContext) -> Result<ToolResult, ToolError> {
        let words = self.text.split_whitespace().count();
        ToolResult::json(&Count { words })
    }
}

struct Plugin;

impl ToolProvider for Plugin {
    const TOOLS: &[Entry] = &[Entry::of::<CountWords>()];
}

witgate_plugin::export!(Plugin: tools);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted() {
        let result = Plugin::call(&CallContext::default(), "count_words", r#"{ "text": "one two" }"#).unwrap();
        assert_eq!(result.structured_json.as_deref(), Some(r#"{"words":2}"#));
    }
}
