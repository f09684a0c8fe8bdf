//! Guests made for a purpose, most of them a bad one, as the text of core modules.
//!
//! Most are response processors that do their worst to replies that begin with `!`, with the rest of the reply as their
//! input, and keep all others: so one guest shows a fault, and that it is none the worse for it afterwards.

use crate::component::{component, component_with};

/// The parts of WASI that guests here use. Imports need to have no more than is used of an interface.
const IO: &str = "package wasi:io@0.2.0;
interface poll { resource pollable { block: func(); } }";
const CLOCKS: &str = "package wasi:clocks@0.2.0;
interface monotonic-clock { use wasi:io/poll@0.2.0.{pollable}; subscribe-duration: func(when: u64) -> pollable; }";
const CLI: &str = "package wasi:cli@0.2.0;
interface exit { exit: func(status: result); }";
const HTTP: &str = "package wasi:http@0.2.0;
interface types {
    variant header-error { invalid-syntax, forbidden, immutable }
    resource fields {
        constructor();
        append: func(name: string, value: list<u8>) -> result<_, header-error>;
    }
}";
const FILES: &str = "package wasi:filesystem@0.2.0;
interface types {
    enum error-code {
        access, would-block, already, bad-descriptor, busy, deadlock, quota, exist, file-too-large, illegal-byte-sequence,
        in-progress, interrupted, invalid, io, is-directory, loop, too-many-links, message-size, name-too-long, no-device,
        no-entry, no-lock, insufficient-memory, insufficient-space, not-directory, not-empty, not-recoverable, unsupported,
        no-tty, no-such-device, overflow, not-permitted, pipe, read-only, invalid-seek, text-file-busy, cross-device
    }
    flags path-flags { symlink-follow }
    flags open-flags { create, directory, exclusive, truncate }
    flags descriptor-flags {
        read, write, file-integrity-sync, data-integrity-sync, requested-write-sync, mutate-directory
    }
    resource descriptor {
        read: func(length: u64, offset: u64) -> result<tuple<list<u8>, bool>, error-code>;
        create-directory-at: func(path: string) -> result<_, error-code>;
        link-at: func(old-flags: path-flags, old: string, to: borrow<descriptor>, new: string) -> result<_, error-code>;
        open-at: func(path-flags: path-flags, path: string, open-flags: open-flags, %flags: descriptor-flags)
            -> result<descriptor, error-code>;
        rename-at: func(old: string, to: borrow<descriptor>, new: string) -> result<_, error-code>;
        symlink-at: func(old: string, new: string) -> result<_, error-code>;
        unlink-file-at: func(path: string) -> result<_, error-code>;
        remove-directory-at: func(path: string) -> result<_, error-code>;
    }
}
interface preopens {
    use types.{descriptor};
    get-directories: func() -> list<tuple<descriptor, string>>;
}";

/// A response processor with `items` around it that runs `code` for replies that begin with `!`. The code has the rest of
/// the reply in `$text` and `$length`, and gives the address of its action: 1024 keeps, `(call $say text length)`
/// replaces.
fn on_demand(items: &str, code: &str) -> String {
    format!(
        r#"{items}
        (func $say (param $at i32) (param $length i32) (result i32)
            (i32.store8 (i32.const 1028) (i32.const 1))
            (i32.store (i32.const 1032) (local.get $at)) (i32.store (i32.const 1036) (local.get $length))
            (i32.const 1024))
        (func $act (param $text i32) (param $length i32) (result i32) (local $n i32) (local $m i32) {code})
        (func (export "witgate:plugin/response@0.1.0#process-llm-response") (param $in i32) (result i32)
            ;; The reply's text: address and length, after the context and the number of the choice.
            (local $text i32) (local $length i32)
            (local.set $text (i32.load offset=76 (local.get $in)))
            (local.set $length (i32.load offset=80 (local.get $in)))
            (if (i32.eqz (local.get $length)) (then (return (i32.const 1024))))
            (if (i32.ne (i32.load8_u (local.get $text)) (i32.const 33)) (then (return (i32.const 1024))))
            (call $act (i32.add (local.get $text) (i32.const 1)) (i32.sub (local.get $length) (i32.const 1))))"#
    )
}

/// A response processor that does `code` on demand.
pub(crate) fn acting(items: &str, code: &str) -> Vec<u8> {
    component("response-processor", &on_demand(items, code))
}

/// The same with `imports` of WASI.
fn acting_with(imports: &[&str], items: &str, code: &str) -> Vec<u8> {
    component_with("response-processor", &[IO, CLOCKS, CLI, HTTP, FILES], imports, &on_demand(items, code))
}

/// Never comes to an end.
pub(crate) fn looping() -> Vec<u8> {
    acting("", "(loop $l (br $l)) (i32.const 1024)")
}

