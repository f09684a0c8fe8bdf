//! Who is asking: every endpoint but `/`, `/healthz` and `/readyz` takes one of these, which asks the access chain.
//!
//! The caller is known before the body is read, so that a stranger's upload is never awaited. Who changes users or keys is
//! looked at again when the body is there: it may have been shut out while it took its time.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::Deserialize;

use super::error::ApiError;
use super::extract::read_json_at_most;
use super::rebinding;
use super::state::App;
use crate::access::accounts::UserId;
use crate::access::{AccessError, AccessScope, Credential, Door, Entry, Grants};
use crate::audit::{AuditEvent, AuditOutcome, AuditSubject};
use crate::chat::TurnContext;
use crate::domain::{HttpFacts, Principal, PrincipalKind, RequestId, TraceId};
use crate::llm::ToolChoice;

/// The largest body that changes a user or a key, in bytes: enough for the longest lists.
const MAX_CHANGE_BYTES: usize = 1024 * 1024;

/// Who sent a request to a chat endpoint.
#[derive(Debug)]
pub(super) struct Caller {
    scope: AccessScope,
    /// Path of the endpoint.
    endpoint: String,
}

impl Caller {
    /// Who that is.
    pub(super) fn principal(&self) -> &Principal {
        self.scope.principal()
    }

    /// What it may do.
    pub(super) fn scope(&self) -> &AccessScope {
        &self.scope
    }

    /// The context of a turn for this caller with `tools`.
    pub(super) fn turn(self, tools: ToolChoice) -> TurnContext {
        TurnContext::new(self.scope, tools).at(&self.endpoint)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let scope = Box::pin(enter(parts, app, Door::Chat)).await?;
        Ok(Self { scope, endpoint: parts.uri.path().to_owned() })
    }
}

/// Somebody who may list and describe tools: always authenticated, with the scope `tools:list`.
#[derive(Debug)]
pub(super) struct ToolLister(pub(super) AccessScope);

impl FromRequestParts<App> for ToolLister {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Box::pin(enter(parts, app, Door::Guarded("tools:list"))).await.map(Self)
    }
}

/// Somebody who may call some tools: always authenticated, with the scope `tools:call`, narrowed or not.
#[derive(Debug)]
pub(super) struct ToolCaller(pub(super) AccessScope);

impl FromRequestParts<App> for ToolCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Box::pin(enter(parts, app, Door::Guarded("tools:call"))).await.map(Self)
    }
}

/// Somebody who may look after plugins: always authenticated, with the scope `plugins`.
#[derive(Debug)]
pub(super) struct Operator(pub(super) AccessScope);

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Box::pin(enter(parts, app, Door::Guarded("plugins"))).await.map(Self)
    }
}

/// Somebody who is known, whatever it may do: always authenticated.
#[derive(Debug)]
pub(super) struct Member {
    scope: AccessScope,
    /// Method and path of the request.
    asked: String,
}

impl Member {
    async fn at(parts: &Parts, app: &App, door: Door) -> Result<Self, ApiError> {
        let scope = Box::pin(enter(parts, app, door)).await?;
        Ok(Self { scope, asked: format!("{} {}", parts.method, parts.uri.path()) })
    }

    /// Who sent a request, and its body.
    async fn with_body(request: Request, app: &App, door: Door) -> Result<(Self, Bytes), ApiError> {
        let (parts, body) = request.into_parts();
        let in_query = query_key(&parts);
        let presented = presented(&parts, in_query.as_deref());
        let is_known = app.access().knows(presented);
        let mut member = Self::at(&parts, app, door).await?;
        let body = read_json_at_most(app, &parts.headers, body, MAX_CHANGE_BYTES).await?;
        if is_known {
            member.scope = app.access().again(member.scope, presented, &member.asked)?;
        }
        Ok((member, body))
    }

    /// What it may do.
    pub(super) fn grants(&self) -> &Grants {
        self.scope.grants()
    }

    /// True for those with the scope `admin`.
    pub(super) fn is_admin(&self) -> bool {
        self.scope.has("admin")
    }

    /// The user who logged in, or whose key it is; `None` for callers who are no users of the gateway.
    pub(super) fn user_id(&self) -> Option<UserId> {
        let own = || self.scope.principal().id.as_str();
        let id = self.scope.owner().map_or_else(own, |owner| owner.id.as_str());
        id.strip_prefix("user:")?.parse().ok()
    }

