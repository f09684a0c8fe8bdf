//! Which models there are and which one a request gets.

use serde_json::{Value, json};

use super::super::testing::{Upstream, completion, reply, request, request_id};
use super::super::{Config, ModelDirectory, ToolChoice, ToolMode};
use super::Models;
use crate::config::secret::Secret;

fn config(value: Value) -> Config {
    serde_json::from_value(value).unwrap()
}

fn no_env(_: &str) -> Option<Secret> {
    None
}

async fn ids(models: &Models) -> Vec<String> {
    models.list().await.into_iter().map(|model| model.id).collect()
}

fn ok() -> Vec<Vec<super::super::testing::Step>> {
    vec![reply(200, "", &completion("ok"))]
}

#[tokio::test]
async fn the_list_is_the_union_in_order() {
    let first = Upstream::new(Some(&["b", "org/a:free"]), ok()).await;
    let second = Upstream::new(Some(&["c", "b"]), ok()).await;
    let models = Models::new(
        config(json!({"upstreams": [
            {"name": "one", "base_url": first.url},
            {"name": "fixed", "base_url": "http://127.0.0.1:9/v1", "models": ["f"], "aliases": {"fast": "f"}},
            {"name": "two", "base_url": second.url},
            {"name": "dead", "base_url": "http://127.0.0.1:9/v1"}]})),
        no_env,
    )
    .unwrap();
    assert_eq!(ids(&models).await, ["b", "org/a:free", "f", "fast", "c"]);
    let list = models.list().await;
    assert_eq!((list[0].created, list[0].owned_by.as_str()), (7, "them"));
    assert_eq!((list[2].created, list[2].owned_by.as_str()), (0, "fixed"));
    let states = models.upstream_states();
    assert_eq!(states.iter().map(|s| s.models).collect::<Vec<_>>(), [2, 2, 2, 0]);
    assert_eq!(states[3].reachable, Some(false));
    assert!(states[3].last_error.as_deref().unwrap().contains("`dead`"));
    assert_eq!(states[1].reachable, None, "nobody needed its list");
    assert_eq!(models.probe().await[1].reachable, Some(false), "a probe asks all the same");
    assert_eq!(models.resolve("org/a:free").await.unwrap().id, "org/a:free");
    assert_eq!(models.resolve("").await.unwrap().id, "f", "a model that needs no list is there at once");
}

#[tokio::test]
async fn a_list_survives_its_upstream() {
    let up = Upstream::new(Some(&["a"]), ok()).await;
    let models =
        Models::new(config(json!({"upstreams": [{"name": "u", "base_url": up.url}]})), no_env).unwrap();
    assert_eq!(ids(&models).await, ["a"]);
    drop(up);
    models.shared.refresh().await;
    assert_eq!(ids(&models).await, ["a"]);
    assert_eq!(models.upstream_states()[0].reachable, Some(false));
}

