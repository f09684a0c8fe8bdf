//! The document itself: it has every route and no other, it is whole, and tools are in it as they are.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::STATIC;
use super::embed::components;
use super::schemas_of_tools::with_tools;
use crate::domain::ToolDefinition;
use crate::tools::fake::{FakeSource, FakeTool};
use crate::tools::{Config, Tool, ToolRegistry};

/// The routes in the source of the router, as `METHOD path`.
fn routes() -> BTreeSet<String> {
    let source = include_str!("../router.rs");
    let mut found = BTreeSet::new();
    for part in source.split(".route(").skip(1) {
        let path = part.split('"').nth(1).unwrap().replace("{*", "{");
        let handlers = part.split('"').nth(2).unwrap().split(".layer").next().unwrap();
        for method in ["get", "post", "put", "patch", "delete"] {
            let is_called = handlers
                .match_indices(&format!("{method}("))
                .any(|(at, _)| handlers[..at].ends_with([' ', '.', '\n']));
            if is_called {
                found.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    found
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push((format!("{} {path}", method.to_uppercase()), operation));
        }
    }
    found
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let described: BTreeSet<String> = operations(&STATIC).into_iter().map(|(place, _)| place).collect();
    assert!(described.len() > 20, "{described:?}");
    assert_eq!(routes(), described, "the routes in router.rs (left) and in the document (right)");
}

#[test]
fn operations_are_whole() {
    let mut ids = HashSet::new();
    for (place, operation) in operations(&STATIC) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        assert!(id.chars().all(char::is_alphanumeric), "{id}: names of tools must not meet it");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{place} has no summary");
        let tag = &operation["tags"][0];
        let mut tags = STATIC["tags"].as_array().unwrap().iter();
        assert!(tags.any(|known| known["name"] == *tag), "{place} has the unknown tag {tag}");
        assert!(operation["security"].is_array(), "{place} does not say whom it asks");
    }
    assert_eq!(STATIC["openapi"], "3.1.0");
    assert_eq!(STATIC["servers"], json!([{"url": "/"}]));
}

#[test]
fn a_key_may_stand_in_the_query_where_it_is_taken() {
    for (place, operation) in operations(&STATIC) {
        let is_listed = operation["security"].as_array().unwrap().contains(&json!({"apiKeyInQuery": []}));
        let is_taken = place.contains(" /api/v1/") && !place.contains("/login");
        assert_eq!(is_listed, is_taken, "{place}");
    }
}

#[tokio::test]
async fn a_schema_that_does_not_compile_stays_out_of_the_document() {
    let tool = |name: &str, output: Value| -> Arc<dyn Tool> {
        FakeTool::new(ToolDefinition { output_schema: Some(output), ..FakeTool::definition(name) }, vec![])
    };
    let tools: Vec<Arc<dyn Tool>> =
        vec![tool("broken", json!({"type": "strnig"})), tool("whole", json!({"type": "object"}))];
    let registry = ToolRegistry::new(Config::default(), vec![FakeSource::new("srv", tools)]);
    let document = with_tools(STATIC.clone(), registry.snapshot().tools());
    let schemas = &document["components"]["schemas"];
    assert!(schemas.get("broken.arguments").is_some() && schemas.get("whole.structuredContent").is_some());
    assert!(schemas.get("broken.structuredContent").is_none());
    assert!(!document["paths"]["/api/v1/tools/broken"].to_string().contains("structuredContent"));
}

#[test]
fn callers_with_limits_are_told_of_them() {
    let response = |place: &str, status: &str| {
        let (_, operation) = operations(&STATIC).into_iter().find(|(known, _)| known == place).unwrap();
        let response = &operation["responses"][status];
        let shared = response["$ref"].as_str().map(|shared| STATIC.pointer(&shared[1..]).unwrap());
        shared.unwrap_or(response).clone()
    };
    let tells = |response: Value, header: &str| response["headers"].get(header).is_some();
    for place in ["POST /v1/chat/completions", "POST /mcp", "GET /metrics", "POST /api/v1/mcp/tools/call"] {
        for status in ["200", "401", "429"] {
            assert!(tells(response(place, status), "x-ratelimit-remaining-requests"), "{place} {status}");
        }
        assert!(tells(response(place, "429"), "retry-after-ms"), "{place}");
    }
    for place in ["GET /healthz", "POST /api/v1/login/access-token"] {
        assert!(!tells(response(place, "200"), "x-ratelimit-remaining-requests"), "{place}");
    }
}

