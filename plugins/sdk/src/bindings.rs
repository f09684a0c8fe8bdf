//! What `wit-bindgen` makes of the WIT package: one module per world, with one set of types for all of them.
//!
//! The worlds are generated one by one so that a plugin exports only what it names in `export!`. Their types and imports
//! live in `response`; the other modules refer to them. For use by the macro; authors use what the crate's root exports.

#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::panic,
    reason = "generated code"
)]

/// World `response-processor`, and the types and imports of all worlds.
pub mod response {
    wit_bindgen::generate!({
        world: "response-processor",
        path: "wit",
        additional_derives: [PartialEq],
        generate_unused_types: true,
        pub_export_macro: true,
        export_macro_name: "export_response",
        default_bindings_module: "witgate_plugin::bindings::response",
    });
}

/// World `stream-processor`.
pub mod stream {
    wit_bindgen::generate!({
        world: "stream-processor",
        path: "wit",
        with: {
            "witgate:plugin/types@0.1.0": super::response::witgate::plugin::types,
            "witgate:plugin/log@0.1.0": super::response::witgate::plugin::log,
            "witgate:plugin/config@0.1.0": super::response::witgate::plugin::config,
            "witgate:plugin/secrets@0.1.0": super::response::witgate::plugin::secrets,
            "witgate:plugin/key-value@0.1.0": super::response::witgate::plugin::key_value,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_stream",
        default_bindings_module: "witgate_plugin::bindings::stream",
    });
}

/// World `auth-policy`.
pub mod auth {
    wit_bindgen::generate!({
        world: "auth-policy",
        path: "wit",
        with: {
            "witgate:plugin/types@0.1.0": super::response::witgate::plugin::types,
            "witgate:plugin/log@0.1.0": super::response::witgate::plugin::log,
            "witgate:plugin/config@0.1.0": super::response::witgate::plugin::config,
            "witgate:plugin/secrets@0.1.0": super::response::witgate::plugin::secrets,
            "witgate:plugin/key-value@0.1.0": super::response::witgate::plugin::key_value,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_auth",
        default_bindings_module: "witgate_plugin::bindings::auth",
    });
}

/// World `tool-provider`.
pub mod tools {
    wit_bindgen::generate!({
        world: "tool-provider",
        path: "wit",
        with: {
            "witgate:plugin/types@0.1.0": super::response::witgate::plugin::types,
            "witgate:plugin/log@0.1.0": super::response::witgate::plugin::log,
            "witgate:plugin/config@0.1.0": super::response::witgate::plugin::config,
            "witgate:plugin/secrets@0.1.0": super::response::witgate::plugin::secrets,
            "witgate:plugin/key-value@0.1.0": super::response::witgate::plugin::key_value,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_tools",
        default_bindings_module: "witgate_plugin::bindings::tools",
    });
}
