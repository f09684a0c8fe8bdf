//! Plugins for the witgate gateway, in Rust.
//!
//! A plugin is a WebAssembly component that the gateway calls for each reply of a model, for each request that needs a
//! decision, or for each call of a tool it brings. With this crate it is a type with a trait, and one line that exports it:
//!
//! ```
//! use witgate_plugin::{Action, Context, Error, Reply, ResponseProcessor};
//!
//! struct Shout;
//!
//! impl ResponseProcessor for Shout {
//!     fn process(_ctx: &Context, reply: Reply) -> Result<Action, Error> {
//!         Ok(Action::Replace(reply.text.to_uppercase()))
//!     }
//! }
//!
//! witgate_plugin::export!(Shout: response);
//! ```
//!
//! | trait | in `export!` | is called |
//! | --- | --- | --- |
//! | [`ResponseProcessor`] | `response` | with each reply of the model as a whole |
//! | [`StreamProcessor`] | `stream` | with each reply while it comes in, piece by piece |
//! | [`AuthPolicy`] | `auth` | for each request, for the model it asks for and for each tool call |
//! | [`ToolProvider`] | `tools` | to list tools and to call them |
//!
//! A type may have several of them: `export!(Plugin: response, stream, tools, auth)`.
//!
//! What the gateway offers a plugin: [`config()`], [`secret`], [`log`], [`kv`], and with the feature `http` requests to
//! hosts that the operator grants. A component imports only what its code uses.
//!
//! # State
//!
//! Every call gets a fresh instance: nothing in a `static` outlives it, and calls cannot see each other. A
//! [`StreamProcessor`] lives as long as its reply. What must outlive a call goes into [`kv`].
//!
//! # Panics
//!
//! A panic ends that one call as a trap. Its message and place are written to the gateway's log at level `error`.
//!
//! # Tests
//!
//! Everything but [`export!`] works on the machine you develop on, so `cargo test` tests a plugin without WebAssembly.
//! [`testing`] sets what the gateway would answer.

pub mod auth;
#[doc(hidden)]
pub mod bindings;
mod config;
#[cfg(feature = "http")]
pub mod http;
pub mod kv;
pub mod log;
pub mod redact;
mod response;
mod runtime;
mod secrets;
mod stream;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod tools;
mod types;

pub use auth::{AccessAction, AccessRequest, AuthPolicy, Decision};
pub use config::{config, config_value};
pub use response::{Action, Reply, ResponseProcessor, Rewritten, ToolRequest, reply_body};
pub use secrets::{require_secret, secret};
pub use stream::{Delta, DeltaKind, Finished, NextStep, Pushed, ReplyEnd, StreamProcessor};
pub use tools::{CallContext, Tool, ToolError, ToolProvider, ToolResult};
pub use types::{Context, Error, FinishReason, Principal, PrincipalKind, ToolCall, Usage};

/// Exports a type as a plugin: `export!(TYPE: KIND, ...)` with any of `response`, `stream`, `auth` and `tools`.
///
/// Call it once per plugin. The type must have the traits that belong to the kinds; see the table at the crate's top.
/// On other targets than `wasm32` it only checks that.
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($kind:ident),+ $(,)?) => {
        $($crate::__export_kind!($plugin, $kind);)+
    };
}

/// One kind of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __export_kind {
    ($plugin:ident, response) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::response::export_response!($plugin with_types_in $crate::bindings::response);
        const _: () = $crate::__export_checks::response::<$plugin>();
    };
    ($plugin:ident, stream) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::stream::export_stream!($plugin with_types_in $crate::bindings::stream);
        const _: () = $crate::__export_checks::stream::<$plugin>();
    };
    ($plugin:ident, auth) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::auth::export_auth!($plugin with_types_in $crate::bindings::auth);
        const _: () = $crate::__export_checks::auth::<$plugin>();
    };
    ($plugin:ident, tools) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::tools::export_tools!($plugin with_types_in $crate::bindings::tools);
        const _: () = $crate::__export_checks::tools::<$plugin>();
    };
    ($plugin:ident, $other:ident) => {
        compile_error!(concat!(
            "unknown kind `",
            stringify!($other),
            "` in export!: use response, stream, auth or tools"
        ));
    };
}

/// What [`export!`] asks of a type, checked on every target.
#[doc(hidden)]
pub mod __export_checks {
    pub const fn response<T: crate::ResponseProcessor>() {}
    pub const fn stream<T: crate::StreamProcessor>() {}
    pub const fn auth<T: crate::AuthPolicy>() {}
    pub const fn tools<T: crate::ToolProvider>() {}
}
