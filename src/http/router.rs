//! The route table and the ordered list of layers.

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use super::error::ApiError;
use super::middleware::{admission, digest, errors, observe, panic};
use super::state::App;
use super::{
    discovery, health, keys, login, mcp, metrics, openai, openapi, plugins, simple_chat, tools_api, users,
};

/// The whole API over `app`.
pub fn router(app: &App) -> Router {
    let work = Router::new()
        .route("/chat", post(simple_chat::chat))
        .route("/chat/sessions", get(simple_chat::list_sessions))
        .route("/chat/sessions/{id}", get(simple_chat::get_session).delete(simple_chat::delete_session))
        .route("/v1/models", get(openai::list_models))
        .route("/v1/models/{*id}", get(openai::get_model))
        .route("/v1/chat/completions", post(openai::completions))
        .route("/openapi.json", get(openapi::document))
        .route("/api/v1/mcp/tools", get(tools_api::list::list))
        .route("/api/v1/mcp/tools/call", post(tools_api::call::call))
        .route("/api/v1/mcp/tools/{tool_name}", get(tools_api::list::get))
        .route("/api/v1/mcp/tools/{tool_name}/schema", get(tools_api::list::schema))
        .route("/api/v1/tools/{tool_name}", post(tools_api::call::call_one))
        .route("/api/v1/plugins", get(plugins::list))
        .route("/api/v1/plugins/reload", post(plugins::reload))
        .route("/api/v1/plugins/{name}", get(plugins::get))
        .route("/api/v1/login/access-token", post(login::access_token))
        .route("/api/v1/keys", get(keys::list).post(keys::create))
        .route("/api/v1/keys/{id}", get(keys::get).delete(keys::revoke))
        .route("/api/v1/users", get(users::list).post(users::create))
        .route("/api/v1/users/me", get(users::me).patch(users::update_me))
        .route("/api/v1/users/{id}", get(users::get).patch(users::update).delete(users::delete))
        .route("/mcp", get(mcp::all).post(mcp::all).delete(mcp::all))
        .route("/mcp/{server}", get(mcp::one).post(mcp::one).delete(mcp::one))
        .route("/api/v1/mcp", get(mcp::all).post(mcp::all).delete(mcp::all))
        .layer(from_fn_with_state(app.clone(), digest::check))
        .layer(from_fn_with_state(app.clone(), admission::admit));
    let routes = Router::new()
        .route("/", get(health::welcome))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::scrape))
        .route("/.well-known/oauth-protected-resource", get(discovery::metadata))
        .route("/.well-known/oauth-protected-resource/mcp", get(discovery::metadata))
        .route("/.well-known/oauth-protected-resource/mcp/{server}", get(discovery::metadata))
        .route("/.well-known/oauth-protected-resource/api/v1/mcp", get(discovery::metadata))
        .route("/docs", get(openapi::docs::page))
        .route("/docs/{file}", get(openapi::docs::file))
        .merge(work)
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method);
    // Innermost first: a panic becomes an error, errors become bodies, everything gets CORS headers, an id and a log line.
    routes
        .layer(panic::layer())
        .layer(from_fn(errors::render))
        .layer(app.cors())
        .layer(from_fn_with_state(app.clone(), observe::observe))
        .with_state(app.clone())
}

async fn no_such_route(method: Method, uri: Uri) -> ApiError {
    let message =
        format!("there is nothing at {method} {}; GET / lists the places there are", shown(uri.path()));
    ApiError::not_found("unknown_url", message)
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(format!(
        "{method} is not possible on {}; the Allow header names what is",
        shown(uri.path())
    ))
}

/// A path for a message: not longer than is useful.
fn shown(path: &str) -> &str {
    const LONGEST: usize = 200;
    path.get(..LONGEST).unwrap_or(path)
}
