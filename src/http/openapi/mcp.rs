//! The MCP endpoints as operations: one protocol at three places, which says more than OpenAPI can.

use serde_json::{Value, json};

use crate::http::discovery::WELL_KNOWN;

/// Path, what is there, and what stands before its operations' ids.
const MOUNTS: [(&str, &str, &str); 3] = [
    ("/mcp", "all tools", "mcp"),
    ("/mcp/{server}", "what one MCP server or plugin has, under its own names", "mcpOfServer"),
    ("/api/v1/mcp", "all tools, for clients that only take addresses under /api/v1", "apiMcp"),
];

const METHODS: [(&str, &str, &str); 3] = [
    ("post", "Send", "a message of the Model Context Protocol (streamable HTTP)"),
    ("get", "Listen", "the stream of what the server has to say"),
    ("delete", "End", "the end of an MCP session"),
];

/// Adds the endpoints to `document`.
pub(super) fn add(document: &mut Value) {
    for (path, what, id) in MOUNTS {
        for (method, suffix, description) in METHODS {
            document["paths"][path][method] =
                operation(path, method, what, &format!("{id}{suffix}"), description);
        }
        document["paths"][format!("{WELL_KNOWN}{path}")]["get"] =
            metadata(path, what, &format!("{id}Metadata"));
    }
    document["paths"][WELL_KNOWN]["get"] = metadata("", "all of the gateway", "metadata");
}

/// Where clients learn who gives out tokens for what is at `path`.
fn metadata(path: &str, what: &str, id: &str) -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let error = |description: &str| {
        let schema = json!({"$ref": "#/components/schemas/ErrorDetail"});
        json!({"description": description, "content": {"application/json": {"schema": schema}}})
    };
    let mut operation = json!({
        "operationId": id,
        "tags": ["mcp"],
        "summary": "Who gives out tokens",
        "description": format!("For {what}: the outside issuers and their scopes (RFC 9728). Asks nobody who it is."),
        "responses": {
            "200": {"description": "the metadata", "content": {"application/json": {"schema": {
                "type": "object",
                "required": ["resource", "authorization_servers", "bearer_methods_supported"],
                "properties": {
                    "resource": text, "resource_name": text, "authorization_servers": texts,
                    "scopes_supported": texts, "bearer_methods_supported": texts,
                },
            }}}},
            "400": error("There is no valid `Host`"),
            "403": error("The host is none of the gateway's"),
            "404": error("There is no outside issuer"),
        },
    });
    if path.contains("{server}") {
        operation["parameters"] = server_parameter();
    }
    operation
}

fn server_parameter() -> Value {
    let description = "the name of an MCP server or plugin";
    json!([{"name": "server", "in": "path", "required": true, "description": description, "schema": {"type": "string"}}])
}

fn operation(path: &str, method: &str, what: &str, id: &str, description: &str) -> Value {
    let mut operation = json!({
        "operationId": id,
        "tags": ["mcp"],
        "summary": format!("MCP: {description}"),
        "description": format!(
            "An MCP server with {what}. The protocol is told at https://modelcontextprotocol.io; it has errors of its own, as \
             JSON-RPC."
        ),
        "responses": {
            "200": {"description": "the answer", "content": {
                "application/json": {"schema": {"type": "object"}}, "text/event-stream": {},
            }},
            "202": {"description": "taken; there is nothing to answer"},
            "204": {"description": "the session has ended"},
            "4XX": {"description": "refused, by the gateway (`{\"detail\"}`) or by the protocol (JSON-RPC)"},
        },
    });
    if path.contains("{server}") {
        operation["parameters"] = server_parameter();
    }
    if method == "post" {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": {"type": "object"}}}});
    }
    operation
}
