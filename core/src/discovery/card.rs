//! The card of a model: opaque but for the few fields that the rules of discovery read, and the taints they write.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::discovery::error::Error;
use crate::discovery::json::Json;

/// What taints begin with that follow from a model's topology. Nobody else may set one.
pub const TOPOLOGY: &str = "dynamo.topology/";

/// A model card. Its fields keep the order in which they were written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Card(Json);

/// What the rules read of a card. A field that is missing or of another type reads as nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Facts {
    /// `display_name`: what callers call the model.
    pub display_name: String,
    /// `source_path`: where its weights come from.
    pub source_path: String,
    /// `aliases`: what else it is called.
    pub aliases: BTreeSet<String>,
    /// `lora`: whether it is an adapter of another model.
    pub is_adapter: bool,
    /// `runtime_config.taints`.
    pub taints: BTreeSet<String>,
    /// The taints that follow from `runtime_config.topology_domains`, an object of domains and values.
    pub topology: BTreeSet<String>,
}

impl Card {
    /// Takes a card.
    ///
    /// # Errors
    /// [`Error::Json`] if the text is no JSON object.
    pub fn new(json: &str) -> Result<Self, Error> {
        Self::from_json(Json::new(json)?)
    }

    /// Takes a card that is JSON already.
    ///
    /// # Errors
    /// [`Error::Json`] if it is no object.
    pub fn from_json(json: Json) -> Result<Self, Error> {
        match fields(json.as_str()) {
            Ok(_) => Ok(Self(json)),
            Err(error) => Err(Error::Json(error.to_string())),
        }
    }

    /// The card as it was written.
    pub const fn json(&self) -> &Json {
        &self.0
    }

    /// What the rules read of it.
    pub fn facts(&self) -> Facts {
        let card = self.0.value();
        let text = |name: &str| card.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let runtime = card.get("runtime_config");
        Facts {
            display_name: text("display_name"),
            source_path: text("source_path"),
            aliases: texts(card.get("aliases")),
            is_adapter: card.get("lora").is_some_and(|lora| !lora.is_null()),
            taints: texts(runtime.and_then(|runtime| runtime.get("taints"))),
            topology: topology(runtime.and_then(|runtime| runtime.get("topology_domains"))),
        }
    }

    /// Whether the two differ in nothing but their taints.
    pub fn is_same_but_taints(&self, other: &Self) -> bool {
        self.0 == other.0 || self.without_taints() == other.without_taints()
    }

    /// The card with these taints instead of its own, everything else as it was and where it was.
    ///
    /// # Errors
    /// [`Error::Json`] if JSON cannot be written, which is a bug.
    pub fn with_taints(&self, taints: &BTreeSet<String>) -> Result<Self, Error> {
        self.rewritten(taints).map_err(|error| Error::Json(error.to_string()))
    }

    fn rewritten(&self, taints: &BTreeSet<String>) -> Result<Self, serde_json::Error> {
        let mut card = fields(self.0.as_str())?;
        let runtime = card.get("runtime_config").map(RawValue::get).unwrap_or_default();
        let mut runtime = fields(runtime).unwrap_or_default();
        let taints = to_raw_value(taints)?;
        runtime.set("taints", &taints);
        let runtime = to_raw_value(&runtime)?;
        card.set("runtime_config", &runtime);
        let text = serde_json::to_string(&card)?;
        Ok(Self(Json::new(&text).map_err(serde::ser::Error::custom)?))
    }

    fn without_taints(&self) -> Value {
        let mut card = self.0.value();
        let Some(fields) = card.as_object_mut() else { return card };
        if let Some(Value::Object(runtime)) = fields.get_mut("runtime_config") {
            runtime.remove("taints");
            // Somebody had to make it to have a place for the taints.
            if runtime.is_empty() {
                fields.remove("runtime_config");
            }
        }
        card
    }
}

impl Facts {
    /// What the weights below are: an adapter has those of its base.
    pub fn base(&self) -> &str {
        if self.source_path.is_empty() { &self.display_name } else { &self.source_path }
    }

    /// Whether both may be served by one endpoint, as Dynamo has it: the same model, or another name of the same weights,
    /// or adapters beside what they adapt.
    pub fn fits(&self, other: &Self) -> bool {
        match (self.is_adapter, other.is_adapter) {
            (true, true) => self.base() == other.base(),
            (true, false) => self.adapts(other),
            (false, true) => other.adapts(self),
            (false, false) => self.display_name == other.display_name || self.is_same_weights_as(other),
        }
    }

    fn adapts(&self, base: &Self) -> bool {
        self.base() == base.base()
            && self.display_name != base.display_name
            && !base.aliases.contains(&self.display_name)
    }

