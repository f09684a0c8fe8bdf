//! JSON bodies field by field: fields stay unparsed at first, so that a wrong one can be named.

use std::str;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::ApiError;

/// The fields of a body that must be a JSON object. `T` is a struct of `Option<&RawValue>`; it says what is unknown and
/// ignored.
///
/// # Errors
/// 400 with line and column.
pub(super) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    // serde would also take an array for a struct.
    if let Some(first) = body.trim_ascii_start().first()
        && *first != b'{'
    {
        return Err(ApiError::bad_request(None, "the body must be a JSON object"));
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(None, format!("the body is not a valid JSON object: {error}")))
}

/// The field `name`, if it is there; `wanted` says in words what it must be.
///
/// # Errors
/// 400 that names it.
pub(super) fn field<'a, T: Deserialize<'a>>(
    name: &str,
    wanted: &str,
    value: Option<&'a RawValue>,
) -> Result<Option<T>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    serde_json::from_str(value.get())
        .map_err(|_| ApiError::bad_request(Some(name), format!("`{name}` must be {wanted}")))
}

/// The text of a field that must be an object; nothing of it is made into a tree.
///
/// # Errors
/// 400 that names it.
pub(super) fn object_text<'a>(name: &str, value: Option<&'a RawValue>) -> Result<Option<&'a str>, ApiError> {
    match value.map(RawValue::get) {
        Some(text) if text.starts_with('{') => Ok(Some(text)),
        Some(_) => Err(ApiError::bad_request(Some(name), format!("`{name}` must be an object"))),
        None => Ok(None),
    }
}

/// The text of a body that is a JSON object or nothing at all.
///
/// # Errors
/// 400 with line and column.
pub(super) fn whole_object(body: &[u8]) -> Result<&str, ApiError> {
    let invalid = |words: String| ApiError::bad_request(None, words);
    let text = str::from_utf8(body).map_err(|_| invalid("the body is not UTF-8 text".to_owned()))?;
    let text = text.trim_ascii();
    if text.is_empty() {
        return Ok("{}");
    }
    let value: &RawValue = serde_json::from_str(text)
        .map_err(|error| invalid(format!("the body is not a valid JSON object: {error}")))?;
    if !value.get().starts_with('{') {
        return Err(invalid("the body must be a JSON object".to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        a: Option<&'a RawValue>,
    }

    #[test]
    fn only_objects_are_bodies() {
        assert_eq!(object::<Wire<'_>>(b" {\"a\": 1}").unwrap().a.unwrap().get(), "1");
        for bad in ["[1]", "1", "", "{", "{\"a\":1,\"a\":2}", "null"] {
            assert!(object::<Wire<'_>>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_whole_object_is_checked_and_kept() {
        assert_eq!(whole_object(b" {\"a\": [1 ]}\n").unwrap(), "{\"a\": [1 ]}");
        assert_eq!(whole_object(b"").unwrap(), "{}");
        for bad in [&b"[]"[..], b"null", b"{", b"{} x", b"\xff"] {
            assert!(whole_object(bad).is_err(), "{bad:?}");
        }
    }
}
