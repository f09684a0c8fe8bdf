//! The shapes of users and keys.

#![allow(dead_code, reason = "these types are read by the derive and never made")]

use serde_json::Value;
use utoipa::ToSchema;

/// A user.
#[derive(ToSchema)]
pub(in crate::http) struct User {
    id: i64,
    name: String,
    /// `admin`, `user` or `service`.
    role: String,
    /// Whether it is kept from logging in and from using its keys.
    disabled: bool,
    has_password: bool,
    /// What the user may do.
    scopes: Vec<String>,
    /// Models it may ask; none: all.
    models: Vec<String>,
    /// Tools it may see and call; none: all that the scopes allow.
    tools: Vec<String>,
    /// How much.
    #[schema(value_type = Object)]
    limits: Value,
    /// RFC 3339.
    created_at: String,
    #[schema(required)]
    last_login_at: Option<String>,
}

/// A page of users.
#[derive(ToSchema)]
pub(in crate::http) struct UserPage {
    users: Vec<User>,
    #[schema(required)]
    next_offset: Option<u64>,
    total: u64,
}

/// A user to be made.
#[derive(ToSchema)]
#[schema(example = json!({"name": "alice", "password": "correct horse battery", "role": "user"}))]
pub(in crate::http) struct NewUser {
    #[schema(min_length = 1)]
    name: String,
    /// Without one the user cannot log in.
    password: Option<String>,
    /// `user` where it is not there.
    role: Option<Role>,
    scopes: Option<Vec<String>>,
    models: Option<Vec<String>>,
    tools: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    limits: Option<Value>,
}

/// What is to be another; what is not there stays.
#[derive(ToSchema)]
#[schema(example = json!({"disabled": true}))]
pub(in crate::http) struct UserChange {
    #[schema(min_length = 1)]
    name: Option<String>,
    password: Option<String>,
    role: Option<Role>,
    disabled: Option<bool>,
    scopes: Option<Vec<String>>,
    models: Option<Vec<String>>,
    tools: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    limits: Option<Value>,
}

/// Another password for oneself.
#[derive(ToSchema)]
#[schema(example = json!({"password": "another horse battery", "current_password": "correct horse battery"}))]
pub(in crate::http) struct PasswordChange {
    password: String,
    current_password: String,
}

/// What kind of user.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum Role {
    Admin,
    User,
    Service,
}

/// An API key.
#[derive(ToSchema)]
pub(in crate::http) struct Key {
    id: String,
    name: String,
    /// Whose it is.
    user_id: i64,
    /// What it may do, within what its owner may.
    scopes: Vec<String>,
    models: Vec<String>,
    tools: Vec<String>,
    #[schema(value_type = Object)]
    limits: Value,
    /// `active`, `expired` or `revoked`.
    status: String,
    /// RFC 3339.
    created_at: String,
    #[schema(required)]
    expires_at: Option<String>,
    #[schema(required)]
    last_used_at: Option<String>,
    #[schema(required)]
    revoked_at: Option<String>,
    /// The key itself, in the answer that makes it and never again.
    key: Option<String>,
}

/// A page of keys.
#[derive(ToSchema)]
pub(in crate::http) struct KeyPage {
    keys: Vec<Key>,
    #[schema(required)]
    next_offset: Option<u64>,
    total: u64,
}

/// A key to be made.
#[derive(ToSchema)]
#[schema(example = json!({"name": "nightly job", "scopes": ["tools:list", "tools:call:read_*"], "expires_in_days": 90}))]
pub(in crate::http) struct NewKey {
    #[schema(min_length = 1)]
    name: String,
    /// Number or name of the user it is for; oneself where it is not there.
    user: Option<Value>,
    /// All of one's own but `admin` where it is not there.
    scopes: Option<Vec<String>>,
    models: Option<Vec<String>>,
    tools: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    limits: Option<Value>,
    /// RFC 3339.
    expires_at: Option<String>,
    #[schema(minimum = 1, maximum = 36500)]
    expires_in_days: Option<u64>,
}

/// A name and its password.
#[derive(ToSchema)]
#[schema(example = json!({"username": "admin", "password": "correct horse battery"}))]
pub(in crate::http) struct Login {
    username: String,
    password: String,
}

/// An access token.
#[derive(ToSchema)]
pub(in crate::http) struct AccessToken {
    access_token: String,
    /// `bearer`
    token_type: String,
    /// Seconds.
    expires_in: u64,
    user_id: i64,
    user_name: String,
    /// Whether the user is an admin.
    super_user: bool,
}
