//! Tests of the look into components: what is read from them, and what each fault is called.
//!
//! The components are written byte by byte (Component Model, `Binary.md`), so that they can be wrong on purpose.

use super::*;

const RESPONSE: &str = "witgate:plugin/response@0.1.0";

/// Bytes of a component under construction.
pub(crate) struct Builder(Vec<u8>, u8);

impl Builder {
    pub(crate) fn new() -> Self {
        Self(b"\0asm\x0d\0\x01\0".to_vec(), 0)
    }

    fn section(mut self, id: u8, content: &[u8]) -> Self {
        self.0.push(id);
        let mut rest = content.len();
        loop {
            let byte = (rest & 0x7f) as u8;
            rest >>= 7;
            self.0.push(if rest > 0 { byte | 0x80 } else { byte });
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(content);
        self
    }

    /// Imports an instance without anything in it.
    pub(crate) fn import(mut self, name: &str) -> Self {
        // A type section with one empty instance type, whose index is the number of those before it.
        let at = self.1;
        self.1 += 1;
        let import = [&[1, 0][..], &text(name), &[5, at]].concat();
        self.section(7, &[1, 0x42, 0]).section(10, &import)
    }

    /// Exports an instance without anything in it; imports come first.
    pub(crate) fn export(mut self, name: &str) -> Self {
        // The instance made here; the export makes one more.
        let at = self.1;
        self.1 += 2;
        let export = [&[1, 0][..], &text(name), &[5, at, 0]].concat();
        self.section(5, &[1, 1, 0]).section(11, &export)
    }

    pub(crate) fn custom(self, name: &str, data: &[u8]) -> Self {
        let content = [&text(name)[..], data].concat();
        self.section(0, &content)
    }

    /// Links an empty core module with an instance called `library`.
    fn linked_with(self, library: &str) -> Self {
        let link = [&[2, 1, 0, 0, 0, 1][..], &text(library), &[0x12, 0]].concat();
        self.section(1, b"\0asm\x01\0\0\0").section(2, &link)
    }

    /// Imports a function and calls it asynchronously.
    fn calling_asynchronously(mut self) -> Self {
        let at = self.1;
        self.1 += 1;
        self.section(7, &[1, 0x43, 0, 1, 0])
            .section(10, &[1, 0, 1, b'f', 1, at])
            .section(8, &[1, 1, 0, 0, 1, 6])
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

fn text(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat()
}

fn read(builder: Builder) -> Inspection {
    Inspection::read(&builder.bytes()).unwrap()
}

fn checked(builder: Builder) -> Result<(), String> {
    read(builder).check(&Manifest::default()).map_err(|error| error.message)
}

fn importing(import: &str) -> Result<(), String> {
    checked(Builder::new().import(import).export(RESPONSE))
}

fn granting(toml: &str) -> Manifest {
    Manifest::parse("p.toml", toml, &Default::default(), &Default::default()).unwrap()
}

#[test]
fn tells_what_a_component_is() {
    let found = read(
        Builder::new()
            .import("wasi:cli/stdout@0.2.12")
            .import("witgate:plugin/log@0.1.0")
            .export(RESPONSE)
            .export("witgate:plugin/auth@0.1.3")
            .custom("version", b"1.2.3")
            .custom("description", b"Hides\nnames")
            .custom("producers", b"\x01\x0cprocessed-by\x02\x04tool\x031.0\x05other\x00"),
    );
    assert_eq!(found.exports, Exports { response: true, auth: true, ..Exports::default() });
    assert_eq!(found.exports.names(), ["response", "auth"]);
    assert_eq!(found.imports, ["wasi:cli/stdout@0.2.12", "witgate:plugin/log@0.1.0"]);
    assert_eq!(found.version.as_deref(), Some("1.2.3"));
    assert_eq!(found.description.as_deref(), Some("Hides names"));
    assert_eq!(found.producers, ["other", "tool 1.0"]);
    assert_eq!(found.check(&Manifest::default()), Ok(()));
}

#[test]
fn what_lies_beside_the_exports_is_tolerated() {
    assert_eq!(checked(Builder::new().export(RESPONSE).export("exports").custom("version", b"\xff")), Ok(()));
}

#[test]
fn a_component_that_is_no_plugin_lists_what_it_exports() {
    let error =
        checked(Builder::new().export("wasi:http/incoming-handler@0.2.0").export("other")).unwrap_err();
    assert!(error.contains("it exports `wasi:http/incoming-handler@0.2.0`, `other`;"), "{error}");
    assert!(
        error.contains("`response`, `response-stream`, `auth`, `tools` of witgate:plugin@0.1"),
        "{error}"
    );
    let error = checked(Builder::new()).unwrap_err();
    assert!(error.contains("it exports nothing;"), "{error}");
    let error = checked(Builder::new().export("witgate:plugin/log@0.1.0")).unwrap_err();
    assert!(error.starts_with("a component, but no plugin"), "{error}");
}

#[test]
fn other_versions_are_named_and_their_kind_is_known_all_the_same() {
    let newer = read(Builder::new().export("witgate:plugin/auth@0.2.0"));
    assert!(newer.exports.auth);
    assert_eq!(
        newer.check(&Manifest::default()).unwrap_err().message,
        "exports `witgate:plugin/auth@0.2.0`; this gateway speaks 0.1: use a newer gateway, or a plugin that speaks the same"
    );
    let error = checked(Builder::new().export("witgate:plugin/tools@0.0.9")).unwrap_err();
    assert!(error.ends_with("use a newer plugin that speaks the same"), "{error}");
    let error = checked(Builder::new().export("witgate:plugin/tools")).unwrap_err();
    assert!(error.starts_with("exports `witgate:plugin/tools`; this gateway speaks 0.1"), "{error}");
    let error = importing("witgate:plugin/log@1.0.0").unwrap_err();
    assert_eq!(error, "imports `witgate:plugin/log@1.0.0`; this gateway speaks 0.1");
    let error = importing("witgate:plugin/metrics@0.1.7").unwrap_err();
    assert!(error.ends_with("which this gateway does not have: it needs a newer gateway"), "{error}");
}

#[test]
fn what_runtimes_always_bring_needs_no_grant() {
    for name in [
        "witgate:plugin/types@0.1.0",
        "witgate:plugin/reply-body@0.1.9",
        "wasi:io/streams@0.2.0",
        "wasi:clocks/wall-clock@0.2.12",
        "wasi:random/insecure-seed@0.2.12",
        "wasi:cli/environment@0.2.9",
        "wasi:cli/terminal-stdout@0.2.9",
        "wasi:filesystem/preopens@0.2.9",
        "wasi:http/types@0.2.3",
        "wasi:config/store@0.2.0-rc.1",
    ] {
        assert_eq!(importing(name), Ok(()), "{name}");
    }
}

#[test]
fn what_is_not_granted_or_not_there_is_named() {
    for (name, fault) in [
        ("wasi:http/outgoing-handler@0.2.12", "grant hosts in its file, for example `network = ["),
        ("wasi:sockets/tcp@0.2.9", "imports wasi:sockets, which no grant allows"),
        ("wasi:keyvalue/store@0.2.0-draft", "use witgate:plugin/key-value"),
        ("wasi:logging/logging@0.2.0", "use witgate:plugin/log"),
        ("wasi:cli/stdout@0.3.0", "this gateway offers WASI 0.2"),
        ("wasi:http/incoming-handler@0.2.0", "which a program or a server has"),
        ("wasi:nn/graph@0.2.0", "imports `wasi:nn/graph@0.2.0`, which is not offered"),
        ("my:company/api@1.0.0", "imports `my:company/api@1.0.0`, which is not offered"),
        ("witgate:plugin/auth@0.1.0", "which plugins export and nobody gives them"),
        ("plain-name", "imports `plain-name`, which is no interface"),
    ] {
        let error = importing(name).unwrap_err();
        assert!(error.contains(fault) && error.lines().count() == 1, "{name}: {error}");
    }
}

#[test]
fn network_grants_allow_http_and_never_sockets() {
    let manifest = granting("network = [\"api.example.com\"]");
    let http = read(Builder::new().import("wasi:http/outgoing-handler@0.2.0").export(RESPONSE));
    assert_eq!(http.check(&manifest), Ok(()));
    let sockets = read(Builder::new().import("wasi:sockets/tcp@0.2.0").export(RESPONSE));
    assert!(sockets.check(&manifest).is_err());
}

#[test]
fn cpython_may_import_the_sockets_it_always_imports() {
    let python = Builder::new()
        .import("wasi:sockets/tcp@0.2.9")
        .import("wasi:sockets/udp@0.2.9")
        .export(RESPONSE)
        .linked_with("libpython3.14.so");
    assert_eq!(checked(python), Ok(()));
    let other = Builder::new()
        .import("wasi:sockets/tcp@0.2.9")
        .import("wasi:sockets/udp@0.2.9")
        .export(RESPONSE)
        .linked_with("libc.so");
    assert_eq!(checked(other).unwrap_err().lines().count(), 1, "one fault for all of wasi:sockets");
}

#[test]
fn asynchronous_calls_are_told_of() {
    let error = checked(Builder::new().calling_asynchronously()).unwrap_err();
    assert!(error.contains("uses the asynchronous calls of WASI 0.3"), "{error}");
}

#[test]
fn all_faults_are_told_at_once_and_not_endlessly() {
    let error = checked(
        Builder::new().import("a:b/c@1.0.0").import("a:b/d@1.0.0").export("witgate:plugin/auth@0.2.0"),
    )
    .unwrap_err();
    assert_eq!(error.lines().count(), 3, "{error}");
    let many = (0..50).fold(Builder::new(), |builder, at| builder.import(&format!("a:b/c{at}@1.0.0")));
    let error = checked(many.export(RESPONSE)).unwrap_err();
    assert_eq!(error.lines().count(), MAX_LISTED + 1, "{error}");
    assert!(error.ends_with("and 38 more imports that cannot be given"), "{error}");
}

#[test]
fn streaming_needs_the_interface_for_it() {
    let manifest = granting("body = \"streamed\"");
    let whole = read(Builder::new().export(RESPONSE));
    assert!(whole.check(&manifest).unwrap_err().message.contains("does not export `response-stream`"));
    let both = read(Builder::new().export(RESPONSE).export("witgate:plugin/response-stream@0.1.0"));
    assert_eq!(both.check(&manifest), Ok(()));
}

#[test]
fn a_cut_component_is_incomplete_and_a_changed_one_damaged() {
    let whole = Builder::new().import("wasi:io/poll@0.2.0").export(RESPONSE).custom("version", b"1").bytes();
    assert!(Inspection::read(&whole).is_ok());
    let mut told = 0;
    for end in 0..whole.len() {
        match Inspection::read(&whole[..end]) {
            // A cut between two sections leaves a component: without its export it is no plugin.
            Ok(found) => assert!(found.check(&Manifest::default()).is_err() || found.version.is_none()),
            Err(error) if error.message.starts_with("incomplete") || error.message.starts_with("empty") => {
                told += 1;
            }
            Err(error) => panic!("{end}: {error}"),
        }
    }
    assert!(told > whole.len() / 2, "{told}");
    for at in 8..whole.len() {
        for value in [0, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            // Whatever comes of it, it comes at once, and in one short line a fault.
            if let Err(error) = Inspection::read(&changed).and_then(|found| found.check(&Manifest::default()))
            {
                assert!(error.message.lines().all(|line| line.len() < 1200), "{error}");
            }
        }
    }
}

#[test]
fn texts_of_a_component_are_cut_before_they_are_shown() {
    let long = "x".repeat(100_000);
    let found = read(Builder::new().export(RESPONSE).custom("version", long.as_bytes()));
    assert_eq!(found.version.map(|version| version.chars().count()), Some(MAX_TEXT_CHARS + 1));
}

#[test]
fn the_linkers_words_are_explained() {
    let error = explain_link_error([
        "component imports instance `wasi:io/streams@0.2.0`, but a matching implementation was not found in the linker",
        "instance export `output-stream` has the wrong type",
    ]);
    assert!(error.message.starts_with("imports `wasi:io/streams@0.2.0` in another shape"), "{error}");
    assert!(error.message.ends_with("has the wrong type"), "{error}");
    let error = explain_link_error(["no exported instance named `witgate:plugin/response@0.1.0`"]);
    assert!(error.message.starts_with("exports `witgate:plugin/response@0.1.0` in another shape"), "{error}");
    assert!(explain_link_error(["something else"]).message.starts_with("does not fit this gateway"));
}
