//! `POST /api/v1/login/access-token`, and what comes of it.

use super::*;

pub(crate) const LOGIN: &str = "/api/v1/login/access-token";

const FORM: &str = "application/x-www-form-urlencoded";

/// Sends the form.
pub(crate) async fn form(gateway: &Gateway, body: &str) -> Answer {
    gateway.request("POST", LOGIN).header("content-type", FORM).body(body.to_owned()).send().await
}

/// An access token of `name`, who has [`PASSWORD`].
pub(crate) async fn token(gateway: &Gateway, name: &str) -> String {
    let answer = form(gateway, &format!("username={name}&password={PASSWORD}")).await.expect(200);
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_password_becomes_a_token() {
    let (gateway, root) = start().await;
    let ann = add_user(&gateway, &root, "ann \u{e4}", "user").await;
    let sent = format!("grant_type=password&scope=&username=ann+%C3%A4&password={PASSWORD}&client_id=x");
    let answer = form(&gateway, &sent).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = answer.expect(200);
    assert_eq!(
        (&answer["token_type"], &answer["user_id"], &answer["user_name"], &answer["super_user"]),
        (&json!("bearer"), &json!(ann), &json!("ann \u{e4}"), &json!(false))
    );
    assert!(answer["expires_in"].as_u64().unwrap() > 0);
    let token = answer["access_token"].as_str().unwrap();
    get(&gateway, token, TOOLS).await.expect(200);
    let me = get(&gateway, token, "/api/v1/users/me").await.expect(200);
    assert_eq!(me["id"], json!(ann));
    assert!(me["last_login_at"].is_string());
    assert_eq!(get(&gateway, token, USERS).await.status, 403);
    // The other places of the reference take it as well.
    let call = json!({"tool_name": "list_tables", "arguments": {}});
    assert_eq!(post(&gateway, token, CALL, &call).await.expect(200)["success"], true);
    gateway.request("GET", TOOLS).header("x-api-key", token).send().await.expect(200);
    // A user makes keys of its own, and no others.
    let (id, key) = add_key(&gateway, token, &json!({"name": "mine"})).await;
    get(&gateway, &key, TOOLS).await.expect(200);
    assert!(
        post(&gateway, token, KEYS, &json!({"name": "k", "scopes": ["admin"]}))
            .await
            .words(403)
            .contains("admin")
    );
    assert_eq!(post(&gateway, token, KEYS, &json!({"name": "k", "user": "root"})).await.status, 403);
    with(&gateway, token, "DELETE", &format!("{KEYS}/{id}"), &Value::Null).await.expect(200);
    let admin = form(&gateway, &format!("username=root&password={PASSWORD}")).await.expect(200);
    assert_eq!(admin["super_user"], true);
    get(&gateway, admin["access_token"].as_str().unwrap(), USERS).await.expect(200);
}

#[tokio::test]
async fn json_is_taken_as_well() {
    let (gateway, _) = start().await;
    let body = json!({"username": "root", "password": PASSWORD});
    assert_eq!(gateway.post(LOGIN, &body).await.expect(200)["user_name"], "root");
}

#[tokio::test]
async fn whoever_cannot_log_in_is_told_the_same() {
    let (gateway, root) = start().await;
    let bob = add_user(&gateway, &root, "bob", "user").await;
    let old = token(&gateway, "bob").await;
    with(&gateway, &root, "PATCH", &format!("{USERS}/{bob}"), &json!({"disabled": true})).await.expect(200);
    add_user(&gateway, &root, "robot", "service").await;
    let wrong = form(&gateway, "username=root&password=not-the-password").await;
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer realm=\"witgate\""));
    let words = wrong.words(401);
    for sent in [
        format!("username=nobody&password={PASSWORD}"),
        format!("username=bob&password={PASSWORD}"),
        format!("username=robot&password={PASSWORD}"),
        format!("username=ROOT&password={PASSWORD}"),
        format!("username=root&password={PASSWORD}%00"),
    ] {
        assert_eq!(form(&gateway, &sent).await.words(401), words, "{sent}");
    }
    assert_eq!(get(&gateway, &old, TOOLS).await.status, 401, "a disabled user's token has ended");
}

