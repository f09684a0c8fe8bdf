//! The tools over REST: `/api/v1/mcp/tools` lists, describes and calls them, `/api/v1/tools/{tool_name}` calls one with a
//! body that is its arguments.
//!
//! A tool has two names here as everywhere, the canonical one and `server__tool`. One that a caller may not use looks like
//! one that does not exist. Definitions are sent as they were written when the tool came in; arguments go to the toolbox as
//! the text they are.

pub(super) mod call;
pub(super) mod list;
mod progress;
mod stream;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::error::ApiError;
use super::state::App;
use crate::access::AccessScope;
use crate::llm::ToolChoice;
use crate::tools::RegisteredTool;

/// The longest part of a name that an error repeats, in bytes; names of tools are much shorter.
const MAX_SHOWN_NAME: usize = 200;

/// The tool's name in a path, decoded. What cannot be decoded is the name of no tool.
#[derive(Debug)]
pub(super) struct ToolName(String);

impl FromRequestParts<App> for ToolName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.map(|Path(name)| Self(name)).map_err(|_| {
            ApiError::not_found(
                "tool_not_found",
                "the name in the path is not UTF-8 text in percent-encoding",
            )
        })
    }
}

/// The tool called `name`, if the caller may see it; waits for servers that are coming up.
async fn find(app: &App, scope: &AccessScope, name: &str) -> Result<Arc<RegisteredTool>, ApiError> {
    app.tools_settled(&ToolChoice::All).await;
    app.toolbox().find(scope, name).ok_or_else(|| not_found(name))
}

fn not_found(name: &str) -> ApiError {
    let shown = name.get(..name.floor_char_boundary(MAX_SHOWN_NAME)).unwrap_or_default();
    ApiError::not_found(
        "tool_not_found",
        format!("there is no tool named `{shown}`; GET /api/v1/mcp/tools lists those there are"),
    )
}
