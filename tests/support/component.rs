//! Components for tests, written as the text of a core module: small enough to be hostile on purpose.
//!
//! Used by the unit tests of `plugin_host` and by the integration tests.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A component of one world of `wit/` made of a core module in text form.
///
/// `body` is put after a memory of two pages (everything below 65536 is zero unless the body says otherwise) and a
/// `cabi_realloc` that never frees. Address 1024 is free for results: zeros there mean `ok` with the first case.
pub(crate) fn component(world: &str, body: &str) -> Vec<u8> {
    let wit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
    component_of(&wit, &format!("witgate:plugin/{world}"), &module(body))
}

/// The core module around `body`, as text.
pub(crate) fn module(body: &str) -> String {
    format!(
        r#"(module
            {imports}
            (memory (export "memory") 2)
            (global $top (mut i32) (i32.const 65536))
            (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
                (global.set $top (i32.add (local.get $at) (local.get $size)))
                (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
                    (then (drop (memory.grow (i32.const 16)))))
                (local.get $at))
            {body}
        )"#,
        imports = imports(body).0,
        body = imports(body).1,
    )
}

/// Splits leading `(import ...)` lines off a body: they have to come first in a module.
fn imports(body: &str) -> (String, String) {
    let is_import = |line: &&str| line.trim_start().starts_with("(import");
    let imports: Vec<&str> = body.lines().filter(is_import).collect();
    let rest: Vec<&str> = body.lines().filter(|line| !is_import(line)).collect();
    (imports.join("\n"), rest.join("\n"))
}

/// A component of `world` that imports more than plugins have to: `packages` of WIT text, each after those it uses, and
/// `imports` of them by name.
pub(crate) fn component_with(world: &str, packages: &[&str], imports: &[&str], body: &str) -> Vec<u8> {
    let wit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
    let mut resolve = Resolve::default();
    resolve.push_dir(&wit).unwrap();
    for package in packages {
        resolve.push_str("more.wit", package).unwrap();
    }
    let imports: String = imports.iter().map(|name| format!("import {name};")).collect();
    let guest =
        format!("package test:guest; world guest {{ include witgate:plugin/{world}@0.1.0; {imports} }}");
    let package = resolve.push_str("guest.wit", &guest).unwrap();
    encode(&resolve, package, "guest", &module(body))
}

/// A component of `world` of the package in the folder `wit`.
pub(crate) fn component_of(wit: &std::path::Path, world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _files) = resolve.push_dir(wit).unwrap();
    encode(&resolve, package, world, module)
}

fn encode(resolve: &Resolve, package: wit_parser::PackageId, world: &str, module: &str) -> Vec<u8> {
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// Exports of a response processor whose function has this code; it gets the address of its parameters and returns
/// the address of its result.
pub(crate) fn response(code: &str) -> Vec<u8> {
    component(
        "response-processor",
        &format!(
            r#"(func (export "witgate:plugin/response@0.1.0#process-llm-response") (param $in i32) (result i32) {code})"#
        ),
    )
}

/// A response processor that replaces every text by `text`.
pub(crate) fn replacing(text: &str) -> Vec<u8> {
    let length = text.len();
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    component(
        "response-processor",
        &format!(
            r#"(data (i32.const 2048) "{escaped}")
            (func (export "witgate:plugin/response@0.1.0#process-llm-response") (param i32) (result i32)
                (i32.store8 (i32.const 1028) (i32.const 1))
                (i32.store (i32.const 1032) (i32.const 2048))
                (i32.store (i32.const 1036) (i32.const {length}))
                (i32.const 1024))"#
        ),
    )
}

/// A stream processor; the code of `push` and `finish` returns the address of a result.
pub(crate) fn stream(push: &str, finish: &str) -> Vec<u8> {
    component(
        "stream-processor",
        &format!(
            r#"(import "[export]witgate:plugin/response-stream@0.1.0" "[resource-new]reply-stream" (func $new (param i32) (result i32)))
            (func (export "witgate:plugin/response-stream@0.1.0#[constructor]reply-stream") (param i32) (result i32)
                (call $new (i32.const 1)))
            (func (export "witgate:plugin/response-stream@0.1.0#[method]reply-stream.push")
                (param $self i32) (param $list i32) (param $count i32) (result i32) {push})
            (func (export "witgate:plugin/response-stream@0.1.0#[method]reply-stream.finish")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i64) (result i32) {finish})"#
        ),
    )
}

/// An auth policy; the code returns the address of its decision.
pub(crate) fn auth(code: &str) -> Vec<u8> {
    component(
        "auth-policy",
        &format!(
            r#"(func (export "witgate:plugin/auth@0.1.0#authorize") (param $in i32) (result i32) {code})"#
        ),
    )
}

/// A tool provider; the code of `list` and `call` returns the address of a result.
pub(crate) fn tools(data: &str, list: &str, call: &str) -> Vec<u8> {
    component(
        "tool-provider",
        &format!(
            r#"{data}
            (func (export "witgate:plugin/tools@0.1.0#list-tools") (result i32) {list})
            (func (export "witgate:plugin/tools@0.1.0#call-tool") (param i32) (result i32) {call})"#
        ),
    )
}
