//! What is the same for many operations: the errors, by where the operation is, and the credentials.

use serde_json::{Map, Value, json};

/// Where an operation is decides how it fails and whom it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Asks nobody.
    Open,
    /// `/chat`.
    Chat,
    /// `/v1`.
    OpenAi,
    /// `/openapi.json`: asks, and goes on without.
    Asking,
    /// `/api/v1/login`: takes a password instead of a credential.
    Login,
    /// `/api/v1`, where a key may stand in the query.
    Api,
    /// The MCP endpoints, whose protocol has errors of its own.
    Mcp,
    /// `/metrics`.
    Guarded,
}

/// Errors that handlers and layers have in common: status, who may meet it, when.
const ERRORS: [(u16, &str); 10] = [
    (
        400,
        "The request is wrong: broken JSON, a wrong or missing field (which is named), a body that does not fit its `content-digest`",
    ),
    (401, "A credential is missing, wrong, expired or revoked"),
    (403, "The credential lacks a scope, or an access policy refuses"),
    (404, "There is no such thing, or not for this caller"),
    (408, "The body took too long"),
    (413, "The body is too large"),
    (415, "The body is not declared as what is taken here"),
    (429, "A limit is reached: see `retry-after`"),
    (500, "A fault of the gateway; its log has the cause under the `x-request-id`"),
    (503, "The gateway is busy, stopping, or misses a part that has to be there: see `retry-after`"),
];

/// What callers with limits are told with every response: name, what it says, its type.
const RATE_HEADERS: [(&str, &str, &str); 6] = [
    ("x-ratelimit-limit-requests", "Requests in a minute, where they are limited", "integer"),
    ("x-ratelimit-remaining-requests", "Requests that are left", "integer"),
    ("x-ratelimit-reset-requests", "How long until all requests are there again: `8.64s`", "string"),
    ("x-ratelimit-limit-tokens", "Tokens in a minute, where they are limited", "integer"),
    ("x-ratelimit-remaining-tokens", "Tokens that are left", "integer"),
    ("x-ratelimit-reset-tokens", "How long until all tokens are there again: `6m0s`", "string"),
];

/// Adds to every operation of `document` what its description leaves out.
pub(super) fn complete(document: &mut Value) {
    // The gateway cannot know by what address it is reached: it is the document's own.
    document["servers"] = json!([{"url": "/"}]);
    open_objects(document);
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http", "scheme": "bearer",
            "description": "An API key, or an access token from `/api/v1/login/access-token`",
        },
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-KEY", "description": "An API key"},
        "apiKeyInQuery": {
            "type": "apiKey", "in": "query", "name": "apikey",
            "description": "An API key, under `/api/v1` only: addresses end up in logs and histories",
        },
    });
    let header = |text: &str, kind: &str| json!({"description": text, "schema": {"type": kind}});
    document["components"]["headers"] =
        RATE_HEADERS.iter().map(|(name, text, kind)| ((*name).to_owned(), header(text, kind))).collect();
    let mut responses = Map::new();
    for (status, description) in ERRORS {
        for (prefix, schema) in [("Detail", "ErrorDetail"), ("OpenAi", "OpenAiError")] {
            let body = json!({"$ref": format!("#/components/schemas/{schema}")});
            let mut response =
                json!({"description": description, "content": {"application/json": {"schema": body}}});
            tell_rates(&mut response);
            match status {
                401 => response["headers"]["www-authenticate"] = header("How to authenticate", "string"),
                429 | 503 => {
                    let (seconds, ms) = ("When to try again, in seconds", "The same in milliseconds");
                    response["headers"]["retry-after"] = header(seconds, "integer");
                    response["headers"]["retry-after-ms"] = header(ms, "integer");
                }
                _ => {}
            }
            responses.insert(format!("{prefix}{status}"), response);
        }
    }
    document["components"]["responses"] = Value::Object(responses);
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        for operation in item.as_object_mut().into_iter().flat_map(|item| item.values_mut()) {
            add_to(operation, path);
        }
    }
}

