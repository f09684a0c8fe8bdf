//! The tool through the same door as the gateway, with servers that are made up.

use serde_json::{Value, json};
use witgate_plugin::http::{HttpError, Request, Response};
use witgate_plugin::tools::ContentBlock;
use witgate_plugin::{CallContext, ToolProvider, ToolResult, testing};

use super::FetchPage;

fn call(arguments: &Value) -> ToolResult {
    FetchPage::call(&CallContext::default(), "fetch_page", &arguments.to_string()).unwrap()
}

fn fetch(arguments: &Value) -> String {
    let result = call(arguments);
    assert!(!result.is_error, "{result:?}");
    text(result)
}

fn refused(arguments: &Value) -> String {
    let result = call(arguments);
    assert!(result.is_error, "{result:?}");
    text(result)
}

fn text(result: ToolResult) -> String {
    let mut content = result.content;
    let Some(ContentBlock::Text(text)) = content.pop() else { panic!("one text") };
    text
}

fn answer(content_type: &str, body: impl Into<Vec<u8>>) -> Response {
    let mut response = Response::new(200, body);
    if !content_type.is_empty() {
        response.headers.push(("content-type".into(), content_type.into()));
    }
    response
}

fn serve(answers: impl Fn(&Request) -> Result<Response, HttpError> + 'static) {
    testing::answer_http(answers);
}

#[test]
fn a_page_is_fetched_and_read() {
    serve(|request| {
        assert_eq!(request.method, "GET");
        assert_eq!(request.url, "https://example.com/a?q=1");
        assert!(
            request.headers.iter().any(|(name, value)| name == "user-agent" && value.starts_with("witgate"))
        );
        Ok(answer("text/html; charset=utf-8", "<title>T</title><h1>Head</h1><p>See <a href=b>b</a>"))
    });
    let url = "https://Example.com:443/a?q=1#part";
    assert_eq!(
        fetch(&json!({ "url": url })),
        "Title: T\nAddress: https://example.com/a?q=1\n\nHead\n\nSee b"
    );
    assert_eq!(
        fetch(&json!({ "url": url, "format": "markdown" })),
        "Title: T\nAddress: https://example.com/a?q=1\n\n# Head\n\nSee [b](https://example.com/b)"
    );
    assert!(fetch(&json!({ "url": url, "format": "html" })).ends_with("<h1>Head</h1><p>See <a href=b>b</a>"));
}

#[test]
fn long_texts_come_in_parts() {
    serve(|_| Ok(answer("text/plain", "größe ".repeat(10))));
    let url = "https://example.com/";
    assert_eq!(
        fetch(&json!({ "url": url, "max_chars": 5 })),
        "Address: https://example.com/\n\ngröße\n\n[characters 0 to 5 of 60; read on with start = 5]"
    );
    let last = fetch(&json!({ "url": url, "max_chars": 20, "start": 54 }));
    assert_eq!(last, "Address: https://example.com/\n\ngröße ");
    assert!(fetch(&json!({ "url": url, "start": 60 })).contains("the text has 60 characters"));
    serve(|request| {
        assert!(request.cut && request.max_bytes == 2 << 20);
        Ok(Response { was_cut: true, ..answer("text/plain", "begin") })
    });
    assert!(
        fetch(&json!({ "url": url })).ends_with(
            "begin\n\n[the page is longer than the gateway reads of a page; the rest is left out]"
        )
    );
}

