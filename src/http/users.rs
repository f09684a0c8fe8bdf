//! Users: `/api/v1/users` for admins, `/api/v1/users/me` for everybody.
//!
//! No answer has a password in it, hashed or not.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::caller::{Admin, FromAdmin, FromMember, Member};
use super::changes::Told;
use super::error::ApiError;
use super::extract::{Page, PathId};
use super::health::json_response;
use super::known_fields::KnownFields;
use super::openapi::accounts as shapes;
use super::openapi::schemas::ErrorDetail;
use super::state::App;
use crate::access::Grants;
use crate::access::accounts::{self, GrantsPatch, NewUser, Role, UserId, UserPatch, UserView};
use crate::config::secret::Secret;
use crate::domain::time::parse_rfc3339;

/// What lists of scopes, models and tools must be.
pub(super) const LIST: &str = "a list of strings";

/// For answers that hold a secret.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

const TEXT: &str = "a string that is not empty";
const ROLE: &str = "\"admin\", \"user\" or \"service\"";

/// Make a user
#[utoipa::path(
    post, path = "/api/v1/users", tag = "accounts", operation_id = "createUser",
    request_body = shapes::NewUser,
    responses(
        (status = 201, description = "the user", body = shapes::User),
        (status = 409, description = "the name is taken, or it is the last admin", body = ErrorDetail),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    FromAdmin(member, body): FromAdmin,
) -> Result<Response, ApiError> {
    let mut fields = KnownFields::of(&body)?;
    let name = fields.need("name", TEXT)?;
    let password = fields.take::<Secret>("password", TEXT)?;
    let role = fields.take("role", ROLE)?.unwrap_or(Role::User);
    let grants = grants_in(&mut fields)?.over(Grants::default());
    fields.end()?;
    let accounts = app.accounts()?.clone();
    let create = async move {
        let user = accounts.create_user(NewUser { name, password, role, grants }).await?;
        let details = json!({"name": user.name, "role": user.role, "grants": user.grants});
        let told = Told { target: target(user.id), details };
        Ok((user, Some(told)))
    };
    let user = app.change(member.event("user_created", "user".to_owned()), create).await?;
    Ok((StatusCode::CREATED, json_response(&UserView::from(&user))).into_response())
}

/// All users
#[utoipa::path(
    get, path = "/api/v1/users", tag = "accounts", operation_id = "listUsers",
    params(
        ("limit" = Option<u64>, Query, description = "how many in a page", minimum = 1, maximum = 200),
        ("offset" = Option<u64>, Query, description = "where the page begins"),
    ),
    responses((status = 200, description = "a page of users", body = shapes::UserPage))
)]
pub(super) async fn list(State(app): State<App>, Admin(_): Admin, page: Page) -> Result<Response, ApiError> {
    let wanted = accounts::Page { offset: page.offset, limit: page.limit };
    let found = app.accounts()?.users(wanted).await?;
    let users: Vec<_> = found.items.iter().map(UserView::from).collect();
    let next = next_offset(&page, users.len(), found.total);
    Ok(json_response(&json!({"users": users, "next_offset": next, "total": found.total})))
}

/// One user
#[utoipa::path(
    get, path = "/api/v1/users/{id}", tag = "accounts", operation_id = "getUser",
    params(("id" = String, Path, description = "the user's number")),
    responses((status = 200, description = "the user", body = shapes::User))
)]
pub(super) async fn get(
    State(app): State<App>,
    Admin(_): Admin,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let user = app.accounts()?.user(number(&id)?).await?;
    Ok(json_response(&UserView::from(&user)))
}

/// Change a user
#[utoipa::path(
    patch, path = "/api/v1/users/{id}", tag = "accounts", operation_id = "updateUser",
    params(("id" = String, Path, description = "the user's number")),
    request_body = shapes::UserChange,
    responses(
        (status = 200, description = "the user as it is now", body = shapes::User),
        (status = 409, description = "the name is taken, or it is the last admin", body = ErrorDetail),
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    PathId(id): PathId,
    FromAdmin(member, body): FromAdmin,
) -> Result<Response, ApiError> {
    let id = number(&id)?;
    let mut fields = KnownFields::of(&body)?;
    let patch = UserPatch {
        name: fields.take("name", TEXT)?,
        role: fields.take("role", ROLE)?,
        is_disabled: fields.take("disabled", "true or false")?,
        password: fields.take("password", TEXT)?,
        grants: grants_in(&mut fields)?,
        generation: None,
    };
    fields.end()?;
    let accounts = app.accounts()?.clone();
    let change = async move {
        let mut details = json!({
            "name": patch.name, "role": patch.role, "disabled": patch.is_disabled,
            "password": patch.password.is_some().then_some("changed"),
        });
        let has_grants = !patch.grants.is_empty();
        let user = accounts.update_user(id, patch).await?;
        if let Some(told) = details.as_object_mut() {
            told.retain(|_, value| !value.is_null());
            if has_grants {
                told.insert("grants".to_owned(), json!(user.grants));
            }
        }
        Ok((user, Some(Told { target: target(id), details })))
    };
    let user = app.change(member.event("user_changed", target(id)), change).await?;
    Ok(json_response(&UserView::from(&user)))
}

