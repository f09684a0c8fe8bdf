//! API keys: `/api/v1/keys` makes, lists and revokes them.
//!
//! Everybody looks after their own; admins after all of them. A key is told once, in the answer that makes it. Keys
//! cannot make or revoke keys (but themselves), unless they have the scope `admin`: one that leaked must not outlive its
//! revocation.

use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::{FromMember, Member};
use super::changes::Told;
use super::error::ApiError;
use super::extract::{Page, PathId};
use super::health::json_response;
use super::known_fields::KnownFields;
use super::openapi::accounts as shapes;
use super::openapi::schemas::ErrorDetail;
use super::state::App;
use super::users::{self, MomentMs};
use crate::access::Grants;
use crate::access::accounts::{
    self, AccountError, Accounts, ApiKey, GrantsPatch, KeyView, Moment, NewApiKey, UserId,
};

/// The longest time of a key that is asked for in days: a hundred years.
const MAX_DAYS: u64 = 36_500;

const DAY_MS: u64 = 86_400_000;

/// Make an API key, which is told once
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "accounts", operation_id = "createKey",
    request_body = shapes::NewKey,
    responses(
        (status = 201, description = "the key, with `key`", body = shapes::Key),
        (status = 409, description = "it cannot be made as things are", body = ErrorDetail),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    FromMember(member, body): FromMember,
) -> Result<Response, ApiError> {
    member.noted(&app, may_change_keys(&member))?;
    let accounts = app.accounts()?.clone();
    let wish = Wish::parse(&body)?;
    let granted = async {
        let owner = match &wish.user {
            Some(user) => owner_named(&accounts, &member, user).await?,
            None => own_id(&member)?,
        };
        Ok((owner, wish.grants(&accounts, &member, owner).await?))
    };
    let (owner, grants) = member.noted(&app, granted.await)?;
    let new = NewApiKey { name: wish.name, grants, expires_ms: wish.expires_ms };
    let create = async move {
        let created = accounts.create_key(owner, new).await?;
        let info = &created.info;
        let details = json!({
            "name": info.name, "user": info.owner, "scopes": info.grants.scopes,
            "expires_at": info.expires_ms.map(Moment),
        });
        let told = Told { target: format!("key:{}", info.id), details };
        Ok((created, Some(told)))
    };
    let created = app.change(member.event("key_created", "key".to_owned()), create).await?;
    let mut told = json!(KeyView::of(&created.info, users::now_ms()));
    told["key"] = Value::from(created.key.expose());
    let mut response = (StatusCode::CREATED, json_response(&told)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, users::NO_STORE);
    Ok(response)
}

/// Your keys; of an admin all of them
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "accounts", operation_id = "listKeys",
    params(
        ("user" = Option<String>, Query, description = "only those of this user, by number or name"),
        ("limit" = Option<u64>, Query, description = "how many in a page", minimum = 1, maximum = 200),
        ("offset" = Option<u64>, Query, description = "where the page begins"),
    ),
    responses((status = 200, description = "a page of keys", body = shapes::KeyPage))
)]
pub(super) async fn list(
    State(app): State<App>,
    member: Member,
    page: Page,
    OfUser(user): OfUser,
) -> Result<Response, ApiError> {
    let accounts = app.accounts()?;
    let owner = match user {
        Some(user) => {
            let named = owner_named(accounts, &member, &Named::read(&user)).await;
            Some(member.noted(&app, named)?)
        }
        None if member.is_admin() => None,
        None => Some(member.noted(&app, own_id(&member))?),
    };
    let wanted = accounts::Page { offset: page.offset, limit: page.limit };
    let found = accounts.keys(owner, wanted).await?;
    let now_ms = users::now_ms();
    let keys: Vec<_> = found.items.iter().map(|key| KeyView::of(key, now_ms)).collect();
    let next = users::next_offset(&page, keys.len(), found.total);
    Ok(json_response(&json!({"keys": keys, "next_offset": next, "total": found.total})))
}

/// One key
#[utoipa::path(
    get, path = "/api/v1/keys/{id}", tag = "accounts", operation_id = "getKey",
    params(("id" = String, Path, description = "the key's id")),
    responses((status = 200, description = "the key, without `key`", body = shapes::Key))
)]
pub(super) async fn get(
    State(app): State<App>,
    member: Member,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let key = visible(app.accounts()?, &member, &id).await?;
    Ok(json_response(&KeyView::of(&key, users::now_ms())))
}

/// Revoke a key
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}", tag = "accounts", operation_id = "revokeKey",
    params(("id" = String, Path, description = "the key's id")),
    responses((status = 200, description = "the key as it is now", body = shapes::Key))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    member: Member,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let accounts = app.accounts()?.clone();
    let key = visible(&accounts, &member, &id).await?;
    if member.key_id() != Some(key.id.as_str()) {
        member.noted(&app, may_change_keys(&member))?;
    }
    let target = format!("key:{}", key.id);
    let event = member.event("key_revoked", target.clone());
    let revoke = async move {
        let revoked = accounts.revoke_key(&key.id).await?;
        let details = json!({"name": key.name, "user": key.owner});
        Ok((revoked, key.revoked_ms.is_none().then_some(Told { target, details })))
    };
    let revoked = app.change(event, revoke).await?;
    Ok(json_response(&KeyView::of(&revoked, users::now_ms())))
}