#[tokio::test]
async fn what_is_no_login_is_refused() {
    let (gateway, _) = start().await;
    for (body, name) in [
        ("", "username"),
        ("username=root", "password"),
        ("password=x", "username"),
        ("username=&password=x", "username"),
    ] {
        let told = form(&gateway, body).await.words(400);
        assert!(told.contains(&format!("`{name}`")), "{body}: {told}");
    }
    for content_type in ["text/plain", "multipart/form-data; boundary=x", ""] {
        let request = gateway.request("POST", LOGIN).header("content-type", content_type);
        assert_eq!(request.body("username=root&password=x").send().await.status, 415, "{content_type}");
    }
    assert_eq!(form(&gateway, &format!("username=root&password={}", "x".repeat(20_000))).await.status, 413);
    assert_eq!(form(&gateway, &format!("username=root&password={}", "x".repeat(5_000))).await.status, 401);
    let bad =
        gateway.request("POST", LOGIN).header("content-type", "application/json").body("{").send().await;
    assert_eq!(bad.status, 400);
    assert_eq!(gateway.request("GET", LOGIN).send().await.status, 405);
}

#[tokio::test]
async fn everybody_changes_its_own_password_and_nothing_else() {
    let (gateway, root) = start().await;
    add_user(&gateway, &root, "ann", "user").await;
    let ann = token(&gateway, "ann").await;
    let change = async |key: &str, body: Value| with(&gateway, key, "PATCH", "/api/v1/users/me", &body).await;
    let new = "another-password-1";
    for (body, words) in [
        (json!({"password": new}), "`current_password` is missing"),
        (json!({"password": new, "current_password": "wrong-password"}), "`current_password` is wrong"),
        (json!({"password": "short", "current_password": PASSWORD}), "password"),
        (json!({"password": new, "current_password": PASSWORD, "role": "admin"}), "no field `role`"),
    ] {
        let told = change(&ann, body.clone()).await.words(400);
        assert!(told.contains(words), "{body}: {told}");
    }
    let good = json!({"password": new, "current_password": PASSWORD});
    let (_, key) = add_key(&gateway, &ann, &json!({"name": "k"})).await;
    assert_eq!(
        change(&key, good.clone()).await.status,
        403,
        "a key that leaked must not change the password"
    );
    change(&ann, good).await.expect(200);
    assert_eq!(get(&gateway, &ann, TOOLS).await.status, 401, "the token ended with the password");
    get(&gateway, &key, TOOLS).await.expect(200);
    assert_eq!(form(&gateway, &format!("username=ann&password={PASSWORD}")).await.status, 401);
    form(&gateway, &format!("username=ann&password={new}")).await.expect(200);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_others_are_not() {
    let (gateway, root) = start().await;
    add_user(&gateway, &root, "ann", "user").await;
    // Names that somebody has and names that nobody has alike.
    for name in ["ann", "nobody"] {
        let mut refused = 0;
        let throttled = loop {
            let answer = form(&gateway, &format!("username={name}&password=guess-{refused}")).await;
            if answer.status == 429 {
                break answer;
            }
            assert_eq!(answer.status, 401, "{}", answer.text());
            refused += 1;
            assert!(refused < 20, "nobody slows this down");
        };
        let wait: u64 = throttled.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert!(throttled.words(429).contains("too many failed logins"));
    }
    token(&gateway, "root").await;
    let (folder, _keep) = (gateway.folder().to_owned(), gateway.again());
    gateway.stop().await;
    let logins: Vec<Value> = events(&folder).into_iter().filter(|event| event["action"] == "login").collect();
    let rules = |target: &str| -> Vec<Value> {
        logins.iter().filter(|event| event["target"] == target).map(|event| event["rule"].clone()).collect()
    };
    assert!(
        rules("user:2").contains(&json!("password")) && rules("user:2").contains(&json!("login_throttle"))
    );
    assert!(rules("unknown user").contains(&json!("login_throttle")));
    let good = logins.iter().find(|event| event["outcome"] == "success").unwrap();
    assert_eq!((&good["principal"], &good["name"]), (&json!("user:1"), &json!("root")));
    let text = std::fs::read_to_string(folder.join("data/audit/audit.jsonl")).unwrap();
    assert!(!text.contains("guess-") && !text.contains("nobody"), "{text}");
}
