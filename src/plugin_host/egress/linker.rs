//! The imports of `wasi:http`, with bounds where the library has none.
//!
//! A request keeps its method and its host in the gateway's memory, however long they are, for as long as the guest
//! holds on to it. A thousand requests with a method of a megabyte each would be a gigabyte outside of the guest's own
//! memory, so both are refused where they are set.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest, Method, OutgoingRequest};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

/// The interface, with the version that the library gives it.
const TYPES: &str = "wasi:http/types@0.2.12";

const SET_METHOD: &str = "[method]outgoing-request.set-method";

const SET_AUTHORITY: &str = "[method]outgoing-request.set-authority";

/// Longest method.
const MAX_METHOD_BYTES: usize = 64;

/// Longest host with port: the longest name, a colon and five digits, and room for a spelling that is not normal.
const MAX_AUTHORITY_BYTES: usize = 1_024;

/// Adds `wasi:http/types` and `wasi:http/outgoing-handler`.
///
/// # Errors
/// When something of these names is there already.
pub fn add_to_linker<T: WasiHttpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    let shadowed = shadow(linker);
    linker.allow_shadowing(false);
    shadowed
}

fn shadow<T: WasiHttpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        SET_METHOD,
        |mut store: StoreContextMut<'_, T>, (request, method): (Resource<OutgoingRequest>, Method)| {
            Ok((set_method(&mut store.data_mut().http(), request, method)?,))
        },
    )?;
    types.func_wrap(
        SET_AUTHORITY,
        |mut store: StoreContextMut<'_, T>,
         (request, authority): (Resource<OutgoingRequest>, Option<String>)| {
            Ok((set_authority(&mut store.data_mut().http(), request, authority)?,))
        },
    )
}

/// As in WIT: an error means that the value is not taken.
type Taken = wasmtime::Result<Result<(), ()>>;

fn set_method(http: &mut WasiHttpCtxView<'_>, request: Resource<OutgoingRequest>, method: Method) -> Taken {
    match &method {
        Method::Other(name) if name.len() > MAX_METHOD_BYTES => Ok(Err(())),
        _ => HostOutgoingRequest::set_method(http, request, method),
    }
}

fn set_authority(
    http: &mut WasiHttpCtxView<'_>,
    request: Resource<OutgoingRequest>,
    authority: Option<String>,
) -> Taken {
    match &authority {
        Some(text) if text.len() > MAX_AUTHORITY_BYTES => Ok(Err(())),
        _ => HostOutgoingRequest::set_authority(http, request, authority),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasmtime::Engine;
    use wasmtime::component::ResourceTable;
    use wasmtime_wasi_http::WasiHttpCtx;
    use wasmtime_wasi_http::p2::bindings::http::types::HostFields;

    use super::super::{CallEgress, EgressLimits, PluginEgress};
    use super::*;
    use crate::plugin_host::stdio::PluginLog;

    struct State {
        table: ResourceTable,
        ctx: WasiHttpCtx,
        hooks: CallEgress,
    }

    impl WasiHttpView for State {
        fn http(&mut self) -> WasiHttpCtxView<'_> {
            WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.ctx }
        }
    }

    fn state() -> State {
        let plugin = PluginEgress::new(Arc::default(), Vec::new(), EgressLimits::default(), Arc::default());
        let hooks = plugin.call(PluginLog::new("x".into()));
        State { table: ResourceTable::new(), ctx: WasiHttpCtx::new(), hooks }
    }

    #[test]
    fn the_bounds_stand_before_the_functions_of_the_library() {
        let engine = Engine::default();
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).unwrap();
        let mut types = linker.instance(TYPES).unwrap();
        for name in [SET_METHOD, SET_AUTHORITY] {
            // Refused since it is there: name and version are those of the library.
            let again = types.func_wrap(name, |_: StoreContextMut<'_, State>, (): ()| Ok(()));
            assert!(again.unwrap_err().to_string().contains("defined twice"), "{name}");
        }
        add_to_linker(&mut Linker::<State>::new(&engine)).unwrap();
    }

    #[test]
    fn a_request_keeps_little() {
        let mut state = state();
        let mut http = state.http();
        let fields = HostFields::new(&mut http).unwrap();
        let request = HostOutgoingRequest::new(&mut http, fields).unwrap().rep();
        let request = || Resource::new_borrow(request);
        let method = |length| Method::Other("X".repeat(length));
        assert_eq!(set_method(&mut http, request(), method(64)).unwrap(), Ok(()));
        assert_eq!(set_method(&mut http, request(), method(65)).unwrap(), Err(()));
        assert_eq!(set_method(&mut http, request(), Method::Post).unwrap(), Ok(()));
        let authority = |length| Some("a".repeat(length));
        assert_eq!(set_authority(&mut http, request(), authority(1_024)).unwrap(), Ok(()));
        assert_eq!(set_authority(&mut http, request(), authority(1_025)).unwrap(), Err(()));
        assert_eq!(set_authority(&mut http, request(), None).unwrap(), Ok(()));
        // The library bounds the path.
        let path = |length: usize| Some(format!("/{}", "a".repeat(length)));
        assert_eq!(HostOutgoingRequest::set_path_with_query(&mut http, request(), path(9)).unwrap(), Ok(()));
        let long = HostOutgoingRequest::set_path_with_query(&mut http, request(), path(70_000));
        assert_eq!(long.unwrap(), Err(()));
    }
}