/// Delete a user and its keys
#[utoipa::path(
    delete, path = "/api/v1/users/{id}", tag = "accounts", operation_id = "deleteUser",
    params(("id" = String, Path, description = "the user's number")),
    responses(
        (status = 204, description = "it is gone"),
        (status = 409, description = "the name is taken, or it is the last admin", body = ErrorDetail),
    )
)]
pub(super) async fn delete(
    State(app): State<App>,
    Admin(member): Admin,
    PathId(id): PathId,
) -> Result<StatusCode, ApiError> {
    let (accounts, id) = (app.accounts()?.clone(), number(&id)?);
    let delete = async move {
        let user = accounts.user(id).await?;
        accounts.delete_user(id).await?;
        Ok(((), Some(Told { target: target(id), details: json!({"name": user.name}) })))
    };
    app.change(member.event("user_deleted", target(id)), delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Yourself
#[utoipa::path(
    get, path = "/api/v1/users/me", tag = "accounts", operation_id = "getMe",
    responses((status = 200, description = "the user your credential belongs to", body = shapes::User))
)]
pub(super) async fn me(State(app): State<App>, member: Member) -> Result<Response, ApiError> {
    let user = app.accounts()?.user(own_id(&member)?).await?;
    Ok(json_response(&UserView::from(&user)))
}

/// Change one's own password
///
/// Needs the current one. All access tokens of the user end.
#[utoipa::path(
    patch, path = "/api/v1/users/me", tag = "accounts", operation_id = "changeOwnPassword",
    request_body = shapes::PasswordChange,
    responses((status = 200, description = "oneself", body = shapes::User))
)]
pub(super) async fn update_me(
    State(app): State<App>,
    FromMember(member, body): FromMember,
) -> Result<Response, ApiError> {
    let id = own_id(&member)?;
    let mut fields = KnownFields::of(&body)?;
    let password: Secret = fields.need("password", TEXT)?;
    let current: Secret = fields.need("current_password", TEXT)?;
    fields.end()?;
    if member.key_id().is_some() {
        let words = "an API key cannot change a password: log in and use the access token";
        return member.noted(&app, Err(ApiError::forbidden(words)));
    }
    let accounts = app.accounts()?.clone();
    // From before the password is checked: what ends the tokens after that ends this change as well.
    let (user, generation) = accounts.user_and_generation(id).await?;
    app.login(&user.name, current, member.peer()).await.map_err(|error| {
        let refused = "`current_password` is wrong";
        super::login::told(error, |_| ApiError::bad_request(Some("current_password"), refused))
    })?;
    let change = async move {
        let patch =
            UserPatch { password: Some(password), generation: Some(generation), ..UserPatch::default() };
        let user = accounts.update_user(id, patch).await?;
        Ok((user, Some(Told { target: target(id), details: json!({}) })))
    };
    let user = app.change(member.event("password_changed", target(id)), change).await?;
    let mut response = json_response(&UserView::from(&user));
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    Ok(response)
}

fn own_id(member: &Member) -> Result<UserId, ApiError> {
    let words = "your credential belongs to no user of this gateway";
    member.user_id().ok_or_else(|| ApiError::not_found("user_not_found", words))
}

/// What is no number is nobody's.
fn number(id: &str) -> Result<UserId, ApiError> {
    let missing = || ApiError::not_found("user_not_found", "there is no such user; a user's id is a number");
    id.parse().map_err(|_| missing())
}

fn target(id: UserId) -> String {
    format!("user:{id}")
}

/// Where the next page begins, if there is one.
pub(super) fn next_offset(page: &Page, shown: usize, total: u64) -> Option<u64> {
    let next = page.offset.saturating_add(shown as u64);
    (shown > 0 && next < total).then_some(next)
}

/// The grants in a body, which can be granted.
pub(super) fn grants_in(fields: &mut KnownFields<'_>) -> Result<GrantsPatch, ApiError> {
    let patch = GrantsPatch {
        scopes: fields.take("scopes", LIST)?,
        models: fields.take("models", LIST)?,
        tools: fields.take("tools", LIST)?,
        limits: fields.take_whole("limits")?,
    };
    patch.check()?;
    Ok(patch)
}

/// A time in RFC 3339, as milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct MomentMs(pub(super) u64);

impl<'de> Deserialize<'de> for MomentMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let since = parse_rfc3339(&text).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let since = since.ok_or_else(|| serde::de::Error::custom("no time in RFC 3339"))?;
        u64::try_from(since.as_millis()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
