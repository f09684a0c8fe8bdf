//! A schema as a graph: which schemas apply to the same value as another one, and which to the parts of it.
//!
//! References are resolved by the same library, set up the same way, as in the validator: by pointer, by anchor, by
//! `$id`, against the base of the place they stand in. Where the validator picks one of several dynamic anchors
//! while it runs, all of them are in the graph.

use std::collections::HashMap;

use jsonschema::{Draft, Registry, uri};
use serde_json::{Map, Value};

use super::weight::MAX_STEPS;

/// The base of a schema that has no `$id`: the validator's own.
const DEFAULT_BASE: &str = "json-schema:///";

/// One schema; others are named by their index.
#[derive(Default)]
pub(super) struct Node {
    /// Those that apply to the same value.
    pub(super) applied: Vec<usize>,
    /// Those that apply to the members of an object, to the items of an array, and to the names of members.
    pub(super) parts: [Parts; GROUPS],
    /// Why a reference leads nowhere.
    pub(super) missing: Option<String>,
}

/// The schemas for the parts of a value.
#[derive(Default)]
pub(super) struct Parts {
    /// For the parts of a name.
    pub(super) named: Vec<(String, usize)>,
    /// For the parts that are not named.
    pub(super) rest: Vec<usize>,
    /// For all of them.
    pub(super) all: Vec<usize>,
}

/// Where a schema within another one applies.
enum Place {
    Nowhere,
    SameValue,
    Named(usize, String),
    Rest(usize),
    All(usize),
}

/// How many kinds of parts values have.
pub(super) const GROUPS: usize = 3;

const MEMBERS: usize = 0;
const ITEMS: usize = 1;
const NAMES: usize = 2;

/// The graph of `schema`, which is the first node.
///
/// # Errors
/// What is wrong with the schema as a whole.
pub(super) fn read(schema: &Value, draft: Draft) -> Result<Vec<Node>, String> {
    let root = draft.create_resource_ref(schema);
    let base = root.id().unwrap_or(DEFAULT_BASE).to_owned();
    let wrong = |error: jsonschema::ReferencingError| error.to_string();
    let registry = Registry::new().draft(draft).add(&base, root).map_err(wrong)?.prepare().map_err(wrong)?;
    let mut waiting = vec![(schema, registry.resolver(uri::from_str(&base).map_err(wrong)?), draft)];
    let mut numbers = Numbers::default();
    numbers.of(schema, &base);
    let mut nodes: Vec<Node> = Vec::new();
    let mut dynamic = Dynamic::default();
    while let Some((schema, resolver, draft)) = waiting.get(nodes.len()).cloned() {
        if nodes.len() == MAX_STEPS {
            return Err("it has too many schemas".to_owned());
        }
        let mut node = Node::default();
        if let Value::Object(keywords) = schema {
            dynamic.note(keywords, nodes.len());
            for (place, part) in parts(keywords) {
                let draft = draft.detect(part);
                match resolver.in_subresource(draft.create_resource_ref(part)) {
                    Ok(resolver) => {
                        let (number, is_new) = numbers.of(part, resolver.base_uri().as_str());
                        if is_new {
                            waiting.push((part, resolver, draft));
                        }
                        node.put(place, number);
                    }
                    Err(error) => node.missing = Some(error.to_string()),
                }
            }
            for (keyword, reference) in references(keywords) {
                dynamic.expect(keyword, reference, nodes.len());
                let found = resolver.lookup(reference).and_then(|found| {
                    let (target, resolver, draft) = found.into_inner();
                    Ok((target, resolver.in_subresource(draft.create_resource_ref(target))?, draft))
                });
                match found {
                    Ok((target, resolver, draft)) => {
                        let (number, is_new) = numbers.of(target, resolver.base_uri().as_str());
                        if is_new {
                            waiting.push((target, resolver, draft));
                        }
                        node.put(Place::SameValue, number);
                    }
                    Err(error) => node.missing = Some(format!("its reference `{reference}`: {error}")),
                }
            }
        }
        nodes.push(node);
    }
    dynamic.join(&mut nodes);
    Ok(nodes)
}

impl Node {
    fn put(&mut self, place: Place, schema: usize) {
        match place {
            Place::Nowhere => {}
            Place::SameValue => self.applied.push(schema),
            Place::Named(group, name) => self.parts[group].named.push((name, schema)),
            Place::Rest(group) => self.parts[group].rest.push(schema),
            Place::All(group) => self.parts[group].all.push(schema),
        }
    }
}

