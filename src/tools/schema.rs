//! JSON Schema: checking arguments against the full schema, and a simpler form of it for models.
//!
//! Lowering is for the model's eyes only: references are put in place and a top-level choice becomes one object, since
//! several model APIs refuse the rest. Validation always uses the schema as the server gave it.

use std::fmt::Write as _;

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};

/// Most faults that one message lists.
const MAX_FAULTS: usize = 5;
/// Deepest chain of references that lowering follows; a recursive schema is open below it.
const MAX_REFERENCE_DEPTH: usize = 6;
/// Most JSON values a lowered schema may have; a schema that grows beyond it goes to the model as it is.
const MAX_LOWERED_VALUES: usize = 20_000;
/// Largest compiled regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Compiles a schema. Nothing outside it is ever loaded, and patterns run in linear time.
///
/// # Errors
/// What is wrong with the schema.
pub(super) fn compile(schema: &Value) -> Result<Validator, String> {
    let linear = PatternOptions::regex().size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES);
    let compiled = jsonschema::options().with_pattern_options(linear).build(schema);
    compiled.or_else(|first| {
        // Look-around has no linear-time form; such a pattern runs with a bound on backtracking instead.
        let bounded = PatternOptions::fancy_regex().backtrack_limit(10_000).size_limit(MAX_REGEX_BYTES);
        jsonschema::options().with_pattern_options(bounded).build(schema).map_err(|_| first.to_string())
    })
}

/// Parses and checks arguments; empty text and null mean no arguments.
///
/// # Errors
/// A message that names the path of every fault (up to five).
pub(super) fn parse_arguments(text: &str, validator: &Validator) -> Result<Map<String, Value>, String> {
    let value = if text.trim().is_empty() {
        json!({})
    } else {
        serde_json::from_str(text).map_err(|e| format!("the arguments are not valid JSON: {e}"))?
    };
    let value = if value.is_null() { json!({}) } else { value };
    let mut message = String::new();
    for fault in validator.iter_errors(&value).take(MAX_FAULTS) {
        let path = fault.instance_path().to_string();
        let separator = if message.is_empty() { "" } else { "; " };
        let _infallible = write!(message, "{separator}arguments{path}: {}", shortened(&fault.to_string()));
    }
    match value {
        _ if !message.is_empty() => Err(message),
        Value::Object(arguments) => Ok(arguments),
        other => Err(format!("the arguments must be a JSON object, got {other}")),
    }
}

/// A fault's words without a huge value in them.
fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    if text.chars().count() <= MAX_CHARS {
        return text.to_owned();
    }
    let tail: Vec<char> = text.chars().rev().take(MAX_CHARS / 2).collect();
    let head: String = text.chars().take(MAX_CHARS / 2).collect();
    format!("{head} ... {}", tail.into_iter().rev().collect::<String>())
}

/// The schema as models get it: an object schema without references.
pub(super) fn lower(schema: &Value) -> Value {
    let mut budget = MAX_LOWERED_VALUES;
    let inlined = inline(schema, schema, 0, &mut budget);
    let mut lowered = match inlined {
        Some(Value::Object(fields)) => merge_choices(fields),
        _ => schema.as_object().cloned().unwrap_or_default(),
    };
    for name in ["$schema", "$id", "$defs", "definitions"] {
        if budget > 0 {
            lowered.shift_remove(name);
        }
    }
    lowered.insert("type".to_owned(), json!("object"));
    lowered.entry("properties").or_insert_with(|| json!({}));
    Value::Object(lowered)
}

/// `value` with local references replaced by what they point to; `None` once the budget is spent.
fn inline(value: &Value, root: &Value, depth: usize, budget: &mut usize) -> Option<Value> {
    *budget = budget.checked_sub(1)?;
    match value {
        Value::Object(fields) => {
            let reference = fields.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
            let target = reference.and_then(|pointer| root.pointer(pointer));
            let mut out = Map::new();
            if let Some(target) = target {
                if depth >= MAX_REFERENCE_DEPTH {
                    return Some(json!({}));
                }
                if let Value::Object(inlined) = inline(target, root, depth + 1, budget)? {
                    out = inlined;
                }
            }
            for (name, field) in fields {
                let is_reference = name == "$ref" && target.is_some();
                let is_definitions =
                    matches!(name.as_str(), "$defs" | "definitions") && std::ptr::eq(value, root);
                if !is_reference && !is_definitions {
                    out.insert(name.clone(), inline(field, root, depth, budget)?);
                }
            }
            Some(Value::Object(out))
        }
        Value::Array(items) => items
            .iter()
            .map(|item| inline(item, root, depth, budget))
            .collect::<Option<_>>()
            .map(Value::Array),
        other => Some(other.clone()),
    }
}

