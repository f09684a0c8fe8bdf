//! Plugins that do their worst, in a real gateway: each costs its own calls, is named for what it did, and leaves nothing
//! behind, while everybody else is served.

mod calls;
mod hooks;
mod io;
mod leaving;
mod load;

use serde_json::Value;

/// The operator's file of a plugin that processes the replies of one model, named like the plugin.
fn file(name: &str, more: &str) -> String {
    format!("applies_to = {{ models = [\"{name}\"] }}\n{more}\n")
}

/// The text of a whole reply.
fn text(reply: &Value) -> &str {
    reply["choices"][0]["message"]["content"].as_str().unwrap()
}
