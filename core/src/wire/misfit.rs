//! Where a JSON message departs from its shape, in words for its sender.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::wire::json;
use crate::wire::parse::Error;

/// Characters of a peer's text that are shown.
const MAX_SHOWN: usize = 64;

/// The first thing that is wrong with a message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Misfit {
    /// It is no JSON, or has a key twice.
    NotJson(Error),
    /// It is JSON, and no object.
    NotObject,
    /// It lacks a field.
    Missing {
        /// Which one.
        field: &'static str,
    },
    /// A field holds what it may not.
    Value {
        /// Which one.
        field: &'static str,
        /// What it holds, in harmless letters, cut where it is long.
        value: Box<str>,
        /// What it may hold.
        expected: &'static str,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(error) => error.fmt(f),
            Self::NotObject => f.write_str("not a JSON object"),
            Self::Missing { field } => write!(f, "`{field}` is missing"),
            Self::Value { field, value, expected } => write!(f, "`{field}` is {value}, not {expected}"),
        }
    }
}

impl core::error::Error for Misfit {}

/// One field of a message.
pub(crate) struct Field {
    name: &'static str,
    expected: &'static str,
    required: bool,
    fits: fn(&Value) -> bool,
}

impl Field {
    /// A field that must be there and be a `T`, which is `expected` in words.
    pub(crate) const fn required<T: DeserializeOwned>(name: &'static str, expected: &'static str) -> Self {
        Self { name, expected, required: true, fits: fits::<T> }
    }

    /// The same of a field that may be missing.
    pub(crate) const fn optional<T: DeserializeOwned>(name: &'static str, expected: &'static str) -> Self {
        Self { required: false, ..Self::required::<T>(name, expected) }
    }
}

fn fits<T: DeserializeOwned>(value: &Value) -> bool {
    T::deserialize(value).is_ok()
}

/// What is wrong with `bytes`, which were refused with `error` where these fields were expected.
pub(crate) fn misfit(bytes: &[u8], error: Error, fields: &[Field]) -> Misfit {
    let object = match json::read(bytes) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Misfit::NotObject,
        Err(error) => return Misfit::NotJson(error),
    };
    let wrong = fields.iter().find_map(|field| match object.get(field.name) {
        None => field.required.then_some(Misfit::Missing { field: field.name }),
        Some(value) if (field.fits)(value) => None,
        Some(value) => {
            let value = shown(&value.to_string()).into();
            Some(Misfit::Value { field: field.name, value, expected: field.expected })
        }
    });
    wrong.unwrap_or(Misfit::NotJson(error))
}

/// The beginning of a peer's text, without what could move a terminal's cursor or the reader's eye.
pub(crate) fn shown(text: &str) -> String {
    let plain = |letter: char| letter == ' ' || letter.is_ascii_graphic() || letter.is_alphanumeric();
    let mut letters = text.chars();
    let mut shown: String = letters.by_ref().take(MAX_SHOWN).map(|c| if plain(c) { c } else { '?' }).collect();
    if letters.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse::ErrorKind;

    const FIELDS: &[Field] = &[Field::required::<String>("id", "a text"), Field::optional::<u8>("n", "a small number")];

    fn said(json: &str) -> String {
        misfit(json.as_bytes(), Error::new(ErrorKind::BadJson, 7), FIELDS).to_string()
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_named_with_its_value() {
        for (json, words) in [
            (r#"{"n":1}"#, "`id` is missing"),
            (r#"{"id":null}"#, "`id` is null, not a text"),
            (r#"{"id":"x","n":256}"#, "`n` is 256, not a small number"),
            (r#"{"n":[{"a":"b"}],"id":"x"}"#, r#"`n` is [{"a":"b"}], not a small number"#),
            ("[1]", "not a JSON object"),
            ("{", "malformed JSON at byte 0"),
            // What no field explains is said by the reader's own error.
            (r#"{"id":"x","n":1}"#, "malformed JSON at byte 7"),
        ] {
            assert_eq!(said(json), words);
        }
    }

    #[test]
    fn a_peers_text_is_shown_in_part_and_on_one_harmless_line() {
        assert_eq!(shown("velo_response"), "velo_response");
        assert_eq!(shown("a\x1b[2J\u{202e}b\nc ü"), "a?[2J?b?c ü");
        let long = shown(&"x".repeat(1000));
        assert_eq!((long.len(), long.ends_with("x...")), (MAX_SHOWN + 3, true));
    }
}
