//! `/api/v1/keys`, and where a key is taken.

use super::*;

#[tokio::test]
async fn a_key_is_taken_in_three_places_and_never_again_once_it_ended() {
    let (gateway, root) = start().await;
    let lister = json!({"name": "lister", "scopes": ["tools:list"]});
    let (id, key) = add_key(&gateway, &root, &lister).await;
    let (_, caller) = add_key(&gateway, &root, &json!({"name": "c", "scopes": ["tools:call"]})).await;
    let send = |query: &str, headers: Vec<(&'static str, String)>| {
        let mut request = gateway.request("GET", &format!("{TOOLS}{query}"));
        for (name, value) in headers {
            request = request.header(name, &value);
        }
        request.send()
    };
    let good = send(&format!("?apikey={key}"), vec![]).await.expect(200);
    assert!(!good.as_array().unwrap().is_empty());
    assert_eq!(send("", vec![("x-api-key", key.clone())]).await.expect(200), good);
    assert_eq!(send("", vec![("authorization", format!("Bearer {key}"))]).await.expect(200), good);
    // None, wrong in every place, of the wrong form, and without the scope.
    let none = send("", vec![]).await;
    assert_eq!(none.status, 401);
    assert!(none.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    let (rest, last) = key.split_at(key.len() - 1);
    let wrong = format!("{rest}{}", if last == "x" { "y" } else { "x" });
    for answer in [
        send(&format!("?apikey={wrong}"), vec![]).await,
        send("", vec![("x-api-key", wrong.clone())]).await,
        send("", vec![("authorization", format!("Bearer {wrong}"))]).await,
        send("", vec![("authorization", format!("Basic {key}"))]).await,
        send("", vec![("x-api-key", String::new())]).await,
    ] {
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert!(!answer.text().contains(&key) && !answer.text().contains(&wrong));
    }
    let words = send("", vec![("x-api-key", caller)]).await.words(403);
    assert!(words.contains("`tools:list`"), "{words}");
    // Revoked: at once, and told from one that never was.
    let revoked = with(&gateway, &root, "DELETE", &format!("{KEYS}/{id}"), &Value::Null).await.expect(200);
    assert_eq!((&revoked["status"], revoked.get("key")), (&json!("revoked"), None));
    let words = send("", vec![("x-api-key", key)]).await.words(401);
    assert!(words.contains("revoked"), "{words}");
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    let (gateway, root) = start().await;
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    let at = witgate::domain::time::rfc3339(soon);
    let wish = json!({"name": "short", "scopes": ["tools:list"], "expires_at": at});
    let (id, key) = add_key(&gateway, &root, &wish).await;
    let answer = loop {
        let answer = get(&gateway, &key, TOOLS).await;
        if std::time::SystemTime::now() > soon {
            break get(&gateway, &key, TOOLS).await;
        }
        assert!(answer.status == 200 || answer.status == 401);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(answer.words(401).contains("expired"), "{}", answer.text());
    assert_eq!(get(&gateway, &root, &format!("{KEYS}/{id}")).await.expect(200)["status"], "expired");
}

#[tokio::test]
async fn a_key_is_told_once_and_found_again_without_its_text() {
    let (gateway, root) = start().await;
    let wish = json!({
        "name": "nightly", "scopes": ["chat", "tools:call:read_*"], "models": ["gpt-*"], "tools": ["read_query"],
        "limits": {"requests_per_minute": 60}, "expires_in_days": 7,
    });
    let answer = post(&gateway, &root, KEYS, &wish).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let made = answer.expect(201);
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with(&format!("wg_{}_", made["id"].as_str().unwrap())), "{key}");
    for field in ["name", "scopes", "models", "tools", "limits"] {
        assert_eq!(made[field], wish[field], "{field}");
    }
    let one = get(&gateway, &root, &format!("{KEYS}/{}", made["id"].as_str().unwrap())).await;
    let secret = key.rsplit('_').next().unwrap();
    assert!(!one.text().contains(secret));
    let listed = get(&gateway, &root, KEYS).await;
    assert!(!listed.text().contains(secret));
    let keys = listed.expect(200)["keys"].clone();
    assert_eq!((&keys[0], keys.as_array().unwrap().len()), (&one.expect(200), 2), "the newest first");
    let page = get(&gateway, &root, &format!("{KEYS}?limit=1")).await.expect(200);
    assert_eq!((&page["keys"][0], &page["next_offset"], &page["total"]), (&keys[0], &json!(1), &json!(2)));
    let page = get(&gateway, &root, &format!("{KEYS}?limit=1&offset=1")).await.expect(200);
    assert_eq!((&page["keys"][0]["name"], &page["next_offset"]), (&json!("all"), &Value::Null));
}

#[tokio::test]
async fn what_is_wrong_with_a_wish_is_named() {
    let (gateway, root) = start().await;
    for (body, words) in [
        (json!({}), "`name` is missing"),
        (json!({"name": 1}), "`name` must be"),
        (json!({"name": ""}), "name"),
        (json!({"name": "a", "scopes": "chat"}), "`scopes` must be"),
        (json!({"name": "a", "scopes": ["chatt"]}), "`chatt`"),
        (json!({"name": "a", "scopes": []}), "scopes"),
        (json!({"name": "a", "scopes": vec!["tools:call:x"; 257]}), "`scopes`: at most 256"),
        (json!({"name": "a", "models": ["x".repeat(257)]}), "`models`: an entry has at most 256"),
        (json!({"name": "a", "tools": vec!["x"; 257]}), "`tools`: at most 256"),
        (json!({"name": "a", "lmits": {}}), "no field `lmits`"),
        (json!({"name": "a", "limits": {"requests": 1}}), "`requests`"),
        (json!({"name": "a", "limits": [7, 8]}), "`limits` must be an object"),
        (json!({"name": "a", "limits": {"token_budget": [9, "day"]}}), "`limits.token_budget` must be"),
        (json!({"name": "a", "expires_at": "tomorrow"}), "`expires_at`"),
        (json!({"name": "a", "expires_at": "2020-01-01T00:00:00Z"}), "expires"),
        (json!({"name": "a", "expires_in_days": 0}), "`expires_in_days`"),
        (
            json!({"name": "a", "expires_in_days": 1, "expires_at": "2099-01-01T00:00:00Z"}),
            "`expires_in_days`",
        ),
        (json!({"name": "a", "user": "nobody"}), "`user`"),
        (json!({"name": "a", "user": 4711}), "`user`"),
    ] {
        let told = post(&gateway, &root, KEYS, &body).await.words(400);
        assert!(told.contains(words), "{body}: {told}");
    }
    let twice =
        gateway.request("POST", KEYS).header("x-api-key", &root).header("content-type", "application/json");
    let told = twice.body(r#"{"name": "a", "name": "b"}"#).send().await.words(400);
    assert!(told.contains("`name` is there twice"), "{told}");
    let form = gateway.request("POST", KEYS).header("x-api-key", &root).body("name=a").send().await;
    assert_eq!(form.status, 415);
    assert_eq!(get(&gateway, &root, &format!("{KEYS}?limit=0")).await.status, 400);
}

#[tokio::test]
async fn nobody_gives_away_what_it_does_not_have() {
    let (gateway, root) = start().await;
    let service = add_user(&gateway, &root, "robot", "service").await;
    let narrow = json!({"scopes": ["tools:list", "tools:call:read_*"]});
    with(&gateway, &root, "PATCH", &format!("{USERS}/{service}"), &narrow).await.expect(200);
    // The owner has not.
    for scope in ["chat", "admin", "tools:call", "tools:call:write_query"] {
        let told =
            post(&gateway, &root, KEYS, &json!({"name": "k", "user": "robot", "scopes": [scope]})).await;
        assert!(told.words(400).contains(scope), "{}", told.text());
    }
    let (_, key) = add_key(&gateway, &root, &json!({"name": "k", "user": service})).await;
    let seen = get(&gateway, &key, TOOLS).await.expect(200);
    let names: Vec<&str> =
        seen.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["read_query"]);
    // One that may call more than its owner may call what the owner may, by whatever door.
    let wide = json!({"name": "k", "user": service, "scopes": ["tools:list", "tools:call:read_*"]});
    let (_, overlapping) = add_key(&gateway, &root, &wide).await;
    let exact = json!({"scopes": ["tools:list", "tools:call:*_query"]});
    with(&gateway, &root, "PATCH", &format!("{USERS}/{service}"), &exact).await.expect(200);
    let arguments = json!({"query": "SELECT 1"});
    let rest = json!({"tool_name": "read_query", "arguments": arguments});
    assert_eq!(post(&gateway, &overlapping, CALL, &rest).await.expect(200)["success"], true);
    let params = json!({"name": "read_query", "arguments": arguments});
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let called = post(&gateway, &overlapping, "/mcp", &message).await.expect(200);
    assert_eq!(called["result"]["isError"], false, "{called}");
    with(&gateway, &root, "PATCH", &format!("{USERS}/{service}"), &narrow).await.expect(200);
    // A key makes no keys and ends none but itself.
    for (method, path, body) in [
        ("POST", KEYS.to_owned(), json!({"name": "k", "scopes": ["tools:list"]})),
        ("DELETE", format!("{KEYS}/{}", other_key(&gateway, &root, service).await), Value::Null),
    ] {
        let told = with(&gateway, &key, method, &path, &body).await.words(403);
        assert!(told.contains("API key"), "{told}");
    }
    // What an owner loses its keys lose with it.
    let none = json!({"scopes": ["tools:call:read_*"]});
    with(&gateway, &root, "PATCH", &format!("{USERS}/{service}"), &none).await.expect(200);
    assert_eq!(get(&gateway, &key, TOOLS).await.status, 403);
    with(&gateway, &root, "PATCH", &format!("{USERS}/{service}"), &json!({"disabled": true}))
        .await
        .expect(200);
    assert_eq!(get(&gateway, &key, TOOLS).await.status, 401);
}

async fn other_key(gateway: &Gateway, root: &str, user: i64) -> String {
    add_key(gateway, root, &json!({"name": "other", "user": user, "scopes": ["tools:list"]})).await.0
}

#[tokio::test]
async fn keys_of_others_look_like_none() {
    let (gateway, root) = start().await;
    let (ann, bob) =
        (add_user(&gateway, &root, "ann", "user").await, add_user(&gateway, &root, "bob", "user").await);
    let (ann_id, ann_key) = add_key(&gateway, &root, &json!({"name": "a", "user": ann})).await;
    let (bob_id, bob_key) = add_key(&gateway, &root, &json!({"name": "b", "user": "bob"})).await;
    let missing = get(&gateway, &ann_key, &format!("{KEYS}/abcdefghijkl")).await.words(404);
    for method in ["GET", "DELETE"] {
        let told = with(&gateway, &ann_key, method, &format!("{KEYS}/{bob_id}"), &Value::Null).await;
        assert_eq!(told.words(404), missing);
    }
    let own = get(&gateway, &ann_key, KEYS).await.expect(200);
    assert_eq!((own["keys"].as_array().unwrap().len(), &own["keys"][0]["id"]), (1, &json!(ann_id)));
    let named = get(&gateway, &ann_key, &format!("{KEYS}?user=ann")).await.expect(200);
    assert_eq!(named["keys"][0]["id"], own["keys"][0]["id"]);
    let told = get(&gateway, &ann_key, &format!("{KEYS}?user=bob")).await.words(403);
    assert!(told.contains("`admin`"), "{told}");
    assert_eq!(get(&gateway, &ann_key, &format!("{KEYS}?user={bob}")).await.words(403), told);
    // An admin sees everybody's, and a key may end itself.
    let of_bob = get(&gateway, &root, &format!("{KEYS}?user=bob")).await.expect(200);
    assert_eq!(of_bob["keys"][0]["id"], json!(bob_id));
    assert_eq!(get(&gateway, &root, KEYS).await.expect(200)["total"], 3);
    with(&gateway, &bob_key, "DELETE", &format!("{KEYS}/{bob_id}"), &Value::Null).await.expect(200);
    assert_eq!(get(&gateway, &bob_key, KEYS).await.status, 401);
}

#[tokio::test]
async fn the_static_key_has_no_user_and_no_admin() {
    let (gateway, _) = start().await;
    assert!(get(&gateway, STATIC, KEYS).await.words(403).contains("no user"));
    assert_eq!(post(&gateway, STATIC, KEYS, &json!({"name": "k"})).await.status, 403);
    assert!(get(&gateway, STATIC, USERS).await.words(403).contains("`admin`"));
    for path in [KEYS, USERS, "/api/v1/users/me"] {
        assert_eq!(gateway.request("GET", path).send().await.status, 401, "{path}");
        assert_eq!(get(&gateway, "some-key", path).await.status, 401, "{path}");
    }
    get(&gateway, STATIC, TOOLS).await.expect(200);
}
