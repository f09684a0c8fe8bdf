//! The tools API over HTTP: the reference's tables of endpoints, credentials and errors, row by row.

mod calls;
#[cfg(target_os = "linux")]
mod credentials;
#[cfg(unix)]
mod document;
#[cfg(unix)]
mod snippets;
#[cfg(unix)]
mod tokens;

use serde_json::{Value, json};

use crate::harness::gateway::Builder;
use crate::harness::{Answer, Gateway};

/// The key in `WITGATE_API_KEY`.
const KEY: &str = "wk-the-right-key";

const TOOLS: &str = "/api/v1/mcp/tools";
const CALL: &str = "/api/v1/mcp/tools/call";

/// A gateway with the tools of the reference's examples and more (see `tests/data/subscribe-server.sh`).
fn builder() -> Builder {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/subscribe-server.sh");
    let server = json!({"command": "sh", "args": [script, "subscribe.log"]});
    Gateway::builder().server("subscribe", server).env("WITGATE_API_KEY", KEY)
}

async fn start() -> Gateway {
    builder().start().await
}

async fn get(gateway: &Gateway, path: &str) -> Answer {
    gateway.request("GET", path).header("x-api-key", KEY).send().await
}

async fn call(gateway: &Gateway, name: &str, arguments: &Value) -> Answer {
    post(gateway, CALL, &json!({"tool_name": name, "arguments": arguments})).await
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    gateway.request("POST", path).header("x-api-key", KEY).json(body).send().await
}

/// Every endpoint with a body that it takes.
fn endpoints() -> [(&'static str, &'static str, Value); 5] {
    [
        ("GET", TOOLS, Value::Null),
        ("GET", "/api/v1/mcp/tools/add_subscribe", Value::Null),
        ("GET", "/api/v1/mcp/tools/add_subscribe/schema", Value::Null),
        ("POST", CALL, json!({"tool_name": "query_subscribes", "arguments": {}})),
        ("POST", "/api/v1/tools/query_subscribes", json!({})),
    ]
}

#[tokio::test]
async fn every_endpoint_takes_a_credential_in_three_places_and_none_without() {
    let gateway = start().await;
    for (method, path, body) in endpoints() {
        let send = |query: String, headers: &[(&str, &str)]| {
            let mut request = gateway.request(method, &format!("{path}{query}"));
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if body.is_null() { request.send() } else { request.json(&body).send() }
        };
        let right = format!("?apikey={KEY}");
        for (query, headers) in [
            (String::new(), [("authorization", "Bearer wk-the-right-key")]),
            (String::new(), [("x-api-key", KEY)]),
            (right.clone(), [("x-nothing", "x")]),
        ] {
            send(query, &headers).await.expect(200);
        }
        let wrong = "?apikey=wrong".to_owned();
        for (query, headers) in [
            (String::new(), vec![]),
            (String::new(), vec![("authorization", "Bearer wrong")]),
            (String::new(), vec![("authorization", "Basic d2stdGhlLXJpZ2h0LWtleQ==")]),
            (String::new(), vec![("x-api-key", "wrong")]),
            (wrong, vec![]),
            // A header goes before the query, whatever it holds.
            (right, vec![("x-api-key", "wrong")]),
        ] {
            let answer = send(query, &headers).await;
            answer.words(401);
            assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
        }
    }
    assert!(!gateway.log().contains("wk-the-right-key"), "the key is in the log");
}

#[tokio::test]
async fn without_a_key_of_its_own_the_gateway_lets_nobody_in() {
    let gateway = builder().env("WITGATE_API_KEY", "").start().await;
    for (method, path, body) in endpoints() {
        let request = gateway.request(method, path).header("x-api-key", "");
        let answer = if body.is_null() { request.send().await } else { request.json(&body).send().await };
        answer.words(401);
    }
}

#[tokio::test]
async fn lists_tools_as_a_bare_array() {
    let gateway = builder().sqlite().start().await;
    let list = get(&gateway, TOOLS).await.expect(200);
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names[..2], ["add_subscribe", "query_subscribes"]);
    assert!(names.contains(&"list_tables"), "{names:?}");
    let tool = &list[0];
    assert_eq!(tool["description"], "Add media subscription to create automated download rules");
    assert_eq!(tool["inputSchema"]["required"], json!(["title", "year", "media_type"]));
    assert_eq!((&tool["title"], &tool["server"]), (&json!("Add a subscription"), &json!("subscribe")));
    assert_eq!(tool["annotations"], json!({"readOnlyHint": false}));
    assert_eq!(list[1]["outputSchema"]["required"], json!(["count"]));
    // Whoever knows only the reference finds nothing but what it names.
    assert!(list[2].get("title").is_none() && list[2].get("annotations").is_none(), "{}", list[2]);
}

