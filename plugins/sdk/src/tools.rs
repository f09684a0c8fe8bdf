//! Bringing tools.
//!
//! A tool is a struct: its fields are the arguments, [`Tool::call`] does the work.
//!
//! ```
//! use serde::Deserialize;
//! use witgate_plugin::tools::Entry;
//! use witgate_plugin::{CallContext, Tool, ToolError, ToolProvider, ToolResult};
//!
//! #[derive(Deserialize)]
//! struct Add {
//!     a: f64,
//!     b: f64,
//! }
//!
//! impl Tool for Add {
//!     const NAME: &str = "add";
//!     const DESCRIPTION: &str = "Adds two numbers.";
//!     const INPUT_SCHEMA: &str = r#"{
//!         "type": "object",
//!         "properties": { "a": { "type": "number" }, "b": { "type": "number" } },
//!         "required": ["a", "b"],
//!         "additionalProperties": false
//!     }"#;
//!
//!     fn call(self, _ctx: &CallContext) -> Result<ToolResult, ToolError> {
//!         Ok(ToolResult::text((self.a + self.b).to_string()))
//!     }
//! }
//!
//! struct Plugin;
//!
//! impl ToolProvider for Plugin {
//!     const TOOLS: &[Entry] = &[Entry::of::<Add>()];
//! }
//!
//! witgate_plugin::export!(Plugin: tools);
//!
//! let sum = Plugin::call(&CallContext::default(), "add", r#"{ "a": 1, "b": 2 }"#)?;
//! assert_eq!(sum, ToolResult::text("3"));
//! # Ok::<(), ToolError>(())
//! ```

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::tools::exports::witgate::plugin::tools::Guest;
use crate::types::{Error, Principal, PrincipalKind};

pub use crate::bindings::tools::exports::witgate::plugin::tools::{
    CallContext, ContentBlock, Media, ResourceLink, ToolAnnotations, ToolDefinition, ToolError, ToolResult,
};

/// One tool. The type's fields are its arguments.
pub trait Tool: DeserializeOwned {
    /// Its name: letters, digits, `_` and `-`, at most 64.
    const NAME: &str;
    /// A title for people.
    const TITLE: Option<&str> = None;
    /// What it does, for models and people.
    const DESCRIPTION: &str;
    /// JSON Schema of the arguments object. The gateway refuses arguments that do not fit before the plugin sees them.
    const INPUT_SCHEMA: &str;
    /// JSON Schema of the structured result, if it has one.
    const OUTPUT_SCHEMA: Option<&str> = None;
    /// Hints about its behaviour; none means unknown.
    const ANNOTATIONS: ToolAnnotations = ToolAnnotations::UNKNOWN;

    /// Does the work.
    ///
    /// # Errors
    /// Where the call gives no result at all. A failure that the model should read and perhaps mend is a
    /// [`ToolResult::error`].
    fn call(self, ctx: &CallContext) -> Result<ToolResult, ToolError>;
}

/// Brings tools. Export it with `export!(TYPE: tools)`.
///
/// A plugin with a fixed set of tools names them in [`TOOLS`](Self::TOOLS). One whose tools depend on its configuration has
/// own functions `list` and `call`.
pub trait ToolProvider {
    /// The tools.
    const TOOLS: &[Entry] = &[];

    /// The tools as the gateway lists them. Called when the plugin is loaded.
    ///
    /// # Errors
    /// An error keeps the plugin from being loaded.
    fn list() -> Result<Vec<ToolDefinition>, Error> {
        Ok(Self::TOOLS.iter().map(|entry| (entry.definition)()).collect())
    }

    /// Calls a tool with arguments (a JSON object) that fit its schema.
    ///
    /// # Errors
    /// Where there is no such tool, and what the tool returns.
    fn call(ctx: &CallContext, name: &str, arguments_json: &str) -> Result<ToolResult, ToolError> {
        let Some(entry) = Self::TOOLS.iter().find(|entry| entry.name == name) else {
            return Err(ToolError::NotFound(format!("this plugin has no tool `{name}`")));
        };
        (entry.call)(ctx, arguments_json)
    }
}

