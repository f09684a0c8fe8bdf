//! What is hidden, and what is left alone.

use serde_json::json;

use super::*;

fn redactor(config: &Config) -> Redactor {
    Redactor::new(config, vec![Secret::new("known-to-the-gateway"), Secret::new("abc")])
}

fn clean(arguments: &Value) -> Value {
    redactor(&Config::default()).arguments(&arguments.to_string()).unwrap()
}

#[test]
fn keys_that_name_secrets() {
    for key in [
        "password",
        "Password",
        "user_password",
        "dbPassword",
        "DB_PASSWD",
        "apiKey",
        "api-key",
        "APIKEY",
        "key",
        "x-api-key",
        "Authorization",
        "cookie",
        "Set-Cookie",
        "accessToken",
        "refresh_token",
        "clientSecret",
        "private_key",
        "pin",
    ] {
        assert_eq!(clean(&json!({ key: {"a": ["v"]} })), json!({ key: HIDDEN }), "{key}");
    }
    for key in ["query", "monkey", "keyword", "author", "passenger", "compass", "pinned", "title"] {
        assert_eq!(clean(&json!({ key: "v" })), json!({ key: "v" }), "{key}");
    }
    assert_eq!(clean(&json!({"password": null})), json!({"password": null}));
}

#[test]
fn pairs_and_command_lines() {
    let sent = json!({
        "headers": [{"name": "X-Api-Key", "value": "v"}, {"name": "accept", "value": "text"}],
        "env": [{"key": "DB_PASSWORD", "value": "v"}, {"key": "LANG", "value": "C"}, {"Key": "token", "Value": 1}],
        "args": ["run", "--password", "v", "--user", "ann", "--token", "--verbose", "x"],
        "command": "mysql --user ann --password hunter2 --verbose",
    });
    let expected = json!({
        "headers": [{"name": "X-Api-Key", "value": HIDDEN}, {"name": "accept", "value": "text"}],
        "env": [
            {"key": HIDDEN, "value": HIDDEN}, {"key": HIDDEN, "value": "C"}, {"Key": HIDDEN, "Value": HIDDEN},
        ],
        "args": ["run", "--password", HIDDEN, "--user", "ann", "--token", HIDDEN, "x"],
        "command": format!("mysql --user ann --password {HIDDEN} --verbose"),
    });
    assert_eq!(clean(&sent), expected);
}

#[test]
fn targets_are_names_or_addresses() {
    let target = |text: &str| redactor(&Config::default()).target(text);
    for plain in ["key:a1b2", "read_query", "GET /api/v1/keys", "db://files/x?page=2"] {
        assert_eq!(target(plain), plain);
    }
    assert_eq!(target("db://files/x?token=abc"), format!("db://files/x?token={HIDDEN}"));
    assert_eq!(target("db://ann:pw@files/x"), format!("db://{HIDDEN}@files/x"));
}

#[test]
fn rules_are_keys_or_ends_of_paths() {
    let redact = ["query", "*.email", "User.Phone", "x_*_y"].map(str::to_owned).to_vec();
    let redactor = redactor(&Config { redact, ..Config::default() });
    let sent = json!({
        "query": "q", "email": "stays", "phone": "stays", "x_1_y": 1, "x_y": 2,
        "user": {"email": "e", "phone": "p", "list": [{"email": "e"}]},
    });
    let expected = json!({
        "query": HIDDEN, "email": "stays", "phone": "stays", "x_1_y": HIDDEN, "x_y": 2,
        "user": {"email": HIDDEN, "phone": HIDDEN, "list": [{"email": HIDDEN}]},
    });
    assert_eq!(redactor.arguments(&sent.to_string()).unwrap(), expected);
}

/// A list of secrets in every place that a caller may put one: none of them comes through.
#[test]
fn no_secret_of_the_list_comes_through() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl-_x";
    let named = ["hunter2-hunter2", "p\u{e4}sswort", "tr0ub4dor&3", "0000", "correct horse"];
    let shaped = [
        "wg_0123456789abcdefABCDEF",
        "sk-proj-abcdefghijklmnop",
        "ghp_0123456789abcdefghij",
        jwt,
        "known-to-the-gateway",
    ];
    let wrap = |value: Value| json!({"a": [value.clone(), {"b": value.clone()}], "c": json!({"deep": {"er": value}}).to_string()});
    for secret in named {
        for key in ["password", "token", "my_secret", "API-Key", "authorization"] {
            let plain = json!({ key: secret });
            let twice = json!(json!({ key: secret }).to_string());
            let in_words = [format!("{key}: \"{secret}\""), format!("set {key} = '{secret}' now")];
            for value in [plain, twice].into_iter().chain(in_words.map(Value::from)) {
                let shown = clean(&wrap(value.clone())).to_string();
                let tail = secret.split(' ').next_back().unwrap();
                assert!(
                    !shown.contains(secret) && !shown.contains(tail),
                    "{secret} in {key}, {value}: {shown}"
                );
            }
        }
    }
    for secret in shaped {
        for text in [
            secret.to_owned(),
            format!("use {secret}, please"),
            format!("\u{201c}{secret}\u{201d}"),
            format!("https://h/?x={secret}&y=1"),
            format!("Bearer {secret}"),
            format!("[{secret}"),
        ] {
            for value in [json!({ "note": text }), json!({ text.clone(): 1 }), json!([text])] {
                let shown = clean(&wrap(value)).to_string();
                assert!(!shown.contains(secret), "{text}: {shown}");
            }
        }
    }
}

