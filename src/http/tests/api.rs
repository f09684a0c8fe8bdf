//! The API without a network: routes, errors in both forms, headers, access, limits.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::fakes::{KEY, Setup};
use crate::access::ChatAccess;
use crate::http::{App, CorsConfig, Health, LimitsConfig, router};

pub(super) const HELLO: &str = r#"{"model":"hello","messages":[{"role":"user","content":"hi"}]}"#;

fn app() -> App {
    Setup::default().build().0
}

pub(super) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

pub(super) async fn send(app: &App, request: Request<Body>) -> Response {
    router(app).oneshot(request).await.unwrap()
}

pub(super) async fn read(response: Response) -> (StatusCode, HeaderMap, Value) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body)));
    (parts.status, parts.headers, value)
}

async fn get(app: &App, path: &str) -> (StatusCode, HeaderMap, Value) {
    read(send(app, request("GET", path, &[], Body::empty())).await).await
}

async fn post(app: &App, path: &str, body: &str) -> (StatusCode, HeaderMap, Value) {
    let headers = [("content-type", "application/json")];
    read(send(app, request("POST", path, &headers, body.to_owned())).await).await
}

/// The four keys of an OpenAI error.
pub(super) fn openai_error(body: &Value) -> &Value {
    for key in ["message", "type", "param", "code"] {
        assert!(body["error"].get(key).is_some(), "{key} is missing in {body}");
    }
    &body["error"]
}

#[tokio::test]
async fn says_hello_and_how_it_is() {
    let app = app();
    let (status, _, body) = get(&app, "/").await;
    assert_eq!((status, &body["name"]), (StatusCode::OK, &json!("witgate")));
    assert_eq!(body["links"]["chat_completions"], "/v1/chat/completions");
    assert_eq!(get(&app, "/healthz").await.0, 200);
    let (status, _, body) = get(&app, "/readyz").await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("ready")));
    assert_eq!(body["components"]["models"], json!({"status": "ready", "count": 1}));
}

#[tokio::test]
async fn degraded_is_ready_and_unavailable_is_not() {
    for (health, status) in [(Health::Degraded, 200), (Health::Unavailable, 503)] {
        let (app, _) = Setup { health, ..Setup::default() }.build();
        let (got, _, body) = get(&app, "/readyz").await;
        assert_eq!((got.as_u16(), &body["status"]), (status, &json!(health)));
    }
}

#[tokio::test]
async fn lists_models_and_finds_ids_with_slashes() {
    let app = app();
    let (_, _, body) = get(&app, "/v1/models").await;
    assert_eq!((&body["object"], &body["data"][1]["id"]), (&json!("list"), &json!("org/hello")));
    assert_eq!(get(&app, "/v1/models/org/hello").await.2["id"], "org/hello");
    assert_eq!(get(&app, "/v1/models/org%2Fhello").await.2["id"], "org/hello");
    let (status, _, body) = get(&app, "/v1/models/%ff").await;
    assert_eq!((status, &openai_error(&body)["param"]), (StatusCode::BAD_REQUEST, &json!("id")));
    let (status, _, body) = get(&app, "/v1/models/none").await;
    assert_eq!((status, &openai_error(&body)["code"]), (StatusCode::NOT_FOUND, &json!("model_not_found")));
}

