//! Writes a tool's schema down in the simple form that models and their upstreams understand.
//!
//! Upstreams refuse `$ref`, or `anyOf` at the top, and models read a plain object best. Arguments are never checked
//! against the lowered schema: it may allow more than the real one. Source: OpenAI function calling, `parameters`.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::schema::{cut, json_bytes};
use crate::domain::ToolDefinition;

/// How often one definition may stand within itself before the recursion is cut.
const MAX_RECURSION: usize = 2;

/// How deep schemas may nest; JSON of more than 128 levels is not read at all, so only chains of references get there.
const MAX_DEPTH: usize = 64;

/// What inlining may add to a schema, in bytes, before further references are cut.
const MAX_GROWTH_BYTES: usize = 64 * 1024;

/// What stands in the place of a part that was cut.
const CUT_NOTE: &str = "Nested value of the same form, not described further.";

/// The `tools[]` entry for a model, as JSON text.
pub(super) fn function_json(definition: &ToolDefinition, max_description_chars: usize) -> Bytes {
    let text = match (&definition.description, &definition.title) {
        (description, Some(title)) if description.trim().is_empty() => title,
        (description, _) => description,
    };
    let function = json!({
        "type": "function",
        "function": {
            "name": definition.name,
            "description": shorten(text, max_description_chars),
            "parameters": lower(&definition.input_schema),
        },
    });
    Bytes::from(function.to_string())
}

/// `schema` as one object schema without references and without alternatives at the top.
pub(super) fn lower(schema: &Value) -> Map<String, Value> {
    let budget = json_bytes(schema).saturating_add(MAX_GROWTH_BYTES);
    let mut lowering = Lowering { root: schema, active: Vec::new(), depth: 0, budget };
    let mut lowered = match lowering.schema(schema) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    flatten(&mut lowered);
    for refused_at_the_top in ["not", "enum", "const"] {
        lowered.shift_remove(refused_at_the_top);
    }
    lowered.insert("type".to_owned(), json!("object"));
    if !lowered.get("properties").is_some_and(Value::is_object) {
        lowered.insert("properties".to_owned(), json!({}));
    }
    lowered
}

/// The first `max` characters of `text`, ending in an ellipsis where something is left out.
fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

struct Lowering<'a> {
    root: &'a Value,
    /// References being inlined, outermost first.
    active: Vec<&'a str>,
    depth: usize,
    /// Bytes that may still be written.
    budget: usize,
}

impl<'a> Lowering<'a> {
    fn schema(&mut self, schema: &'a Value) -> Value {
        let Value::Object(map) = schema else { return schema.clone() };
        if self.depth == MAX_DEPTH || self.budget == 0 {
            return cut_off(map);
        }
        self.depth += 1;
        let mut out = Map::new();
        let mut reference = None;
        for (keyword, value) in map {
            match keyword.as_str() {
                "$schema" | "$id" | "$anchor" | "$dynamicAnchor" | "$defs" | "definitions" => continue,
                "$ref" | "$dynamicRef" => reference = value.as_str(),
                _ => {
                    let lowered = self.keyword(keyword, value);
                    out.insert(keyword.clone(), lowered);
                }
            }
        }
        if let Some(reference) = reference {
            // What stands beside a reference says more about this place than the definition does.
            let target = self.inline(reference);
            merge(&mut out, target);
        }
        self.depth -= 1;
        Value::Object(out)
    }

    fn keyword(&mut self, keyword: &str, value: &'a Value) -> Value {
        self.budget = self.budget.saturating_sub(keyword.len() + 4);
        match (keyword, value) {
            ("properties" | "patternProperties" | "dependentSchemas", Value::Object(schemas)) => {
                let lowered = schemas.iter().map(|(name, schema)| {
                    self.budget = self.budget.saturating_sub(name.len() + 4);
                    // `true` is not understood everywhere where a property is described.
                    let lowered = if *schema == Value::Bool(true) { json!({}) } else { self.schema(schema) };
                    (name.clone(), lowered)
                });
                Value::Object(lowered.collect())
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(schemas)) => {
                Value::Array(schemas.iter().map(|schema| self.schema(schema)).collect())
            }
            (
                "items"
                | "additionalItems"
                | "unevaluatedItems"
                | "contains"
                | "additionalProperties"
                | "unevaluatedProperties"
                | "propertyNames"
                | "not"
                | "if"
                | "then"
                | "else",
                Value::Object(_),
            ) => self.schema(value),
            _ => {
                self.budget = self.budget.saturating_sub(json_bytes(value));
                value.clone()
            }
        }
    }

