//! `GET /openapi.json`: what the gateway serves, as an OpenAPI 3.1 document, and `GET /docs`, a page to read and try it.
//!
//! Every handler carries its own description (`#[utoipa::path]`); what is the same everywhere, the errors and the
//! credentials, is added here. Callers who may list tools find one operation for each tool they see, with the tool's own
//! schemas; everybody else finds the gateway's own operations, which are no secret.

pub(super) mod accounts;
mod common;
pub(super) mod docs;
mod embed;
mod mcp;
pub(super) mod schemas;
mod schemas_of_tools;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::{LazyLock, Mutex, PoisonError};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use lru::LruCache;
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::OpenApi;

use super::caller::Reader;
use super::health::json_bytes;
use super::state::App;
use super::tools_api::list::{tag_of, tagged};
use super::{health, keys, login, metrics, openai, plugins, simple_chat, tools_api, users};
use crate::llm::ToolChoice;

/// Documents kept: as many sets of visible tools as there are kinds of callers.
const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "witgate",
        description = "Chat with language models that use MCP and WebAssembly tools, and the tools themselves.\n\n\
            With a key that has the scope `tools:list`, this document has one operation for each tool.",
        license(name = "MIT", identifier = "MIT")
    ),
    tags(
        (name = "chat", description = "The simple chat API: sessions are kept by the gateway"),
        (name = "openai", description = "The OpenAI-compatible API"),
        (name = "tools", description = "The tools: list, describe, call"),
        (name = "mcp", description = "The tools as an MCP server"),
        (name = "each tool", description = "One operation for each tool"),
        (name = "accounts", description = "Users and API keys"),
        (name = "operations", description = "For operators"),
        (name = "about", description = "What is here, and how it is")
    ),
    paths(
        simple_chat::chat,
        simple_chat::list_sessions,
        simple_chat::get_session,
        simple_chat::delete_session,
        openai::list_models,
        openai::get_model,
        openai::completions,
        tools_api::list::list,
        tools_api::list::get,
        tools_api::list::schema,
        tools_api::call::call,
        tools_api::call::call_one,
        login::access_token,
        keys::create,
        keys::list,
        keys::get,
        keys::revoke,
        users::create,
        users::list,
        users::get,
        users::update,
        users::delete,
        users::me,
        users::update_me,
        plugins::list,
        plugins::get,
        plugins::reload,
        metrics::scrape,
        health::welcome,
        health::alive,
        health::ready,
        document,
        docs::page,
        docs::file,
    ),
    components(schemas(schemas::ErrorDetail, schemas::OpenAiError))
)]
struct Described;

/// What there is for everybody.
static STATIC: LazyLock<Value> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Described::openapi()).unwrap_or_default();
    mcp::add(&mut document);
    common::complete(&mut document);
    document
});

/// The documents made so far, by their tags.
pub(super) struct Documents(Mutex<LruCache<String, Bytes>>);

impl Default for Documents {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl Documents {
    /// The document called `tag`, made by `make` if it is not there.
    fn get(&self, tag: &str, make: impl FnOnce() -> Value) -> Bytes {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tag) {
            return known.clone();
        }
        let made = Bytes::from(make().to_string());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(tag.to_owned(), made.clone());
        made
    }
}

/// This document
///
/// With a credential that has the scope `tools:list`, there is one operation for each tool that it may see.
#[utoipa::path(
    get, path = "/openapi.json", tag = "about", operation_id = "openapi",
    params(("if-none-match" = Option<String>, Header, description = "the `ETag` of the document you have")),
    responses(
        (status = 200, description = "an OpenAPI 3.1 document", body = Object, content_type = "application/json"),
        (status = 304, description = "it has not changed"),
    )
)]
pub(super) async fn document(State(app): State<App>, Reader(lister): Reader, headers: HeaderMap) -> Response {
    let tools = match &lister {
        Some(scope) => {
            app.tools_settled(&ToolChoice::All).await;
            app.toolbox().visible(scope)
        }
        None => Vec::new(),
    };
    static DIGEST: LazyLock<[u8; 32]> = LazyLock::new(|| Sha256::digest(STATIC.to_string()).into());
    let tag = tag_of([&*DIGEST].into_iter().chain(tools.iter().map(|tool| &tool.definition_digest)));
    tagged(&headers, &tag, || {
        json_bytes(app.documents().get(&tag, || schemas_of_tools::with_tools(STATIC.clone(), &tools)))
    })
}
