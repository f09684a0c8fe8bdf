//! A streamed reply: network buffers become chunks, and every way a stream can go wrong becomes an error.
//!
//! A stream is whole when the upstream says why it stopped. One that just ends is an error, never a short reply: clients
//! cannot tell a reply that was cut from one that is complete.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use super::client::Redactor;
use super::wire;
use crate::domain::{Chunk, FinishReason};
use crate::llm::ChunkStream;
use crate::llm::retry::Failure;
use crate::llm::sse::{Decoder, Event};

/// How long the end of the body is waited for after `[DONE]`, so that the connection can be used again.
const GRACE_FOR_THE_END: Duration = Duration::from_millis(20);

/// The events of one response.
pub(super) struct Events {
    upstream: Arc<str>,
    redactor: Arc<Redactor>,
    body: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    decoder: Decoder,
    choices: Choices,
    ended: bool,
}

/// Which choices have begun and which have said why they stopped.
#[derive(Default)]
struct Choices {
    open: Vec<u64>,
    finished: Vec<u64>,
    any_call: bool,
}

impl Events {
    pub(super) fn new(
        upstream: Arc<str>,
        redactor: Arc<Redactor>,
        body: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
        max_event_bytes: usize,
    ) -> Self {
        let decoder = Decoder::new(max_event_bytes);
        Self {
            upstream,
            redactor,
            body: Box::pin(body.fuse()),
            decoder,
            choices: Choices::default(),
            ended: false,
        }
    }

    /// Waits for the first chunk, then gives the stream that begins with it.
    pub(super) async fn start(mut self, first: Duration, idle: Duration) -> Result<ChunkStream, Failure> {
        let Some(chunk) = self.next(first).await? else { return Err(wire::ended_early(&self.upstream)) };
        let rest = stream::unfold(self, move |mut events| async move {
            match events.next(idle).await {
                Ok(chunk) => chunk.map(|chunk| (Ok(chunk), events)),
                Err(failure) => {
                    events.ended = true;
                    Some((Err(*failure.error), events))
                }
            }
        });
        Ok(Box::pin(stream::once(std::future::ready(Ok(chunk))).chain(rest)))
    }

    /// The next chunk; `None` after a good end. `wait` bounds each silence of the upstream.
    pub(super) async fn next(&mut self, wait: Duration) -> Result<Option<Chunk>, Failure> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let event = self.decoder.next_event().map_err(|e| wire::too_large(&self.upstream, e.limit))?;
            if let Some(event) = event {
                if let Some(chunk) = self.read(event).await? {
                    return Ok(Some(chunk));
                }
                continue;
            }
            let buffer = timeout(wait, self.body.next())
                .await
                .map_err(|_| wire::timed_out(&self.upstream, "anything more", wait))?;
            match buffer {
                Some(Ok(buffer)) => self.decoder.push(buffer),
                Some(Err(error)) => {
                    // Some servers reset the connection where others would close it.
                    if self.choices.complete() {
                        self.ended = true;
                        continue;
                    }
                    return Err(wire::broken(&self.upstream, &error.without_url().to_string()));
                }
                None => return self.end().await,
            }
        }
    }

    /// The chunk of one event; `None` for events without one.
    async fn read(&mut self, event: Event) -> Result<Option<Chunk>, Failure> {
        if event.is_done() {
            return self.done().await;
        }
        if event.data.trim_ascii().is_empty() {
            return Ok(None);
        }
        let chunk = match Chunk::parse(event.data.clone()) {
            Ok(chunk) => chunk,
            Err(_) => {
                let data = self.redactor.clean(&event.data);
                return Err(match wire::error_in(&data) {
                    Some(error) => wire::reported(&self.upstream, &error),
                    None => wire::garbage_event(&self.upstream, &data),
                });
            }
        };
        let may_be_error = event.kind.as_deref() == Some(b"error")
            || (chunk.choices.is_empty() && chunk.usage.is_none())
            || chunk
                .choices
                .iter()
                .any(|c| matches!(&c.finish_reason, Some(FinishReason::Other(r)) if r == "error"));
        if may_be_error && let Some(error) = wire::error_in(&self.redactor.clean(&chunk.raw)) {
            return Err(wire::reported(&self.upstream, &error));
        }
        self.choices.note(&chunk);
        Ok(Some(chunk))
    }

    /// The upstream says that this was all.
    async fn done(&mut self) -> Result<Option<Chunk>, Failure> {
        self.ended = true;
        // Reading to the very end returns the connection to the pool; an upstream that keeps it open loses it.
        let _ = timeout(GRACE_FOR_THE_END, self.body.next()).await;
        if self.choices.complete() {
            return Ok(None);
        }
        // It ended on purpose and only forgot the reason.
        match self.choices.closing_chunk().and_then(|raw| Chunk::parse(raw).ok()) {
            Some(chunk) => Ok(Some(chunk)),
            None => Err(wire::ended_early(&self.upstream)),
        }
    }

    /// The body is over.
    async fn end(&mut self) -> Result<Option<Chunk>, Failure> {
        let last = self.decoder.finish();
        self.ended = true;
        let mut chunk = None;
        if let Some(event) = last {
            if event.is_done() {
                return self.done().await;
            }
            // Half an event is no garbage: the stream was cut within it.
            if Chunk::parse(event.data.clone()).is_ok() || wire::error_in(&event.data).is_some() {
                chunk = self.read(event).await?;
            }
        }
        if self.choices.complete() { Ok(chunk) } else { Err(wire::ended_early(&self.upstream)) }
    }
}

impl Choices {
    fn note(&mut self, chunk: &Chunk) {
        for choice in &chunk.choices {
            self.any_call |= !choice.tool_calls.is_empty();
            if self.finished.contains(&choice.index) {
                continue;
            }
            if choice.finish_reason.is_some() {
                self.finished.push(choice.index);
                self.open.retain(|index| *index != choice.index);
            } else if !self.open.contains(&choice.index) {
                self.open.push(choice.index);
            }
        }
    }

    fn complete(&self) -> bool {
        !self.finished.is_empty() && self.open.is_empty()
    }

    /// What a server that forgot the finish reasons should have sent; `None` when nothing has come at all.
    fn closing_chunk(&self) -> Option<Bytes> {
        let reason = if self.any_call { FinishReason::ToolCalls } else { FinishReason::Stop };
        let choices: Vec<_> = self
            .open
            .iter()
            .map(|index| serde_json::json!({"index": index, "delta": {}, "finish_reason": reason.as_str()}))
            .collect();
        let chunk = serde_json::json!({"object": "chat.completion.chunk", "choices": choices});
        (!choices.is_empty()).then(|| Bytes::from(chunk.to_string()))
    }
}
