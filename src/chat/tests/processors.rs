//! Made-up processors of replies: one that does what a closure says with whole replies, one that works on pieces.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::domain::{
    DeltaKind, Finished, NextStep, ProcessedReply, Pushed, ReplyAction, ReplyContext, ReplyEnd, TextDelta,
    ToolCall,
};
use crate::response::{OnFailure, ProcessorError, ProcessorMode, ReplyStage, ResponseProcessor};

type Decide = dyn Fn(&ReplyContext, &ProcessedReply) -> Result<ReplyAction, ProcessorError> + Send + Sync;

/// Takes replies whole and does with them what a closure says.
pub(super) struct Whole {
    decide: Box<Decide>,
    on_failure: OnFailure,
    /// Every reply it was given.
    pub(super) seen: Mutex<Vec<(ReplyContext, ProcessedReply)>>,
}

impl Whole {
    pub(super) fn new(
        decide: impl Fn(&ReplyContext, &ProcessedReply) -> Result<ReplyAction, ProcessorError>
        + Send
        + Sync
        + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            decide: Box::new(decide),
            on_failure: OnFailure::Closed,
            seen: Mutex::new(Vec::new()),
        })
    }

    /// Replaces every text by itself in capitals.
    pub(super) fn capitals() -> Arc<Self> {
        Self::new(|_, reply| Ok(ReplyAction::Rewrite { text: reply.text.to_uppercase(), reasoning: None }))
    }

    /// Always answers this.
    pub(super) fn always(action: ReplyAction) -> Arc<Self> {
        Self::new(move |_, _| Ok(action.clone()))
    }

    /// Always fails.
    pub(super) fn failing(on_failure: OnFailure) -> Arc<dyn ResponseProcessor> {
        Arc::new(Self {
            decide: Box::new(|_, _| Err(ProcessorError::Failed("inner words".to_owned()))),
            on_failure,
            seen: Mutex::new(Vec::new()),
        })
    }
}

#[async_trait]
impl ResponseProcessor for Whole {
    fn name(&self) -> &str {
        "whole"
    }

    fn applies(&self, endpoint: &str, model: &str) -> bool {
        (endpoint, model) == ("/v1/chat/completions", "m")
    }

    fn mode(&self) -> ProcessorMode {
        ProcessorMode::Whole
    }

    fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    async fn process(
        &self,
        context: &ReplyContext,
        reply: &ProcessedReply,
    ) -> Result<ReplyAction, ProcessorError> {
        self.seen.lock().unwrap().push((context.clone(), reply.clone()));
        tokio::task::yield_now().await;
        (self.decide)(context, reply)
    }

    async fn open(&self, _: &ReplyContext, _: u64) -> Result<Box<dyn ReplyStage>, ProcessorError> {
        panic!("a whole-reply processor is not opened")
    }
}

/// What a [`Pieces`] processor does.
#[derive(Clone)]
pub(super) enum Habit {
    /// Writes `secret` as `[gone]`, however the pieces are cut, and holds back no more than it must.
    Redact,
    /// Lets everything go as it came.
    Pass,
    /// Holds everything and lets it go at the end, in capitals, followed by a `!`.
    Hold,
    /// Blocks as soon as `bad` was pushed.
    BlockBad,
    /// Takes this step at the end.
    AtEnd(NextStep),
    /// Asks again at the end of the first attempt, lets the second one pass.
    AskOnce,
    /// Holds back the last character and fails once `bad` was pushed.
    FailAtBad(OnFailure),
    /// Cannot be opened.
    Unopened(OnFailure),
}

/// Takes replies piece by piece.
pub(super) struct Pieces {
    habit: Habit,
    /// How the replies ended that it was given.
    pub(super) ends: Mutex<Vec<ReplyEnd>>,
    this: std::sync::Weak<Self>,
}

impl Pieces {
    pub(super) fn new(habit: Habit) -> Arc<Self> {
        Arc::new_cyclic(|this| Self { habit, ends: Mutex::new(Vec::new()), this: this.clone() })
    }
}