/// A [`Tool`] in the list of a [`ToolProvider`].
#[derive(Clone, Copy)]
pub struct Entry {
    name: &'static str,
    definition: fn() -> ToolDefinition,
    call: fn(&CallContext, &str) -> Result<ToolResult, ToolError>,
}

impl Entry {
    /// The entry of a tool.
    #[must_use]
    pub const fn of<T: Tool>() -> Self {
        Self { name: T::NAME, definition: define::<T>, call: call::<T> }
    }
}

fn define<T: Tool>() -> ToolDefinition {
    ToolDefinition {
        name: T::NAME.into(),
        title: T::TITLE.map(Into::into),
        description: T::DESCRIPTION.into(),
        input_schema_json: T::INPUT_SCHEMA.into(),
        output_schema_json: T::OUTPUT_SCHEMA.map(Into::into),
        annotations: T::ANNOTATIONS,
    }
}

fn call<T: Tool>(ctx: &CallContext, arguments_json: &str) -> Result<ToolResult, ToolError> {
    let tool: T = serde_json::from_str(arguments_json)
        .map_err(|error| ToolError::InvalidArguments(format!("arguments of `{}`: {error}", T::NAME)))?;
    tool.call(ctx)
}

impl<T: ToolProvider> Guest for T {
    fn list_tools() -> Result<Vec<ToolDefinition>, Error> {
        crate::runtime::start();
        T::list()
    }

    fn call_tool(ctx: CallContext, name: String, arguments_json: String) -> Result<ToolResult, ToolError> {
        crate::runtime::start();
        T::call(&ctx, &name, &arguments_json)
    }
}

impl ToolResult {
    /// A text for the model.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: vec![ContentBlock::Text(text.into())], structured_json: None, is_error: false }
    }

    /// A structured result: an object, also given as text for models that read text only.
    ///
    /// # Errors
    /// Where the value cannot be written as JSON, or is not an object.
    pub fn json<T: Serialize>(value: &T) -> Result<Self, ToolError> {
        let json = serde_json::to_string(value).map_err(ToolError::failed)?;
        if !json.starts_with('{') {
            return Err(ToolError::failed("a structured result must be an object"));
        }
        Ok(Self {
            content: vec![ContentBlock::Text(json.clone())],
            structured_json: Some(json),
            is_error: false,
        })
    }

    /// The tool failed; the model reads why and may try something else.
    #[must_use]
    pub fn error(why: impl Into<String>) -> Self {
        Self { is_error: true, ..Self::text(why) }
    }
}

impl ToolError {
    /// The arguments do not make sense, though they fit the schema.
    pub fn invalid_arguments(why: impl Display) -> Self {
        Self::InvalidArguments(why.to_string())
    }

    /// Anything that is neither an unknown tool nor a wrong argument.
    pub fn failed(why: impl Display) -> Self {
        Self::Failed(why.to_string())
    }
}

impl From<Error> for ToolError {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidInput(why) => Self::InvalidArguments(why),
            Error::Denied(why) => Self::Failed(format!("denied: {why}")),
            Error::Upstream(why) => Self::Failed(format!("a service it depends on failed: {why}")),
            Error::RetryAfter(seconds) => Self::Failed(format!("busy: try again after {seconds} seconds")),
            Error::Internal(why) => Self::Failed(why),
        }
    }
}

impl ToolAnnotations {
    /// Nothing is known about the tool.
    pub const UNKNOWN: Self =
        Self { read_only_hint: None, destructive_hint: None, idempotent_hint: None, open_world_hint: None };

    /// Changes nothing and does not deal with the world outside: a calculation, a lookup.
    pub const PURE: Self = Self {
        read_only_hint: Some(true),
        destructive_hint: Some(false),
        idempotent_hint: Some(true),
        open_world_hint: Some(false),
    };

    /// Changes nothing, but reads from the world outside.
    pub const READS_WORLD: Self = Self { open_world_hint: Some(true), ..Self::PURE };
}

/// For tests: request and call `test`, no session, an anonymous principal.
impl Default for CallContext {
    fn default() -> Self {
        Self {
            request_id: "test".into(),
            call_id: "test".into(),
            session_id: None,
            principal: Principal::new("anonymous", PrincipalKind::Anonymous),
        }
    }
}
