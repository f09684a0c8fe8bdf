//! Which tools there are: the list with its filters, one tool, its input schema.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{ToolName, find};
use crate::http::caller::ToolLister;
use crate::http::error::ApiError;
use crate::http::health::{json_bytes, json_response};
use crate::http::openapi::schemas;
use crate::http::state::App;
use crate::llm::ToolChoice;
use crate::tools::RegisteredTool;

/// The tools you may use
#[utoipa::path(
    get, path = "/api/v1/mcp/tools", tag = "tools", operation_id = "listTools",
    params(
        ("server" = Option<String>, Query, description = "only those of this MCP server or plugin"),
        ("q" = Option<String>, Query, description = "only those with this text in their name, title or description"),
        ("if-none-match" = Option<String>, Header, description = "the `ETag` of what you have"),
    ),
    responses(
        (status = 200, description = "the tools", body = [schemas::ToolDefinition],
            headers(("etag" = String, description = "changes with the list"))),
        (status = 304, description = "it has not changed"),
    )
)]
pub(in crate::http) async fn list(
    State(app): State<App>,
    ToolLister(scope): ToolLister,
    filter: Filter,
    headers: HeaderMap,
) -> Response {
    app.tools_settled(&ToolChoice::All).await;
    let mut tools = app.toolbox().visible(&scope);
    tools.retain(|tool| filter.fits(tool));
    let tag = tag_of(tools.iter().map(|tool| &tool.definition_digest));
    tagged(&headers, &tag, || json_bytes(array(&tools)))
}

/// One tool
#[utoipa::path(
    get, path = "/api/v1/mcp/tools/{tool_name}", tag = "tools", operation_id = "getTool",
    params(
        ("tool_name" = String, Path, description = "the tool's canonical name, or `server__tool`"),
        ("if-none-match" = Option<String>, Header, description = "the `ETag` of what you have"),
    ),
    responses((status = 200, description = "the tool", body = schemas::ToolDefinition), (status = 304, description = "it has not changed"))
)]
pub(in crate::http) async fn get(
    State(app): State<App>,
    ToolLister(scope): ToolLister,
    ToolName(name): ToolName,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tool = find(&app, &scope, &name).await?;
    let tag = tag_of([&tool.definition_digest]);
    Ok(tagged(&headers, &tag, || json_bytes(tool.definition_json.clone())))
}

/// The JSON Schema of a tool's arguments
#[utoipa::path(
    get, path = "/api/v1/mcp/tools/{tool_name}/schema", tag = "tools", operation_id = "getToolSchema",
    params(
        ("tool_name" = String, Path, description = "the tool's canonical name, or `server__tool`"),
        ("if-none-match" = Option<String>, Header, description = "the `ETag` of what you have"),
    ),
    responses((status = 200, description = "the schema", body = Object), (status = 304, description = "it has not changed"))
)]
pub(in crate::http) async fn schema(
    State(app): State<App>,
    ToolLister(scope): ToolLister,
    ToolName(name): ToolName,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tool = find(&app, &scope, &name).await?;
    let tag = tag_of([&tool.definition_digest]);
    Ok(tagged(&headers, &tag, || json_response(&tool.definition.input_schema)))
}

/// `?server=&q=`; whatever else is in the query (`apikey` is) is not looked at.
#[derive(Debug, Default)]
pub(in crate::http) struct Filter {
    server: Option<String>,
    /// Folded, see [`fold`].
    text: Option<String>,
}

impl FromRequestParts<App> for Filter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Wanted {
            server: Option<String>,
            q: Option<String>,
        }
        let wanted = Query::<Wanted>::try_from_uri(&parts.uri);
        let Query(Wanted { server, q }) = wanted.map_err(|_| {
            ApiError::bad_request(None, "`server` and `q` in the query can be given once each")
        })?;
        // Forms send fields that nobody filled in.
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self { server: filled(server), text: filled(q).map(|q| fold(&q)) })
    }
}

impl Filter {
    fn fits(&self, tool: &RegisteredTool) -> bool {
        let definition = &tool.definition;
        let of_server = self.server.is_none() || self.server == definition.server;
        of_server
            && self.text.as_ref().is_none_or(|text| {
                let title = definition.title.as_deref().unwrap_or_default();
                [&definition.name, title, &definition.description]
                    .iter()
                    .any(|place| fold(place).contains(text))
            })
    }
}

/// `text` in a form in which letters that differ only in case are the same, in all scripts that have cases.
fn fold(text: &str) -> String {
    // Up first: so the two small sigmas, or ß and its capital form, become one.
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// The definitions as one JSON array.
fn array(tools: &[Arc<RegisteredTool>]) -> Bytes {
    let length: usize = tools.iter().map(|tool| tool.definition_json.len() + 1).sum();
    let mut out = BytesMut::with_capacity(length + 2);
    out.put_u8(b'[');
    for (at, tool) in tools.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(&tool.definition_json);
    }
    out.put_u8(b']');
    out.freeze()
}

/// A strong tag for what is made of `digests` and nothing else, the same on every gateway that offers the same.
pub(in crate::http) fn tag_of<'a>(digests: impl IntoIterator<Item = &'a [u8; 32]>) -> String {
    let mut all = Sha256::new();
    digests.into_iter().for_each(|digest| all.update(digest));
    let hex: String = all.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// The response that `whole` makes, or 304 where the client has it already (RFC 9110, 13.1.2).
pub(in crate::http) fn tagged(headers: &HeaderMap, tag: &str, whole: impl FnOnce() -> Response) -> Response {
    let mut sent = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = sent.any(|value| {
        let mut tags = value.split(',').map(str::trim);
        tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
    });
    let mut response = if is_known { StatusCode::NOT_MODIFIED.into_response() } else { whole() };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    // For this caller, and to be asked for again each time: tools come and go.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.append(header::VARY, HeaderValue::from_static("authorization, x-api-key"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_makes_cases_the_same() {
        for (one, other) in [("READ", "read"), ("Ärger", "äRGER"), ("ΟΔΟΣ", "οδος"), ("STRASSE", "straße")]
        {
            assert_eq!(fold(one), fold(other));
        }
        assert_eq!(fold("流浪地球"), "流浪地球");
    }

    #[test]
    fn tags_are_compared_as_lists() {
        let answer = |sent: &'static str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(sent))]);
            tagged(&headers, "\"a\"", || StatusCode::OK.into_response()).status().as_u16()
        };
        for known in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert_eq!(answer(known), 304, "{known}");
        }
        for unknown in ["\"b\"", "a", "", "\"a"] {
            assert_eq!(answer(unknown), 200, "{unknown}");
        }
    }
}