    fn is_same_weights_as(&self, other: &Self) -> bool {
        let clash = self.aliases.contains(&other.display_name)
            || other.aliases.contains(&self.display_name)
            || !self.aliases.is_disjoint(&other.aliases);
        !self.source_path.is_empty() && self.source_path == other.source_path && !clash
    }
}

fn texts(list: Option<&Value>) -> BTreeSet<String> {
    let list = list.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn topology(domains: Option<&Value>) -> BTreeSet<String> {
    let domains = domains.and_then(Value::as_object).into_iter().flatten();
    let pairs = domains.filter_map(|(domain, value)| Some((domain.trim(), value.as_str()?.trim())));
    let named = pairs.filter(|(domain, value)| !domain.is_empty() && !value.is_empty());
    named.map(|(domain, value)| format!("{TOPOLOGY}{domain}={value}")).collect()
}

/// An object's fields in their order, their values as they stand there.
#[derive(Default)]
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

fn fields(object: &str) -> Result<Fields<'_>, serde_json::Error> {
    serde_json::from_str(object)
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(field, _)| field == name).map(|(_, value)| *value)
    }

    /// Puts the value where the field is, or at the end.
    fn set(&mut self, name: &'a str, value: &'a RawValue) {
        match self.0.iter_mut().rev().find(|(field, _)| field == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((Cow::Borrowed(name), value)),
        }
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((Cow::Owned(name), value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Reader).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(json: &str) -> Facts {
        Card::new(json).unwrap().facts()
    }

    #[test]
    fn a_card_is_an_object_and_its_facts_need_not_be_there() {
        for text in ["[]", "1", "\"x\"", "null", "{"] {
            assert!(Card::new(text).is_err(), "{text}");
        }
        assert_eq!(facts("{}"), Facts::default());
        let odd = r#"{"display_name":1,"aliases":["a",2],"lora":null,"runtime_config":7}"#;
        assert_eq!(facts(odd), Facts { aliases: BTreeSet::from(["a".to_owned()]), ..Facts::default() });
    }

    #[test]
    fn topology_gives_taints_of_what_is_named_without_the_blanks_around() {
        let json = r#"{"runtime_config":{"topology_domains":{" zone ":" a ","rack":"","":"x","n":1}}}"#;
        assert_eq!(facts(json).topology, BTreeSet::from(["dynamo.topology/zone=a".to_owned()]));
    }

    #[test]
    fn taints_are_put_where_they_were_or_at_the_end_and_nothing_else_moves() {
        let taints = BTreeSet::from(["b".to_owned(), "a".to_owned()]);
        for (before, after) in [
            (
                r#"{"z":1.0,"runtime_config":{"y":2,"x":null},"a":[ 3 ]}"#,
                r#"{"z":1.0,"runtime_config":{"y":2,"x":null,"taints":["a","b"]},"a":[ 3 ]}"#,
            ),
            (r#"{"runtime_config":{"taints":["q"],"x":1}}"#, r#"{"runtime_config":{"taints":["a","b"],"x":1}}"#),
            (r#"{"z":1}"#, r#"{"z":1,"runtime_config":{"taints":["a","b"]}}"#),
        ] {
            let (before, after) = (Card::new(before).unwrap(), Card::new(after).unwrap());
            let written = before.with_taints(&taints).unwrap();
            assert_eq!(written.json().as_str(), after.json().as_str());
            assert!(before.is_same_but_taints(&written) && before != written);
        }
        assert!(!Card::new(r#"{"z":1}"#).unwrap().is_same_but_taints(&Card::new(r#"{"z":2}"#).unwrap()));
    }

    #[test]
    fn models_of_one_endpoint_must_be_the_same_weights_under_names_that_do_not_clash() {
        let base = facts(r#"{"display_name":"m","source_path":"p","aliases":["n"]}"#);
        let lora = |name: &str, path: &str| {
            facts(&format!(r#"{{"display_name":"{name}","source_path":"{path}","lora":{{}}}}"#))
        };
        let plain = |name: &str, path: &str, alias: &str| {
            facts(&format!(r#"{{"display_name":"{name}","source_path":"{path}","aliases":["{alias}"]}}"#))
        };
        for (other, expected) in [
            (plain("m", "elsewhere", "x"), true),
            (plain("other", "p", "x"), true),
            (plain("other", "q", "x"), false),
            (plain("n", "p", "x"), false),
            (plain("other", "p", "m"), false),
            (plain("other", "p", "n"), false),
            (lora("adapter", "p"), true),
            (lora("adapter", "q"), false),
            (lora("m", "p"), false),
            (lora("n", "p"), false),
        ] {
            assert_eq!((base.fits(&other), other.fits(&base)), (expected, expected), "{other:?}");
        }
        assert!(lora("a", "p").fits(&lora("b", "p")) && !lora("a", "p").fits(&lora("b", "q")));
        assert!(!plain("a", "", "x").fits(&plain("b", "", "y")), "nowhere is not the same place");
    }
}