#[tokio::test]
async fn completes_whole_and_streamed() {
    let app = app();
    let (status, headers, body) = post(&app, "/v1/chat/completions", HELLO).await;
    assert_eq!((status, &headers["content-type"]), (StatusCode::OK, &"application/json".parse().unwrap()));
    assert_eq!(body["choices"][0]["message"]["content"], "hello");

    let streamed = HELLO.replace("\"model\"", "\"stream\":true,\"model\"");
    let (status, headers, body) = post(&app, "/v1/chat/completions", &streamed).await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-cache");
    assert_eq!(headers["x-accel-buffering"], "no");
    let text = body.as_str().unwrap();
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains(r#""content":"hello""#), "{text}");
    assert!(text.split_terminator("\n\n").all(|event| event.starts_with("data: ")), "{text}");
}

#[tokio::test]
async fn a_stream_that_fails_later_ends_with_an_error_and_not_with_done() {
    let app = app();
    let body = HELLO.replace("\"hello\"", "\"cut\",\"stream\":true");
    let (status, _, body) = post(&app, "/v1/chat/completions", &body).await;
    let text = body.as_str().unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let error: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((status, &openai_error(&error)["type"]), (StatusCode::OK, &json!("upstream_error")));
    assert!(!text.contains("[DONE]"));
}

#[tokio::test]
async fn chats_whole_and_streamed() {
    let app = app();
    let (status, _, body) = post(&app, "/chat", r#"{"message":"hi"}"#).await;
    assert_eq!((status, &body["response"]), (StatusCode::OK, &json!("hello")));
    assert!(body["session_id"].as_str().unwrap().starts_with("ses_"));
    assert_eq!(body.as_object().unwrap().len(), 2);

    let (_, headers, body) = post(&app, "/chat", r#"{"message":"hi","stream":true}"#).await;
    assert_eq!(headers["content-type"], "text/event-stream");
    let text = body.as_str().unwrap();
    assert!(text.starts_with("event: delta\ndata: {\"text\":\"hello\"}\n\nevent: done\ndata: {"), "{text}");

    let (_, _, body) = post(&app, "/chat", r#"{"message":"hi","stream":true,"model":"cut"}"#).await;
    assert!(
        body.as_str().unwrap().ends_with("event: error\ndata: {\"detail\":\"the upstream broke off\"}\n\n")
    );
}

#[tokio::test]
async fn sessions_are_paged_and_unknown_ones_are_not_found() {
    let app = app();
    assert_eq!(get(&app, "/chat/sessions").await.2, json!({"sessions": [], "next_offset": 50}));
    assert_eq!(get(&app, "/chat/sessions?limit=2&offset=3").await.2["next_offset"], 5);
    for query in ["limit=0", "limit=201", "limit=x", "offset=-1"] {
        assert_eq!(get(&app, &format!("/chat/sessions?{query}")).await.0, 400, "{query}");
    }
    for method in ["GET", "DELETE"] {
        for id in ["ses_x", "%2e%2e", "a%20b"] {
            let path = format!("/chat/sessions/{id}");
            let (status, _, body) = read(send(&app, request(method, &path, &[], "")).await).await;
            assert_eq!(status, 404, "{path}");
            assert!(body["detail"].as_str().unwrap().contains("no such session"));
        }
    }
    assert_eq!(post(&app, "/chat", r#"{"message":"hi","session_id":"ses_x"}"#).await.0, 404);
}

#[tokio::test]
async fn errors_speak_the_language_of_their_path() {
    let app = app();
    let (status, _, body) = get(&app, "/nowhere?apikey=secret").await;
    assert_eq!((status, body.as_object().unwrap().len()), (StatusCode::NOT_FOUND, 1));
    assert!(!body["detail"].as_str().unwrap().contains("secret"));
    let (status, headers, body) = get(&app, "/v1/nowhere").await;
    assert_eq!((status, &openai_error(&body)["code"]), (StatusCode::NOT_FOUND, &json!("unknown_url")));
    assert_eq!(headers["content-type"], "application/json");

    let (status, headers, body) = get(&app, "/v1/chat/completions").await;
    assert_eq!((status, &headers["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap()));
    assert_eq!(openai_error(&body)["code"], "method_not_allowed");
    let (status, headers, body) = post(&app, "/readyz", "{}").await;
    assert_eq!((status, &headers["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"GET,HEAD".parse().unwrap()));
    assert!(body["detail"].is_string());
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let app = app();
    let (status, _, body) = post(&app, "/v1/chat/completions", r#"{"model":"hello","messages":[]}"#).await;
    assert_eq!((status, &openai_error(&body)["param"]), (StatusCode::BAD_REQUEST, &json!("messages")));
    let (status, _, body) = post(&app, "/v1/chat/completions", &HELLO.replace("hello", "none")).await;
    assert_eq!((status, &openai_error(&body)["code"]), (StatusCode::NOT_FOUND, &json!("model_not_found")));
    let (status, headers, body) =
        post(&app, "/v1/chat/completions", &HELLO.replace("hello", "limited")).await;
    assert_eq!((status, &headers["retry-after"]), (StatusCode::TOO_MANY_REQUESTS, &"7".parse().unwrap()));
    assert_eq!(openai_error(&body)["type"], "tokens");
    assert_eq!(post(&app, "/chat", r#"{"message":7}"#).await.0, 400);
}

#[tokio::test]
async fn only_json_is_taken_and_not_too_much_of_it() {
    let limits = LimitsConfig { max_body_bytes: 100, ..LimitsConfig::default() };
    let (app, _) = Setup { limits, ..Setup::default() }.build();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let (status, _, body) = read(send(&app, request("POST", "/chat", &form, "{}")).await).await;
    assert_eq!(status, 415);
    assert!(body["detail"].as_str().unwrap().contains("-H 'content-type: application/json'"), "{body}");

    let (status, headers, body) = post(&app, "/v1/chat/completions", &" ".repeat(101)).await;
    assert_eq!(
        (status, &openai_error(&body)["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("request_too_large"))
    );
    assert_eq!(headers["connection"], "close");
    // Without a length, the size shows only while reading.
    let frames =
        futures_util::stream::iter([1, 2].map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 60]))));
    let json = [("content-type", "application/json")];
    let unsized_body = Body::from_stream(frames);
    assert_eq!(send(&app, request("POST", "/chat", &json, unsized_body)).await.status(), 413);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let app = app();
    let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let json = [("content-type", "application/json")];
    assert_eq!(send(&app, request("POST", "/chat", &json, never)).await.status(), 408);
}

#[tokio::test]
async fn keys_are_asked_for_where_they_are_required() {
    let (app, _) = Setup { access: ChatAccess::Required, ..Setup::default() }.build();
    for (path, code) in [("/v1/models", Some("missing_api_key")), ("/chat/sessions", None)] {
        let (status, headers, body) = get(&app, path).await;
        assert_eq!(status, 401);
        assert!(headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        match code {
            Some(code) => assert_eq!(openai_error(&body)["code"], code),
            None => assert!(body["detail"].is_string()),
        }
    }
    let with = |name: &'static str, value: String| {
        let app = app.clone();
        async move { send(&app, request("GET", "/v1/models", &[(name, &value)], "")).await.status() }
    };
    assert_eq!(with("authorization", format!("Bearer {KEY}")).await, 200);
    assert_eq!(with("x-api-key", KEY.to_owned()).await, 200);
    assert_eq!(with("authorization", "Bearer wrong".to_owned()).await, 401);
    assert_eq!(get(&app, "/healthz").await.0, 200, "probes have no key");
    // Before the body is looked at, so that strangers cannot make the gateway read.
    assert_eq!(send(&app, request("POST", "/chat", &[], "x")).await.status(), 401);
}

#[tokio::test]
async fn every_response_has_a_request_id() {
    let app = app();
    let id = async |method: &str, path: &str, sent: &str| {
        let response = send(&app, request(method, path, &[("x-request-id", sent)], "")).await;
        response.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(id("GET", "/", "mine-1").await, "mine-1");
    assert_eq!(id("GET", "/v1/nowhere", "mine-2").await, "mine-2");
    assert_eq!(id("OPTIONS", "/chat", "mine-3").await, "mine-3");
    assert!(id("GET", "/", "not sane").await.starts_with("req_"));
    assert_ne!(id("GET", "/", "").await, id("GET", "/", "").await);
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing() {
    let app = app();
    let (status, headers, body) = post(&app, "/v1/chat/completions", &HELLO.replace("hello", "panics")).await;
    assert_eq!(
        (status, &openai_error(&body)["type"]),
        (StatusCode::INTERNAL_SERVER_ERROR, &json!("server_error"))
    );
    assert!(headers.contains_key("x-request-id") && !body.to_string().contains("secret"));
    assert_eq!(get(&app, "/v1/models").await.0, 200);
}

#[tokio::test]
async fn any_page_may_call_but_not_with_cookies() {
    let app = app();
    let preflight = [
        ("origin", "https://page.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let (status, headers, _) = read(send(&app, request("OPTIONS", "/chat", &preflight, "")).await).await;
    assert_eq!(status, 200);
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["access-control-allow-headers"], "authorization,content-type");
    assert!(!headers.contains_key("access-control-allow-credentials"));
    // Errors too, or the page could not read them.
    let response = send(&app, request("GET", "/v1/nowhere", &preflight[..1], "")).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert!(response.headers()["access-control-expose-headers"].to_str().unwrap().contains("x-request-id"));
}

#[tokio::test]
async fn named_origins_keep_others_out() {
    let allow_origins = vec!["https://a.example".to_owned()];
    let cors = CorsConfig { allow_origins, allow_credentials: true, ..CorsConfig::default() };
    let (app, _) = Setup { cors, ..Setup::default() }.build();
    for (origin, allowed) in [("https://a.example", true), ("https://b.example", false)] {
        let response = send(&app, request("GET", "/v1/models", &[("origin", origin)], "")).await;
        let shown = response.headers().get("access-control-allow-origin");
        assert_eq!(shown.is_some_and(|shown| shown == origin), allowed, "{origin}");
    }
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused_until_one_is_over() {
    let limits = LimitsConfig { max_in_flight: 1, ..LimitsConfig::default() };
    let (app, slow) = Setup { limits, ..Setup::default() }.build();
    let streamed = HELLO.replace("\"hello\"", "\"slow\",\"stream\":true");
    let json = [("content-type", "application/json")];
    let running = send(&app, request("POST", "/v1/chat/completions", &json, streamed)).await;
    assert_eq!(running.status(), 200);

    let (status, headers, body) = get(&app, "/v1/models").await;
    assert_eq!(
        (status, &openai_error(&body)["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("overloaded"))
    );
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(get(&app, "/healthz").await.0, 200, "probes are never refused");

    slow.wait_running(1).await;
    drop(running);
    slow.wait_running(0).await;
    assert_eq!(get(&app, "/v1/models").await.0, 200);
}

#[tokio::test]
async fn a_stopping_gateway_takes_no_work() {
    let app = app();
    app.start_draining();
    let (status, headers, body) = post(&app, "/v1/chat/completions", HELLO).await;
    assert_eq!((status, &openai_error(&body)["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("draining")));
    assert_eq!(
        (&headers["connection"], &headers["retry-after"]),
        (&"close".parse().unwrap(), &"2".parse().unwrap())
    );
    let (status, _, body) = get(&app, "/readyz").await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("draining")));
    assert_eq!(get(&app, "/healthz").await.0, 200);
    assert!(app.idle(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let response = send(&app(), request(Method::HEAD.as_str(), "/v1/models", &[], "")).await;
    let (status, _, body) = read(response).await;
    assert_eq!((status, body), (StatusCode::OK, Value::from("")));
}

#[tokio::test]
async fn only_turns_with_tools_wait_for_tools() {
    let (settled, tools_settled) = tokio::sync::watch::channel(false);
    let (app, _) = Setup { tools_settled, ..Setup::default() }.build();
    assert_eq!(get(&app, "/v1/models").await.0, 200);
    let json = ("content-type", "application/json");
    let without = request("POST", "/v1/chat/completions", &[json, ("x-gateway-tools", "none")], HELLO);
    assert_eq!(send(&app, without).await.status(), 200);

    let mut waiting = Box::pin(post(&app, "/v1/chat/completions", HELLO));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    settled.send_replace(true);
    assert_eq!(waiting.await.0, 200);
}
