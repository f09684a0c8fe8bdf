//! The plugins inside the gateway's binary: named in `plugins.bundled`, they serve without any file.
//!
//! Their sources are in `plugins/`. A file of the same name in the plugins folder takes the place of a bundled one, and
//! `name.toml` beside it is its operator's file, as with any other.

/// A plugin inside the binary.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    bytes: &'static [u8],
}

macro_rules! bundled {
    ($($name:literal: $about:literal,)*) => {
        &[$(Bundled {
            name: $name,
            about: $about,
            bytes: include_bytes!(concat!("../../plugins/dist/", $name, ".wasm")),
        },)*]
    };
}

/// All there are, by name.
pub const BUNDLED: &[Bundled] = bundled! {
    "clock-and-math": "tools: time zones, dates, exact arithmetic",
    "fetch-page": "tool: reads pages of granted hosts",
    "hmac-auth": "auth policy: signed requests (RFC 9421)",
    "keyword-guard": "replies: blocks, replaces or asks again on words",
    "pii-redactor": "replies: e-mail addresses, phone numbers, card numbers, IBANs",
    "react-tool-calls": "replies: makes tool calls of ReAct and Hermes text",
    "tool-permissions": "auth policy: who may use which tool, model and endpoint",
};

/// The component of a bundled plugin.
pub(super) fn component(name: &str) -> Option<&'static [u8]> {
    BUNDLED.iter().find(|bundled| bundled.name == name).map(|bundled| bundled.bytes)
}

/// What is wrong with a list of names.
pub(super) fn unknown(names: &[String]) -> Option<String> {
    let wrong = names.iter().find(|name| component(name).is_none())?;
    let known: Vec<&str> = BUNDLED.iter().map(|bundled| bundled.name).collect();
    Some(format!("plugins.bundled: there is no bundled plugin {wrong:?}; there are {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::inspect::Inspection;
    use super::super::manifest::Manifest;
    use super::*;

    #[test]
    fn all_are_plugins() {
        for bundled in BUNDLED {
            let inspection = Inspection::read(bundled.bytes).unwrap();
            assert!(!inspection.exports.names().is_empty(), "{}", bundled.name);
            // Only the one that reaches out needs more than its operator gives by default.
            assert_eq!(inspection.check(&Manifest::default()).is_err(), bundled.name == "fetch-page");
        }
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(unknown(&["pii-redactor".to_owned()]), None);
        assert!(
            unknown(&["pii".to_owned()])
                .unwrap()
                .contains("there is no bundled plugin \"pii\"; there are clock")
        );
    }
}
