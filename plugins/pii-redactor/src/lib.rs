//! Takes e-mail addresses, telephone numbers, card numbers and account numbers out of replies, whole or streamed.
//!
//! Text and reasoning are read; the arguments of tool calls are not.

mod card;
mod email;
mod iban;
mod phone;
mod redact;
mod run;
mod text;

use redact::{AllowList, Counts, Kind, Replacement, Rules, Stream};
use serde::Deserialize;
use witgate_plugin::{
    Action, Context, Delta, DeltaKind, Error, Finished, Pushed, Reply, ReplyEnd, ResponseProcessor,
    Rewritten, StreamProcessor, config, log,
};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    kinds: Vec<Kind>,
    replacement: Style,
    text: Option<String>,
    allow: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    #[default]
    Label,
    Mask,
    Text,
}

impl Default for Config {
    fn default() -> Self {
        Self { kinds: Kind::ALL.to_vec(), replacement: Style::default(), text: None, allow: Vec::new() }
    }
}

impl Config {
    fn rules(self) -> Result<Rules, Error> {
        if self.kinds.is_empty() {
            return Err(Error::internal("config.kinds is empty: name a kind, or set `enabled = false`"));
        }
        let replacement = match (self.replacement, self.text) {
            (Style::Label, None) => Replacement::Label,
            (Style::Mask, None) => Replacement::Mask,
            (Style::Text, Some(text)) => Replacement::Text(text),
            (Style::Text, None) => {
                return Err(Error::internal("config.replacement is \"text\", so config.text must say which"));
            }
            (_, Some(_)) => {
                return Err(Error::internal("config.text is used only with `replacement = \"text\"`"));
            }
        };
        let mut allow = AllowList::default();
        for entry in &self.allow {
            if !allow.add(entry) {
                return Err(Error::internal(format!(
                    "config.allow has {entry:?}, which is no e-mail address, domain or number of five digits or more"
                )));
            }
        }
        Ok(Rules { kinds: self.kinds, replacement, allow })
    }
}

/// One streamed reply. Whole replies need no state.
struct PiiRedactor {
    rules: Rules,
    text: Stream,
    reasoning: Stream,
    counts: Counts,
}

impl ResponseProcessor for PiiRedactor {
    fn process(_ctx: &Context, reply: Reply) -> Result<Action, Error> {
        let rules = config::<Config>()?.rules()?;
        let mut counts = Counts::default();
        let text = rules.redact(&reply.text, &mut counts);
        let reasoning = reply.reasoning.as_deref().and_then(|reasoning| rules.redact(reasoning, &mut counts));
        tell(&counts);
        Ok(match (text, reasoning) {
            (None, None) => Action::Keep,
            (Some(text), None) => Action::Replace(text),
            (text, Some(reasoning)) => {
                Action::Rewrite(Rewritten { text: text.unwrap_or(reply.text), reasoning: Some(reasoning) })
            }
        })
    }
}

impl StreamProcessor for PiiRedactor {
    fn new(_ctx: &Context, _choice: u32) -> Result<Self, Error> {
        Ok(Self {
            rules: config::<Config>()?.rules()?,
            text: Stream::default(),
            reasoning: Stream::default(),
            counts: Counts::default(),
        })
    }

    fn push(&mut self, deltas: Vec<Delta>) -> Result<Pushed, Error> {
        let mut is_unchanged = true;
        let mut out = Vec::with_capacity(deltas.len());
        for delta in deltas.iter().filter(|delta| !delta.text.is_empty()) {
            let (own, other, other_kind) = match delta.kind {
                DeltaKind::Text => (&mut self.text, &mut self.reasoning, DeltaKind::Reasoning),
                DeltaKind::Reasoning => (&mut self.reasoning, &mut self.text, DeltaKind::Text),
            };
            // The model has moved on: what it thought must not come after what it says.
            if !other.held().is_empty() {
                let mut text = String::new();
                other.finish(&self.rules, &mut text, &mut self.counts);
                out.push(Delta { kind: other_kind, text });
                is_unchanged = false;
            }
            let mut text = String::new();
            is_unchanged &= own.push(&self.rules, &delta.text, &mut text, &mut self.counts);
            if !text.is_empty() {
                out.push(Delta { kind: delta.kind, text });
            }
        }
        Ok(if is_unchanged { Pushed::Unchanged } else { Pushed::Deltas(out) })
    }

    fn finish(&mut self, _end: ReplyEnd) -> Result<Finished, Error> {
        let mut out = Vec::new();
        for (stream, kind) in [(&mut self.reasoning, DeltaKind::Reasoning), (&mut self.text, DeltaKind::Text)]
        {
            let mut text = String::new();
            stream.finish(&self.rules, &mut text, &mut self.counts);
            if !text.is_empty() {
                out.push(Delta { kind, text });
            }
        }
        tell(&self.counts);
        Ok(Finished::with(out))
    }
}

/// Tells the log how much was redacted, never what.
fn tell(counts: &Counts) {
    if counts.total() > 0 {
        log::info!(
            email = counts.of(Kind::Email),
            phone = counts.of(Kind::Phone),
            card = counts.of(Kind::Card),
            iban = counts.of(Kind::Iban),
            "personal data was redacted"
        );
    }
}

witgate_plugin::export!(PiiRedactor: response, stream);

#[cfg(test)]
mod tests {
    mod cuts;
    mod finding;
    mod plugin;
}
