//! A plugin for the witgate gateway: hides e-mail addresses in what the model says, while it says it.

use regex_lite::{NoExpand, Regex};
use witgate_plugin::{Context, Delta, DeltaKind, Error, Finished, Pushed, ReplyEnd, StreamProcessor};

/// A longer word is no address: it goes on in pieces.
const LONGEST_ADDRESS: usize = 320;

/// The gateway makes one for each choice of each reply.
struct Plugin {
    address: Regex,
    replacement: String,
    /// The last word of each kind of text: it may be an address that is not complete yet.
    held_text: String,
    held_reasoning: String,
}

impl Plugin {
    fn redact(&self, text: &str) -> String {
        self.address.replace_all(text, NoExpand(&self.replacement)).into_owned()
    }
}

impl StreamProcessor for Plugin {
    fn new(_ctx: &Context, _choice: u32) -> Result<Self, Error> {
        let address = Regex::new(r"[\w.+-]+@[\w-]+(\.[\w-]+)+").map_err(Error::internal)?;
        // From the operator's file.
        let replacement: Option<String> = witgate_plugin::config_value("replacement")?;
        let replacement = replacement.unwrap_or_else(|| "[e-mail]".into());
        Ok(Self { address, replacement, held_text: String::new(), held_reasoning: String::new() })
    }

    fn push(&mut self, deltas: Vec<Delta>) -> Result<Pushed, Error> {
        let mut ready = Vec::new();
        for delta in deltas {
            let held = match delta.kind {
                DeltaKind::Text => &mut self.held_text,
                DeltaKind::Reasoning => &mut self.held_reasoning,
            };
            held.push_str(&delta.text);
            let mut end = held.trim_end_matches(|c: char| !c.is_whitespace()).len();
            if held.len() - end > LONGEST_ADDRESS {
                end = held.len();
            }
            let text: String = held.drain(..end).collect();
            if !text.is_empty() {
                ready.push(Delta { kind: delta.kind, text: self.redact(&text) });
            }
        }
        Ok(Pushed::Deltas(ready))
    }

    fn finish(&mut self, _end: ReplyEnd) -> Result<Finished, Error> {
        let mut rest = vec![Delta::reasoning(self.redact(&self.held_reasoning)), Delta::text(self.redact(&self.held_text))];
        rest.retain(|delta| !delta.text.is_empty());
        Ok(Finished::with(rest))
    }
}

witgate_plugin::export!(Plugin: stream);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_pieces_is_hidden() {
        let mut reply = Plugin::new(&Context::default(), 0).unwrap();
        assert_eq!(reply.push(vec![Delta::text("Ask ann@exa")]), Ok(Pushed::Deltas(vec![Delta::text("Ask ")])));
        assert_eq!(reply.push(vec![Delta::text("mple.org")]), Ok(Pushed::Deltas(vec![])));
        assert_eq!(reply.finish(ReplyEnd::default()), Ok(Finished::with(vec![Delta::text("[e-mail]")])));
    }
}
