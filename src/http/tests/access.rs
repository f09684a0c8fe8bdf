//! The access chain at the edge: every endpoint asks it, refusals have their form, and bodies fit their digests.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::api::{HELLO, openai_error, read, request, send};
use super::fakes::{KEY, Setup};
use crate::access::{AuthPolicy, ChatAccess, PolicyError};
use crate::domain::{AccessAction, AccessRequest, Decision, Denial, Principal, PrincipalKind};
use crate::http::App;
use crate::http::caller::Operator;

/// Does what the header `x-test` says, and remembers what it was asked.
#[derive(Clone, Default)]
pub(super) struct Obedient(Arc<Mutex<Vec<AccessRequest>>>);

#[async_trait]
impl AuthPolicy for Obedient {
    fn name(&self) -> &str {
        "obedient"
    }

    fn order(&self) -> i64 {
        0
    }

    async fn authorize(&self, request: &AccessRequest) -> Result<Decision, PolicyError> {
        self.0.lock().unwrap().push(request.clone());
        let headers = &request.http.as_ref().unwrap().headers;
        let wish = headers.iter().find(|(name, _)| name == "x-test").map(|(_, value)| value.as_str());
        let (action, wish) = wish.unwrap_or_default().split_once(' ').unwrap_or_default();
        let is_meant = match request.action {
            AccessAction::Endpoint => action == "endpoint",
            AccessAction::Model(_) => action == "model",
            AccessAction::Tool { .. } => action == "tool",
        };
        let principal = |scopes: &[&str]| {
            let mut principal = Principal::new("bob", PrincipalKind::User);
            principal.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
            Ok(Decision::Allow(Some(principal)))
        };
        match wish {
            _ if !is_meant => Ok(Decision::Abstain),
            "fail" => Err(PolicyError::new("inner words")),
            "bob" => principal(&[]),
            "operator" => principal(&["plugins"]),
            status => Ok(Decision::Deny(Denial {
                status: status.parse().unwrap(),
                reason: "not today".to_owned(),
                policy: String::new(),
            })),
        }
    }
}

