//! What a turn uses of its caller's tokens: charged when the turn ends, however it ends.
//!
//! A round that was cut off (the client left, the time was up) has no usage yet. It counts with an estimate from its
//! bytes, or leaving early would be a way around every limit.

use super::tokens::BYTES_PER_TOKEN;
use crate::access::AccessScope;
use crate::domain::{CompletionRequest, Usage};

/// Tokens of a turn; charged when this is dropped.
#[derive(Default)]
pub(super) struct Spending {
    /// `None` where nobody wants to know.
    access: Option<AccessScope>,
    /// Tokens of the rounds that are over.
    settled: u64,
    /// The round that is not over, in bytes.
    open: Option<OpenRound>,
}

struct OpenRound {
    prompt: usize,
    reply: usize,
}

impl Spending {
    /// Counts for the caller of `access`, where it has limits that need it.
    pub(super) fn of(access: &AccessScope) -> Self {
        Self { access: access.counts_tokens().then(|| access.clone()), settled: 0, open: None }
    }

    /// True when somebody wants to know.
    pub(super) fn is_counted(&self) -> bool {
        self.access.is_some()
    }

    /// A round begins.
    pub(super) fn begin(&mut self, request: &CompletionRequest) {
        if self.is_counted() {
            let messages: usize = request.messages.iter().map(|message| message.as_bytes().len()).sum();
            let tools: usize = request.tools.iter().map(bytes::Bytes::len).sum();
            self.open = Some(OpenRound { prompt: messages + tools, reply: 0 });
        }
    }

    /// The model has generated this many bytes of the round's reply by now, in all choices.
    pub(super) fn reply_has(&mut self, bytes: usize) {
        if let Some(open) = &mut self.open {
            open.reply = open.reply.max(bytes);
        }
    }

    /// The round failed: it costs nothing unless the model had begun to answer.
    pub(super) fn fail(&mut self) {
        self.open = self.open.take().filter(|open| open.reply > 0);
    }

    /// The round is over and took this much.
    pub(super) fn settle(&mut self, usage: &Usage) {
        self.open = None;
        self.settled = self.settled.saturating_add(usage.total());
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        let Some(access) = &self.access else { return };
        let open = self.open.as_ref().map_or(0, |open| (open.prompt + open.reply).div_ceil(BYTES_PER_TOKEN));
        access.charge_tokens(self.settled.saturating_add(open as u64));
    }
}
