//! `GET /metrics`: what the gateway, its tools and its plugins have done, in the OpenMetrics text format (1.0), which
//! Prometheus and its relatives read. `docs/plugins/operations.md` lists what there is.
//!
//! Requests are counted here; tools and plugins count by themselves and are read when somebody asks. Names of routes,
//! tools and plugins are labels, never paths, ids or anything else that a client could make up.

mod collect;

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use self::collect::Snapshot;
use super::caller::Scraper;
use super::error::ApiError;
use super::state::App;

const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What stands before every name.
const PREFIX: &str = "witgate";

/// Upper bounds of the groups of requests, in seconds: from an answer out of memory to a turn with many tools.
const REQUEST_SECONDS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The requests so far, by route.
#[derive(Debug)]
pub(super) struct RequestMetrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        let requests = Family::default();
        let histogram: fn() -> Histogram = || Histogram::new(REQUEST_SECONDS);
        let durations = Family::new_with_constructor(histogram);
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register(
            "http_requests",
            "Requests by route, method and status; the status is `gone` where the client left before there was one",
            requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from the head of a request to the last byte of its response",
            Unit::Seconds,
            durations.clone(),
        );
        Self { registry, requests, durations }
    }
}

impl RequestMetrics {
    /// Counts a request that is over. `route` is the template of its path, `None` where nothing is there; without a
    /// `status` its client left first.
    pub(super) fn record(
        &self,
        route: Option<&str>,
        method: &Method,
        status: Option<StatusCode>,
        took: Duration,
    ) {
        let route = route.unwrap_or("none").to_owned();
        let status = status.map_or_else(|| "gone".to_owned(), |status| status.as_str().to_owned());
        let labels = RequestLabels { route: route.clone(), method: method_label(method), status };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&RouteLabels { route }).observe(took.as_secs_f64());
    }
}

/// Clients can make up methods; labels must be few.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// Counters as OpenMetrics text, for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses((status = 200, description = "the counters", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"))
)]
pub(super) async fn scrape(State(app): State<App>, _scraper: Scraper) -> Response {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Snapshot::of(&app)));
    let mut body = String::new();
    let written = text::encode_registry(&mut body, &app.requests().registry)
        .and_then(|()| text::encode(&mut body, &registry));
    match written {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written, which is a bug in the gateway");
            ApiError::internal().into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_few() {
        let metrics = RequestMetrics::default();
        for made_up in ["BREW", "WHEN"] {
            let method = Method::from_bytes(made_up.as_bytes()).unwrap();
            metrics.record(None, &method, Some(StatusCode::NOT_FOUND), Duration::from_millis(2));
        }
        metrics.record(Some("/v1/models/{*id}"), &Method::GET, None, Duration::from_millis(2));
        let mut text = String::new();
        text::encode(&mut text, &metrics.registry).unwrap();
        for line in [
            "witgate_http_requests_total{route=\"none\",method=\"other\",status=\"404\"} 2\n",
            "witgate_http_requests_total{route=\"/v1/models/{*id}\",method=\"GET\",status=\"gone\"} 1\n",
            "witgate_http_request_duration_seconds_count{route=\"none\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
