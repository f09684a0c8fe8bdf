//! Attacks on the doors: forged tokens, secrets in logs, tricks with names, sessions of others, bombs in arguments and
//! schemas. Each must lead nowhere, and the gateway must serve on.

mod arguments;
mod doors;
mod leaks;
mod names;
mod pages;
mod servers;
pub(crate) mod tokens;

use serde_json::json;

use crate::harness::Gateway;
use crate::identity_http::{CALL, post};

/// The gateway serves on.
async fn serves(gateway: &Gateway, key: &str) {
    let call = json!({"tool_name": "list_tables", "arguments": {}});
    assert_eq!(post(gateway, key, CALL, &call).await.expect(200)["success"], true);
}
