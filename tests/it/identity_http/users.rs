//! `/api/v1/users`

use super::*;

#[tokio::test]
async fn users_come_change_and_leave() {
    let (gateway, root) = start().await;
    let wish = json!({"name": "ann", "password": PASSWORD, "models": ["gpt-*"], "limits": {"concurrent_streams": 2}});
    let made = post(&gateway, &root, USERS, &wish).await.expect(201);
    assert_eq!(
        (&made["name"], &made["role"], &made["disabled"]),
        (&json!("ann"), &json!("user"), &json!(false))
    );
    assert_eq!(made["scopes"], json!(["chat", "tools:list", "tools:call"]));
    assert_eq!((&made["models"], &made["limits"]), (&wish["models"], &wish["limits"]));
    let path = format!("{USERS}/{}", made["id"]);
    assert_eq!(get(&gateway, &root, &path).await.expect(200), made);
    let listed = get(&gateway, &root, USERS).await;
    assert!(!listed.text().contains("argon2") && !listed.text().contains(PASSWORD));
    let listed = listed.expect(200);
    let names: Vec<&Value> = listed["users"].as_array().unwrap().iter().map(|user| &user["name"]).collect();
    assert!(names.contains(&&json!("root")) && names.contains(&&json!("ann")), "{names:?}");
    let changed =
        with(&gateway, &root, "PATCH", &path, &json!({"name": "anna", "tools": ["read_query"]})).await;
    let changed = changed.expect(200);
    assert_eq!((&changed["name"], &changed["tools"]), (&json!("anna"), &json!(["read_query"])));
    assert_eq!(changed["models"], wish["models"], "what is not named stays");
    let gone = with(&gateway, &root, "DELETE", &path, &Value::Null).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    for method in ["GET", "DELETE"] {
        assert_eq!(with(&gateway, &root, method, &path, &Value::Null).await.status, 404);
    }
}

#[tokio::test]
async fn what_cannot_be_is_named() {
    let (gateway, root) = start().await;
    add_user(&gateway, &root, "ann", "user").await;
    for (body, words) in [
        (json!({"password": PASSWORD}), "`name` is missing"),
        (json!({"name": "b", "password": "short"}), "`password`"),
        (json!({"name": "b", "role": "king"}), "`role` must be"),
        (json!({"name": "b", "role": "service", "password": PASSWORD}), "`password`"),
        (json!({"name": " b"}), "`name`"),
        (json!({"name": "b", "scopes": ["x"]}), "`x`"),
        (json!({"name": "b", "passwort": PASSWORD}), "no field `passwort`"),
        (json!([]), "JSON object"),
    ] {
        let told = post(&gateway, &root, USERS, &body).await.words(400);
        assert!(told.contains(words) && !told.contains(PASSWORD), "{body}: {told}");
    }
    assert!(post(&gateway, &root, USERS, &json!({"name": "ann"})).await.words(409).contains("`ann`"));
    for id in ["4711", "x", "-1", "1%2f2"] {
        assert_eq!(get(&gateway, &root, &format!("{USERS}/{id}")).await.status, 404, "{id}");
    }
    let ann = get(&gateway, &root, &format!("{USERS}?limit=100")).await.expect(200);
    let ann =
        ann["users"].as_array().unwrap().iter().find(|user| user["name"] == "ann").unwrap()["id"].clone();
    for (body, words) in [
        (json!({"disabled": "yes"}), "`disabled` must be"),
        (json!({"password": "short"}), "`password`"),
        (json!({"id": 7}), "no field `id`"),
    ] {
        let told = with(&gateway, &root, "PATCH", &format!("{USERS}/{ann}"), &body).await.words(400);
        assert!(told.contains(words), "{body}: {told}");
    }
    let told = with(&gateway, &root, "PATCH", &format!("{USERS}/{ann}"), &json!({"name": "root"})).await;
    assert_eq!(told.status, 409);
}

#[tokio::test]
async fn the_last_admin_stays() {
    let (gateway, root) = start().await;
    let users = get(&gateway, &root, USERS).await.expect(200);
    let admins: Vec<&Value> =
        users["users"].as_array().unwrap().iter().filter(|user| user["role"] == "admin").collect();
    // Whoever the gateway itself made leaves first.
    for other in admins.iter().filter(|user| user["name"] != "root") {
        let path = format!("{USERS}/{}", other["id"]);
        assert_eq!(with(&gateway, &root, "DELETE", &path, &Value::Null).await.status, 204);
    }
    let own = admins.iter().find(|user| user["name"] == "root").unwrap()["id"].clone();
    let path = format!("{USERS}/{own}");
    for (method, body) in
        [("DELETE", Value::Null), ("PATCH", json!({"role": "user"})), ("PATCH", json!({"disabled": true}))]
    {
        let told = with(&gateway, &root, method, &path, &body).await.words(409);
        assert!(told.contains("last admin"), "{told}");
    }
    add_user(&gateway, &root, "second", "admin").await;
    with(&gateway, &root, "PATCH", &path, &json!({"role": "user"})).await.expect(200);
    assert_eq!(get(&gateway, &root, USERS).await.status, 403, "the key lost what its owner lost");
}

#[tokio::test]
async fn only_admins_look_after_users_and_everybody_sees_itself() {
    let (gateway, root) = start().await;
    let ann = add_user(&gateway, &root, "ann", "user").await;
    let (_, key) = add_key(&gateway, &root, &json!({"name": "k", "user": "ann"})).await;
    let path = format!("{USERS}/{ann}");
    for (method, path, body) in [
        ("GET", USERS, Value::Null),
        ("POST", USERS, json!({"name": "x"})),
        ("GET", path.as_str(), Value::Null),
        ("PATCH", path.as_str(), json!({"role": "admin"})),
        ("DELETE", path.as_str(), Value::Null),
    ] {
        let told = with(&gateway, &key, method, path, &body).await.words(403);
        assert!(told.contains("`admin`"), "{told}");
    }
    let me = get(&gateway, &key, "/api/v1/users/me").await.expect(200);
    assert_eq!((&me["id"], &me["name"]), (&json!(ann), &json!("ann")));
    assert_eq!(get(&gateway, STATIC, "/api/v1/users/me").await.status, 404);
}