#[test]
fn secrets_in_running_text() {
    for (text, expected) in [
        ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
        ("authorization: basic dTpw end", "authorization: basic [redacted] end"),
        ("bearer xyz", "bearer [redacted]"),
        ("/x?apikey=abc&y=1", "/x?apikey=[redacted]&y=1"),
        ("postgres://u:p@ss@host/db", "postgres://[redacted]@host/db"),
        ("https://host/a:b@c", "https://host/a:b@c"),
        ("WHERE password='a b' AND x=1", "WHERE password='[redacted]' AND x=1"),
        ("the key to success is task-force-one", "the key to success is task-force-one"),
        ("https://host:80/eyJ", "https://host:80/eyJ"),
        ("-----BEGIN PRIVATE KEY-----\nabc", HIDDEN),
        ("token", "token"),
        ("token: ", "token: "),
        ("\u{6d41}\u{6d6a}\u{5730}\u{7403}", "\u{6d41}\u{6d6a}\u{5730}\u{7403}"),
    ] {
        assert_eq!(redactor(&Config::default()).text(text), expected);
    }
}

#[test]
fn names_are_no_secrets_unless_they_look_like_one() {
    let redactor = redactor(&Config::default());
    for (name, shown) in [
        ("key:a1b2c3d4e5f6", "key:a1b2c3d4e5f6"),
        ("/api/v1/keys/wg_0123456789ab", "/api/v1/keys/[redacted]"),
    ] {
        assert_eq!(redactor.name(name), shown);
    }
}

#[test]
fn long_and_broken_arguments() {
    let cut = clean(&json!({"text": "\u{e4}".repeat(300)}));
    assert_eq!(cut["text"], format!("{}... [300 characters]", "\u{e4}".repeat(256)));
    let redactor = redactor(&Config::default());
    assert_eq!(redactor.arguments("{\"password\": \"x\"").unwrap(), json!("[16 bytes left out]"));
    assert_eq!(redactor.arguments(" ").unwrap(), json!({}));
    let many = json!((0..20_000).collect::<Vec<_>>()).to_string();
    assert_eq!(redactor.arguments(&many).unwrap(), json!(format!("[{} bytes left out]", many.len())));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(redactor.arguments(&deep).unwrap(), json!(format!("[{} bytes left out]", deep.len())));
}

#[test]
fn other_modes() {
    let of = |arguments| redactor(&Config { arguments, ..Config::default() });
    assert_eq!(of(ArgumentMode::None).arguments("{\"a\":1}"), None);
    assert_eq!(of(ArgumentMode::Full).arguments("{\"password\":1}"), Some(json!({"password": 1})));
    assert_eq!(of(ArgumentMode::Full).arguments("{"), Some(json!("{")));
}

#[test]
fn what_is_cut_shows_no_half_of_a_secret() {
    let redactor = redactor(&Config::default());
    let secrets = [
        ("known-to-the-gateway", "known-to"),
        ("wg_0123456789abcdefABCDEF", "0123"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl-_x", "eyJhbGci"),
        ("postgres://ann:hunter2-hunter2@files/x", "hunter2"),
        ("password = 'correct horse battery'", "correct"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq", "MIIEv"),
    ];
    // Before it stands what stays as long as it is, what gets shorter, or what gets longer.
    for before in ["plain text ", "wg_ABCDEFABCDEFABCDEFABCDEF ", "known-to-the-gateway ", "key=a,"] {
        for (secret, part) in secrets {
            for end in [MAX_TEXT_BYTES, KEPT_TEXT_BYTES] {
                for inside in 0..=secret.len() {
                    let room = end - inside - 1;
                    let before = format!("{:.<room$}", before.repeat(room / before.len()));
                    let mut text = format!("{before} {secret} {}", "and so on ".repeat(KEPT_TEXT_BYTES / 10));
                    // As the queue has it.
                    text.truncate(KEPT_TEXT_BYTES);
                    let shown = redactor.text(&text);
                    let place = format!("{inside} of {secret:?} before {end}, behind {before:?}");
                    assert!(!shown.replace("known-to-the-gateway", "").contains(part), "{place}: {shown}");
                    assert!(
                        shown.len() <= MAX_TEXT_BYTES + 9 && shown.ends_with("... [cut]"),
                        "{place}: {shown}"
                    );
                }
            }
        }
    }
    let plain = "\u{e4}".repeat(MAX_TEXT_BYTES / 2);
    assert_eq!(redactor.name(&plain), plain);
    assert_eq!(redactor.name(&format!("x{plain}y")), format!("x{}... [cut]", &plain[2..]));
}

/// Looking twice at what follows would take an hour here.
#[test]
fn a_text_is_read_once() {
    let length = 2 * 1024 * 1024;
    for (part, shown) in [
        ("key=a,", "key=[redacted],"),
        ("eyJ", "eyJ"),
        ("token ", "token "),
        ("a://b:c", "a://b:c"),
        ("key: bearer\t", "key: bearer\t[redacted] bearer\t"),
    ] {
        let text = part.repeat(length / part.len());
        let clean = shapes::hide(&text, usize::MAX);
        assert!(clean.starts_with(shown), "{}", &clean[..100]);
    }
}
