//! A model that an instance of an endpoint serves: Dynamo's `Model` record, its key, and the rules for writing it.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

use crate::discovery::card::{Card, TOPOLOGY};
use crate::discovery::error::Error;
use crate::discovery::json::Json;
use crate::discovery::key::{Key, Query};
use crate::discovery::kind::Kind;
use crate::discovery::record::check_names;
use crate::id::{EndpointId, InstanceId};

const KIND: &str = "Model";

/// A model served by an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Model {
    /// Where it is served.
    pub endpoint: EndpointId,
    /// By which instance.
    pub id: InstanceId,
    /// Which adapter, if it is one of several models of the instance.
    pub suffix: Option<String>,
    /// What it is.
    pub card: Card,
}

/// What names a model among all models.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ModelKey {
    /// The instance that serves it.
    pub instance: Key,
    /// Which adapter.
    pub suffix: Option<String>,
}

impl Model {
    /// The model with the taints asked for and those of its topology, or `None` if that is what it has.
    ///
    /// # Errors
    /// [`Error::Taint`] for a taint that only a topology gives, [`Error::Adapter`] for an adapter: it has its base's.
    pub fn with_taints(&self, taints: &BTreeSet<String>) -> Result<Option<Self>, Error> {
        if self.suffix.is_some() {
            return Err(Error::Adapter);
        }
        if let Some(taint) = taints.iter().find(|taint| taint.starts_with(TOPOLOGY)) {
            return Err(Error::Taint(taint.clone()));
        }
        let facts = self.card.facts();
        let wanted = taints.union(&facts.topology).cloned().collect();
        if facts.taints == wanted {
            return Ok(None);
        }
        Ok(Some(Self { card: self.card.with_taints(&wanted)?, ..self.clone() }))
    }
}

impl Kind for Model {
    type Key = ModelKey;
    type Query = Query;

    const BUCKET: &'static str = "v1/mdc";

    fn key(&self) -> ModelKey {
        let instance = Key { endpoint: self.endpoint.clone(), id: self.id };
        ModelKey { instance, suffix: self.suffix.clone() }
    }

    fn path(key: &ModelKey) -> String {
        let instance = key.instance.relative();
        key.suffix.as_ref().map_or_else(|| instance.clone(), |suffix| format!("{instance}/{suffix}"))
    }

    fn parse(path: &str) -> Option<ModelKey> {
        let (instance, suffix) = match path.match_indices('/').nth(3) {
            Some((at, _)) => (path.get(..at)?, path.get(at + 1..)),
            None => (path, None),
        };
        if suffix.is_some_and(|suffix| suffix.is_empty() || suffix.contains('/')) {
            return None;
        }
        Some(ModelKey { instance: Key::parse(instance).ok()?, suffix: suffix.map(str::to_owned) })
    }

    fn is_asked(query: &Query, key: &ModelKey) -> bool {
        query.matches(&key.instance.endpoint)
    }

    fn prefix(query: &Query) -> String {
        query.path()
    }

    fn write(&self) -> Result<String, Error> {
        let EndpointId { namespace, component, name } = &self.endpoint;
        check_names([namespace, component, name].into_iter().chain(&self.suffix))?;
        if self.card.facts().display_name.is_empty() {
            return Err(Error::Unnamed);
        }
        let record = Written {
            kind: KIND,
            namespace,
            component,
            endpoint: name,
            instance_id: self.id.0,
            card_json: self.card.json(),
            model_suffix: self.suffix.as_deref(),
        };
        serde_json::to_string(&record).map_err(|error| Error::Json(error.to_string()))
    }

    fn read(key: &ModelKey, value: &[u8]) -> Result<Self, Error> {
        let record: Read<'_> = serde_json::from_slice(value).map_err(|error| Error::Json(error.to_string()))?;
        if record.kind != KIND {
            return Err(Error::Kind(record.kind.into_owned()));
        }
        let endpoint = EndpointId { namespace: record.namespace, component: record.component, name: record.endpoint };
        let card = Card::from_json(record.card_json)?;
        let model = Self { endpoint, id: InstanceId(record.instance_id), suffix: record.model_suffix, card };
        if model.key() == *key { Ok(model) } else { Err(Error::Identity { claims: Self::path(&model.key()) }) }
    }

    /// Taints may have been set since, by the owner's hand: everything else must be equal.
    fn is_served_by(&self, stored: &Self) -> bool {
        self.key() == stored.key() && self.card.is_same_but_taints(&stored.card)
    }

    fn is_update_of(&self, before: &Self) -> bool {
        self.is_served_by(before)
    }

    fn neighbours(&self) -> Option<Query> {
        Some(Query::Endpoint(self.endpoint.clone()))
    }