/// Merges a top-level `allOf`, `anyOf` or `oneOf` into the object: all properties of all branches; required is what
/// every branch of a choice (or any part of an `allOf`) requires.
fn merge_choices(mut schema: Map<String, Value>) -> Map<String, Value> {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let Some(Value::Array(branches)) = schema.shift_remove(keyword) else { continue };
        let mut required: Option<Vec<Value>> = None;
        for branch in branches {
            let Value::Object(branch) = branch else { continue };
            let mut branch = merge_choices(branch);
            let wanted = match branch.shift_remove("required") {
                Some(Value::Array(names)) => names,
                _ => Vec::new(),
            };
            required = Some(match (required, keyword) {
                (None, _) => wanted,
                (Some(have), "allOf") => [have, wanted].concat(),
                (Some(have), _) => have.into_iter().filter(|name| wanted.contains(name)).collect(),
            });
            if let Some(Value::Object(properties)) = branch.shift_remove("properties") {
                let all = schema.entry("properties").or_insert_with(|| json!({}));
                for (name, property) in properties {
                    if let Some(all) = all.as_object_mut() {
                        all.entry(name).or_insert(property);
                    }
                }
            }
        }
        let mut all = match schema.shift_remove("required") {
            Some(Value::Array(names)) => names,
            _ => Vec::new(),
        };
        for name in required.unwrap_or_default() {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        if !all.is_empty() {
            schema.insert("required".to_owned(), Value::Array(all));
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_their_path() {
        let schema = json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "items": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}}}});
        let validator = compile(&schema).unwrap();
        let message = parse_arguments(r#"{"items":[{"price":"x"}]}"#, &validator).unwrap_err();
        assert!(message.contains("arguments/items/0/price: \"x\" is not of type \"number\""), "{message}");
        assert!(message.contains("\"name\" is a required property"), "{message}");
        assert!(parse_arguments("{\"name\":", &validator).unwrap_err().contains("line 1 column 8"));
        assert!(
            parse_arguments("[]", &compile(&json!({})).unwrap())
                .unwrap_err()
                .contains("must be a JSON object")
        );
        for nothing in ["", " ", "null", "{}"] {
            assert!(
                parse_arguments(nothing, &compile(&json!({"type": "object"})).unwrap()).unwrap().is_empty()
            );
        }
        assert_eq!(parse_arguments(r#"{"name":"工具"}"#, &validator).unwrap()["name"], "工具");
    }

    #[test]
    fn bad_schemas_are_refused_and_nothing_is_fetched() {
        assert!(compile(&json!({"type": "nonsense"})).is_err());
        assert!(compile(&json!({"$ref": "http://127.0.0.1:1/schema.json"})).is_err());
        assert!(compile(&json!({"$ref": "file:///etc/passwd"})).is_err());
    }

    #[test]
    fn catastrophic_patterns_are_bounded() {
        let validator = compile(&json!({"properties": {"a": {"pattern": "^(a+)+$"}}})).unwrap();
        let text = json!({"a": format!("{}b", "a".repeat(50_000))}).to_string();
        assert!(parse_arguments(&text, &validator).is_err());
    }

    #[test]
    fn lowering_puts_references_in_place_and_ends_recursion() {
        let schema = json!({"$schema": "x", "type": "object", "properties": {"node": {"$ref": "#/$defs/node"}},
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}});
        let text = lower(&schema).to_string();
        assert!(!text.contains("$ref") && !text.contains("$defs") && !text.contains("$schema"), "{text}");
        assert!(text.contains("next"));
    }

    #[test]
    fn lowering_merges_a_top_level_choice() {
        let schema = json!({"anyOf": [
            {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
            {"type": "object", "properties": {"b": {}, "c": {}}, "required": ["b", "c"]}]});
        let lowered = lower(&schema);
        assert_eq!(lowered["type"], "object");
        assert_eq!(lowered["properties"].as_object().unwrap().len(), 3);
        assert_eq!(lowered["required"], json!(["b"]));
        assert_eq!(lower(&json!({})), json!({"type": "object", "properties": {}}));
    }
}