    /// The id of the API key that was presented, or `static`; `None` where it was none.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.scope.principal().id.strip_prefix("key:")
    }

    /// The other side of the connection.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.scope.subject().peer
    }

    /// `decided`; where that is a refusal of what the caller asked for, it is written down.
    pub(super) fn noted<T>(&self, app: &App, decided: Result<T, ApiError>) -> Result<T, ApiError> {
        decided.inspect_err(|error| {
            if error.status() == StatusCode::FORBIDDEN {
                let outcome = AuditOutcome::Denied { rule: "scope".to_owned(), status: 403 };
                app.audit().record(AuditEvent { outcome, ..self.event("denied", self.asked.clone()) });
            }
        })
    }

    /// That this caller did `action` to `target`, for the audit log.
    pub(super) fn event(&self, action: &'static str, target: String) -> AuditEvent {
        AuditEvent::new(self.scope.subject(), self.scope.request_id().clone(), "rest", action, target)
    }
}

impl FromRequestParts<App> for Member {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Self::at(parts, app, Door::Known).await
    }
}

/// Somebody who may look after users: always authenticated, with the scope `admin`.
#[derive(Debug)]
pub(super) struct Admin(pub(super) Member);

impl FromRequestParts<App> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Member::at(parts, app, Door::Guarded("admin")).await.map(Self)
    }
}

/// A [`Member`] and what it wants to change, in JSON.
#[derive(Debug)]
pub(super) struct FromMember(pub(super) Member, pub(super) Bytes);

impl FromRequest<App> for FromMember {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (member, body) = Member::with_body(request, app, Door::Known).await?;
        Ok(Self(member, body))
    }
}

/// An [`Admin`] and what it wants to change, in JSON.
#[derive(Debug)]
pub(super) struct FromAdmin(pub(super) Member, pub(super) Bytes);

impl FromRequest<App> for FromAdmin {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (member, body) = Member::with_body(request, app, Door::Guarded("admin")).await?;
        Ok(Self(member, body))
    }
}

/// Somebody who may be anybody: nobody is asked who it is.
#[derive(Debug)]
pub(super) struct Visitor {
    /// The request.
    pub(super) request_id: RequestId,
    /// The other side of the connection, where there is one.
    pub(super) peer: Option<IpAddr>,
    /// The trace it says it belongs to.
    pub(super) trace_id: Option<TraceId>,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        Ok(Self { request_id: request_id(parts), peer: peer(parts), trace_id: trace_id(parts) })
    }
}

/// Somebody who may read metrics: always authenticated, with the scope `metrics`.
#[derive(Debug)]
pub(super) struct Scraper;

impl FromRequestParts<App> for Scraper {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Box::pin(enter(parts, app, Door::Guarded("metrics"))).await.map(|_scope| Self)
    }
}

/// A reader of the document: `None` for somebody who may see no tools in it.
pub(super) struct Reader(pub(super) Option<AccessScope>);

impl FromRequestParts<App> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match Box::pin(ask(parts, app, Door::Document)).await {
            Ok(scope) => Ok(Self(Some(scope))),
            Err(refusal) if Door::Document.opens_without(&refusal) => Ok(Self(None)),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

pub(super) async fn enter(parts: &Parts, app: &App, door: Door) -> Result<AccessScope, ApiError> {
    Ok(ask(parts, app, door).await?)
}

async fn ask(parts: &Parts, app: &App, door: Door) -> Result<AccessScope, AccessError> {
    let in_query = match door {
        Door::Chat => None,
        Door::Guarded(_) | Door::Mcp | Door::Document | Door::Known | Door::CommandLine => query_key(parts),
    };
    let credential = presented(parts, in_query.as_deref());
    let (request_id, trace_id) = (request_id(parts), trace_id(parts));
    let rate_slot = parts.extensions.get();
    let page = rebinding::foreign_page(parts, app.server(), app.cors_config());
    let foreign_page = page.as_ref();
    let entry = Entry { request_id, door, credential, peer: peer(parts), trace_id, foreign_page, rate_slot };
    let scope = app.access().enter(entry, || facts(parts)).await?;
    if let Some(page) = page.filter(|page| page.is_certain && is_anonymous(&scope)) {
        tracing::info!(
            page = page.address,
            "what may be a web page that nobody vouches for gets no tools: name it in cors.allow_origins, or a name of this \
             gateway in server.allowed_hosts"
        );
    }
    tracing::Span::current().record("principal", scope.principal().id.as_str());
    Ok(scope)
}

/// Whether nobody vouches for the caller.
pub(super) fn is_anonymous(scope: &AccessScope) -> bool {
    scope.principal().kind == PrincipalKind::Anonymous
}

/// Writes down that `rule` keeps a web page away from the MCP server, before anybody looks at its key.
pub(super) fn note_refused_page(parts: &Parts, app: &App, rule: &'static str) {
    let nobody = AuditSubject::from(&Principal::anonymous());
    let subject = AuditSubject { peer: peer(parts), trace_id: trace_id(parts), ..nobody };
    let target = format!("{} {}", parts.method, parts.uri.path());
    let event = AuditEvent::new(subject, request_id(parts), "mcp", "denied", target);
    let outcome = AuditOutcome::Denied { rule: rule.to_owned(), status: 403 };
    app.audit().record(AuditEvent { outcome, ..event });
}

/// The presented key: in a header, else in the query.
fn presented<'a>(parts: &'a Parts, in_query: Option<&'a str>) -> Credential<'a> {
    match (credential(&parts.headers), in_query) {
        (Credential::None, Some(key)) => Credential::Key(key),
        (presented, _) => presented,
    }
}

/// The presented key: `Authorization: Bearer`, else `X-API-KEY`.
fn credential(headers: &HeaderMap) -> Credential<'_> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let Ok(text) = value.to_str() else { return Credential::Unreadable };
        if let Some((scheme, key)) = text.trim().split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
        {
            return Credential::Key(key.trim());
        }
    }
    match headers.get("x-api-key").map(|value| value.to_str()) {
        None => Credential::None,
        Some(Ok(key)) => Credential::Key(key.trim()),
        Some(Err(_)) => Credential::Unreadable,
    }
}