/// The key, if it is the caller's to see. Somebody else's looks like none.
async fn visible(accounts: &Accounts, member: &Member, id: &str) -> Result<ApiKey, ApiError> {
    let missing =
        || ApiError::not_found("key_not_found", "there is no such key; GET /api/v1/keys lists yours");
    let key = match accounts.key(id).await {
        Ok(key) => key,
        Err(AccountError::NoKey(_)) => return Err(missing()),
        Err(error) => return Err(error.into()),
    };
    if member.is_admin() || member.user_id() == Some(key.owner) { Ok(key) } else { Err(missing()) }
}

fn may_change_keys(member: &Member) -> Result<(), ApiError> {
    if member.is_admin() || member.key_id().is_none() {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "an API key cannot make or revoke other keys: log in and use the access token, or use a key with the scope `admin`",
    ))
}

fn own_id(member: &Member) -> Result<UserId, ApiError> {
    member.user_id().ok_or_else(|| {
        ApiError::forbidden(
            "your credential belongs to no user of this gateway, and only users have keys: log in at \
             POST /api/v1/login/access-token",
        )
    })
}

/// The user that `wanted` names, if the caller may speak for it.
async fn owner_named(accounts: &Accounts, member: &Member, wanted: &Named) -> Result<UserId, ApiError> {
    if !member.is_admin() {
        let own = own_id(member)?;
        let is_own = match wanted {
            Named::Id(id) => *id == own,
            Named::Name(name) => accounts.user_named(name).await.is_ok_and(|user| user.id == own),
        };
        return if is_own { Ok(own) } else { Err(ApiError::missing_admin()) };
    }
    let found = match wanted {
        Named::Id(id) => accounts.user(*id).await,
        Named::Name(name) => accounts.user_named(name).await,
    };
    match found {
        Ok(user) => Ok(user.id),
        Err(error @ (AccountError::NoUser(_) | AccountError::NoUserNamed(_))) => {
            Err(ApiError::bad_request(Some("user"), format!("`user`: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// A user by number or name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Named {
    Id(UserId),
    Name(String),
}

impl Named {
    /// From a query, where a number is text as well.
    fn read(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Id)
    }
}

/// `?user=`
#[derive(Debug)]
pub(super) struct OfUser(Option<String>);

impl FromRequestParts<App> for OfUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct Wanted {
            user: Option<String>,
        }
        let Query(Wanted { user }) = Query::try_from_uri(&parts.uri)
            .map_err(|_| ApiError::bad_request(Some("user"), "`user` in the query can be given once"))?;
        Ok(Self(user.filter(|user| !user.is_empty())))
    }
}

/// The key somebody wants.
struct Wish {
    name: String,
    user: Option<Named>,
    grants: GrantsPatch,
    expires_ms: Option<u64>,
}

impl Wish {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = KnownFields::of(body)?;
        let name = fields.need("name", "a string that is not empty")?;
        let user = fields.take("user", "the number or the name of a user")?;
        let grants = users::grants_in(&mut fields)?;
        let at: Option<MomentMs> = fields.take("expires_at", "a time such as \"2027-01-31T00:00:00Z\"")?;
        let days: Option<u64> = fields.take("expires_in_days", "a whole number of days")?;
        fields.end()?;
        let expires_ms = match (at, days) {
            (Some(_), Some(_)) => {
                let words = "`expires_in_days`: give either this or `expires_at`";
                return Err(ApiError::bad_request(Some("expires_in_days"), words));
            }
            (Some(MomentMs(at)), None) => Some(at),
            (None, Some(days)) if (1..=MAX_DAYS).contains(&days) => {
                Some(users::now_ms().saturating_add(days * DAY_MS))
            }
            (None, Some(_)) => {
                let words = format!("`expires_in_days` must be between 1 and {MAX_DAYS}");
                return Err(ApiError::bad_request(Some("expires_in_days"), words));
            }
            (None, None) => None,
        };
        Ok(Self { name, user, grants, expires_ms })
    }

    /// What the key may do. Without a word on it: what its owner and its maker both may, but not `admin`.
    async fn grants(&self, accounts: &Accounts, member: &Member, owner: UserId) -> Result<Grants, ApiError> {
        let held = member.grants();
        let mut grants = self.grants.clone().over(Grants::default());
        if self.grants.scopes.is_none() {
            grants.scopes = accounts.user(owner).await?.effective_grants().scopes;
            grants.scopes.retain(|scope| scope != "admin" && held.covers(scope));
        }
        if let Some(scope) = grants.scopes.iter().find(|scope| !held.covers(scope)) {
            let words =
                format!("`scopes`: you do not have the scope `{scope}`, so a key of yours cannot have it");
            return Err(ApiError::forbidden(words));
        }
        Ok(grants)
    }
}