impl Obedient {
    fn asked(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn app(access: ChatAccess) -> (App, Obedient) {
    let policy = Obedient::default();
    let policies: Vec<Arc<dyn AuthPolicy>> = vec![Arc::new(policy.clone())];
    (Setup { access, policies, ..Setup::default() }.build().0, policy)
}

/// Every endpoint that there is, but for those that are open to probes.
const ENDPOINTS: [(&str, &str); 7] = [
    ("POST", "/chat"),
    ("GET", "/chat/sessions"),
    ("GET", "/chat/sessions/ses_1"),
    ("DELETE", "/chat/sessions/ses_1"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/hello"),
    ("POST", "/v1/chat/completions"),
];

#[tokio::test]
async fn every_endpoint_asks_and_refuses_in_its_own_form() {
    let (app, policy) = app(ChatAccess::Open);
    for (at, (method, path)) in ENDPOINTS.into_iter().enumerate() {
        for (wish, status, words) in [
            ("endpoint 401", 401, "not today"),
            ("endpoint 403", 403, "not today"),
            ("endpoint 404", 404, "not today"),
            ("endpoint 429", 429, "not today"),
            ("endpoint fail", 503, "the access policy `obedient` failed; try again or ask the operator"),
        ] {
            // A body that would be refused, had anybody looked at it.
            let sent = request(method, path, &[("x-test", wish)], "no json");
            let (got, headers, body) = read(send(&app, sent).await).await;
            assert_eq!(got, status, "{method} {path} {wish}: {body}");
            let message = if path.starts_with("/v1/") {
                let code = if status == 503 { "access_policy_failed" } else { "access_denied" };
                assert_eq!(openai_error(&body)["code"], code);
                &body["error"]["message"]
            } else {
                &body["detail"]
            };
            assert_eq!(message, words);
            assert_eq!(headers.contains_key("www-authenticate"), status == 401);
            assert_eq!(headers.contains_key("retry-after"), matches!(status, 429 | 503));
        }
        assert_eq!(policy.asked(), (at + 1) * 5);
    }
}

#[tokio::test]
async fn probes_and_unknown_places_ask_nobody() {
    let (app, policy) = app(ChatAccess::Required);
    for (path, status) in [("/", 200), ("/healthz", 200), ("/readyz", 200), ("/nowhere", 404), ("/v1/x", 404)]
    {
        let response = send(&app, request("GET", path, &[("x-test", "endpoint 403")], "")).await;
        assert_eq!(response.status(), status, "{path}");
    }
    assert_eq!(policy.asked(), 0);
}

#[tokio::test]
async fn a_policy_can_authenticate_where_a_key_is_required() {
    let (app, policy) = app(ChatAccess::Required);
    let get = |headers: Vec<(&'static str, &'static str)>| {
        let sent = request("GET", "/v1/models?apikey=k", &headers, "");
        let app = app.clone();
        async move { send(&app, sent).await.status() }
    };
    assert_eq!(get(vec![]).await, 401);
    assert_eq!(get(vec![("x-test", "endpoint bob")]).await, 200);
    assert_eq!(get(vec![("x-test", "endpoint bob"), ("authorization", "Bearer theirs")]).await, 200);
    let asked = policy.0.lock().unwrap();
    let http = asked[2].http.as_ref().unwrap();
    assert_eq!((http.method.as_str(), http.path.as_str()), ("GET", "/v1/models"));
    assert_eq!(http.query.as_deref(), Some("apikey=k"));
    assert!(asked.iter().all(|asked| asked.principal.is_none() && asked.action == AccessAction::Endpoint));
}

#[tokio::test]
async fn the_model_is_decided_on_by_its_own_name() {
    let (app, policy) = app(ChatAccess::Open);
    let ask = |wish: &'static str| {
        let body = HELLO.replace("\"hello\"", "\"\"");
        let headers = [("content-type", "application/json"), ("x-test", wish)];
        let sent = request("POST", "/v1/chat/completions", &headers, body);
        let app = app.clone();
        async move { read(send(&app, sent).await).await }
    };
    assert_eq!(ask("endpoint bob").await.0, 200);
    {
        let asked = policy.0.lock().unwrap();
        assert_eq!(asked[1].action, AccessAction::Model("hello".to_owned()), "the default model's own name");
        assert_eq!(asked[1].principal.as_ref().unwrap().id, "obedient:bob");
    }
    let (status, _, body) = ask("model 403").await;
    assert_eq!((status.as_u16(), &openai_error(&body)["code"]), (403, &json!("access_denied")));
    assert_eq!(ask("model 404").await.0, 404);
    assert_eq!(ask("model fail").await.0, 503);
    let headers = [("content-type", "application/json"), ("x-test", "model 403")];
    let (status, _, body) =
        read(send(&app, request("POST", "/chat", &headers, r#"{"message":"x"}"#)).await).await;
    assert_eq!((status.as_u16(), &body["detail"]), (403, &json!("not today")));
}

#[tokio::test]
async fn operators_are_always_authenticated() {
    async fn ask(setup: Setup, headers: &[(&str, &str)], query: &str) -> (u16, Value) {
        let (app, _) = setup.build();
        let router = Router::new()
            .route("/api/v1/test", get(async |operator: Operator| operator.0.principal().id.clone()))
            .layer(axum::middleware::from_fn(crate::http::middleware::errors::render))
            .with_state(app);
        let mut sent = Request::get(format!("/api/v1/test{query}"));
        for (name, value) in headers {
            sent = sent.header(*name, *value);
        }
        let response = router.oneshot(sent.body(Body::empty()).unwrap()).await.unwrap();
        let (status, _, body) = read(response).await;
        (status.as_u16(), body)
    }
    let obedient = || -> Vec<Arc<dyn AuthPolicy>> { vec![Arc::new(Obedient::default())] };
    let setup = || Setup { policies: obedient(), ..Setup::default() };
    assert_eq!(ask(setup(), &[], "").await.0, 401);
    assert_eq!(ask(setup(), &[("x-api-key", "wrong")], "").await.0, 401);
    assert_eq!(ask(setup(), &[("x-api-key", KEY)], "").await, (200, json!("key:static")));
    let bearer = format!("Bearer {KEY}");
    assert_eq!(ask(setup(), &[("authorization", &bearer)], "").await.0, 200);
    assert_eq!(ask(setup(), &[], &format!("?apikey={KEY}")).await.0, 200);
    assert_eq!(ask(setup(), &[("x-test", "endpoint operator")], "").await, (200, json!("obedient:bob")));
    let (status, body) = ask(setup(), &[("x-test", "endpoint bob")], "").await;
    assert_eq!(status, 403);
    assert!(body["detail"].as_str().unwrap().contains("`plugins`"), "{body}");
    assert_eq!(ask(setup(), &[("x-test", "endpoint 404"), ("x-api-key", KEY)], "").await.0, 404);

    let (status, body) = ask(Setup { has_key: false, ..Setup::default() }, &[("x-api-key", KEY)], "").await;
    assert_eq!(status, 401);
    assert!(body["detail"].as_str().unwrap().contains("is not valid"), "{body}");
}

#[tokio::test]
async fn bodies_must_fit_their_digests() {
    let (app, _) = Setup::default().build();
    // Of `{"message":"hi"}`, by `openssl dgst -sha256 -binary | base64`.
    let message = r#"{"message":"hi"}"#;
    let fits = "sha-256=:rb2YK4/gu9hHfwkmICjTrCZAAdw248dXmQXnLAtxh1U=:";
    let of_nothing = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    for (method, path, body, digest, status) in [
        ("POST", "/chat", message, fits, 200),
        ("POST", "/chat", message, of_nothing, 400),
        ("POST", "/chat", message, "sha-256=abc", 400),
        ("POST", "/chat", message, "md5=:AA==:", 200),
        ("POST", "/v1/chat/completions", HELLO, fits, 400),
        ("GET", "/v1/models", "", of_nothing, 200),
        ("GET", "/v1/models", "", fits, 400),
        ("DELETE", "/chat/sessions/ses_1", "", fits, 400),
    ] {
        let headers = [("content-type", "application/json"), ("content-digest", digest)];
        let (got, _, answer) = read(send(&app, request(method, path, &headers, body)).await).await;
        assert_eq!(got, status, "{method} {path} {digest}: {answer}");
        if path.starts_with("/v1") && status == 400 {
            assert_eq!(openai_error(&answer)["param"], "content-digest");
        }
    }
}
