//! What each rule said, for whoever asks why: `witgate access explain` goes the way every request goes, and listens.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// Takes down what rules say. Nobody listens to an ordinary request, which then pays for a comparison and nothing more.
#[derive(Clone, Debug, Default)]
pub struct Trace(Option<Arc<Mutex<Vec<Step>>>>);

/// What one rule said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The rule's name, as in the audit log.
    pub rule: Cow<'static, str>,
    /// What it said.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
}

/// What a rule can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It has nothing against it.
    Allowed,
    /// It decides: no.
    Denied,
    /// It has nothing to say about this caller.
    NoOpinion,
}

impl Trace {
    /// A trace that is listened to.
    #[must_use]
    pub fn listening() -> Self {
        Self(Some(Arc::default()))
    }

    /// What has been said so far, in order.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let steps = self.0.as_ref();
        steps.map(|steps| steps.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }

    /// Takes down what `rule` says; `why` is called where somebody listens.
    pub(super) fn note(
        &self,
        rule: impl Into<Cow<'static, str>>,
        verdict: Verdict,
        why: impl FnOnce() -> String,
    ) {
        if let Some(steps) = &self.0 {
            let step = Step { rule: rule.into(), verdict, why: why() };
            steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
        }
    }

    /// Takes down what a rule made of something: why it is fine, or its error.
    pub(super) fn outcome<E: std::fmt::Display>(
        &self,
        rule: &'static str,
        outcome: &Result<(), E>,
        fine: impl FnOnce() -> String,
    ) {
        match outcome {
            Ok(()) => self.note(rule, Verdict::Allowed, fine),
            Err(error) => self.note(rule, Verdict::Denied, || error.to_string()),
        }
    }

    /// True when somebody listens.
    pub(super) fn is_listening(&self) -> bool {
        self.0.is_some()
    }
}
