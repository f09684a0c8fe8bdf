//! What `access explain` says about an endpoint is what the endpoint asks for: every operation of the document, asked
//! over HTTP with every scope but the one it is said to need, with that one alone, and with no credentials.

use serde_json::{Value, json};
use witgate::http::door_of;

use crate::harness::Gateway;
use crate::identity_http::{add_key, admin, builder};

const SCOPES: [&str; 6] = ["chat", "tools:list", "tools:call", "plugins", "metrics", "admin"];

/// What has no door. A route that is forgotten in `doors.rs` is none of these.
const OPEN: [&str; 6] = ["/", "/healthz", "/readyz", "/docs", "/docs/{file}", "/api/v1/login/access-token"];

/// Keys with just one scope, and with all others.
struct Keys {
    only: Vec<String>,
    but: Vec<String>,
}

impl Keys {
    async fn make(gateway: &Gateway, root: &str) -> Self {
        let (mut only, mut but) = (Vec::new(), Vec::new());
        for scope in SCOPES {
            let others: Vec<&str> = SCOPES.into_iter().filter(|other| *other != scope).collect();
            only.push(add_key(gateway, root, &json!({"name": "only", "scopes": [scope]})).await.1);
            but.push(add_key(gateway, root, &json!({"name": "but", "scopes": others})).await.1);
        }
        Self { only, but }
    }

    fn of(&self, scope: &str) -> (&str, &str) {
        let at = SCOPES.iter().position(|known| *known == scope).expect("a scope that there is");
        (&self.only[at], &self.but[at])
    }
}

/// Every method and path of the document.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| -> Vec<String> {
        let known = ["get", "post", "put", "patch", "delete"];
        known.iter().filter(|name| item.get(**name).is_some()).map(|name| name.to_uppercase()).collect()
    };
    let pairs =
        paths.iter().flat_map(|(path, item)| methods(item).into_iter().map(move |m| (m, path.clone())));
    pairs.collect()
}

/// A path of the document with something in each place, which is there only where it does no harm.
fn filled(path: &str) -> String {
    let filled = path.replace("{tool_name}", "list_tables").replace("{server}", "sqlite");
    filled.replace("{name}", "no-such-plugin").replace("{file}", "index.css").replace("{id}", "999999")
}

async fn status(gateway: &Gateway, method: &str, path: &str, key: Option<&str>) -> u16 {
    let mut request = gateway.request(method, path).header("accept", "application/json");
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    let request = if method == "GET" || method == "DELETE" { request } else { request.json(&json!({})) };
    request.send().await.status
}

#[tokio::test]
async fn every_endpoint_has_the_door_that_is_said() {
    let builder = builder().config("access.chat = \"required\"");
    let root = admin(builder.folder()).await;
    let gateway = builder.start().await;
    let keys = Keys::make(&gateway, &root).await;
    let document =
        gateway.request("GET", "/openapi.json").header("x-api-key", &root).send().await.expect(200);
    let operations = operations(&document);
    for path in ["/mcp", "/mcp/{server}", "/api/v1/mcp", "/api/v1/tools/list_tables", "/metrics"] {
        assert!(operations.iter().any(|(_, known)| known == path), "{path} is not in the document");
    }
    for (method, template) in operations {
        let path = filled(&template);
        assert!(!path.contains('{'), "{template} has a place that this test cannot fill");
        let what = format!("{method} {path}");
        let nobody = status(&gateway, &method, &path, None).await;
        let Some(door) = door_of(&method, &path) else {
            let is_open = OPEN.contains(&template.as_str()) || template.starts_with("/.well-known/");
            assert!(is_open, "{what} is not in doors.rs");
            assert!(nobody != 401 && nobody != 403, "{what}: {nobody}");
            continue;
        };
        if path == "/openapi.json" {
            // Who may list no tools has it without them.
            assert_eq!((door, nobody), (witgate::access::Door::Document, 200));
            continue;
        }
        assert_eq!(nobody, 401, "{what}");
        let Some(scope) = door.scope() else {
            for key in &keys.only {
                assert_ne!(status(&gateway, &method, &path, Some(key)).await, 401, "{what}");
            }
            continue;
        };
        let (only, but) = keys.of(scope);
        assert_eq!(status(&gateway, &method, &path, Some(but)).await, 403, "{what} without {scope}");
        let enters = status(&gateway, &method, &path, Some(only)).await;
        assert!(enters != 401 && enters != 403, "{what} with {scope} alone: {enters}");
    }
}