/// Adds to the operation at `path` the errors and the credentials.
pub(super) fn add_to(operation: &mut Value, path: &str) {
    let place = place(path);
    operation["security"] = credentials(place, path);
    for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
        plain(&mut parameter["schema"]);
    }
    if operation["parameters"].is_null()
        && let Some(operation) = operation.as_object_mut()
    {
        operation.remove("parameters");
    }
    if place == Place::Open {
        return;
    }
    let has_body = operation.get("requestBody").is_some();
    let prefix = if place == Place::OpenAi { "OpenAi" } else { "Detail" };
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    // A login asks for no credential, so nobody is counted.
    if place != Place::Login {
        responses.values_mut().filter(|response| response.get("$ref").is_none()).for_each(tell_rates);
    }
    for (status, _) in ERRORS {
        if place == Place::Mcp && status < 429 && status != 401 {
            continue;
        }
        if has_body || !matches!(status, 408 | 413 | 415) {
            let reference = json!({"$ref": format!("#/components/responses/{prefix}{status}")});
            responses.entry(status.to_string()).or_insert(reference);
        }
    }
    // Sent before anything of the request is known, without a body.
    responses.entry("431").or_insert_with(|| json!({"description": "The head of the request is too large"}));
    responses.sort_keys();
}

/// Adds to a response what callers with limits are told.
fn tell_rates(response: &mut Value) {
    for (name, ..) in RATE_HEADERS {
        response["headers"][name] = json!({"$ref": format!("#/components/headers/{name}")});
    }
}

/// Says of objects without any property that they may have all: generators of types take them for empty ones.
fn open_objects(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let kind = object.get("type");
            let is_object = kind.is_some_and(|kind| {
                kind == "object"
                    || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "object"))
            });
            if is_object
                && !["properties", "additionalProperties"].iter().any(|word| object.contains_key(*word))
            {
                object.insert("additionalProperties".to_owned(), Value::Bool(true));
            }
            object.values_mut().for_each(open_objects);
        }
        Value::Array(list) => list.iter_mut().for_each(open_objects),
        _ => {}
    }
}

fn place(path: &str) -> Place {
    let within =
        |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match path {
        "/" | "/healthz" | "/readyz" => Place::Open,
        "/openapi.json" => Place::Asking,
        _ if within("/docs") || within("/.well-known") => Place::Open,
        _ if within("/chat") => Place::Chat,
        _ if within("/v1") => Place::OpenAi,
        "/mcp" | "/mcp/{server}" | "/api/v1/mcp" => Place::Mcp,
        _ if within("/api/v1/login") => Place::Login,
        _ if within("/api/v1") => Place::Api,
        _ => Place::Guarded,
    }
}

/// One of these is enough; the empty one means that none is.
fn credentials(place: Place, path: &str) -> Value {
    let (bearer, header, query, none) =
        (json!({"bearer": []}), json!({"apiKey": []}), json!({"apiKeyInQuery": []}), json!({}));
    match place {
        Place::Open | Place::Login => json!([]),
        Place::Chat | Place::OpenAi | Place::Asking => json!([none, bearer, header]),
        Place::Api => json!([bearer, header, query]),
        Place::Mcp if path.starts_with("/api/v1/") => json!([bearer, header, query]),
        Place::Mcp | Place::Guarded => json!([bearer, header]),
    }
}

/// A parameter that may be left out is not one that may be null, and has no format.
fn plain(schema: &mut Value) {
    if let Some(kinds) = schema["type"].as_array()
        && let [kind, null] = kinds.as_slice()
        && null == "null"
    {
        schema["type"] = kind.clone();
    }
    // Numbers in queries end where the gateway's numbers do, which no format tells.
    if let Some(schema) = schema.as_object_mut() {
        schema.shift_remove("format");
    }
}
