//! Objects as models write them: where one ends, and JSON made of what is nearly JSON.

use serde::de::IgnoredAny;
use serde_json::Value;

/// Whether the text is a JSON object.
pub(crate) fn is_object(text: &str) -> bool {
    text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Where the object ends that the text begins with, if it does within the text. Knows strings in double quotes, and in
/// single quotes as Python writes them.
pub(crate) fn object_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut string = None;
    let mut is_escaped = false;
    // The last byte outside of strings that is no white space.
    let mut last = 0;
    for (at, byte) in bytes.iter().copied().enumerate() {
        if let Some(quote) = string {
            if is_escaped {
                is_escaped = false;
            } else if byte == b'\\' {
                is_escaped = true;
            } else if byte == quote && (quote == b'"' || closes(&bytes[at + 1..])) {
                string = None;
                last = byte;
            }
            continue;
        }
        match byte {
            b'"' => string = Some(byte),
            b'\'' if matches!(last, b'{' | b'[' | b',' | b':' | b'(') => string = Some(byte),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            last = byte;
        }
    }
    None
}

/// Whether a single quote ends its string, given what comes after it.
fn closes(after: &[u8]) -> bool {
    let next = after.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(next, None | Some(b',' | b':' | b'}' | b']' | b')'))
}

/// Arguments for a tool, as a JSON object, made of what a model gave as its input. What is no object becomes the value of
/// `key`.
pub(crate) fn arguments(input: &str, key: &str) -> String {
    let input = input.trim();
    if is_object(input) {
        return input.to_owned();
    }
    if input.starts_with('{')
        && let Some(object) = repaired(input)
    {
        return object;
    }
    let value = match serde_json::from_str(input) {
        Ok(Value::String(text)) if is_object(text.trim()) => return text.trim().to_owned(),
        Ok(Value::Null) => return "{}".to_owned(),
        Ok(value) => value,
        Err(_) if input.is_empty() || input.eq_ignore_ascii_case("none") => return "{}".to_owned(),
        Err(_) => Value::String(unquoted(input).to_owned()),
    };
    Value::Object(serde_json::Map::from_iter([(key.to_owned(), value)])).to_string()
}

/// Arguments for a tool, made of what stands between the parentheses of a call as in code.
pub(crate) fn called_with(inner: &str, key: &str) -> String {
    // Arguments by name: `city = "Paris", days = 3`.
    let named = inner.split_once('=').is_some_and(|(name, _)| {
        !name.trim().is_empty()
            && name.trim().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    let object = if named { repaired(&format!("{{{inner}}}")) } else { None };
    object.unwrap_or_else(|| arguments(inner, key))
}

/// The text without single quotes or backquotes around it.
fn unquoted(text: &str) -> &str {
    ['\'', '`'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(text)
}

/// JSON made of an object that is nearly JSON: strings in single or curly quotes or over several lines, keys without
/// quotes, `True`, `False` and `None`, a comma too many. `None` where it is something else.
pub(crate) fn repaired(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            '"' | '\'' | '\u{201C}' => rest = string(rest, c, &mut out)?,
            '}' | ']' => {
                if let Some(before) = out.trim_end().strip_suffix(',') {
                    out.truncate(before.len());
                }
                out.push(c);
                rest = &rest[1..];
            }
            c if c.is_alphabetic() || c == '_' => {
                let end = rest
                    .find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-'))
                    .unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                let value = after.trim_start().strip_prefix('=');
                let is_key = value.is_some() || after.trim_start().starts_with(':');
                match word {
                    _ if is_key => {
                        out.extend([Value::from(word).to_string().as_str(), value.map_or("", |_| ":")]);
                    }
                    "True" | "true" => out.push_str("true"),
                    "False" | "false" => out.push_str("false"),
                    "None" | "null" => out.push_str("null"),
                    _ => return None,
                }
                rest = value.unwrap_or(after);
            }
            // Digits stay together, so that the `e` of an exponent is no word.
            c if c.is_ascii_digit() || c == '-' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '+' | '-'));
                let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
                out.push_str(number);
                rest = after;
            }
            c => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    is_object(&out).then_some(out)
}

/// Reads a string in quotes, appends it to `out` as JSON, and returns what follows it.
fn string<'a>(text: &'a str, quote: char, out: &mut String) -> Option<&'a str> {
    let closing = if quote == '\u{201C}' { '\u{201D}' } else { quote };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        let after = &text[at + c.len_utf8()..];
        match c {
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                'u' => {
                    let code = u32::from_str_radix(after.get(1..5)?, 16).ok()?;
                    // Pairs of surrogates are left to those who write proper JSON.
                    value.push(char::from_u32(code)?);
                    chars.nth(3)?;
                }
                escaped => value.push(escaped),
            },
            c if c == closing && (quote != '\'' || closes(after.as_bytes())) => {
                out.push_str(&Value::from(value).to_string());
                return Some(after);
            }
            c => value.push(c),
        }
    }
    None
}
