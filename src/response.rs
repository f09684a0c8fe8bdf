//! The `response` room: what happens to a model's reply before the client sees it.
//!
//! Today: finding tool calls that a model writes as text. Whole and streamed replies take the same path.

pub mod text_tool_calls;

pub use text_tool_calls::TextCallDetector;
