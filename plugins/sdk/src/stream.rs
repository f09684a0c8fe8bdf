//! Processing each reply of the model while it comes in.

use std::cell::RefCell;

use crate::bindings::stream::exports::witgate::plugin::response_stream::{Guest, GuestReplyStream};
use crate::types::{Context, Error};

pub use crate::bindings::stream::exports::witgate::plugin::response_stream::{
    Delta, DeltaKind, Finished, NextStep, Pushed, ReplyEnd,
};

/// Looks at one choice of one reply while it comes in. Export it with `export!(TYPE: stream)`.
///
/// The gateway makes one value per reply and choice, and drops it after [`finish`](Self::finish).
pub trait StreamProcessor: Sized + 'static {
    /// Starts a reply. `choice` is the position of the choice, from 0.
    ///
    /// # Errors
    /// An error is told to the gateway with the first call of `push` or `finish`.
    fn new(ctx: &Context, choice: u32) -> Result<Self, Error>;

    /// Takes the next deltas and returns what may go on to the client now. What is not returned yet is held back;
    /// `finish` is the last chance to return it. A delta ends anywhere, but never inside a character.
    ///
    /// # Errors
    /// An error ends the reply, or lets it pass from here on where the operator's file says `on_failure = "open"`.
    fn push(&mut self, deltas: Vec<Delta>) -> Result<Pushed, Error>;

    /// Ends the reply. Without an own `finish`, nothing was held back and nothing more happens.
    ///
    /// # Errors
    /// As with `push`.
    fn finish(&mut self, end: ReplyEnd) -> Result<Finished, Error> {
        let _ = end;
        Ok(Finished::default())
    }
}

impl Delta {
    /// A piece of what the model says.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: DeltaKind::Text, text: text.into() }
    }

    /// A piece of what the model thinks.
    #[must_use]
    pub fn reasoning(text: impl Into<String>) -> Self {
        Self { kind: DeltaKind::Reasoning, text: text.into() }
    }
}

/// Nothing was held back, and nothing special happens next.
impl Default for Finished {
    fn default() -> Self {
        Self { deltas: Vec::new(), next: NextStep::GoOn }
    }
}

impl Finished {
    /// These deltas were held back; nothing special happens next.
    #[must_use]
    pub fn with(deltas: Vec<Delta>) -> Self {
        Self { deltas, next: NextStep::GoOn }
    }
}

/// A reply that just ended: no reason given, no tool calls, no usage. For tests.
impl Default for ReplyEnd {
    fn default() -> Self {
        Self { finish_reason: None, tool_calls: Vec::new(), usage: None }
    }
}

impl<T: StreamProcessor> Guest for T {
    type ReplyStream = ReplyStream<T>;
}

/// One reply in the guest: the processor, or why it could not be made.
#[doc(hidden)]
pub struct ReplyStream<T>(RefCell<Result<T, Error>>);

impl<T: StreamProcessor> ReplyStream<T> {
    fn with<R>(&self, call: impl FnOnce(&mut T) -> Result<R, Error>) -> Result<R, Error> {
        match &mut *self.0.borrow_mut() {
            Ok(processor) => call(processor),
            Err(error) => Err(error.clone()),
        }
    }
}

impl<T: StreamProcessor> GuestReplyStream for ReplyStream<T> {
    fn new(ctx: Context, choice: u32) -> Self {
        crate::runtime::start();
        Self(RefCell::new(T::new(&ctx, choice)))
    }

    fn push(&self, deltas: Vec<Delta>) -> Result<Pushed, Error> {
        self.with(|processor| processor.push(deltas))
    }

    fn finish(&self, end: ReplyEnd) -> Result<Finished, Error> {
        self.with(|processor| processor.finish(end))
    }
}