/// Grows its memory until it gets no more.
pub(crate) fn memory_bomb() -> Vec<u8> {
    // Each new page is written to, so that it is really there.
    acting(
        "",
        "(loop $l
            (local.set $n (memory.grow (i32.const 1)))
            (if (i32.eq (local.get $n) (i32.const -1)) (then (unreachable)))
            (i32.store (i32.mul (local.get $n) (i32.const 65536)) (i32.const 1))
            (br $l))
        (i32.const 1024)",
    )
}

/// Grows a table until it gets no more.
pub(crate) fn table_bomb() -> Vec<u8> {
    acting(
        "(table $t 1 funcref)",
        "(loop $l
            (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then (unreachable)))
            (br $l))
        (i32.const 1024)",
    )
}

/// Makes resources of the host's and keeps them all.
pub(crate) fn resource_bomb() -> Vec<u8> {
    acting_with(
        &["wasi:http/types@0.2.0"],
        r#"(import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))"#,
        "(loop $l (drop (call $fields)) (br $l)) (i32.const 1024)",
    )
}

/// Makes handles of its own resource and keeps them all: a stream processor, at each push.
pub(crate) fn handle_bomb() -> Vec<u8> {
    crate::component::stream(
        "(loop $l (drop (call $new (i32.const 1))) (br $l)) (i32.const 1024)",
        "(i32.const 512)",
    )
}

/// Calls itself without end.
pub(crate) fn stack_bomb() -> Vec<u8> {
    acting(
        "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))",
        "(call $deep (i32.const 0))",
    )
}

/// Answers with 200 MB.
pub(crate) fn huge_answer() -> Vec<u8> {
    acting("", "(drop (memory.grow (i32.const 3300))) (call $say (i32.const 2048) (i32.const 200000000))")
}

/// Answers with text outside of its memory.
pub(crate) fn wild_pointer() -> Vec<u8> {
    acting("", "(call $say (i32.const 0x7fffff00) (i32.const 1000))")
}

/// Answers with bytes that are no text.
pub(crate) fn broken_text() -> Vec<u8> {
    acting(r#"(data (i32.const 2048) "\ff\fe\c0\80")"#, "(call $say (i32.const 2048) (i32.const 4))")
}

/// Answers with an action that does not exist.
pub(crate) fn unknown_action() -> Vec<u8> {
    acting("", "(i32.store8 (i32.const 1028) (i32.const 99)) (i32.const 1024)")
}

/// Waits ten days for a clock.
pub(crate) fn blocking_poll() -> Vec<u8> {
    acting_with(
        &["wasi:io/poll@0.2.0", "wasi:clocks/monotonic-clock@0.2.0"],
        r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $after (param i64) (result i32)))
        (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#,
        "(call $block (call $after (i64.const 864000000000000))) (i32.const 1024)",
    )
}

/// Asks to end the whole program.
pub(crate) fn exiting() -> Vec<u8> {
    acting_with(
        &["wasi:cli/exit@0.2.0"],
        r#"(import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))"#,
        "(call $exit (i32.const 1)) (i32.const 1024)",
    )
}

/// Writes 100,000 lines of 1,000 letters to the log, and keeps the reply.
pub(crate) fn log_flood() -> Vec<u8> {
    acting(
        r#"(import "witgate:plugin/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))"#,
        "(memory.fill (i32.const 4096) (i32.const 0x78) (i32.const 1000))
        (loop $l
            (call $write (i32.const 2) (i32.const 4096) (i32.const 1000) (i32.const 0) (i32.const 0))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $n) (i32.const 100000))))
        (i32.const 1024)",
    )
}

/// Sets 10,000 keys to 16 KiB each, and says how often that worked and whether the store was full: `y` or `n`.
pub(crate) fn key_value_flood() -> Vec<u8> {
    acting(
        r#"(import "witgate:plugin/key-value@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i32 i32)))"#,
        "(loop $l
            ;; The key is the number in letters.
            (i32.store8 (i32.const 2048) (i32.add (i32.const 65) (i32.and (local.get $n) (i32.const 15))))
            (i32.store8 (i32.const 2049) (i32.add (i32.const 65) (i32.and (i32.shr_u (local.get $n) (i32.const 4)) (i32.const 15))))
            (i32.store8 (i32.const 2050) (i32.add (i32.const 65) (i32.and (i32.shr_u (local.get $n) (i32.const 8)) (i32.const 15))))
            (i32.store8 (i32.const 2051) (i32.add (i32.const 65) (i32.and (i32.shr_u (local.get $n) (i32.const 12)) (i32.const 15))))
            (call $set (i32.const 2048) (i32.const 4) (i32.const 8192) (i32.const 16384) (i32.const 0) (i32.const 0) (i32.const 1040))
            ;; ok or not, and why: 1 is `full`.
            (if (i32.load8_u (i32.const 1040))
                (then (local.set $m (i32.eq (i32.load8_u (i32.const 1044)) (i32.const 1)))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $n) (i32.const 10000))))
        (i32.store8 (i32.const 2048) (select (i32.const 0x79) (i32.const 0x6e) (local.get $m)))
        (call $say (i32.const 2048) (i32.const 1))",
    )
}