/// `?apikey=`, which only the endpoints under `/api/v1` take: addresses end up in logs and histories.
fn query_key(parts: &Parts) -> Option<String> {
    #[derive(Deserialize)]
    struct Keyed {
        apikey: Option<String>,
    }
    if !parts.uri.path().starts_with("/api/v1/") {
        return None;
    }
    Query::<Keyed>::try_from_uri(&parts.uri).ok()?.0.apikey
}

/// The request as policies may come to see it.
fn facts(parts: &Parts) -> HttpFacts {
    let authority = parts.uri.authority().map(|authority| Cow::from(authority.as_str()));
    let host = || parts.headers.get(header::HOST).and_then(|value| value.to_str().ok()).map(Cow::from);
    let text = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
        Some((name.as_str().to_owned(), std::str::from_utf8(value.as_bytes()).ok()?.to_owned()))
    };
    HttpFacts {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        authority: authority.or_else(host).map(Cow::into_owned),
        headers: parts.headers.iter().filter_map(text).collect(),
        peer: peer(parts),
    }
}

/// Absent only where the router is used without its layers.
fn request_id(parts: &Parts) -> RequestId {
    parts.extensions.get().cloned().unwrap_or_else(RequestId::generate)
}

fn trace_id(parts: &Parts) -> Option<TraceId> {
    let header = parts.headers.get("traceparent").and_then(|value| value.to_str().ok());
    header.and_then(TraceId::from_traceparent)
}

fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_bearer_token_comes_before_the_api_key() {
        let presented = |pairs: &[(&'static str, &str)], expected: Credential<'_>| {
            assert_eq!(credential(&headers(pairs)), expected, "{pairs:?}");
        };
        presented(&[], Credential::None);
        presented(&[("authorization", "Bearer a"), ("x-api-key", "b")], Credential::Key("a"));
        presented(&[("authorization", "bearer  a ")], Credential::Key("a"));
        presented(&[("authorization", "Basic eA=="), ("x-api-key", "b")], Credential::Key("b"));
        presented(&[("authorization", "Bearer ä")], Credential::Unreadable);
        presented(&[("x-api-key", "ä")], Credential::Unreadable);
    }

    fn parts(uri: &str) -> Parts {
        let request = Request::get(uri).header("host", "a.example").header("x-Name", "v").body(());
        request.unwrap().into_parts().0
    }

    #[test]
    fn keys_in_addresses_are_taken_in_one_place_only() {
        assert_eq!(query_key(&parts("/api/v1/plugins?x=1&apikey=a%20b")).as_deref(), Some("a b"));
        assert_eq!(query_key(&parts("/v1/models?apikey=a")), None);
        assert_eq!(query_key(&parts("/api/v1/plugins")), None);
    }

    #[test]
    fn facts_are_what_was_sent() {
        let mut sent = parts("/v1/a%20b?q=1");
        sent.extensions.insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 99))));
        let facts = facts(&sent);
        assert_eq!((facts.method.as_str(), facts.path.as_str()), ("GET", "/v1/a%20b"));
        assert_eq!((facts.query.as_deref(), facts.authority.as_deref()), (Some("q=1"), Some("a.example")));
        assert_eq!(facts.headers[1], ("x-name".to_owned(), "v".to_owned()));
        assert_eq!(facts.peer.unwrap().to_string(), "192.0.2.1");
    }
}
