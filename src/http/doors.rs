//! Which door a path has: what the extractors of `caller.rs` ask for, for those who want to know without a request.

use crate::access::Door;

/// The door of `method` and `path`; `None` for what is open to everybody, and for what does not exist.
#[must_use]
pub fn door_of(method: &str, path: &str) -> Option<Door> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    Some(match segments.as_slice() {
        ["chat", ..] | ["v1", "models" | "chat", ..] => Door::Chat,
        ["openapi.json"] => Door::Document,
        ["metrics"] => Door::Guarded("metrics"),
        ["mcp", ..] | ["api", "v1", "mcp"] => Door::Mcp,
        ["api", "v1", "mcp", "tools", "call"] if method == "POST" => Door::Guarded("tools:call"),
        ["api", "v1", "mcp", "tools", ..] => Door::Guarded("tools:list"),
        ["api", "v1", "tools", _] => Door::Guarded("tools:call"),
        ["api", "v1", "plugins", ..] => Door::Guarded("plugins"),
        ["api", "v1", "keys", ..] | ["api", "v1", "users", "me"] => Door::Known,
        ["api", "v1", "users", ..] => Door::Guarded("admin"),
        _ => return None,
    })
}
