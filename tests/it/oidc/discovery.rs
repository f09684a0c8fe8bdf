//! How MCP clients find the issuer: by what a 401 says, and by the document it names.

use serde_json::json;

use super::issuer::{Issuer, Key};
use super::{STATIC, builder};
use crate::harness::{Answer, Gateway};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

async fn refused(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> String {
    let mut post = gateway.request("POST", path).json(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
    for (name, value) in headers {
        post = post.header(name, value);
    }
    let answer = post.send().await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    answer.header("www-authenticate").unwrap().to_owned()
}

async fn document(gateway: &Gateway, path: &str, host: &str) -> Answer {
    gateway.request("GET", &format!("{WELL_KNOWN}{path}")).header("host", host).send().await
}

#[tokio::test]
async fn a_client_is_led_to_the_issuer() {
    let issuer = Issuer::start(&[Key::P256]);
    let roles = format!(
        "[[access.issuers]]\nname = \"roles\"\nissuer = \"{}/other\"\naudience = \"a\"\nscopes_claim = \"roles\"\n\
         scope_map = {{ role = [\"tools:list\"] }}\n",
        issuer.url
    );
    // A word that makes an admin, and one that has nothing to do with tools, are nothing to ask for.
    let config = format!("[access]\n{}{roles}", issuer.table("staff")).replace(
        "scope_map = { gateway",
        "scope_map = { root = [\"tools:list\", \"admin\"], talk = [\"chat\"], gateway",
    );
    let gateway = Gateway::builder().sqlite().config(&config).start().await;
    let host = gateway.address().to_string();
    for path in ["/mcp", "/mcp/sqlite", "/mcp/nothing", "/api/v1/mcp"] {
        let challenge = refused(&gateway, path, &[]).await;
        let place = format!("http://{host}{WELL_KNOWN}{path}");
        let wanted =
            format!("Bearer realm=\"witgate\", resource_metadata=\"{place}\", scope=\"caller gateway\"");
        assert_eq!(challenge, wanted);
        let told = document(&gateway, path, &host).await;
        assert_eq!(told.header("cache-control"), Some("no-store"));
        let wanted = json!({
            "resource": format!("http://{host}{path}"),
            "resource_name": "witgate",
            "authorization_servers": [issuer.url, format!("{}/other", issuer.url)],
            "scopes_supported": ["caller", "gateway"],
            "bearer_methods_supported": ["header"],
        });
        assert_eq!(told.expect(200), wanted, "{path}");
    }
    assert_eq!(document(&gateway, "", &host).await.expect(200)["resource"], format!("http://{host}"));
    // A bad token is told so; nothing of it is repeated.
    let challenge = refused(&gateway, "/mcp", &[("authorization", "Bearer nonsense")]).await;
    assert!(challenge.contains("error=\"invalid_token\", resource_metadata=\"http"), "{challenge}");
    assert!(!challenge.contains("nonsense"));
    document(&gateway, "/elsewhere", &host).await.expect(404);
    // With the token that was got so, the client comes in.
    let token = format!("Bearer {}", issuer.good(Key::P256));
    let post = gateway.request("POST", "/mcp").header("authorization", &token);
    post.json(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).send().await.expect(200);
}

#[tokio::test]
async fn nobody_makes_the_gateway_name_other_places() {
    let issuer = Issuer::start(&[Key::P256]);
    let gateway = builder(&issuer, "").start().await;
    document(&gateway, "/mcp", "evil.example").await.expect(403);
    document(&gateway, "/mcp", "a b").await.expect(400);
    // What is made up of the way here changes nothing, and nothing leaves its quotes.
    let forwarded = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "host=evil.example"),
    ];
    let challenge = refused(&gateway, "/mcp/a%22,%20b=%22", &forwarded).await;
    assert!(!challenge.contains("evil") && challenge.contains("/mcp/a%22,%20b=%22\""), "{challenge}");

    let known = "[server]\npublic_url = \"https://tools.example/gw/\"\n";
    let gateway = builder(&issuer, "").config(known).start().await;
    for host in ["tools.example", "evil.example", "127.0.0.1"] {
        let told = document(&gateway, "/mcp/sqlite", host).await.expect(200);
        assert_eq!(told["resource"], "https://tools.example/gw/mcp/sqlite", "{host}");
    }
    let challenge = refused(&gateway, "/mcp", &[("host", "tools.example")]).await;
    assert!(challenge.contains(&format!("\"https://tools.example/gw{WELL_KNOWN}/mcp\"")), "{challenge}");
}

#[tokio::test]
async fn without_an_issuer_there_is_none_to_find() {
    let gateway = Gateway::builder().sqlite().env("WITGATE_API_KEY", STATIC).start().await;
    let host = gateway.address().to_string();
    for path in ["", "/mcp", "/mcp/sqlite", "/api/v1/mcp"] {
        document(&gateway, path, &host).await.words(404);
    }
    assert_eq!(refused(&gateway, "/mcp", &[]).await, "Bearer realm=\"witgate\"");
}