    fn inline(&mut self, reference: &'a str) -> Map<String, Value> {
        let target = find(self.root, reference);
        let repeats = self.active.iter().filter(|active| **active == reference).count();
        let lowered = match target {
            Some(Value::Object(map)) if repeats >= MAX_RECURSION => cut_off(map),
            Some(schema) => {
                self.active.push(reference);
                let lowered = self.schema(schema);
                self.active.pop();
                lowered
            }
            None => cut_off(&Map::new()),
        };
        match lowered {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// What is left of a schema that is not written out.
fn cut_off(schema: &Map<String, Value>) -> Value {
    let mut left = Map::new();
    if let Some(kind) = schema.get("type") {
        left.insert("type".to_owned(), kind.clone());
    }
    left.insert("description".to_owned(), json!(CUT_NOTE));
    Value::Object(left)
}

/// The schema a reference within the same document points to: `#`, `#/a/json/pointer` or `#anchor`.
fn find<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let fragment = percent_decode(reference.strip_prefix('#')?)?;
    if fragment.is_empty() || fragment.starts_with('/') {
        return root.pointer(&fragment);
    }
    ["$defs", "definitions"].iter().filter_map(|defs| root.get(defs)?.as_object()).flat_map(Map::values).find(
        |schema| {
            ["$anchor", "$dynamicAnchor"].iter().any(|key| schema.get(key) == Some(&json!(fragment)))
                || schema.get("$id") == Some(&json!(reference))
        },
    )
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Adds to `base` what `other` also demands; where both speak of the same thing, `base` stays.
fn merge(base: &mut Map<String, Value>, other: Map<String, Value>) {
    for (keyword, value) in other {
        match (keyword.as_str(), base.get_mut(&keyword), value) {
            (_, None, value) => {
                base.insert(keyword, value);
            }
            ("properties", Some(Value::Object(known)), Value::Object(more)) => {
                for (name, schema) in more {
                    match (known.get_mut(&name), schema) {
                        (Some(Value::Object(known)), Value::Object(schema)) => merge(known, schema),
                        (Some(_), _) => {}
                        (None, schema) => {
                            known.insert(name, schema);
                        }
                    }
                }
            }
            ("required", Some(Value::Array(known)), Value::Array(more)) => {
                known.extend(more.into_iter().filter(|name| !known.contains(name)).collect::<Vec<_>>());
            }
            ("allOf", Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
            (_, Some(_), _) => {}
        }
    }
}

/// Brings `allOf`, `anyOf` and `oneOf` of an object schema into the object itself.
fn flatten(schema: &mut Map<String, Value>) {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let Some(Value::Array(alternatives)) = schema.shift_remove(keyword) else { continue };
        let objects = alternatives.into_iter().filter_map(|alternative| match alternative {
            Value::Object(mut map) if allows_objects(&map) => {
                flatten(&mut map);
                Some(map)
            }
            _ => None,
        });
        let objects: Vec<_> = objects.collect();
        if keyword == "allOf" {
            for mut object in objects {
                // Said of one part alone, it would forbid what the other parts describe.
                object.shift_remove("additionalProperties");
                merge(schema, object);
            }
        } else {
            merge_alternatives(schema, &objects);
        }
    }
}

fn allows_objects(schema: &Map<String, Value>) -> bool {
    match schema.get("type") {
        None => true,
        Some(Value::Array(kinds)) => kinds.contains(&json!("object")),
        Some(kind) => kind == "object",
    }
}

/// Describes in `base` every argument any alternative takes; only what all of them require is required.
fn merge_alternatives(base: &mut Map<String, Value>, alternatives: &[Map<String, Value>]) {
    let Some(first) = alternatives.first() else { return };
    let mut described: Map<String, Value> = Map::new();
    for (name, schema) in alternatives.iter().flat_map(properties) {
        let forms = described.entry(name.clone()).or_insert_with(|| json!([]));
        if let Value::Array(forms) = forms
            && !forms.contains(schema)
        {
            forms.push(schema.clone());
        }
    }
    let described: Map<String, Value> =
        described.into_iter().map(|(name, forms)| (name, one_of_forms(forms))).collect();
    let mut common = required(first);
    common.retain(|name| alternatives.iter().all(|alternative| required(alternative).contains(name)));
    let mut addition = Map::new();
    if !described.is_empty() {
        addition.insert("properties".to_owned(), Value::Object(described));
    }
    if !common.is_empty() {
        addition.insert("required".to_owned(), json!(common));
    }
    if alternatives.iter().all(|one| one.get("additionalProperties") == Some(&Value::Bool(false))) {
        addition.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    merge(base, addition);
    tell_forms(base, alternatives);
}

/// Says in the description which arguments belong together, since the merged schema no longer does.
fn tell_forms(base: &mut Map<String, Value>, alternatives: &[Map<String, Value>]) {
    let forms: Vec<String> = alternatives.iter().map(|one| required(one).join(", ")).collect();
    if forms.iter().any(String::is_empty) || forms.iter().all(|form| *form == forms[0]) {
        return;
    }
    let note = format!("Give the arguments of one of these forms: ({}).", forms.join(") or ("));
    let text = match base.get("description").and_then(Value::as_str) {
        Some(text) if !text.is_empty() => format!("{text} {note}"),
        _ => note,
    };
    base.insert("description".to_owned(), json!(cut(&text, 2048)));
}

fn properties(schema: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn required(schema: &Map<String, Value>) -> Vec<&str> {
    let names = schema.get("required").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// One schema for an argument that different alternatives describe differently.
fn one_of_forms(forms: Value) -> Value {
    let Value::Array(mut forms) = forms else { return forms };
    if forms.len() == 1 {
        return forms.swap_remove(0);
    }
    let mut values: Vec<Value> = Vec::new();
    for form in &forms {
        match (form.get("const"), form.get("enum").and_then(Value::as_array)) {
            (Some(value), _) => values.push(value.clone()),
            (None, Some(several)) => values.extend(several.iter().cloned()),
            (None, None) => return json!({"anyOf": forms}),
        }
    }
    if !values.iter().all(Value::is_string) {
        return json!({"anyOf": forms});
    }
    let mut unique: Vec<Value> = Vec::with_capacity(values.len());
    for value in values {
        if !unique.contains(&value) {
            unique.push(value);
        }
    }
    json!({"type": "string", "enum": unique})
}

#[cfg(test)]
mod tests;
