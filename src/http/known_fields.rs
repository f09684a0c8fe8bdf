//! Bodies of which every field is known: what is not, is refused by its name, so that a misspelt limit is no missing one.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::fields;

/// The fields of a JSON object that nobody has asked for yet.
pub(super) struct KnownFields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> KnownFields<'a> {
    /// The fields of `body`; none where it is empty.
    ///
    /// # Errors
    /// 400 where it is no JSON object, or has a field twice.
    pub(super) fn of(body: &'a [u8]) -> Result<Self, ApiError> {
        let Pairs(pairs) = fields::object(body)?;
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let name = shown(twice[0]);
            return Err(ApiError::bad_request(Some(name), format!("the field `{name}` is there twice")));
        }
        Ok(Self(pairs))
    }

    /// The field `name`, if it is there and not null; `wanted` says in words what it must be.
    ///
    /// # Errors
    /// 400 that names it.
    pub(super) fn take<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        wanted: &str,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take_raw(name) else { return Ok(None) };
        fields::field(name, wanted, Some(value))
    }

    /// The same for an object whose parts can be wrong as well: the message says what and where. Nothing in it is a list.
    ///
    /// # Errors
    /// 400 that names it.
    pub(super) fn take_whole<T: Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take_raw(name) else { return Ok(None) };
        let wrong =
            |error: serde_json::Error| ApiError::bad_request(Some(name), format!("`{name}`: {error}"));
        let read = serde_json::from_str(value.get()).map_err(wrong)?;
        // A list would be taken for the values of an object's fields in their order, which nobody means by it.
        if let Some(place) = list_in(name, &serde_json::from_str(value.get()).map_err(wrong)?) {
            return Err(ApiError::bad_request(Some(name), format!("`{place}` must be an object")));
        }
        Ok(Some(read))
    }

    /// The same for a field that has to be there.
    ///
    /// # Errors
    /// 400 that names it.
    pub(super) fn need<T: Deserialize<'a>>(&mut self, name: &str, wanted: &str) -> Result<T, ApiError> {
        let missing =
            || ApiError::bad_request(Some(name), format!("`{name}` is missing: it must be {wanted}"));
        self.take(name, wanted)?.ok_or_else(missing)
    }

    /// All that was asked for is all there is.
    ///
    /// # Errors
    /// 400 that names the first field that nobody knows.
    pub(super) fn end(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name = shown(name);
                Err(ApiError::bad_request(Some(name), format!("there is no field `{name}` here")))
            }
        }
    }

    fn take_raw(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.0.remove(at);
        (value.get() != "null").then_some(value)
    }
}

/// The place of the first list in `value`, which is at `place`.
fn list_in(place: &str, value: &Value) -> Option<String> {
    match value {
        Value::Array(_) => Some(place.to_owned()),
        Value::Object(fields) => {
            fields.iter().find_map(|(name, value)| list_in(&format!("{place}.{name}"), value))
        }
        _ => None,
    }
}

/// A name for a message: not longer than is useful.
fn shown(name: &str) -> &str {
    const LONGEST: usize = 100;
    &name[..name.floor_char_boundary(LONGEST)]
}

/// An object's fields in the order in which they stand, also those that stand twice.
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_asked_for() {
        let mut fields = KnownFields::of(br#"{"a": 1, "b": null, "c\u0064": "x"}"#).ok().unwrap();
        assert_eq!(fields.need::<u8>("a", "a number").unwrap(), 1);
        assert_eq!(fields.take::<u8>("b", "a number").unwrap(), None);
        assert_eq!(fields.need::<String>("cd", "text").unwrap(), "x");
        assert!(fields.take::<u8>("e", "a number").unwrap().is_none());
        fields.end().unwrap();
    }

    #[test]
    fn faults_are_named() {
        let told = |error: ApiError| String::from_utf8(error.detail_body().to_vec()).unwrap();
        let fields = KnownFields::of(br#"{"lmits": {}}"#).ok().unwrap();
        assert!(told(fields.end().unwrap_err()).contains("no field `lmits`"));
        let mut fields = KnownFields::of(br#"{"a": "x"}"#).ok().unwrap();
        assert!(told(fields.need::<u8>("a", "a number").unwrap_err()).contains("`a` must be a number"));
        assert!(told(fields.need::<u8>("b", "a number").unwrap_err()).contains("`b` is missing"));
        let twice = KnownFields::of(br#"{"a": 1, "\u0061": 2}"#).err().unwrap();
        assert!(told(twice).contains("`a` is there twice"));
        for bad in ["[]", "", "{", "1"] {
            assert!(KnownFields::of(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
