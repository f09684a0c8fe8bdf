//! A tool's JSON Schema as a part of a larger document: it must mean the same there, and never make the document invalid.
//!
//! References within the schema become references to where it lies now. What OpenAPI 3.1 (JSON Schema 2020-12) says in
//! another way than older drafts is said in the new way. A reference that leads nowhere is left out: the gateway checks
//! arguments against the schema as the server wrote it, so here too little is better than something wrong.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Keywords with one schema, with a list of schemas, and with schemas by name.
const ONE: [&str; 12] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
];
const MANY: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
const NAMED: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// Keywords that say where a schema lies or how to read it, which is different here.
const OF_THE_PLACE: [&str; 8] =
    ["$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "$recursiveRef"];

/// `schema` as it must be written at `base` (`#/components/schemas/x`).
pub(super) fn embedded(schema: &Value, base: &str) -> Value {
    let mut names = HashMap::new();
    name_places(schema, base, &mut names);
    let mut out = schema.clone();
    rewrite(&mut out, schema, base, &names);
    out
}

/// Notes where every `$id` and `$anchor` of `schema` lies.
fn name_places(schema: &Value, at: &str, names: &mut HashMap<String, String>) {
    let Some(object) = schema.as_object() else { return };
    for (keyword, sign) in [("$id", ""), ("id", ""), ("$anchor", "#"), ("$dynamicAnchor", "#")] {
        if let Some(name) = object.get(keyword).and_then(Value::as_str) {
            names.entry(format!("{sign}{}", name.trim_end_matches('#'))).or_insert_with(|| at.to_owned());
        }
    }
    each_child(object, |path, child| name_places(child, &format!("{at}/{path}"), names));
}

fn each_child(object: &Map<String, Value>, mut visit: impl FnMut(String, &Value)) {
    for (keyword, value) in object {
        let word = keyword.as_str();
        match value {
            Value::Object(children) if NAMED.contains(&word) => {
                for (name, child) in children {
                    visit(format!("{word}/{}", name.replace('~', "~0").replace('/', "~1")), child);
                }
            }
            Value::Array(children) if MANY.contains(&word) => {
                children.iter().enumerate().for_each(|(at, child)| visit(format!("{word}/{at}"), child));
            }
            Value::Object(_) if ONE.contains(&word) => visit(word.to_owned(), value),
            _ => {}
        }
    }
}

fn rewrite(schema: &mut Value, root: &Value, base: &str, names: &HashMap<String, String>) {
    let Some(object) = schema.as_object_mut() else { return };
    OF_THE_PLACE.iter().for_each(|keyword| {
        // A property may be called `id`, but then it stands among properties and not here.
        if object.get(*keyword).is_some_and(|value| !value.is_object()) {
            object.shift_remove(*keyword);
        }
    });
    for keyword in ["$ref", "$dynamicRef"] {
        let Some(reference) = object.shift_remove(keyword) else { continue };
        if let Some(target) = reference.as_str().and_then(|reference| target(reference, root, base, names)) {
            object.insert("$ref".to_owned(), Value::from(target));
        }
    }
    modernise(object);
    for (keyword, value) in object.iter_mut() {
        let word = keyword.as_str();
        match value {
            Value::Object(children) if NAMED.contains(&word) => {
                children.values_mut().for_each(|child| rewrite(child, root, base, names));
            }
            Value::Array(children) if MANY.contains(&word) => {
                children.iter_mut().for_each(|child| rewrite(child, root, base, names));
            }
            Value::Object(_) if ONE.contains(&word) => rewrite(value, root, base, names),
            _ => {}
        }
    }
}

/// Where `reference` leads in the document; `None` where that is nowhere.
fn target(reference: &str, root: &Value, base: &str, names: &HashMap<String, String>) -> Option<String> {
    let (resource, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let start = match resource {
        "" => base,
        resource => names.get(resource).map(String::as_str)?,
    };
    if fragment.is_empty() {
        return Some(start.to_owned());
    }
    if !fragment.starts_with('/') {
        return names.get(&format!("#{fragment}")).cloned();
    }
    // `prefixItems` is what a list of `items` has become.
    let place = format!("{}{fragment}", start.strip_prefix(base)?);
    root.pointer(&decoded(&place)?)?;
    Some(format!("{start}{fragment}"))
}

/// A fragment without its percent-encoding.
fn decoded(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let hex =
                    std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                bytes.push(hex?);
                rest = tail;
            }
            _ => bytes.push(first),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Says in the terms of 2020-12 what older drafts say in others.
fn modernise(object: &mut Map<String, Value>) {
    for (limit, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        if let Some(Value::Bool(is_exclusive)) = object.get(exclusive) {
            let limit = if *is_exclusive { object.shift_remove(limit) } else { None };
            match limit {
                Some(limit) => object.insert(exclusive.to_owned(), limit),
                None => object.shift_remove(exclusive),
            };
        }
    }
    if let Some(Value::Array(_)) = object.get("items") {
        let places = object.shift_remove("items");
        let others = object.shift_remove("additionalItems");
        object.extend(places.map(|places| ("prefixItems".to_owned(), places)));
        object.extend(others.map(|others| ("items".to_owned(), others)));
    } else {
        object.shift_remove("additionalItems");
    }
    if object.get("required").is_some_and(|required| !required.is_array()) {
        object.shift_remove("required");
    }
    if let Some(Value::Object(dependencies)) = object.shift_remove("dependencies") {
        let (lists, schemas): (Map<_, _>, Map<_, _>) =
            dependencies.into_iter().partition(|(_, value)| value.is_array());
        for (keyword, part) in [("dependentRequired", lists), ("dependentSchemas", schemas)] {
            if !part.is_empty() {
                object.entry(keyword).or_insert_with(|| json!(part));
            }
        }
    }
}
