//! `POST /api/v1/login/access-token`: a name and a password for an access token.
//!
//! Takes a form, as OAuth 2 has it (RFC 6749, 4.3.2), or the same fields as JSON. The body is never logged; what is
//! wrong with a login is told without saying whether there is such a user.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::Bytes;
use serde_json::json;

use super::caller::Visitor;
use super::error::ApiError;
use super::extract::{is_json, read_at_most};
use super::health::json_response;
use super::known_fields::KnownFields;
use super::openapi::accounts as shapes;
use super::state::App;
use super::users::NO_STORE;
use crate::access::accounts::{LoginError, Role};
use crate::audit::{AuditEvent, AuditOutcome, AuditSubject};
use crate::config::secret::Secret;

/// The largest body, in bytes: a name and a password, each character of which may be written as three.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// What clients of OAuth 2 send as well; none of it means anything here.
const IGNORED: [&str; 4] = ["grant_type", "scope", "client_id", "client_secret"];

/// Log in
///
/// Takes a form, as OAuth 2 has it, or the same fields as JSON.
#[utoipa::path(
    post, path = "/api/v1/login/access-token", tag = "accounts", operation_id = "login",
    request_body(content(
        (shapes::Login = "application/x-www-form-urlencoded"),
        (shapes::Login = "application/json"),
    )),
    responses((status = 200, description = "an access token", body = shapes::AccessToken))
)]
pub(super) async fn access_token(
    State(app): State<App>,
    visitor: Visitor,
    Credentials { username, password }: Credentials,
) -> Result<Response, ApiError> {
    let result = app.login(&username, password, visitor.peer).await;
    tell(&app, visitor, username, result.as_ref().map(|login| login.user.id)).await;
    let login = result.map_err(|error| told(error, ApiError::login_refused))?;
    let mut response = json_response(&json!({
        "access_token": login.token.expose(),
        "token_type": "bearer",
        "expires_in": login.expires_in,
        "user_id": login.user.id,
        "user_name": login.user.name,
        "super_user": login.user.role == Role::Admin,
    }));
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// A login that failed, as it is told; `refused` tells of a wrong name or password.
pub(super) fn told(error: LoginError, refused: impl FnOnce(String) -> ApiError) -> ApiError {
    match error {
        LoginError::Refused => refused(error.to_string()),
        other => other.into(),
    }
}

/// Writes a login down. A name that nobody has is not: it may be a password in the wrong field. The answer does not wait for
/// the search of the name.
async fn tell(app: &App, visitor: Visitor, username: String, result: Result<i64, &LoginError>) {
    if !app.audit().is_on() {
        return;
    }
    let outcome = match result {
        Ok(_) => AuditOutcome::Success,
        Err(LoginError::Refused) => AuditOutcome::Denied { rule: "password".to_owned(), status: 401 },
        Err(LoginError::TooManyAttempts(_)) => {
            AuditOutcome::Denied { rule: "login_throttle".to_owned(), status: 429 }
        }
        Err(LoginError::Busy(_)) => AuditOutcome::Denied { rule: "login_places".to_owned(), status: 503 },
        Err(LoginError::Store(_)) => AuditOutcome::Failed("the database failed".to_owned()),
    };
    let (log, searched) = (app.audit().clone(), username.clone());
    let write = move |user: Option<i64>| {
        let known = user.map(|id| format!("user:{id}"));
        let is_in = outcome == AuditOutcome::Success;
        let principal = known.clone().filter(|_| is_in).unwrap_or_else(|| "anonymous".to_owned());
        let name = known.is_some().then_some(username);
        let subject = AuditSubject { principal, name, peer: visitor.peer, trace_id: visitor.trace_id };
        let target = known.unwrap_or_else(|| "unknown user".to_owned());
        let event = AuditEvent::new(subject, visitor.request_id, "rest", "login", target);
        log.record(AuditEvent { outcome, ..event });
    };
    match (result, app.accounts()) {
        (Ok(id), _) => write(Some(id)),
        (Err(_), Ok(accounts)) => accounts.tell_whose_name(&searched, write).await,
        (Err(_), Err(_)) => write(None),
    }
}

/// A name and a password. No `Debug` shows the password.
#[derive(Debug)]
pub(super) struct Credentials {
    username: String,
    password: Secret,
}

impl FromRequest<App> for Credentials {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (parts, body): (_, Body) = request.into_parts();
        let is_form = is_form(&parts.headers);
        if !is_form && !is_json(&parts.headers) {
            return Err(ApiError::no_form());
        }
        let body = read_at_most(app, &parts.headers, body, MAX_BODY_BYTES).await?;
        if is_form { from_form(&body) } else { from_json(&body) }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn from_form(body: &Bytes) -> Result<Credentials, ApiError> {
    let (mut username, mut password) = (None, None);
    for (name, value) in url::form_urlencoded::parse(body) {
        let place: &mut Option<Cow<'_, str>> = match name.as_ref() {
            "username" => &mut username,
            "password" => &mut password,
            // Fields beyond those of OAuth are no danger in a form, and forms tend to have some.
            _ => continue,
        };
        if place.replace(value).is_some() {
            let words = format!("the field `{name}` is there twice");
            return Err(ApiError::bad_request(Some(&name), words));
        }
    }
    let needed = |value: Option<Cow<'_, str>>, name: &str| match value {
        Some(value) if !value.is_empty() => Ok(value.into_owned()),
        _ => Err(ApiError::bad_request(Some(name), format!("the form has no `{name}`"))),
    };
    Ok(Credentials {
        username: needed(username, "username")?,
        password: needed(password, "password")?.into(),
    })
}

fn from_json(body: &Bytes) -> Result<Credentials, ApiError> {
    const TEXT: &str = "a string that is not empty";
    let mut fields = KnownFields::of(body)?;
    let username: String = fields.need("username", TEXT)?;
    let password: Secret = fields.need("password", TEXT)?;
    for name in IGNORED {
        fields.take::<serde::de::IgnoredAny>(name, "anything")?;
    }
    fields.end()?;
    let empty = |name: &str| ApiError::bad_request(Some(name), format!("`{name}` must be {TEXT}"));
    match (username.is_empty(), password.is_empty()) {
        (true, _) => Err(empty("username")),
        (_, true) => Err(empty("password")),
        _ => Ok(Credentials { username, password }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &'static str) -> Result<Credentials, ApiError> {
        from_form(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn forms_are_decoded() {
        let found = form("grant_type=password&username=a+b%C3%A4&password=p%26%3D+&x=1").unwrap();
        assert_eq!((found.username.as_str(), found.password.expose()), ("a b\u{e4}", "p&= "));
        assert!(!format!("{found:?}").contains("p&="));
    }

    #[test]
    fn what_is_missing_is_named() {
        let told = |error: ApiError| String::from_utf8(error.detail_body().to_vec()).unwrap();
        for (text, name) in [
            ("", "`username`"),
            ("username=a", "`password`"),
            ("password=a", "`username`"),
            ("username=&password=a", "`username`"),
            ("username=a&username=b&password=c", "`username` is there twice"),
        ] {
            assert!(told(form(text).unwrap_err()).contains(name), "{text}");
        }
        let json = |text: &'static str| from_json(&Bytes::from_static(text.as_bytes()));
        assert!(json(r#"{"username": "a", "password": "b", "scope": ""}"#).is_ok());
        assert!(told(json(r#"{"username": "a", "password": 1}"#).unwrap_err()).contains("`password`"));
        assert!(told(json(r#"{"username": "a", "password": "b", "otp": 1}"#).unwrap_err()).contains("`otp`"));
    }
}