#[tokio::test]
async fn an_alias_is_sent_as_what_it_stands_for() {
    let up = Upstream::new(None, ok()).await;
    let models = Models::new(
        config(json!({"upstreams": [{"name": "u", "base_url": up.url, "api_key_env": "KEY",
            "headers": {"x-org": "me"}, "models": ["real"], "aliases": {"nice": "real"}}]})),
        |name| (name == "KEY").then(|| Secret::from("sk-1")),
    )
    .unwrap();
    let model = models.resolve("nice").await.unwrap().model;
    model.complete(&request("hi", false), &request_id()).await.unwrap();
    let sent = &up.requests()[0];
    assert!(sent.contains(r#""model":"real""#), "{sent}");
    assert!(sent.contains("authorization: Bearer sk-1\r\n") && sent.contains("x-org: me\r\n"), "{sent}");
}

#[tokio::test]
async fn unknown_models_are_refused_answered_or_left_to_the_upstream() {
    let up = Upstream::new(Some(&["llama3:latest", "org/x"]), ok()).await;
    let with = |unknown: &str| {
        let config = config(json!({"unknown_model": unknown, "default_model": "org/x",
            "upstreams": [{"name": "u", "base_url": up.url}]}));
        Models::new(config, no_env).unwrap()
    };
    let models = with("auto");
    assert_eq!(models.list().await.len(), 2);
    let error = models.resolve("nope").await.err().unwrap();
    assert_eq!((error.status, error.code.as_deref()), (404, Some("model_not_found")));
    assert_eq!(models.resolve("llama3").await.unwrap().id, "llama3");
    assert_eq!(models.resolve("org/x:online").await.unwrap().id, "org/x:online");
    assert_eq!(with("default").resolve("nope").await.unwrap().id, "org/x");

    let silent = Upstream::new(None, ok()).await;
    let models =
        Models::new(config(json!({"upstreams": [{"name": "u", "base_url": silent.url}]})), no_env).unwrap();
    assert!(ids(&models).await.is_empty());
    assert_eq!(models.resolve("anything").await.unwrap().id, "anything", "it cannot list, so it decides");
    assert_eq!(models.resolve("").await.unwrap().id, "gpt-3.5-turbo");
}

#[tokio::test]
async fn the_environment_defines_an_upstream() {
    let up = Upstream::new(Some(&["a"]), ok()).await;
    let url = up.url.clone();
    let env = move |name: &str| match name {
        "OPENAI_API_KEY" => Some(Secret::from("sk-env")),
        "OPENAI_BASE_URL" => Some(Secret::from(url.as_str())),
        _ => None,
    };
    let models = Models::new(Config::default(), &env).unwrap();
    assert!(!models.is_demo());
    assert_eq!(models.upstream_states()[0].name, "openai");
    assert_eq!(models.resolve("").await.unwrap().id, "a");

    let own = json!({"upstreams": [{"name": "mine", "base_url": up.url, "api_key_env": "OPENAI_API_KEY"}]});
    let models = Models::new(config(own), &env).unwrap();
    assert_eq!(models.upstream_states().len(), 1, "a file that uses the key itself is not doubled");

    let only_key = |name: &str| (name == "OPENAI_API_KEY").then(|| Secret::from("sk"));
    let fixed = json!({"upstreams": [{"name": "x", "base_url": "http://127.0.0.1:9", "models": ["y"]}]});
    let models = Models::new(Config { models_refresh_s: 0, ..config(fixed) }, only_key).unwrap();
    assert_eq!(models.upstream_states()[0].base_url, "https://api.openai.com/v1");
}

#[tokio::test]
async fn without_upstreams_the_demo_answers_to_every_name() {
    let models =
        Models::new(config(json!({"default_model": "gpt-4", "models": {"demo": {"tools": "none"}}})), no_env)
            .unwrap();
    assert!(models.is_demo());
    assert_eq!(ids(&models).await, ["demo"]);
    for name in ["", "demo", "gpt-4"] {
        let model = models.resolve(name).await.unwrap();
        assert_eq!((model.id.as_str(), model.tools), ("demo", ToolChoice::None));
    }
    let strict = Models::new(config(json!({"unknown_model": "reject"})), no_env).unwrap();
    assert_eq!(strict.resolve("gpt-4").await.err().unwrap().status, 404);
}

#[tokio::test]
async fn tools_are_set_per_model() {
    let models = Models::new(
        config(json!({
            "upstreams": [{"name": "u", "base_url": "http://127.0.0.1:9", "models": ["a", "b"], "tool_mode": "text"}],
            "models": {"b": {"tool_mode": "native", "tools": ["x", "y"]}}})),
        no_env,
    )
    .unwrap();
    let (a, b) = (models.resolve("a").await.unwrap(), models.resolve("b").await.unwrap());
    assert_eq!((a.tool_mode, a.tools), (ToolMode::Text, ToolChoice::All));
    assert_eq!((b.tool_mode, b.tools), (ToolMode::Native, ToolChoice::Only(vec!["x".into(), "y".into()])));
}

#[tokio::test]
async fn faults_name_the_upstream_and_the_key() {
    let upstream = |fields: Value| {
        let mut upstream = json!({"name": "u", "base_url": "http://h/v1"});
        upstream.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        upstream
    };
    let cases = [
        (json!({"upstreams": [upstream(json!({"api_key_env": "NO_KEY"}))]}), ["`u`", "`NO_KEY`"]),
        (json!({"upstreams": [upstream(json!({})), upstream(json!({}))]}), ["`u`", "two upstreams"]),
        (json!({"upstreams": [upstream(json!({"base_url": "h:1/v1"}))]}), ["`u`", "`base_url`"]),
        (json!({"upstreams": [upstream(json!({"headers": {"a b": "x"}}))]}), ["`u`", "`a b`"]),
        (json!({"upstreams": [upstream(json!({"idle_timeout_ms": 0}))]}), ["`u`", "idle_timeout_ms"]),
        (json!({"upstreams": [upstream(json!({"name": " "}))]}), ["llm.upstreams", "`name`"]),
        (json!({"connect_timeout_ms": 0}), ["llm.connect_timeout_ms", "at least 1"]),
    ];
    for (value, parts) in cases {
        let error = Models::new(config(value), no_env).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let wrong = json!({"models": {"a": {"tools": "some"}}});
    let error = serde_json::from_value::<Config>(wrong).unwrap_err().to_string();
    assert!(error.contains("\"all\", \"none\" or a list of tool names"), "{error}");
}
