//! One operation for each tool, with the tool's own schemas among the document's.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::common::add_to;
use super::embed::components;
use crate::tools::RegisteredTool;

/// The longest summary, in characters: the first line of a description is often all of it.
const MAX_SUMMARY: usize = 120;

/// `document` with an operation for each of `tools`.
pub(super) fn with_tools(mut document: Value, tools: &[Arc<RegisteredTool>]) -> Value {
    let mut taken = operation_ids(&document);
    for tool in tools {
        let name = &tool.definition.name;
        // The gateway's own operations were there first. No id of theirs has two underscores.
        let id = if taken.insert(name.clone()) { name } else { &tool.qualified_name };
        let path = format!("/api/v1/tools/{name}");
        let schemas = [
            (format!("{name}.arguments"), Some(&tool.definition.input_schema)),
            (format!("{name}.structuredContent"), tool.checked_output_schema()),
        ];
        let mut operation = operation(tool, id);
        add_to(&mut operation, &path);
        for (name, schema) in schemas {
            if let (Some(schema), Some(all)) = (schema, document["components"]["schemas"].as_object_mut()) {
                all.extend(components(schema, &name));
            }
        }
        document["paths"][path] = json!({ "post": operation });
    }
    document
}

fn operation_ids(document: &Value) -> HashSet<String> {
    let items = document["paths"].as_object().into_iter().flat_map(Map::values);
    let operations = items.filter_map(Value::as_object).flat_map(Map::values);
    operations.filter_map(|operation| operation["operationId"].as_str()).map(str::to_owned).collect()
}

fn operation(tool: &RegisteredTool, id: &str) -> Value {
    let definition = &tool.definition;
    let name = &definition.name;
    let first_line = definition.description.lines().next().unwrap_or_default();
    let summary = definition.title.as_deref().unwrap_or(first_line);
    let summary: String =
        if summary.is_empty() { name.clone() } else { summary.chars().take(MAX_SUMMARY).collect() };
    let mut answer = json!({"$ref": "#/components/schemas/CallAnswer"});
    if tool.checked_output_schema().is_some() {
        let structured = json!({"$ref": format!("#/components/schemas/{name}.structuredContent")});
        answer =
            json!({"allOf": [answer, {"type": "object", "properties": {"structuredContent": structured}}]});
    }
    json!({
        "operationId": id,
        "tags": ["each tool"],
        "summary": summary,
        "description": definition.description,
        "x-mcp-server": definition.server,
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}.arguments")}}},
        },
        "responses": {
            "200": {
                "description": "The call was made; `success` tells how it went",
                "content": {"application/json": {"schema": answer}},
            },
        },
    })
}
