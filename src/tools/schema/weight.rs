//! How much work a schema makes of checking one value, before any value is there.
//!
//! References let a few lines stand for more checks than a machine can do: definitions that each name the next one
//! twice double the work with every line. Such a schema would hold a thread for ever, so it is found before use.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::tools::lowering::find;

/// The longest chain of schemas that apply to the same value.
const MAX_CHAIN: usize = 256;

/// The most checks that any place in `root` makes of one value (not counting those of its parts); `usize::MAX` where
/// references go too deep to tell.
pub(super) fn weight(root: &Value) -> usize {
    let mut scale = Scale { root, known: HashMap::new(), active: HashSet::new() };
    scale.heaviest_within(root)
}

struct Scale<'a> {
    root: &'a Value,
    /// By address, since the same definition is met through many references.
    known: HashMap<*const Value, usize>,
    active: HashSet<*const Value>,
}

impl<'a> Scale<'a> {
    /// JSON that was read at all nests at most 128 levels, which bounds this recursion.
    fn heaviest_within(&mut self, value: &'a Value) -> usize {
        match value {
            Value::Object(map) => {
                let parts = map.values().map(|part| self.heaviest_within(part)).max().unwrap_or(0);
                parts.max(self.weigh(value))
            }
            Value::Array(items) => items.iter().map(|item| self.heaviest_within(item)).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn weigh(&mut self, schema: &'a Value) -> usize {
        let Value::Object(keywords) = schema else { return 1 };
        let place = std::ptr::from_ref(schema);
        if let Some(known) = self.known.get(&place) {
            return *known;
        }
        if self.active.len() >= MAX_CHAIN {
            return usize::MAX;
        }
        // A schema that applies itself to the same value again is checked once.
        if !self.active.insert(place) {
            return 1;
        }
        let weight = applied(self.root, keywords)
            .into_iter()
            .fold(1, |sum: usize, part| sum.saturating_add(self.weigh(part)));
        self.active.remove(&place);
        self.known.insert(place, weight);
        weight
    }
}

/// The schemas that `keywords` apply to the very value they are applied to.
fn applied<'a>(root: &'a Value, keywords: &'a Map<String, Value>) -> Vec<&'a Value> {
    let mut parts = Vec::new();
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                parts.extend(find(root, reference));
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(several)) => parts.extend(several),
            ("dependentSchemas" | "dependencies", Value::Object(several)) => parts.extend(several.values()),
            ("not" | "if" | "then" | "else", one) => parts.push(one),
            _ => {}
        }
    }
    parts
}
