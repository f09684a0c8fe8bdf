//! What models are shown of schemas that their upstreams would refuse.

use super::*;
use crate::domain::ToolAnnotations;

fn lowered(schema: &Value) -> Value {
    Value::Object(lower(schema))
}

#[test]
fn a_plain_schema_stays_as_it_is() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "enum": ["x"], "default": "x"}},
        "required": ["a"], "additionalProperties": false, "x-vendor": {"$ref": "#/kept"}});
    assert_eq!(lowered(&schema), schema);
}

#[test]
fn whatever_comes_an_object_schema_goes_out() {
    for schema in [json!(true), json!({}), json!({"type": ["object", "null"]}), json!({"properties": null})] {
        let lowered = lowered(&schema);
        assert_eq!((&lowered["type"], &lowered["properties"]), (&json!("object"), &json!({})), "{schema}");
    }
}

#[test]
fn references_are_written_out() {
    let schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"city": {"type": "string", "description": "A city"}, "a/b c": {"type": "integer"},
            "named": {"$anchor": "here", "type": "boolean"}},
        "properties": {"from": {"$ref": "#/$defs/city", "description": "Start"}, "via": {"$ref": "#/$defs/a~1b%20c"},
            "on": {"$ref": "#here"}, "$ref": {"type": "string"}, "list": {"items": {"$ref": "#/$defs/city"}}}});
    assert_eq!(
        lowered(&schema),
        json!({"type": "object", "properties": {"from": {"type": "string", "description": "Start"},
            "via": {"type": "integer"}, "on": {"type": "boolean"}, "$ref": {"type": "string"},
            "list": {"items": {"type": "string", "description": "A city"}}}})
    );
}

#[test]
fn recursion_is_cut() {
    let schema = json!({"definitions": {"node": {"type": "object", "properties": {
        "name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/definitions/node"}}}}},
        "properties": {"root": {"$ref": "#/definitions/node"}}});
    let lowered = lowered(&schema);
    let children = "/properties/root/properties/children/items/properties/children/items";
    assert_eq!(lowered.pointer(children).unwrap()["description"], CUT_NOTE);
    assert_eq!(lowered.pointer(children).unwrap()["type"], "object");
    assert!(!lowered.to_string().contains("$ref"));
    for schema in [json!({"$ref": "#"}), json!({"properties": {"a": {"$ref": "#/nowhere"}}})] {
        assert!(!Value::Object(lower(&schema)).to_string().contains("$ref"), "{schema}");
    }
}

#[test]
fn definitions_that_double_each_other_do_not_explode() {
    let mut defs = Map::new();
    for n in 0..60 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        defs.insert(format!("d{n}"), json!({"type": "object", "properties": {"l": next, "r": next}}));
    }
    defs.insert("d60".to_owned(), json!({"type": "string", "enum": ["some", "words"]}));
    let schema = json!({"$defs": defs, "properties": {"a": {"$ref": "#/$defs/d0"}}});
    let length = lowered(&schema).to_string().len();
    assert!(length < 1024 * 1024, "{length}");
}

#[test]
fn a_long_chain_of_references_is_cut() {
    let mut defs = Map::new();
    for n in 0..5000 {
        defs.insert(format!("d{n}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", n + 1)}]}));
    }
    let schema = json!({"$defs": defs, "properties": {"a": {"$ref": "#/$defs/d0"}}});
    assert!(lowered(&schema).to_string().contains(CUT_NOTE));
}

#[test]
fn all_of_at_the_top_becomes_one_object() {
    let schema = json!({"description": "Base.", "allOf": [
        {"properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false},
        {"properties": {"a": {"minLength": 1}, "b": {"type": "number"}}, "required": ["a", "b"]}]});
    assert_eq!(
        lowered(&schema),
        json!({"description": "Base.", "properties": {"a": {"type": "string", "minLength": 1}, "b": {"type": "number"}},
            "required": ["a", "b"], "type": "object"})
    );
}

#[test]
fn alternatives_at_the_top_become_one_object() {
    let schema = json!({"$defs": {"byId": {"type": "object", "required": ["kind", "id"],
            "properties": {"kind": {"const": "id"}, "id": {"type": "integer"}}}},
        "oneOf": [{"$ref": "#/$defs/byId"},
            {"type": "object", "required": ["kind", "name"],
                "properties": {"kind": {"const": "name"}, "name": {"type": "string"}, "id": {"type": "string"}}},
            {"type": "null"}]});
    assert_eq!(
        lowered(&schema),
        json!({"type": "object", "required": ["kind"],
            "properties": {"kind": {"type": "string", "enum": ["id", "name"]},
                "id": {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "name": {"type": "string"}},
            "description": "Give the arguments of one of these forms: (kind, id) or (kind, name)."})
    );
}

#[test]
fn requirements_alone_are_told_in_words() {
    let schema =
        json!({"properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]});
    let lowered = lowered(&schema);
    assert!(lowered["description"].as_str().unwrap().ends_with("(a) or (b)."), "{lowered}");
    assert!(lowered.get("required").is_none() && lowered.get("anyOf").is_none());
}

#[test]
fn alternatives_inside_stay() {
    let schema =
        json!({"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}});
    assert_eq!(lowered(&schema), schema);
}

#[test]
fn the_function_entry_has_a_short_description() {
    let mut definition = ToolDefinition {
        name: "t".to_owned(),
        title: Some("Title".to_owned()),
        description: "ä".repeat(2000),
        input_schema: json!({}),
        output_schema: None,
        annotations: ToolAnnotations::default(),
        server: None,
    };
    let entry = |definition: &ToolDefinition| -> Value {
        serde_json::from_slice(&function_json(definition, 1024)).unwrap()
    };
    let description = entry(&definition)["function"]["description"].as_str().unwrap().to_owned();
    assert!(description.chars().count() == 1024 && description.ends_with("ä…"));
    definition.description = " ".to_owned();
    assert_eq!(
        entry(&definition),
        json!({"type": "function", "function": {"name": "t", "description": "Title",
            "parameters": {"type": "object", "properties": {}}}})
    );
}
