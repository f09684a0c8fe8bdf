//! A tool's JSON Schema as a part of a larger document: it must mean the same there, and never make the document invalid.
//!
//! References within the schema become references to where it lies now. Its `$defs` lie beside it, since many generators of
//! clients follow no reference into a component. What OpenAPI 3.1 (JSON Schema 2020-12) says in
//! another way than older drafts is said in the new way. A reference that leads nowhere is left out: the gateway checks
//! arguments against the schema as the server wrote it, so here too little is better than something wrong.

use std::collections::{HashMap, HashSet};

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

/// Keywords under which schemas are kept for references.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// Keywords that say where a schema lies or how to read it, which is different here.
const OF_THE_PLACE: [&str; 8] =
    ["$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "$recursiveRef"];

/// Where components lie in a document.
const COMPONENTS: &str = "#/components/schemas";

/// Where the schema and its parts lie in the document.
struct Places<'a> {
    root: &'a Value,
    /// Where the schema itself lies.
    base: String,
    /// Where what has an `$id` or `$anchor` lies.
    names: HashMap<String, String>,
    /// The component of each definition at the top, by its keyword and name.
    definitions: HashMap<(&'static str, String), String>,
}

/// `schema` as the component `name`, which comes first, and each definition at its top as a component of its own.
pub(super) fn components(schema: &Value, name: &str) -> Vec<(String, Value)> {
    let base = format!("{COMPONENTS}/{name}");
    let definitions = name_definitions(schema, name);
    let mut places = Places { root: schema, base, names: HashMap::new(), definitions };
    name_places(schema, &places.base, &mut places.names);
    let mut out = schema.clone();
    rewrite(&mut out, &places);
    let mut all = vec![(name.to_owned(), Value::Null)];
    for keyword in DEFINITIONS {
        let definitions = out.as_object_mut().and_then(|out| out.shift_remove(keyword));
        let Some(Value::Object(definitions)) = definitions else { continue };
        for (of, definition) in definitions {
            all.extend(places.definitions.remove(&(keyword, of)).map(|component| (component, definition)));
        }
    }
    all[0].1 = out;
    all
}

/// Component names have fewer characters than definitions.
fn name_definitions(schema: &Value, component: &str) -> HashMap<(&'static str, String), String> {
    let mut names = HashMap::new();
    let mut taken = HashSet::new();
    for keyword in DEFINITIONS {
        for definition in schema.get(keyword).and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            let allowed = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
            let mut name = format!("{component}.{}", definition.chars().map(allowed).collect::<String>());
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            names.insert((keyword, definition.clone()), name);
        }
    }
    names
}

impl Places<'_> {
    /// Where `place` (the base and a pointer) lies now, if that is within a definition.
    fn moved(&self, place: &str) -> Option<String> {
        let mut steps = place.strip_prefix(self.base.as_str())?.strip_prefix('/')?.splitn(3, '/');
        let (keyword, name, rest) = (decoded(steps.next()?)?, decoded(steps.next()?)?, steps.next());
        let keyword = DEFINITIONS.into_iter().find(|known| *known == keyword)?;
        let component = self.definitions.get(&(keyword, name.replace("~1", "/").replace("~0", "~")))?;
        Some([COMPONENTS, component].into_iter().chain(rest).collect::<Vec<_>>().join("/"))
    }
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

fn rewrite(schema: &mut Value, places: &Places<'_>) {
    let Some(object) = schema.as_object_mut() else { return };
    OF_THE_PLACE.iter().for_each(|keyword| {
        // A property may be called `id`, but then it stands among properties and not here.
        if object.get(*keyword).is_some_and(|value| !value.is_object()) {
            object.shift_remove(*keyword);
        }
    });
    for keyword in ["$ref", "$dynamicRef"] {
        let Some(reference) = object.shift_remove(keyword) else { continue };
        if let Some(target) = reference.as_str().and_then(|reference| target(reference, places)) {
            object.insert("$ref".to_owned(), Value::from(target));
        }
    }
    modernise(object);
    for (keyword, value) in object.iter_mut() {
        let word = keyword.as_str();
        match value {
            Value::Object(children) if NAMED.contains(&word) => {
                children.values_mut().for_each(|child| rewrite(child, places));
            }
            Value::Array(children) if MANY.contains(&word) => {
                children.iter_mut().for_each(|child| rewrite(child, places));
            }
            Value::Object(_) if ONE.contains(&word) => rewrite(value, places),
            _ => {}
        }
    }
}

/// Where `reference` leads in the document; `None` where that is nowhere.
fn target(reference: &str, places: &Places<'_>) -> Option<String> {
    let Places { root, base, names, .. } = places;
    let (resource, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let start = match resource {
        "" => base,
        resource => names.get(resource)?,
    };
    let place = if fragment.is_empty() || fragment.starts_with('/') {
        format!("{start}{fragment}")
    } else {
        names.get(&format!("#{fragment}"))?.clone()
    };
    // `prefixItems` is what a list of `items` has become.
    root.pointer(&decoded(place.strip_prefix(base.as_str())?)?)?;
    Some(places.moved(&place).unwrap_or(place))
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
