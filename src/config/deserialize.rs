//! Reads a tree of raw values into a room's own struct, with errors that say where the fault was written.
//!
//! The text of a variable is read as what the struct asks for: `4` is a number for a port and a string for a model id.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::error::Error;
use super::file::parse_value;
use super::value::{Entry, Node, Origin, Table, Value};

/// More than anyone reads at once.
const MAX_PROBLEMS: usize = 20;

/// Reads `node`; errors name the keys below it.
pub(super) fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, Error> {
    T::deserialize(Reader(node)).map_err(|error| error.at(&node.origin))
}

/// Reads `node`, the value of the key `name` or a whole document, and finds as many of its faults as it can.
pub(super) fn from_section<T: DeserializeOwned>(name: Option<&str>, node: &Node) -> Result<T, Vec<String>> {
    let mut problems = Vec::new();
    let mut rest = node.clone();
    while problems.len() < MAX_PROBLEMS {
        let error = match from_node(&rest) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(error) => error,
        };
        let faulty = error.faulty();
        // A key that is missing now may be one that was taken out because its value is wrong.
        if faulty.is_some() || problems.is_empty() {
            problems
                .push(name.map_or_else(|| error.to_string(), |name| error.clone().within(name).to_string()));
        }
        if !faulty.is_some_and(|path| rest.remove(&path)) {
            break;
        }
    }
    Err(problems)
}

/// What the text of a variable has to be read as.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Bool,
    Number,
    List,
    Table,
    Anything,
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

impl Reader<'_> {
    /// Hands the value to `visitor` as it is; `wanted` decides what the text of a variable becomes.
    fn visit<'de, V: Visitor<'de>>(self, wanted: Wanted, visitor: V) -> Result<V::Value, Error> {
        let origin = &self.0.origin;
        let result = match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(text) => visitor.visit_str(text),
            Value::Text(text) => match parse_text(text, wanted, origin) {
                Some(node) => Reader(&node).visit(wanted, visitor),
                None => visitor.visit_str(text),
            },
            Value::List(items) => visitor.visit_seq(Items { items: items.iter(), position: 0 }),
            Value::Table(table) if wanted == Wanted::List && is_numbered(table) => {
                let items = table.0.iter().map(|entry| &entry.node);
                visitor.visit_seq(Items { items, position: 0 })
            }
            Value::Table(table) => visitor.visit_map(Entries { entries: table.0.iter(), value: None }),
        };
        result.map_err(|error| error.at(origin))
    }
}

/// The text as a TOML value, where it is one of the wanted kind.
fn parse_text(text: &str, wanted: Wanted, origin: &Origin) -> Option<Node> {
    let node = parse_value(text, origin)?;
    let fits = match wanted {
        Wanted::Bool => matches!(node.value, Value::Bool(_)),
        Wanted::Number => matches!(node.value, Value::Integer(_) | Value::Float(_)),
        Wanted::List => matches!(node.value, Value::List(_)),
        Wanted::Table => matches!(node.value, Value::Table(_)),
        Wanted::Anything => !matches!(node.value, Value::String(_)),
    };
    fits.then_some(node)
}

/// `..__0__URL` without a list in the file: a table whose keys are the positions.
fn is_numbered(table: &Table) -> bool {
    !table.0.is_empty()
        && table.0.iter().enumerate().all(|(position, entry)| entry.key == position.to_string())
}

macro_rules! read_as {
    ($wanted:expr => $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.visit($wanted, visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    read_as!(Wanted::Anything => deserialize_any);
    read_as!(Wanted::Bool => deserialize_bool);
    read_as!(Wanted::Number =>
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64);
    read_as!(Wanted::List => deserialize_seq);
    read_as!(Wanted::Table => deserialize_map);

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.visit(Wanted::Table, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.visit(Wanted::List, visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_str(text).map_err(|error: Error| error.at(&self.0.origin)),
            _ => self.visit(Wanted::Anything, visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|error: Error| error.at(&self.0.origin))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::String(text) | Value::Text(text) => visitor.visit_enum(StrDeserializer::new(text)),
            Value::Table(table) => {
                let entries = Entries { entries: table.0.iter(), value: None };
                visitor.visit_enum(MapAccessDeserializer::new(entries))
            }
            // Handed on as it is, a number would count as the position of a variant.
            other => {
                let wanted = format!("one of {}", variants.join(", "));
                Err(serde::de::Error::invalid_type(unexpected(other), &wanted.as_str()))
            }
        }
        .map_err(|error: Error| error.at(&self.0.origin))
    }

    forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple_struct ignored_any
    }
}

/// What serde calls a value that is not text.
fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Integer(value) => Unexpected::Signed(*value),
        Value::Float(value) => Unexpected::Float(*value),
        Value::String(text) | Value::Text(text) => Unexpected::Str(text),
        Value::List(_) => Unexpected::Seq,
        Value::Table(_) => Unexpected::Map,
    }
}

struct Items<I> {
    items: I,
    position: usize,
}

impl<'de, 'a, I: Iterator<Item = &'a Node>> SeqAccess<'de> for Items<I> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let position = self.position;
        self.position += 1;
        let value = seed.deserialize(Reader(node));
        value.map(Some).map_err(|error| error.at(&node.origin).within(&format!("[{position}]")))
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, Entry>,
    value: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(entry);
        let key = seed.deserialize(StrDeserializer::new(&entry.key));
        key.map(Some).map_err(|error: Error| error.at(&entry.origin))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some(entry) = self.value.take() else { return Err(Error::other("a value without a key")) };
        let value = seed.deserialize(Reader(&entry.node));
        value.map_err(|error| error.at(&entry.node.origin).within(&entry.key))
    }
}
