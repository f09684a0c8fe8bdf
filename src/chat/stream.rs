//! A turn as a stream of events, without a task of its own: polling the stream runs the turn, dropping it ends the turn.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use super::tool_run::Events;
use super::{ChatError, ReplyEvent, ReplyStream, TurnSummary};

/// Events that wait for a slow client before the turn itself waits.
const MAX_WAITING_EVENTS: usize = 32;

type TurnFuture = Pin<Box<dyn Future<Output = Result<TurnSummary, ChatError>> + Send>>;

/// See the module's words.
pub(super) struct TurnStream {
    turn: Option<TurnFuture>,
    events: mpsc::Receiver<ReplyEvent>,
    outcome: Option<Result<TurnSummary, ChatError>>,
}

impl TurnStream {
    /// Starts a turn and returns its stream once the first event is there.
    ///
    /// # Errors
    /// The turn's own error, where it came before any event.
    pub(super) async fn start<F>(turn: impl FnOnce(Events) -> F) -> Result<ReplyStream, ChatError>
    where
        F: Future<Output = Result<TurnSummary, ChatError>> + Send + 'static,
    {
        let (sender, events) = mpsc::channel(MAX_WAITING_EVENTS);
        let turn: TurnFuture = Box::pin(turn(Some(sender)));
        let mut stream = Self { turn: Some(turn), events, outcome: None };
        match stream.next().await {
            Some(Err(error)) => Err(error),
            first => Ok(Box::pin(stream::iter(first).chain(stream))),
        }
    }
}

impl Stream for TurnStream {
    type Item = Result<ReplyEvent, ChatError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.events.poll_recv(context) {
                Poll::Ready(Some(event)) => return Poll::Ready(Some(Ok(event))),
                // Not the end: a task that has used up its share of time gets no event, though some may be waiting.
                Poll::Pending if this.turn.is_none() => return Poll::Pending,
                Poll::Pending | Poll::Ready(None) => {}
            }
            let Some(turn) = &mut this.turn else {
                return Poll::Ready(this.outcome.take().map(|outcome| outcome.map(ReplyEvent::Done)));
            };
            match turn.as_mut().poll(context) {
                Poll::Ready(outcome) => {
                    this.outcome = Some(outcome);
                    this.turn = None;
                }
                // The turn may have sent events while it was polled.
                Poll::Pending => {
                    return match this.events.poll_recv(context) {
                        Poll::Ready(Some(event)) => Poll::Ready(Some(Ok(event))),
                        _ => Poll::Pending,
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use bytes::Bytes;
    use tokio::task::coop;

    use super::*;
    use crate::chat::ReplyChunk;

    #[tokio::test]
    async fn a_finished_turns_events_all_arrive_though_the_tasks_time_is_up() {
        const EVENTS: usize = 30;
        let turn = |events: Events| async move {
            for number in 0..EVENTS {
                let chunk = ReplyChunk { json: Bytes::from(number.to_string()), text: None };
                events.as_ref().unwrap().try_send(ReplyEvent::Chunk(chunk)).unwrap();
            }
            Ok(TurnSummary { response: String::new(), usage: None, session_id: None })
        };
        let mut stream = TurnStream::start(turn).await.unwrap();
        let mut got = Vec::new();
        loop {
            let next = poll_fn(|context| {
                // Once an event, so that every one of them meets a task without time.
                while coop::has_budget_remaining() {
                    let _ = pin!(coop::consume_budget()).poll(context);
                }
                Poll::Ready(stream.poll_next_unpin(context))
            });
            match next.await {
                Poll::Ready(Some(event)) => got.push(event.unwrap()),
                Poll::Ready(None) => break,
                Poll::Pending => match stream.next().await {
                    Some(event) => got.push(event.unwrap()),
                    None => break,
                },
            }
        }
        let chunks = got.iter().filter(|event| matches!(event, ReplyEvent::Chunk(_))).count();
        assert_eq!(chunks, EVENTS);
        assert!(matches!(got.last(), Some(ReplyEvent::Done(_))));
    }
}
