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
    assert!(!refused(40, &|next| json!({"allOf": [next], "properties": {"x": true}})));
    assert!(!refused(40, &|next| json!({"properties": {"x": next, "y": next}})));
    let x_twice = |next| json!({"anyOf": [{"properties": {"x": next}}, {"properties": {"x": next}}]});
    assert!(refused(40, &x_twice), "2^40 checks of what lies 40 levels deep");
    let items_twice = |next: Value| json!({"items": next, "contains": next});
    assert!(refused(40, &items_twice), "the same in arrays");
    assert!(
        refused(40, &|next| json!({"allOf": [next], "properties": {"x": next}})),
        "every level applies all below"
    );
}

/// 40 definitions that each apply the next one twice, named by `name` and referred to as `reference` says.
fn bomb(name: &dyn Fn(usize) -> Value, reference: &dyn Fn(usize) -> String) -> Value {
    let definition = |n: usize| {
        let mut schema = name(n);
        if n < 40 {
            let next = json!({"$ref": reference(n + 1)});
            schema["allOf"] = json!([next, {"anyOf": [next]}]);
        }
        schema
    };
    Value::Array((0..=40).map(definition).collect())
}

#[test]
fn a_bomb_is_found_however_its_parts_are_named() {
    let refused = |schema: Value| {
        let reason = Schema::compile(&schema, MAX).map(|_| ()).unwrap_err();
        assert!(reason.contains("multiply"), "{reason}");
    };
    let anchored = bomb(&|n| json!({"$anchor": format!("a{n}")}), &|n| format!("#a{n}"));
    refused(json!({"$ref": "#a0", "$defs": {"deep": {"not": {"oneOf": anchored}}}}));
    let dynamic = bomb(&|n| json!({"$dynamicAnchor": format!("a{n}")}), &|n| format!("#a{n}"));
    refused(json!({"$dynamicRef": "#a0", "$defs": {"deep": {"not": {"oneOf": dynamic}}}}));
    let by_id = bomb(&|n| json!({"$id": format!("d{n}")}), &|n| format!("d{n}"));
    refused(json!({"$id": "https://example.com/root", "$ref": "d0", "$defs": {"deep": {"oneOf": by_id}}}));
    let urn = bomb(&|n| json!({"$id": format!("urn:x:{n}")}), &|n| format!("urn:x:{n}"));
    refused(json!({"$ref": "urn:x:0", "$defs": {"deep": {"oneOf": urn}}}));
    let inner = bomb(&|_| json!({}), &|n| format!("#/oneOf/{n}"));
    refused(json!({"$ref": "urn:in", "$defs": {"in": {"$id": "urn:in", "oneOf": inner}}}));
    let old = bomb(&|n| json!({"$id": format!("#a{n}")}), &|n| format!("#a{n}"));
    let draft7 = "http://json-schema.org/draft-07/schema#";
    refused(json!({"$schema": draft7, "allOf": [{"$ref": "#a0"}], "definitions": {"deep": {"oneOf": old}}}));
    // Each level also leads back to the first one, which must not hide the others.
    let ring = bomb(&|n| json!({"$anchor": format!("a{n}"), "not": {"$ref": "#a0"}}), &|n| format!("#a{n}"));
    refused(json!({"$ref": "#a0", "$defs": {"deep": {"oneOf": ring}}}));
    let x_ring = bomb(&|n| json!({"$anchor": format!("a{n}"), "properties": {"x": {"$ref": "#a0"}}}), &|n| {
        format!("#a{n}")
    });
    refused(json!({"properties": {"y": {"$ref": "#a0"}}, "$defs": {"deep": {"oneOf": x_ring}}}));
}

#[test]
fn references_by_anchor_and_id_are_fine() {
    let schema = json!({"$id": "https://example.com/root", "$defs": {
            "name": {"$anchor": "name", "type": "string"},
            "item": {"$id": "item", "$defs": {"price": {"type": "number"}}, "properties": {"price": {"$ref": "#/$defs/price"}}},
            "tree": {"$dynamicAnchor": "tree", "properties": {"kids": {"items": {"$dynamicRef": "#tree"}}}}},
        "properties": {"name": {"$ref": "#name"}, "item": {"$ref": "item"}, "tree": {"$ref": "#tree"}}});
    assert_eq!(
        message(&schema, &json!({"name": "x", "item": {"price": 1}, "tree": {"kids": [{"kids": []}]}})),
        ""
    );
    assert!(message(&schema, &json!({"name": 1})).starts_with("arguments/name:"));
    assert!(message(&schema, &json!({"item": {"price": "x"}})).starts_with("arguments/item/price:"));
    assert!(message(&schema, &json!({"tree": {"kids": [{"kids": [7, {"kids": 7}]}]}})).is_empty());
    let refused =
        Schema::compile(&json!({"properties": {"a": {"$ref": "#nobody"}}}), MAX).map(|_| ()).unwrap_err();
    assert!(refused.contains("nobody"), "{refused}");
}

/// A filter of the kind many tools take, whose wrong leaf lies `levels` deep.
fn wrong_filter(levels: usize) -> (Value, Value) {
    let of = |op: &str| {
        json!({"type": "object", "required": ["op", "args"], "properties": {
            "op": {"const": op}, "args": {"type": "array", "items": {"$ref": "#/$defs/filter"}}}})
    };
    let leaf = json!({"type": "object", "required": ["field"], "properties": {"field": {"type": "string"}}});
    let schema = json!({"$defs": {"filter": {"anyOf": [of("and"), of("or"), leaf]}},
        "properties": {"filter": {"$ref": "#/$defs/filter"}}});
    let filter = (0..levels).fold(json!({"field": 7}), |inner, _| json!({"op": "and", "args": [inner]}));
    (schema, json!({"filter": filter}))
}

#[test]
fn what_is_wrong_is_told_only_where_finding_it_is_little_work() {
    let (schema, little) = wrong_filter(2);
    assert!(message(&schema, &little).starts_with("arguments/filter:"));
    let (schema, deep) = wrong_filter(50);
    assert!(message(&schema, &deep).contains("too deeply nested"));
    let strings = json!({"properties": {"names": {"items": {"type": "string"}}}});
    assert!(message(&strings, &json!({"names": vec![0; 1000]})).starts_with("arguments/names/0:"));
    assert!(message(&strings, &json!({"names": vec![0; 500_000]})).contains("too large"));
    assert_eq!(message(&strings, &json!({"names": vec!["x"; 500_000]})), "");
}

#[test]
fn large_grammars_of_many_kinds_are_fine() {
    let hubs = ["expression", "statement", "type", "pattern"];
    let refer = |hub: &str| json!({"anyOf": [{"$ref": format!("#/$defs/{hub}")}, {"type": "null"}]});
    let mut defs = Map::new();
    for hub in hubs {
        let kinds: Vec<Value> = (0..30)
            .map(|n| {
                json!({"required": ["kind"], "properties": {"kind": {"const": format!("{hub}{n}")},
                    "left": refer(hubs[n % 4]), "right": refer(hubs[(n + 1) % 4]), "list": {"items": refer(hub)}}})
            })
            .collect();
        defs.insert(hub.to_owned(), json!({"oneOf": kinds}));
    }
    let schema = json!({"properties": {"program": refer("statement")}, "$defs": defs});
    let leaf = json!({"kind": "pattern3"});
    let program =
        (0..30).fold(leaf, |inner, _| json!({"kind": "pattern3", "list": [inner, {"kind": "pattern1"}]}));
    assert_eq!(message(&schema, &json!({"program": {"kind": "statement3", "left": program}})), "");
}