#[test]
fn references_lead_somewhere() {
    let mut pending = vec![&*STATIC];
    let mut seen = 0;
    while let Some(value) = pending.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(STATIC.pointer(pointer).is_some(), "{reference} leads nowhere");
            seen += 1;
        }
        match value {
            Value::Object(object) => pending.extend(object.values()),
            Value::Array(list) => pending.extend(list),
            _ => {}
        }
    }
    assert!(seen > 50);
}

/// A response that may be anything, and an object that may have nothing, are of no use in a client made from the document.
#[test]
fn generators_of_types_learn_what_an_answer_is() {
    for path in ["/api/v1/mcp/tools/call", "/api/v1/tools/{tool_name}"] {
        let answer = &STATIC["paths"][path]["post"]["responses"]["200"]["content"];
        assert_eq!(
            *answer,
            json!({"application/json": {"schema": {"$ref": "#/components/schemas/CallAnswer"}}})
        );
    }
    let arguments = &STATIC["components"]["schemas"]["CallRequest"]["properties"]["arguments"];
    assert_eq!(arguments["additionalProperties"], true);
}

#[test]
fn references_of_a_tools_schema_move_with_it() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://tool.example/s",
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/a"},
            "self": {"$ref": "#"},
            "named": {"$ref": "#there"},
            "absolute": {"$ref": "https://tool.example/s#/$defs/a"},
            "nowhere": {"$ref": "#/$defs/none", "description": "stays"},
            "elsewhere": {"$ref": "https://other.example/s"},
            "encoded": {"$ref": "#/%24defs/%C3%A4"},
            "within": {"$ref": "#/$defs/a~1b/properties/c~1d"},
            "beside": {"$ref": "#/properties/id"},
            "$ref": {"type": "string"},
            "id": {"type": "string"},
            "plain": {"const": {"$ref": "#/$defs/a"}, "enum": [{"$ref": "#"}], "default": {"$id": "x"}},
        },
        "$defs": {
            "a": {"type": "string"}, "b": {"$anchor": "there"}, "ä": {}, "ö": {"$ref": "#/$defs/a"},
            "a/b": {"properties": {"c/d": {}}},
        },
    });
    let base = "#/components/schemas/t.arguments";
    let all = components(&schema, "t.arguments");
    let out = &all[0].1;
    let of = |name: &str| out["properties"][name].clone();
    assert_eq!(of("a"), json!({"$ref": format!("{base}.a")}));
    assert_eq!(of("self"), json!({"$ref": base}));
    assert_eq!(of("named"), json!({"$ref": format!("{base}.b")}));
    assert_eq!(of("absolute"), json!({"$ref": format!("{base}.a")}));
    assert_eq!(of("nowhere"), json!({"description": "stays"}));
    assert_eq!(of("elsewhere"), json!({}));
    assert_eq!(of("encoded"), json!({"$ref": format!("{base}._")}));
    assert_eq!(of("$ref"), json!({"type": "string"}), "a property of that name is no reference");
    assert_eq!(of("id"), json!({"type": "string"}));
    assert_eq!(of("plain"), schema["properties"]["plain"], "values are left alone");
    assert_eq!(of("within"), json!({"$ref": format!("{base}.a_b/properties/c~1d")}));
    assert_eq!(of("beside"), json!({"$ref": format!("{base}/properties/id")}));
    assert!(["$schema", "$id", "$defs"].iter().all(|word| out.get(*word).is_none()), "{out}");

    let beside: Vec<&str> = all[1..].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        beside,
        ["t.arguments.a", "t.arguments.b", "t.arguments._", "t.arguments.__", "t.arguments.a_b"]
    );
    assert_eq!(all[4].1, json!({"$ref": format!("{base}.a")}), "references from one definition to another");
}

#[test]
fn older_drafts_are_said_in_the_new_way() {
    let schema = json!({
        "properties": {
            "n": {"minimum": 1, "exclusiveMinimum": true, "maximum": 3, "exclusiveMaximum": false},
            "pair": {"items": [{"type": "string"}, {"$ref": "#/definitions/d"}], "additionalItems": false},
        },
        "dependencies": {"n": ["pair"], "pair": {"required": ["n"]}},
        "definitions": {"d": {"required": true}},
    });
    let wanted = json!({
        "properties": {
            "n": {"exclusiveMinimum": 1, "maximum": 3},
            "pair": {"prefixItems": [{"type": "string"}, {"$ref": "#/components/schemas/x.d"}], "items": false},
        },
        "dependentRequired": {"n": ["pair"]}, "dependentSchemas": {"pair": {"required": ["n"]}},
    });
    let wanted = [("x".to_owned(), wanted), ("x.d".to_owned(), json!({}))];
    assert_eq!(components(&schema, "x"), wanted);
}
