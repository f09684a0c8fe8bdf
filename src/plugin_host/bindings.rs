//! Host bindings of `wit/`, and their translation to and from the gateway's own types.
//!
//! One world with every interface: which of them a component exports is found out per component. Strings that go into
//! a guest are borrowed, so that a reply is copied once, into the guest's memory.

mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        inline: "
            package witgate:gateway;
            world every-plugin {
                include witgate:plugin/response-processor@0.1.0;
                include witgate:plugin/stream-processor@0.1.0;
                include witgate:plugin/auth-policy@0.1.0;
                include witgate:plugin/tool-provider@0.1.0;
            }
        ",
        world: "witgate:gateway/every-plugin",
        imports: { default: trappable },
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(super) use generated::{EveryPlugin, exports, witgate};
