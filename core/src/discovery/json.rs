//! JSON that discovery passes on unread: kept as it came, so that it goes out again in the same order.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::discovery::error::Error;

/// A JSON text as it was written. Two are equal if they say the same, in whatever order.
#[derive(Clone)]
pub struct Json(Arc<str>);

impl Json {
    /// Takes a JSON text as it is, without the blanks around it.
    ///
    /// # Errors
    /// [`Error::Json`] if it is not JSON.
    pub fn new(text: &str) -> Result<Self, Error> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| Error::Json(error.to_string()))?;
        Ok(Self(raw.get().into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it says, for those who look into it.
    pub fn value(&self) -> Value {
        // Checked when it was made; numbers beyond what a value holds read as nothing.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.value() == other.value()
    }
}

impl Eq for Json {}

impl Default for Json {
    fn default() -> Self {
        Self("null".into())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(String::from(raw.get()).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_as_it_is_and_equals_whatever_says_the_same() {
        let one = Json::new(" {\"b\": 1.50, \"a\":[]}\n").unwrap();
        assert_eq!(one.as_str(), "{\"b\": 1.50, \"a\":[]}");
        assert_eq!(serde_json::to_string(&one).unwrap(), one.as_str());
        assert_eq!(one, Json::new("{\"a\":[],\"b\":1.5}").unwrap());
        assert_ne!(one, Json::new("{\"a\":[],\"b\":2}").unwrap());
        assert!(Json::new("{").is_err());
    }
}
