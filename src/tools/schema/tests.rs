//! Validation: what is refused, with which words, and what a hostile schema cannot do.

use serde_json::json;

use super::*;

const MAX: usize = 256 * 1024;

fn message(schema: &Value, value: &Value) -> String {
    Schema::compile(schema, MAX)
        .unwrap()
        .violations(value, "arguments")
        .map(|v| v.message)
        .unwrap_or_default()
}

fn refused(text: &str) -> String {
    let error = parse_arguments(text, 100).unwrap_err();
    assert_eq!(error.kind, ToolErrorKind::InvalidArguments);
    error.message
}

#[test]
fn nothing_and_null_are_no_arguments() {
    for text in ["", " \n", "null", "{}", " { } "] {
        assert_eq!(parse_arguments(text, 100).unwrap(), Map::new(), "{text:?}");
    }
}

#[test]
fn broken_arguments_are_refused_with_their_position() {
    assert!(refused("{\"a\": ").contains("line 1 column 6"));
    assert!(refused("{\"a\": 1}\n}").contains("line 2 column 1"));
    assert!(refused("[1]").contains("an array"));
    assert!(refused("\"{}\"").contains("a string"));
    assert!(refused(&"[".repeat(90)).contains("column 90"));
    assert!(refused(&format!("{{\"a\":\"{}\"}}", "x".repeat(100))).contains("tools.max_argument_bytes"));
    let deep = "[".repeat(5000);
    assert!(parse_arguments(&deep, 10_000).unwrap_err().message.contains("recursion limit"));
}

#[test]
fn messages_name_the_path_and_the_field() {
    let schema = json!({"type": "object", "required": ["city"], "additionalProperties": false, "properties": {
        "city": {"type": "string"},
        "items": {"type": "array", "items": {"properties": {"price": {"type": "number"}}}}}});
    assert_eq!(
        message(&schema, &json!({"city": "Köln", "items": [{"price": "x"}]})),
        "arguments/items/0/price: \"x\" is not of type \"number\""
    );
    assert_eq!(message(&schema, &json!({})), "arguments: \"city\" is a required property");
    assert!(message(&schema, &json!({"city": "a", "stadt": 1})).contains("'stadt' was unexpected"));
    assert_eq!(message(&schema, &json!({"city": "北京 🙂", "items": []})), "");
}

#[test]
fn at_most_five_errors_are_told_and_none_is_long() {
    let schema = json!({"additionalProperties": {"type": "number"}});
    let value: Map<String, Value> = (0..9).map(|n| (format!("k{n}"), json!("é".repeat(500)))).collect();
    let message = message(&schema, &Value::Object(value));
    assert_eq!(message.matches("is not of type").count(), 5, "{message}");
    assert!(message.ends_with("; and more") && message.len() < 500, "{message}");
}

#[test]
fn alternatives_say_why_none_fits() {
    let schema = json!({"properties": {"x": {"anyOf": [{"type": "integer"}, {"enum": ["all"]}]}}});
    let message = message(&schema, &json!({"x": true}));
    assert!(message.starts_with("arguments/x: true is not valid under any"), "{message}");
    assert!(message.contains("integer") && message.contains("all"), "{message}");
}

#[test]
fn the_log_gets_no_values() {
    let schema = Schema::compile(&json!({"properties": {"pin": {"type": "number"}}}), MAX).unwrap();
    let violations = schema.violations(&json!({"pin": "hunter2"}), "arguments").unwrap();
    assert!(violations.message.contains("hunter2"));
    assert_eq!(violations.masked, "arguments/pin: type");
}

#[test]
fn wrong_schemas_are_refused_with_the_place() {
    let refused = |schema: Value| Schema::compile(&schema, MAX).map(|_| ()).unwrap_err();
    assert!(refused(json!({"properties": {"a": {"type": "strnig"}}})).contains("/properties/a/type"));
    assert!(refused(json!({"properties": {"a": {"pattern": "("}}})).contains("pattern"));
    assert!(refused(json!(7)).contains("7"));
    assert!(refused(json!({"$ref": "#/$defs/missing"})).contains("missing"));
    let big = Schema::compile(&json!({"description": "x".repeat(100)}), 50).map(|_| ()).unwrap_err();
    assert!(big.contains("tools.max_schema_bytes"));
}

#[test]
fn nothing_is_fetched_for_a_schema() {
    for reference in ["https://example.com/schema.json", "file:///etc/passwd", "other.json"] {
        let compiled = Schema::compile(&json!({"properties": {"a": {"$ref": reference}}}), MAX);
        assert!(compiled.is_err(), "{reference}");
    }
}

#[test]
fn a_dialect_nobody_knows_is_read_as_the_default() {
    for dialect in ["https://example.com/my-dialect", "http://json-schema.org/schema#"] {
        let schema = json!({"$schema": dialect, "properties": {"a": {"type": "string"}}});
        assert!(message(&schema, &json!({"a": 1})).contains("arguments/a"), "{dialect}");
    }
    let draft7 = json!({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"n": {"type": "number"}},
        "properties": {"a": {"$ref": "#/definitions/n"}}});
    assert!(message(&draft7, &json!({"a": "x"})).contains("arguments/a"));
}

#[test]
fn patterns_cannot_run_away() {
    let bomb = format!("{}!", "a".repeat(30_000));
    let linear = json!({"properties": {"a": {"pattern": "^(a+)+$"}}});
    assert!(message(&linear, &json!({"a": bomb})).contains("arguments/a"));
    let backtracking = json!({"properties": {"a": {"pattern": "^(?=(a+)+$)\\w+$"}}});
    assert!(message(&backtracking, &json!({"a": bomb})).contains("arguments/a"));
    assert_eq!(message(&backtracking, &json!({"a": "aaa"})), "");
    assert!(Schema::compile(&json!({"pattern": "(((\\w{100}){100}){100}){100}"}), MAX).is_err());
}

#[test]
fn schemas_that_refer_to_themselves_are_fine() {
    assert_eq!(message(&json!({"$ref": "#"}), &json!({})), "");
    let ring = json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"});
    assert_eq!(message(&ring, &json!({"x": 1})), "");
    let tree = json!({"$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
        "properties": {"root": {"$ref": "#/$defs/node"}}});
    assert!(message(&tree, &json!({"root": {"next": {"next": 5}}})).starts_with("arguments/root/next/next:"));
}

#[test]
fn schemas_that_would_exhaust_time_or_stack_are_refused() {
    let refused = |count: usize, definition: &dyn Fn(Value) -> Value| {
        let mut defs = Map::new();
        for n in 0..count {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            defs.insert(format!("d{n}"), definition(next));
        }
        defs.insert(format!("d{count}"), json!({"type": "object"}));
        let schema = json!({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": defs});
        Schema::compile(&schema, MAX).is_err()
    };
    assert!(refused(40, &|next| json!({"allOf": [next, {"anyOf": [next]}]})), "2^40 checks");
    assert!(refused(4000, &|next| json!({"allOf": [next]})), "a chain of 4000");
    assert!(refused(500, &|next| (0..50).fold(next, |inner, _| json!({"not": inner}))), "a chain of 25000");
    assert!(!refused(40, &|next| json!({"allOf": [next], "properties": {"x": next, "y": next}})));
}
