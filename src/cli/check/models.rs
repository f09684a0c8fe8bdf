//! Models: does every upstream have its key, does it answer, and which model is the default?

use std::time::Duration;

use super::report::{Area, Finding, State};
use crate::cli::client::install_tls_provider;
use crate::config::Settings;
use crate::llm::{self, ModelDirectory, Models, UpstreamState};

/// One finding for every upstream and one for the default model. A section that cannot be read is the files' fault.
pub(super) async fn check(settings: &Settings, offline: bool, limit: Duration) -> Vec<Finding> {
    let Ok(config) = settings.section::<llm::Config>("llm") else { return Vec::new() };
    install_tls_provider();
    let models = match Models::new(config, |name| settings.env(name)) {
        Ok(models) => models,
        Err(error) => return vec![Finding::new(Area::Models, "upstreams", State::Failed, error.to_string())],
    };
    if models.is_demo() {
        let words = "only the built-in one answers; set OPENAI_API_KEY or llm.upstreams for a real one";
        return vec![Finding::new(Area::Models, "demo", State::Warning, words)];
    }
    if offline {
        return models.upstream_states().iter().map(not_asked).collect();
    }
    let asked = tokio::time::timeout(limit, async {
        let states = models.probe().await;
        (states, models.resolve("").await)
    });
    match asked.await {
        Ok((states, default)) => {
            let mut findings: Vec<Finding> = states.iter().map(asked_upstream).collect();
            findings.push(match default {
                Ok(model) => Finding::new(Area::Models, "default model", State::Ok, model.id),
                Err(error) => Finding::new(Area::Models, "default model", State::Failed, error.message),
            });
            findings
        }
        Err(_) => {
            let words = format!("no answer within {} s (--timeout gives them longer)", limit.as_secs());
            vec![Finding::new(Area::Models, "upstreams", State::Failed, words)]
        }
    }
}

fn not_asked(upstream: &UpstreamState) -> Finding {
    let words = format!("{}: not asked, because of --offline", upstream.base_url);
    Finding::new(Area::Models, &upstream.name, State::Skipped, words)
}

fn asked_upstream(upstream: &UpstreamState) -> Finding {
    let address = &upstream.base_url;
    let (state, words) = match (&upstream.last_error, upstream.models) {
        (Some(error), _) => (State::Failed, format!("{address}: {error}")),
        (None, 0) => {
            (State::Warning, format!("{address} answers, but lists no models; name them in `models`"))
        }
        (None, 1) => (State::Ok, format!("{address} answers, 1 model")),
        (None, count) => (State::Ok, format!("{address} answers, {count} models")),
    };
    Finding::new(Area::Models, &upstream.name, state, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_judged_by_their_answers() {
        let upstream = |models, last_error: Option<&str>| UpstreamState {
            name: "u".into(),
            base_url: "http://x/v1".into(),
            reachable: Some(last_error.is_none()),
            models,
            last_error: last_error.map(str::to_owned),
        };
        let finding = asked_upstream(&upstream(2, Some("the key was refused")));
        assert_eq!(
            (finding.state, finding.summary.as_str()),
            (State::Failed, "http://x/v1: the key was refused")
        );
        assert_eq!(asked_upstream(&upstream(0, None)).state, State::Warning);
        assert_eq!(asked_upstream(&upstream(2, None)).summary, "http://x/v1 answers, 2 models");
        assert_eq!(not_asked(&upstream(2, None)).state, State::Skipped);
    }
}
