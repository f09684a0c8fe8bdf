//! Second tries and failover, against scripted upstreams.

use std::time::Duration;

use super::super::testing::{
    LIMIT, Step, Upstream, chunk, completion, config, events, models, reply, request, request_id,
};
use super::super::{Config, ModelDirectory, ModelError, Models};
use super::{Health, Policy};

async fn ask(models: &Models) -> Result<String, ModelError> {
    let model = models.resolve("m").await.unwrap().model;
    let reply =
        tokio::time::timeout(LIMIT, model.complete(&request("hi", false), &request_id())).await.unwrap()?;
    Ok(reply.choices[0].content.clone().unwrap())
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/v1", listener.local_addr().unwrap())
}

#[tokio::test]
async fn passing_failures_are_tried_again() {
    for failure in [
        reply(500, "", "{}"),
        reply(429, "retry-after: 0\r\n", "{}"),
        reply(409, "", "{}"),
        reply(400, "x-should-retry: true\r\n", "{}"),
        reply(200, "", r#"{"error":{"message":"x","code":503}}"#),
        vec![],
    ] {
        let up = Upstream::new(None, vec![failure.clone(), reply(200, "", &completion("ok"))]).await;
        assert_eq!(ask(&models(config(&[("up", &up.url)]))).await.unwrap(), "ok", "{failure:?}");
        let requests = up.requests();
        let body = |at: usize| requests[at].split_once("\r\n\r\n").unwrap().1;
        assert_eq!((requests.len(), body(0)), (2, body(1)));
    }
}

#[tokio::test]
async fn a_stream_is_tried_again_before_its_first_chunk_only() {
    let good = events(&[&chunk("ok"), &chunk(""), "[DONE]"]);
    let up = Upstream::new(None, vec![events(&[]), events(&[r#"{"error":{"code":500}}"#]), good]).await;
    let models_ = models(config(&[("up", &up.url)]));
    let model = models_.resolve("m").await.unwrap().model;
    let first = model.stream(&request("hi", true), &request_id()).await;
    assert!(first.is_ok());
    assert_eq!(up.requests().len(), 3);

    let up = Upstream::new(None, vec![events(&[&chunk("half")])]).await;
    let models_ = models(config(&[("up", &up.url)]));
    let model = models_.resolve("m").await.unwrap().model;
    let stream = model.stream(&request("hi", true), &request_id()).await.unwrap();
    let items: Vec<_> = futures_util::StreamExt::collect(stream).await;
    assert!(items.len() == 2 && items[1].is_err());
    assert_eq!(up.requests().len(), 1);
}

#[tokio::test]
async fn tries_end() {
    let up = Upstream::new(None, vec![reply(500, "", "{}")]).await;
    let error = ask(&models(config(&[("up", &up.url)]))).await.unwrap_err();
    assert_eq!((error.status, up.requests().len()), (502, 3));

    let up = Upstream::new(None, vec![reply(500, "", "{}")]).await;
    let poor = Config { retry_budget: 1, max_retries: 9, ..config(&[("up", &up.url)]) };
    ask(&models(poor)).await.unwrap_err();
    assert_eq!(up.requests().len(), 2, "the budget allows one retry");
}

#[tokio::test]
async fn a_long_retry_after_is_the_clients_to_wait() {
    let up = Upstream::new(None, vec![reply(429, "retry-after: 100\r\n", r#"{"error":{"message":"slow"}}"#)])
        .await;
    let error = ask(&models(config(&[("up", &up.url)]))).await.unwrap_err();
    assert_eq!((error.status, error.retry_after), (429, Some(Duration::from_secs(100))));
    assert_eq!((error.message.as_str(), up.requests().len()), ("slow", 1));
}

#[tokio::test]
async fn the_next_upstream_takes_over() {
    for first in [
        reply(500, "", "{}"),
        reply(429, "retry-after: 20\r\n", "{}"),
        reply(401, "", "{}"),
        vec![Step::Hang],
    ] {
        let bad = Upstream::new(None, vec![first]).await;
        let good = Upstream::new(None, vec![reply(200, "", &completion("ok"))]).await;
        let both = config(&[("bad", &bad.url), ("good", &good.url)]);
        assert_eq!(ask(&models(Config { first_byte_timeout_ms: 2000, ..both })).await.unwrap(), "ok");
    }
    let good = Upstream::new(None, vec![reply(200, "", &completion("ok"))]).await;
    assert_eq!(ask(&models(config(&[("dead", &nobody().await), ("good", &good.url)]))).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_request_at_fault_is_not_carried_on() {
    let object =
        r#"{"error":{"message":"bad tool","type":"invalid_request_error","param":"tools","code":null}}"#;
    for answer in [reply(400, "", object), reply(500, "x-should-retry: false\r\n", "{}")] {
        let first = Upstream::new(None, vec![answer]).await;
        let second = Upstream::new(None, vec![reply(200, "", &completion("ok"))]).await;
        let error = ask(&models(config(&[("a", &first.url), ("b", &second.url)]))).await.unwrap_err();
        assert!(error.status == 502 || error.param.as_deref() == Some("tools"), "{error}");
        assert_eq!((first.requests().len(), second.requests().len()), (1, 0));
    }
}

#[tokio::test]
async fn an_upstream_that_keeps_failing_is_tried_last() {
    let bad = Upstream::new(None, vec![reply(500, "", "{}")]).await;
    let good = Upstream::new(None, vec![reply(200, "", &completion("ok"))]).await;
    let models = models(config(&[("bad", &bad.url), ("good", &good.url)]));
    for _ in 0..3 {
        assert_eq!(ask(&models).await.unwrap(), "ok");
    }
    assert_eq!((bad.requests().len(), good.requests().len()), (3, 3));
    let states = models.upstream_states();
    assert_eq!((states[0].reachable, states[1].reachable), (Some(false), Some(true)));
    assert_eq!(states[0].last_error.as_deref(), Some("the upstream `bad` failed (HTTP 500)"));
}

#[tokio::test]
async fn an_unreachable_upstream_is_named() {
    let error = ask(&models(config(&[("dead", &nobody().await)]))).await.unwrap_err();
    assert_eq!((error.status, error.message.as_str()), (502, "the upstream `dead` cannot be reached"));
}

#[test]
fn pauses_stay_within_bounds() {
    let config = Config { retry_base_ms: 100, retry_max_ms: 300, ..Config::default() };
    let policy = Policy::new(&config);
    for _ in 0..100 {
        assert!(policy.pause(0) <= Duration::from_millis(100));
        assert!(policy.pause(40) <= Duration::from_millis(300));
    }
}

#[test]
fn a_success_brings_an_upstream_back() {
    let health = Health::new(0);
    for _ in 0..3 {
        assert!(!health.stepped_back());
        health.failed("down", None);
    }
    assert!(health.stepped_back() && health.reachable() == Some(false));
    health.succeeded();
    assert!(!health.stepped_back() && health.reachable() == Some(true));
    assert!(!health.spend(), "a budget of none allows none");
}