    fn fits(&self, neighbour: &Self) -> bool {
        self.key() == neighbour.key() || self.card.facts().fits(&neighbour.card.facts())
    }
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    namespace: &'a str,
    component: &'a str,
    endpoint: &'a str,
    instance_id: u64,
    card_json: &'a Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_suffix: Option<&'a str>,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    namespace: String,
    component: String,
    endpoint: String,
    instance_id: u64,
    card_json: Json,
    #[serde(default)]
    model_suffix: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::captured;
    use crate::discovery::kind;

    const BEFORE: &str = include_str!("../../tests/vectors/discovery/etcd-model-card.json");
    const AFTER: &str = include_str!("../../tests/vectors/discovery/etcd-model-card-after-taints.json");

    fn seen_live() -> (String, String) {
        captured::entries(BEFORE).remove(0)
    }

    fn model() -> Model {
        let (key, value) = seen_live();
        Kind::read(&kind::parse_full::<Model>(&key).unwrap(), value.as_bytes()).unwrap()
    }

    fn taints(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_card_of_dynamo_is_read_and_written_byte_by_byte() {
        let (key, value) = seen_live();
        let model = model();
        assert_eq!(model.endpoint, EndpointId::new("mns", "mcomp", "generate"));
        assert_eq!((Model::full(&model.key()), model.write().unwrap()), (key, value));
    }

    #[test]
    fn taints_are_written_byte_by_byte_as_dynamo_does_and_the_same_ones_not_again() {
        let tainted = model().with_taints(&taints(&["b", "a"])).unwrap().unwrap();
        assert_eq!(tainted.write().unwrap(), captured::entries(AFTER).remove(0).1);
        assert_eq!(tainted.with_taints(&taints(&["a", "b"])).unwrap(), None);
        assert!(tainted.is_update_of(&model()) && model().is_served_by(&tainted));
        assert_eq!(tainted.with_taints(&taints(&[])).unwrap().unwrap().card.facts().taints, taints(&[]));
    }

    #[test]
    fn the_taints_of_a_topology_are_kept_whatever_is_asked_for_and_nobody_may_ask_for_them() {
        let card = Card::new(r#"{"display_name":"m","runtime_config":{"topology_domains":{"zone":"a"}}}"#).unwrap();
        let model = Model { card, ..model() };
        let tainted = model.with_taints(&taints(&["x"])).unwrap().unwrap();
        assert_eq!(tainted.card.facts().taints, taints(&["dynamo.topology/zone=a", "x"]));
        let refused = model.with_taints(&taints(&["dynamo.topology/zone=b"])).unwrap_err();
        assert_eq!(refused, Error::Taint("dynamo.topology/zone=b".into()));
        let adapter = Model { suffix: Some("lora".into()), ..model };
        assert_eq!(adapter.with_taints(&taints(&["x"])), Err(Error::Adapter));
    }

    #[test]
    fn the_key_of_an_adapter_has_a_fifth_part() {
        let adapter = Model { suffix: Some("lo-ra_1".into()), ..model() };
        let path = Model::path(&adapter.key());
        assert_eq!(path, "mns/mcomp/generate/390da20902badc9a/lo-ra_1");
        assert_eq!(Model::parse(&path), Some(adapter.key()));
        let text = adapter.write().unwrap();
        assert!(text.ends_with(r#","model_suffix":"lo-ra_1"}"#), "{text}");
        assert_eq!(<Model as Kind>::read(&adapter.key(), text.as_bytes()), Ok(adapter.clone()));
        for path in ["a/b/c/1/", "a/b/c/1/x/y", "a/b/c", "a/b/c/x/y", "a//c/1/x"] {
            assert_eq!(Model::parse(path), None, "{path}");
        }
        assert!(matches!(<Model as Kind>::read(&model().key(), text.as_bytes()), Err(Error::Identity { .. })));
    }

    #[test]
    fn what_dynamo_would_trip_over_is_not_written() {
        let odd = Model { suffix: Some("a/b".into()), ..model() };
        assert!(matches!(odd.write(), Err(Error::Name(_))));
        let unnamed = Model { card: Card::new("{}").unwrap(), ..model() };
        assert_eq!(unnamed.write(), Err(Error::Unnamed));
    }

    #[test]
    fn only_taints_may_differ_from_what_is_stored() {
        let other = Model { card: Card::new(r#"{"display_name":"mymodel"}"#).unwrap(), ..model() };
        assert!(!model().is_served_by(&other));
        let (key, ours) = seen_live();
        let theirs = captured::entries(AFTER).remove(0).1;
        assert!(kind::serves::<Model>(&key, ours.as_bytes(), theirs.as_bytes()));
        assert!(!kind::serves::<Model>(&key, ours.as_bytes(), b"theirs"));
        assert!(!kind::serves::<Model>(&key, ours.as_bytes(), other.write().unwrap().as_bytes()));
    }
}