/// Sets a header to the reply, and says what came of it: `ok`, or the number of the error.
pub(crate) fn header_setter() -> Vec<u8> {
    acting_with(
        &["wasi:http/types@0.2.0"],
        r#"(import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
        (import "wasi:http/types@0.2.0" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
        (data (i32.const 2048) "x-mineok")"#,
        // The name is the reply's first word up to `=`, the value what follows.
        "(loop $l
            (if (i32.ne (i32.load8_u (i32.add (local.get $text) (local.get $n))) (i32.const 61))
                (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $l))))
        (call $append (call $fields) (local.get $text) (local.get $n)
            (i32.add (i32.add (local.get $text) (local.get $n)) (i32.const 1))
            (i32.sub (i32.sub (local.get $length) (local.get $n)) (i32.const 1))
            (i32.const 1040))
        (if (i32.eqz (i32.load8_u (i32.const 1040))) (then (return (call $say (i32.const 2054) (i32.const 2)))))
        (i32.store8 (i32.const 2056) (i32.add (i32.const 48) (i32.load8_u (i32.const 1041))))
        (call $say (i32.const 2056) (i32.const 1))",
    )
}

/// Does to the first folder it was granted what the reply says: a letter, then a path, then for some letters `>` and
/// another path. `c` creates a folder, `l` makes a hard link, `m` renames, `n` opens to write a new file, `r` reads,
/// `s` makes a symbolic link, `t` opens to empty, `u` removes a file, `w` opens to write, `x` removes a folder. It says
/// what it has read, `ok`, or `-` and a letter for the error.
pub(crate) fn file_tool() -> Vec<u8> {
    acting_with(
        &["wasi:filesystem/types@0.2.0", "wasi:filesystem/preopens@0.2.0"],
        r#"(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $folders (param i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.read" (func $read (param i32 i64 i64 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.create-directory-at" (func $mkdir (param i32 i32 i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.link-at" (func $link (param i32 i32 i32 i32 i32 i32 i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.rename-at" (func $rename (param i32 i32 i32 i32 i32 i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.symlink-at" (func $symlink (param i32 i32 i32 i32 i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.unlink-file-at" (func $unlink (param i32 i32 i32 i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.remove-directory-at" (func $rmdir (param i32 i32 i32 i32)))
        (data (i32.const 2048) "ok-?")
        (func $is (param $op i32) (param $letter i32) (result i32) (i32.eq (local.get $op) (local.get $letter)))"#,
        r#"(local $op i32) (local $dir i32) (local $to i32) (local $to_length i32)
        (call $folders (i32.const 1040))
        (local.set $dir (i32.load (i32.load (i32.const 1040))))
        (local.set $op (i32.load8_u (local.get $text)))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        ;; Where `>` is, if anywhere.
        (block $end (loop $l
            (br_if $end (i32.eq (local.get $n) (local.get $length)))
            (if (i32.eq (i32.load8_u (i32.add (local.get $text) (local.get $n))) (i32.const 62)) (then
                (local.set $to (i32.add (i32.add (local.get $text) (local.get $n)) (i32.const 1)))
                (local.set $to_length (i32.sub (i32.sub (local.get $length) (local.get $n)) (i32.const 1)))
                (local.set $length (local.get $n))
                (br $end)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br $l)))
        (i32.store (i32.const 1040) (i32.const 0))
        (if (call $is (local.get $op) (i32.const 0x63)) (then
            (call $mkdir (local.get $dir) (local.get $text) (local.get $length) (i32.const 1040))))
        (if (call $is (local.get $op) (i32.const 0x6c)) (then
            (call $link (local.get $dir) (i32.const 0) (local.get $text) (local.get $length) (local.get $dir)
                (local.get $to) (local.get $to_length) (i32.const 1040))))
        (if (call $is (local.get $op) (i32.const 0x6d)) (then
            (call $rename (local.get $dir) (local.get $text) (local.get $length) (local.get $dir)
                (local.get $to) (local.get $to_length) (i32.const 1040))))
        (if (call $is (local.get $op) (i32.const 0x6e)) (then
            (call $open (local.get $dir) (i32.const 1) (local.get $text) (local.get $length) (i32.const 1) (i32.const 2) (i32.const 1040))))
        (if (call $is (local.get $op) (i32.const 0x73)) (then
            (call $symlink (local.get $dir) (local.get $text) (local.get $length) (local.get $to) (local.get $to_length) (i32.const 1040))))
        (if (call $is (local.get $op) (i32.const 0x74)) (then
            (call $open (local.get $dir) (i32.const 1) (local.get $text) (local.get $length) (i32.const 8) (i32.const 2) (i32.const 1040))))
        (if (call $is (local.get $op) (i32.const 0x75)) (then
            (call $unlink (local.get $dir) (local.get $text) (local.get $length) (i32.const 1040))))
        (if (call $is (local.get $op) (i32.const 0x77)) (then
            (call $open (local.get $dir) (i32.const 1) (local.get $text) (local.get $length) (i32.const 0) (i32.const 2) (i32.const 1040))))
        (if (call $is (local.get $op) (i32.const 0x78)) (then
            (call $rmdir (local.get $dir) (local.get $text) (local.get $length) (i32.const 1040))))
        (if (call $is (local.get $op) (i32.const 0x72)) (then
            (call $open (local.get $dir) (i32.const 1) (local.get $text) (local.get $length) (i32.const 0) (i32.const 1) (i32.const 1040))
            (if (i32.eqz (i32.load8_u (i32.const 1040))) (then
                (call $read (i32.load (i32.const 1044)) (i64.const 1000) (i64.const 0) (i32.const 1040))
                (if (i32.eqz (i32.load8_u (i32.const 1040))) (then
                    (return (call $say (i32.load (i32.const 1044)) (i32.load (i32.const 1048))))))))))
        (if (i32.eqz (i32.load8_u (i32.const 1040))) (then (return (call $say (i32.const 2048) (i32.const 2)))))
        ;; The error of `open` comes where its descriptor would be.
        (local.set $m (i32.or (i32.load8_u (i32.const 1041)) (i32.load8_u (i32.const 1044))))
        (i32.store8 (i32.const 2051) (i32.add (i32.const 65) (local.get $m)))
        (call $say (i32.const 2050) (i32.const 2))"#,
    )
}

/// A stream processor that writes `to` over each letter `from`.
pub(crate) fn replacing_letter(from: char, to: char) -> Vec<u8> {
    let (from, to) = (u32::from(from), u32::from(to));
    let push = format!(
        "(local $at i32) (local $end i32) (local $n i32)
        (block $done (loop $deltas
            (br_if $done (i32.eq (local.get $n) (local.get $count)))
            (local.set $at (i32.load offset=4 (i32.add (local.get $list) (i32.mul (local.get $n) (i32.const 12)))))
            (local.set $end (i32.add (local.get $at)
                (i32.load offset=8 (i32.add (local.get $list) (i32.mul (local.get $n) (i32.const 12))))))
            (block $written (loop $letters
                (br_if $written (i32.ge_u (local.get $at) (local.get $end)))
                (if (i32.eq (i32.load8_u (local.get $at)) (i32.const {from}))
                    (then (i32.store8 (local.get $at) (i32.const {to}))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br $letters)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br $deltas)))
        (i32.store8 (i32.const 1028) (i32.const 1))
        (i32.store (i32.const 1032) (local.get $list)) (i32.store (i32.const 1036) (local.get $count))
        (i32.const 1024)"
    );
    crate::component::stream(&push, "(i32.const 512)")
}

/// A tool provider whose one tool, `explode`, runs `code`, which gives the address of the result.
pub(crate) fn tool(code: &str) -> Vec<u8> {
    let texts = [(3000, "explode"), (3010, "Explodes."), (3020, r#"{"type":"object"}"#)];
    // The definition: name, title, description, schema, schema of the result, four hints.
    let mut definition = Vec::new();
    let mut push = |words: &[u32]| definition.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let [name, description, schema] = texts.map(|(at, text)| [at, u32::try_from(text.len()).unwrap()]);
    push(&name);
    push(&[0, 0, 0]);
    push(&description);
    push(&schema);
    push(&[0, 0, 0]);
    push(&[0, 0]);
    let definition: String = definition.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let texts = texts.map(|(at, text)| format!("(data (i32.const {at}) \"{}\")", text.replace('"', "\\\"")));
    let data = format!("(data (i32.const 2048) \"{definition}\") {}", texts.concat());
    let list = "(i32.store (i32.const 1028) (i32.const 2048)) (i32.store (i32.const 1032) (i32.const 1)) (i32.const 1024)";
    crate::component::tools(&data, list, code)
}

/// A stream processor that runs `code` when a piece begins with `!`, and lets all others pass.
pub(crate) fn stream_acting(code: &str) -> Vec<u8> {
    let push = format!(
        "(if (i32.eq (i32.load8_u (i32.load offset=4 (local.get $list))) (i32.const 33)) (then {code})) (i32.const 1024)"
    );
    crate::component::stream(&push, "(i32.const 512)")
}