#[tokio::test]
async fn filters_by_server_and_text() {
    let gateway = builder().sqlite().start().await;
    for (query, wanted) in [
        ("?server=subscribe&q=SUBSCRIPTION", vec!["add_subscribe", "query_subscribes"]),
        ("?q=Gr%C3%96SSER", vec!["steps"]),
        ("?q=add+a+sub", vec!["add_subscribe"]),
        ("?server=sqlite&q=subscription", vec![]),
        ("?server=nobody", vec![]),
        ("?server=subscribe&q=picture&x=1&page=", vec!["picture"]),
    ] {
        let list = get(&gateway, &format!("{TOOLS}{query}")).await.expect(200);
        let names: Vec<&str> =
            list.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, wanted, "{query}");
    }
    let all = get(&gateway, TOOLS).await.expect(200);
    assert_eq!(get(&gateway, &format!("{TOOLS}?server=&q=")).await.expect(200), all);
    let words = get(&gateway, &format!("{TOOLS}?q=a&q=b")).await.words(400);
    assert!(words.contains("`q`"), "{words}");
}

#[tokio::test]
async fn lists_have_tags() {
    let gateway = start().await;
    let first = get(&gateway, TOOLS).await;
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"'), "a strong tag: {tag}");
    let again = |path: &str, tag: &str| {
        let request = gateway.request("GET", path).header("x-api-key", KEY).header("if-none-match", tag);
        request.send()
    };
    let known = again(TOOLS, &tag).await;
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, Some(tag.as_str())));
    let other = again(&format!("{TOOLS}?q=fail"), &tag).await;
    assert_eq!(other.status, 200);
    assert_ne!(other.header("etag"), Some(tag.as_str()));
    let one = get(&gateway, "/api/v1/mcp/tools/fail").await;
    let tag = one.header("etag").unwrap().to_owned();
    assert_eq!(again("/api/v1/mcp/tools/fail", &tag).await.status, 304);
    // Another gateway that offers the same has the same tags.
    let twin = start().await;
    assert_eq!(get(&twin, TOOLS).await.header("etag"), first.header("etag"));
}

#[tokio::test]
async fn describes_one_tool_by_both_its_names() {
    let gateway = start().await;
    let list = get(&gateway, TOOLS).await.expect(200);
    for name in ["add_subscribe", "subscribe__add_subscribe", "add%5Fsubscribe"] {
        let path = format!("/api/v1/mcp/tools/{name}");
        assert_eq!(get(&gateway, &path).await.expect(200), list[0], "{name}");
        let schema = get(&gateway, &format!("{path}/schema")).await.expect(200);
        assert_eq!(schema, list[0]["inputSchema"], "{name}");
    }
}

#[tokio::test]
async fn odd_names_are_names_of_no_tool() {
    let gateway = start().await;
    let long = "a".repeat(10_000);
    let names = [
        "nobody",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "add_subscribe%00",
        "%ff",
        "add%20subscribe",
        "流浪地球",
    ];
    for name in
        names.into_iter().chain([long.as_str(), "add_subscribe%2fschema", "ADD_SUBSCRIBE", "%22%3Cscript%3E"])
    {
        for path in [format!("{TOOLS}/{name}"), format!("{TOOLS}/{name}/schema")] {
            let words = get(&gateway, &path).await.words(404);
            assert!(words.len() < 500, "{words}");
        }
        post(&gateway, &format!("/api/v1/tools/{name}"), &json!({})).await.words(404);
    }
    for path in ["/a/b", "/a/schema/", "/", "//"] {
        get(&gateway, &format!("{TOOLS}{path}")).await.words(404);
    }
    for name in ["../../etc/passwd", "a\0b", "a/b", "流浪地球", "add_subscribe "] {
        call(&gateway, name, &json!({})).await.words(404);
    }
    assert_eq!(get(&gateway, CALL).await.status, 405);
}
