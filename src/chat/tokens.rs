//! Counts tokens where an upstream does not: with the o200k vocabulary, loaded on first use and off the async threads.
//!
//! Counts for models with another vocabulary are estimates; whoever uses them logs them as such.

use crate::domain::{RawMessage, Usage};

/// Tokens that a message's envelope costs beside its text, as OpenAI's own counting recipe has it.
const TOKENS_PER_MESSAGE: usize = 4;

/// Bytes of text that are about one token.
pub(super) const BYTES_PER_TOKEN: usize = 4;

/// The number of tokens of each text; texts are counted on a blocking thread, since the first use loads the vocabulary.
pub(super) async fn count(texts: Vec<String>) -> Vec<usize> {
    let lengths: Vec<usize> = texts.iter().map(String::len).collect();
    let counted = tokio::task::spawn_blocking(move || {
        let vocabulary = tiktoken_rs::o200k_base_singleton();
        texts.iter().map(|text| vocabulary.encode_ordinary(text).len()).collect()
    });
    // A byte is at least one token at most: a safe answer should the blocking thread be gone at shutdown.
    counted.await.unwrap_or(lengths)
}

/// An upper bound that needs no vocabulary: a token stands for at least one byte.
pub(super) fn upper_bound(message: &RawMessage) -> usize {
    message.as_bytes().len() + TOKENS_PER_MESSAGE
}

/// The tokens of each message, envelope included.
pub(super) async fn count_messages(messages: &[RawMessage]) -> Vec<usize> {
    let texts = messages.iter().map(|m| m.as_str().to_owned()).collect();
    count(texts).await.into_iter().map(|tokens| tokens + TOKENS_PER_MESSAGE).collect()
}

/// The usage of a round whose upstream gave none. `reply` is counted; what the model has generated beyond it, of
/// `generated_bytes` in all, is estimated.
pub(super) async fn estimate(prompt: &[RawMessage], reply: &str, generated_bytes: usize) -> Usage {
    let mut texts: Vec<String> =
        prompt.iter().map(|m| m.head().map(|head| head.text()).unwrap_or_default()).collect();
    texts.push(reply.to_owned());
    let mut counts = count(texts).await;
    let beyond = generated_bytes.saturating_sub(reply.len()).div_ceil(BYTES_PER_TOKEN);
    let completion = counts.pop().unwrap_or(0) + beyond;
    let prompt_tokens = counts.iter().map(|tokens| tokens + TOKENS_PER_MESSAGE).sum::<usize>();
    tracing::info!(
        prompt_tokens,
        completion_tokens = completion,
        estimated = true,
        "the upstream gave no usage; counted it"
    );
    Usage::of(prompt_tokens as u64, completion as u64)
}