#[async_trait]
impl ResponseProcessor for Pieces {
    fn name(&self) -> &str {
        "pieces"
    }

    fn applies(&self, _: &str, _: &str) -> bool {
        true
    }

    fn mode(&self) -> ProcessorMode {
        ProcessorMode::Stream
    }

    fn on_failure(&self) -> OnFailure {
        match self.habit {
            Habit::FailAtBad(on_failure) | Habit::Unopened(on_failure) => on_failure,
            _ => OnFailure::Closed,
        }
    }

    async fn process(&self, _: &ReplyContext, _: &ProcessedReply) -> Result<ReplyAction, ProcessorError> {
        panic!("a streaming processor gets no whole replies")
    }

    async fn open(&self, context: &ReplyContext, _: u64) -> Result<Box<dyn ReplyStage>, ProcessorError> {
        if matches!(self.habit, Habit::Unopened(_)) {
            return Err(ProcessorError::Busy { message: "no room".to_owned(), retry_after: None });
        }
        let processor = self.this.upgrade().unwrap();
        Ok(Box::new(PiecesStage {
            processor,
            attempt: context.attempt,
            all: String::new(),
            held: String::new(),
        }))
    }
}

struct PiecesStage {
    processor: Arc<Pieces>,
    attempt: u32,
    all: String,
    held: String,
}

fn text(text: &str) -> Vec<TextDelta> {
    vec![TextDelta { kind: DeltaKind::Text, text: text.to_owned() }]
}

#[async_trait]
impl ReplyStage for PiecesStage {
    async fn push(&mut self, deltas: &[TextDelta]) -> Result<Pushed, ProcessorError> {
        tokio::task::yield_now().await;
        assert!(deltas.iter().all(|delta| !delta.text.is_empty()), "{deltas:?}");
        let pushed: String =
            deltas.iter().filter(|d| d.kind == DeltaKind::Text).map(|d| d.text.as_str()).collect();
        self.all.push_str(&pushed);
        self.held.push_str(&pushed);
        Ok(match &self.processor.habit {
            Habit::Redact => {
                let clean = self.held.replace("secret", "[gone]");
                let tail = (0..6).rev().find(|n| clean.ends_with(&"secret"[..*n])).unwrap_or(0);
                let (now, later) = clean.split_at(clean.len() - tail);
                let mut out: Vec<TextDelta> =
                    deltas.iter().filter(|d| d.kind == DeltaKind::Reasoning).cloned().collect();
                out.extend(text(now).into_iter().filter(|delta| !delta.text.is_empty()));
                self.held = later.to_owned();
                Pushed::Deltas(out)
            }
            Habit::Hold => Pushed::Deltas(Vec::new()),
            Habit::BlockBad if self.all.contains("bad") => Pushed::Block("it was bad".to_owned()),
            Habit::FailAtBad(_) => {
                if self.all.contains("bad") {
                    return Err(ProcessorError::Failed("inner words".to_owned()));
                }
                let last = self.held.pop().into_iter().collect();
                Pushed::Deltas(text(&std::mem::replace(&mut self.held, last)))
            }
            _ => Pushed::Unchanged,
        })
    }

    async fn finish(self: Box<Self>, end: &ReplyEnd) -> Result<Finished, ProcessorError> {
        tokio::task::yield_now().await;
        self.processor.ends.lock().unwrap().push(end.clone());
        let deltas = match self.processor.habit {
            Habit::Redact | Habit::FailAtBad(_) => text(&self.held),
            Habit::Hold => text(&format!("{}!", self.held.to_uppercase())),
            _ => Vec::new(),
        };
        let next = match &self.processor.habit {
            Habit::AtEnd(next) => next.clone(),
            Habit::AskOnce if self.attempt == 1 => NextStep::AskAgain("try harder".to_owned()),
            _ => NextStep::GoOn,
        };
        Ok(Finished { deltas, next })
    }
}

/// A call without an id, as a plugin makes it up.
pub(super) fn made_up(name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: String::new(), name: name.to_owned(), arguments: arguments.to_owned() }
}