#[test]
fn redirects_are_followed_and_each_is_asked_for() {
    serve(|request| {
        let redirect = |status, location: &str| {
            let mut response = Response::new(status, "");
            response.headers.push(("location".into(), location.into()));
            Ok(response)
        };
        match request.url.as_str() {
            "http://example.com/" => redirect(301, "https://example.com/new"),
            "https://example.com/new" => redirect(307, "//other.example/x?y"),
            "https://other.example/x?y" => Ok(answer("text/plain", "here")),
            "https://example.com/loop" => redirect(302, "loop"),
            "https://example.com/file" => redirect(302, "file:///etc/passwd"),
            "https://example.com/secret" => redirect(302, "https://user:pw@example.com/"),
            "https://example.com/inside" => redirect(302, "http://10.0.0.1/"),
            "https://example.com/broken" => redirect(302, "http://["),
            _ => Err(HttpError::Denied("the address is private".into())),
        }
    });
    assert_eq!(fetch(&json!({ "url": "http://example.com" })), "Address: https://other.example/x?y\n\nhere");
    for (path, why) in [
        ("loop", "redirects more than 5 times"),
        ("file", "only http and https can be fetched, not file"),
        ("secret", "user name or password"),
        (
            "inside",
            "10.0.0.1 may not be fetched: the address is private. The operator of the gateway can allow it with \"10.0.0.1:80\"",
        ),
        ("broken", "which is no address"),
    ] {
        let got = refused(&json!({ "url": format!("https://example.com/{path}") }));
        assert!(got.contains(why), "{got}");
    }
}

#[test]
fn only_texts_are_read() {
    let table: [(&'static str, &'static [u8], &str); 9] = [
        ("application/json", b"{\"a\":1}", "{\"a\":1}"),
        ("application/rss+xml", b"<rss/>", "<rss/>"),
        ("text/markdown", b"# a", "# a"),
        ("text/plain; charset=latin1", b"caf\xe9", "café"),
        ("", b" <p>guessed</p>", "guessed"),
        ("", b"words", "words"),
        ("text/html", b"<script>x</script>", "[the page has no text to read; its type is text/html]"),
        ("image/png", b"\x89PNG", "! https://example.com/ is image/png, which has no text to read"),
        ("", b"a\0b", "! https://example.com/ is binary data, which has no text to read"),
    ];
    for (content_type, body, expected) in table {
        serve(move |_| Ok(answer(content_type, body)));
        let result = call(&json!({ "url": "https://example.com/" }));
        let got = if result.is_error { format!("! {}", text(result)) } else { text(result) };
        assert!(got.ends_with(expected), "{content_type}: {got}");
    }
    serve(|_| {
        let mut response = answer("text/html", "x");
        response.headers.push(("content-encoding".into(), "gzip".into()));
        Ok(response)
    });
    assert!(refused(&json!({ "url": "https://example.com/" })).contains("compressed (gzip)"));
}

#[test]
fn failures_are_told_in_words() {
    serve(|_| Ok(Response { status: 404, ..answer("text/html", "<h1>Not here</h1>") }));
    let got = refused(&json!({ "url": "https://example.com/x" }));
    assert_eq!(got, "https://example.com/x answered with status 404:\nNot here");
    serve(|_| Err(HttpError::Timeout));
    assert!(refused(&json!({ "url": "https://example.com/" })).contains("within 15 seconds"));
    serve(|_| Err(HttpError::Failed("no such host".into())));
    assert!(
        refused(&json!({ "url": "https://example.com/" })).contains("could not be fetched: no such host")
    );
    for (url, why) in [
        ("example.com", "must begin with https://"),
        ("ftp://example.com/", "only http and https"),
        ("https://", "is no address"),
        ("https://a:b@example.com/", "user name or password"),
        ("https://bücher.example/", "in ASCII"),
        ("javascript:alert(1)", "only http and https"),
    ] {
        let got = refused(&json!({ "url": url }));
        assert!(got.contains(why), "{url}: {got}");
    }
}

#[test]
fn a_wrong_configuration_keeps_the_plugin_out() {
    for (config, expected) in [
        (r#"{ "max_bytes": 0 }"#, "`max_bytes`"),
        (r#"{ "max_chars": 9999999 }"#, "`max_chars`"),
        (r#"{ "timeout": 1 }"#, "unknown field `timeout`"),
        (r#"{ "user_agent": "a\nb" }"#, "`user_agent`"),
    ] {
        testing::set_config(config);
        let error = FetchPage::list().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    testing::set_config("{}");
    let tools = FetchPage::list().unwrap();
    assert_eq!(tools[0].name, "fetch_page");
    assert!(serde_json::from_str::<Value>(&tools[0].input_schema_json).unwrap().is_object());
}