/// The indexes of schemas, by their address and base: the same text means something else under another base.
#[derive(Default)]
struct Numbers(HashMap<(usize, String), usize>);

impl Numbers {
    /// The index of `schema`, and whether it is a new one.
    fn of(&mut self, schema: &Value, base: &str) -> (usize, bool) {
        let next = self.0.len();
        let number = *self.0.entry((std::ptr::from_ref(schema).addr(), base.to_owned())).or_insert(next);
        (number, number == next)
    }
}

/// What dynamic references may point to, beside where they point when read as plain ones.
#[derive(Default)]
struct Dynamic {
    anchors: HashMap<String, Vec<usize>>,
    references: Vec<(String, usize)>,
}

/// Stands for `$recursiveAnchor`, which has no name; no anchor is called this.
const RECURSIVE: &str = "#";

impl Dynamic {
    fn note(&mut self, keywords: &Map<String, Value>, at: usize) {
        if let Some(Value::String(name)) = keywords.get("$dynamicAnchor") {
            self.anchors.entry(name.clone()).or_default().push(at);
        }
        if keywords.get("$recursiveAnchor") == Some(&Value::Bool(true)) {
            self.anchors.entry(RECURSIVE.to_owned()).or_default().push(at);
        }
    }

    fn expect(&mut self, keyword: &str, reference: &str, at: usize) {
        match (keyword, reference.rsplit_once('#')) {
            ("$recursiveRef", _) => self.references.push((RECURSIVE.to_owned(), at)),
            // The validator treats a plain reference to a dynamic anchor as a dynamic one.
            (_, Some((_, name))) => self.references.push((name.to_owned(), at)),
            _ => {}
        }
    }

    fn join(self, nodes: &mut [Node]) {
        for (name, at) in self.references {
            for anchor in self.anchors.get(&name).into_iter().flatten() {
                if !nodes[at].applied.contains(anchor) {
                    nodes[at].applied.push(*anchor);
                }
            }
        }
    }
}

fn references(keywords: &Map<String, Value>) -> impl Iterator<Item = (&'static str, &str)> {
    ["$ref", "$dynamicRef", "$recursiveRef"]
        .into_iter()
        .filter_map(|keyword| Some((keyword, keywords.get(keyword)?.as_str()?)))
        // The empty one is left out by the validator too.
        .filter(|(_, reference)| !reference.is_empty())
}

/// The schemas within a schema. Those that are only `true` or `false` make no work.
fn parts(keywords: &Map<String, Value>) -> Vec<(Place, &Value)> {
    let mut parts = Vec::new();
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(several)) => {
                parts.extend(several.iter().map(|one| (Place::SameValue, one)));
            }
            ("dependentSchemas" | "dependencies", Value::Object(several)) => {
                parts.extend(several.values().map(|one| (Place::SameValue, one)));
            }
            ("not" | "if" | "then" | "else", one) => parts.push((Place::SameValue, one)),
            ("properties", Value::Object(several)) => {
                let named = several.iter().map(|(name, one)| (Place::Named(MEMBERS, name.clone()), one));
                parts.extend(named);
            }
            ("patternProperties", Value::Object(several)) => {
                parts.extend(several.values().map(|one| (Place::All(MEMBERS), one)));
            }
            ("unevaluatedProperties", one) => parts.push((Place::All(MEMBERS), one)),
            ("additionalProperties", one) => parts.push((Place::Rest(MEMBERS), one)),
            ("propertyNames", one) => parts.push((Place::All(NAMES), one)),
            ("prefixItems" | "items", Value::Array(several)) => {
                let named = |at: usize| Place::Named(ITEMS, at.to_string());
                parts.extend(several.iter().enumerate().map(|(at, one)| (named(at), one)));
            }
            ("items" | "additionalItems", one) => parts.push((Place::Rest(ITEMS), one)),
            ("contains" | "unevaluatedItems", one) => parts.push((Place::All(ITEMS), one)),
            // Not applied, but references lead there.
            ("$defs" | "definitions", Value::Object(several)) => {
                parts.extend(several.values().map(|one| (Place::Nowhere, one)));
            }
            _ => {}
        }
    }
    parts.retain(|(_, part)| part.is_object());
    parts
}
