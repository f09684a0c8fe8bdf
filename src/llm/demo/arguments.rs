//! Arguments for a tool out of the user's words: quoted texts, numbers, `name=value`, the word beside a noun.

use serde_json::{Map, Value, json};

use super::choose::{Tool, is_sql_parameter, sql};
use super::words::{is_filler, name_words, stem, synonyms, words};

/// Arguments for `tool`, as far as the schema requires them; the names of those that were not found.
pub(super) fn fill(tool: &Tool, text: &str) -> Result<Value, Vec<String>> {
    let properties = &tool.parameters.properties;
    if let Some(object) = object_in(text, properties) {
        return Ok(object);
    }
    let mut sources = Sources::new(tool, text);
    let (mut arguments, mut missing) = (Map::new(), Vec::new());
    for (name, schema) in properties {
        let required = tool.parameters.required.contains(name);
        match sources.explicit(name, schema).or_else(|| sources.find(name, schema, required)) {
            Some(value) => drop(arguments.insert(name.clone(), value)),
            None if required && schema.get("default").is_none() => missing.push(name.clone()),
            None => {}
        }
    }
    if missing.is_empty() { Ok(Value::Object(arguments)) } else { Err(missing) }
}

/// A JSON object in the text that has at least one of the tool's parameters.
fn object_in(text: &str, properties: &Map<String, Value>) -> Option<Value> {
    let (start, end) = (text.find('{')?, text.rfind('}')?);
    let object: Map<String, Value> = serde_json::from_str(text.get(start..=end)?).ok()?;
    object.keys().any(|key| properties.contains_key(key)).then_some(Value::Object(object))
}

/// Where values can come from; each is used once.
struct Sources<'a> {
    text: &'a str,
    tool: &'a Tool,
    quoted: Vec<&'a str>,
    numbers: Vec<Value>,
    /// The text's words as they are written.
    tokens: Vec<&'a str>,
}

impl<'a> Sources<'a> {
    fn new(tool: &'a Tool, text: &'a str) -> Self {
        let trim =
            |token: &'a str| token.trim_matches(|c: char| ",;:!?()\"'`".contains(c)).trim_end_matches('.');
        let tokens: Vec<&str> = text.split_whitespace().map(trim).filter(|token| !token.is_empty()).collect();
        let number = |token: &&str| {
            let value: Value = serde_json::from_str(token).ok()?;
            value.is_number().then_some(value)
        };
        let numbers = tokens.iter().filter_map(number).collect();
        Self { text, tool, quoted: quoted(text), numbers, tokens }
    }

    /// The value written as `name=value` or `name: value`.
    fn explicit(&self, name: &str, schema: &Value) -> Option<Value> {
        let (at, sign) = ['=', ':'].into_iter().find_map(|sign| {
            let key = format!("{name}{sign}");
            Some((self.text.find(&key)? + key.len(), sign))
        })?;
        let rest = self.text[at..].trim_start();
        let value = match rest.chars().next()? {
            quote @ ('"' | '\'' | '`') => rest[1..].split(quote).next()?,
            _ if sign == ':' && self.tool.parameters.properties.len() == 1 => rest.trim_end(),
            _ => rest.split(|c: char| c.is_whitespace() || c == ',').next()?,
        };
        let is_text = schema.get("type").and_then(Value::as_str).is_none_or(|kind| kind == "string");
        if is_text { Some(json!(value)) } else { serde_json::from_str(value).ok() }
    }

    fn find(&mut self, name: &str, schema: &Value, required: bool) -> Option<Value> {
        if let Some(Value::Array(allowed)) = schema.get("enum") {
            let said = |value: &&Value| {
                value.as_str().is_some_and(|v| self.tokens.iter().any(|t| t.eq_ignore_ascii_case(v)))
            };
            return allowed.iter().find(said).cloned();
        }
        if !required || schema.get("default").is_some() {
            return None;
        }
        match schema.get("type").and_then(Value::as_str).unwrap_or("string") {
            "string" => self.text_for(name).map(Value::String),
            "integer" | "number" => (!self.numbers.is_empty()).then(|| self.numbers.remove(0)),
            "boolean" => Some(json!(!words(self.text).iter().any(|word| word == "no" || word == "false"))),
            "array" => {
                let quoted = std::mem::take(&mut self.quoted);
                (!quoted.is_empty()).then(|| json!(quoted))
            }
            _ => None,
        }
    }

    fn text_for(&mut self, name: &str) -> Option<String> {
        if is_sql_parameter(name)
            && let Some((_, statement)) = sql(self.text)
        {
            return Some(statement.to_owned());
        }
        if !self.quoted.is_empty() {
            return Some(self.quoted.remove(0).to_owned());
        }
        let parts = name_words(name);
        let is = |kinds: &[&str]| parts.iter().any(|part| kinds.contains(&part.as_str()));
        let token =
            |fits: &dyn Fn(&&&str) -> bool| self.tokens.iter().find(fits).map(|token| (*token).to_owned());
        if is(&["timezone", "tz"]) {
            return token(&|t| t.contains('/')).or_else(|| Some("UTC".to_owned()));
        }
        if is(&["url", "uri"]) {
            return token(&|t| t.contains("://"));
        }
        if is(&["path", "file", "filename", "directory", "dir"])
            && let Some(path) = token(&|t| t.contains('/') || t.contains('.'))
        {
            return Some(path);
        }
        if let Some(value) = self.beside_noun(&parts) {
            return Some(value);
        }
        let names_something = is(&["name", "id", "table", "path"]);
        if names_something { None } else { self.rest() }
    }

    /// The word after (`the table users`) or before (`the users table`) a noun of the parameter's name.
    fn beside_noun(&self, parts: &[String]) -> Option<String> {
        let is_noun = |part: &&String| !matches!(part.as_str(), "name" | "id" | "the");
        let noun = stem(parts.iter().find(is_noun)?);
        let at = self.tokens.iter().position(|token| stem(&token.to_lowercase()) == noun)?;
        let is_value = |token: &&&str| {
            let word = token.to_lowercase();
            let in_tool_name = name_words(&self.tool.name)
                .iter()
                .any(|part| stem(part) == stem(&word) || synonyms(part).contains(&word.as_str()));
            !is_filler(&word) && !in_tool_name
        };
        let after = self.tokens[at + 1..].iter().find(|token| !is_filler(&token.to_lowercase()));
        let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
        after.filter(is_value).or_else(|| before.filter(is_value)).map(|token| (*token).to_owned())
    }

    /// What is said after the words that name the tool, or after a colon.
    fn rest(&self) -> Option<String> {
        if let Some((_, rest)) = self.text.split_once(": ") {
            return Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
        }
        let name: Vec<String> = name_words(&self.tool.name).iter().map(|word| stem(word)).collect();
        let mut end = 0;
        for token in self.text.split_whitespace() {
            let said = words(token);
            if token.contains(&self.tool.name) || said.iter().any(|word| name.contains(&stem(word))) {
                end = token.as_ptr() as usize - self.text.as_ptr() as usize + token.len();
                break;
            }
        }
        let rest = self.text[end..].trim();
        (!rest.is_empty()).then(|| rest.to_owned())
    }
}

/// The texts within double quotes, backticks or typographic quotes.
fn quoted(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '`', '“', '«']) {
        let open = rest[at..].chars().next().unwrap_or('"');
        let close = match open {
            '“' => '”',
            '«' => '»',
            same => same,
        };
        rest = &rest[at + open.len_utf8()..];
        let Some(end) = rest.find(close) else { break };
        found.push(&rest[..end]);
        rest = &rest[end + close.len_utf8()..];
    }
    found
}
