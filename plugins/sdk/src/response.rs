//! Processing each reply of the model as a whole.

use crate::bindings::response::exports::witgate::plugin::response::Guest;
use crate::types::{Context, Error, ToolCall};

pub use crate::bindings::response::exports::witgate::plugin::response::{
    Action, Reply, Rewritten, ToolRequest,
};

/// Looks at each reply of the model as a whole. Export it with `export!(TYPE: response)`.
///
/// Streamed replies are held until they are complete, unless the plugin is a [`StreamProcessor`](crate::StreamProcessor)
/// as well.
pub trait ResponseProcessor {
    /// Called for every choice of every reply of the model, in each round of the tool loop.
    ///
    /// # Errors
    /// An error fails the request, or leaves the reply as it is where the operator's file says `on_failure = "open"`.
    fn process(ctx: &Context, reply: Reply) -> Result<Action, Error>;
}

impl<T: ResponseProcessor> Guest for T {
    fn process_llm_response(ctx: Context, reply: Reply) -> Result<Action, Error> {
        crate::runtime::start();
        T::process(&ctx, reply)
    }
}

/// The whole `chat.completion` body as JSON text, exactly as the model's server sent it.
///
/// None outside of [`ResponseProcessor::process`], and where the reply came as a stream. The gateway copies the body for
/// each call of this function; a plugin that never calls it costs nothing.
#[must_use]
pub fn reply_body() -> Option<String> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::response::witgate::plugin::reply_body::get();
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::with(|host| host.reply_body.clone())
}

/// Empty: no text, no tool calls.
impl Default for Reply {
    fn default() -> Self {
        Self {
            choice: 0,
            text: String::new(),
            reasoning: None,
            tool_calls: Vec::new(),
            finish_reason: None,
            usage: None,
        }
    }
}

impl Reply {
    /// A reply with this text and nothing else; for tests.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

impl Action {
    /// Calls tools; the reply's text becomes `text`, or stays as it is where that is none.
    #[must_use]
    pub fn call(text: Option<String>, calls: Vec<ToolCall>) -> Self {
        Self::CallTool(ToolRequest { text, calls })
    }
}
