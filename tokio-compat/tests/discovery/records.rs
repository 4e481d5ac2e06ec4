//! Models, event channels and event sources: what every backend does alike, and what is particular to a kind.

use std::collections::BTreeSet;
use std::fmt::Debug;

use ringplane_core::discovery::card::Card;
use ringplane_core::discovery::channel::{EventChannel, EventTransport};
use ringplane_core::discovery::error;
use ringplane_core::discovery::event::{EventQuery, PublisherId, Scope};
use ringplane_core::discovery::json::Json;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::model::Model;
use ringplane_core::discovery::set::Change;
use ringplane_core::discovery::source::EventSource;
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_tokio::discovery::{BoxFuture, Error, Place, Registration, Watch, random_publisher_id};

use crate::backends::each_backend;
use crate::support::{block_on, instance, next, until};

pub(crate) fn model(id: u64, name: &str) -> Model {
    let card = format!(r#"{{"z":1,"display_name":"{name}","source_path":"there","runtime_config":{{"b":1,"a":2}}}}"#);
    let (endpoint, card) = (EndpointId::new("ns", "comp", "ep"), Card::new(&card).unwrap());
    Model { endpoint, id: InstanceId(id), suffix: None, card }
}

fn scope(depth: usize) -> Scope {
    let (namespace, component) = ("ns".to_owned(), "comp".to_owned());
    match depth {
        1 => Scope::Namespace(namespace),
        2 => Scope::Component { namespace, component },
        _ => Scope::Endpoint(EndpointId::new("ns", "comp", "ep")),
    }
}

pub(crate) fn channel(depth: usize, port: u16) -> EventChannel {
    let transport = EventTransport::Zmq { endpoint: format!("tcp://127.0.0.1:{port}") };
    EventChannel { scope: scope(depth), topic: "kv/events".to_owned(), publisher: PublisherId(0x1ba3), transport }
}

fn source(rank: u8) -> EventSource {
    let metadata =
        Json::new(&format!(r#"{{"worker":{{"worker_id":18446744073709551615,"dp_rank":{rank}}}}}"#)).unwrap();
    EventSource { scope: scope(3), topic: "kv-events".to_owned(), publisher: random_publisher_id(), metadata }
}

pub(crate) fn taints(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(ToString::to_string).collect()
}

/// One of a kind is listed and told there, the same one again changes nothing, and another in its place is refused.
fn comes_and_goes<R: Kind>(url: &str, here: &dyn Place<R>, there: &dyn Place<R>, query: R::Query, one: R, other: R) {
    let mut watch = block_on(there.watch(query.clone())).unwrap();
    assert_eq!(next(&mut watch), Change::Resync(vec![]), "{url}");
    let first = block_on(here.register(one.clone())).unwrap();
    let again = block_on(here.register(one.clone())).unwrap();
    assert_eq!((first.record(), again.record()), (&one, &one), "{url}");
    for place in [here, there] {
        let refused = block_on(place.register(other.clone()));
        assert!(matches!(&refused, Err(Error::Exists { key }) if *key == R::full(&one.key())), "{url}: {refused:?}");
    }
    assert_eq!(next(&mut watch), Change::Added(one.clone()), "{url}");
    assert!(block_on(there.list(query.clone())).unwrap().iter().eq([&one]), "{url}");
    block_on(first.unregister()).unwrap();
    assert!(block_on(there.list(query.clone())).unwrap().iter().eq([&one]), "{url}: one of two is left");
    block_on(again.unregister()).unwrap();
    assert_eq!(next(&mut watch), Change::Removed(one.key()), "{url}");
    assert_eq!(block_on(there.list(query)).unwrap().as_slice(), [], "{url}");
    let last = block_on(here.register(one.clone())).unwrap();
    assert_eq!(next(&mut watch), Change::Added(one.clone()), "{url}");
    drop(last);
    assert_eq!(next(&mut watch), Change::Removed(one.key()), "{url}");
}

#[test]
fn records_of_every_kind_come_and_go_and_none_takes_anothers_place() {
    each_backend(|url, here, there| {
        let other = Model { card: Card::new(r#"{"display_name":"m"}"#).unwrap(), ..model(7, "m") };
        comes_and_goes(url, here.models(), there.models(), Query::All, model(7, "m"), other);
        let query = EventQuery::default();
        comes_and_goes(url, here.channels(), there.channels(), query.clone(), channel(3, 1), channel(3, 2));
        let one = source(0);
        let other = EventSource { publisher: one.publisher, ..source(1) };
        comes_and_goes(url, here.sources(), there.sources(), query, one, other);
    });
}

#[test]
fn kinds_with_the_same_names_do_not_meet() {
    each_backend(|url, here, there| {
        let _instance = block_on(here.endpoints().register(instance("ns.comp.ep", 7))).unwrap();
        let _model = block_on(here.models().register(model(7, "m"))).unwrap();
        assert_eq!(block_on(there.endpoints().list(Query::All)).unwrap().len(), 1, "{url}");
        assert_eq!(block_on(there.models().list(Query::All)).unwrap(), [model(7, "m")], "{url}");
    });
}

#[test]
fn a_scope_hears_of_itself_and_of_nothing_within_it() {
    each_backend(|url, here, there| {
        let _all: Vec<_> =
            (1..=3).map(|depth| block_on(here.channels().register(channel(depth, 1))).unwrap()).collect();
        let listed = |query| block_on(there.channels().list(query)).unwrap();
        for depth in 1..=3 {
            let query = EventQuery { scope: Some(scope(depth)), topic: None };
            assert_eq!(listed(query.clone()), [channel(depth, 1)], "{url}");
            let mut watch = block_on(there.channels().watch(query)).unwrap();
            assert_eq!(next(&mut watch), Change::Added(channel(depth, 1)), "{url}");
            assert_eq!(next(&mut watch), Change::Resync(vec![channel(depth, 1)]), "{url}");
        }
        assert_eq!(listed(EventQuery::default()).len(), 3, "{url}");
        assert_eq!(listed(EventQuery { scope: None, topic: Some("kv/events".to_owned()) }).len(), 3, "{url}");
        assert_eq!(listed(EventQuery { scope: None, topic: Some("kv".to_owned()) }).len(), 0, "{url}");
    });
}

#[test]
fn models_that_do_not_go_together_are_refused_and_leave_nothing() {
    each_backend(|url, here, there| {
        let _first = block_on(here.models().register(model(1, "m"))).unwrap();
        let strange = Model { card: Card::new(r#"{"display_name":"x","source_path":"y"}"#).unwrap(), ..model(2, "") };
        let refused = block_on(there.models().register(strange.clone()));
        assert!(matches!(refused, Err(Error::Unfit { .. })), "{url}: {refused:?}");
        let elsewhere = Model { endpoint: EndpointId::new("ns", "comp", "ep2"), ..strange };
        let _elsewhere = block_on(there.models().register(elsewhere)).unwrap();
        let card = Card::new(r#"{"display_name":"a","source_path":"there","lora":{"name":"a"}}"#).unwrap();
        let adapter = Model { suffix: Some("a".to_owned()), card, ..model(1, "") };
        let mut adapter = block_on(here.models().register(adapter)).unwrap();
        let refused = block_on(adapter.update_taints(taints(&["x"])));
        assert!(matches!(refused, Err(Error::Record(error::Error::Adapter))), "{url}: {refused:?}");
        let of_endpoint = Query::Endpoint(EndpointId::new("ns", "comp", "ep"));
        assert_eq!(block_on(there.models().list(of_endpoint)).unwrap().len(), 2, "{url}");
    });
}

/// A place in which somebody registers a model of his own between our look and our write.
struct Crowded<'a> {
    place: &'a dyn Place<Model>,
    rival: Model,
}

impl Place<Model> for Crowded<'_> {
    fn claim(&self, record: Model) -> BoxFuture<'_, Result<Registration<Model>, Error>> {
        Box::pin(async move {
            // Never taken back: that is for the end of its process.
            std::mem::forget(self.place.claim(self.rival.clone()).await?);
            self.place.claim(record).await
        })
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Vec<Model>, Error>> {
        self.place.list(query)
    }

    fn watch(&self, query: Query) -> BoxFuture<'_, Result<Watch<Model>, Error>> {
        self.place.watch(query)
    }
}

#[test]
fn a_model_that_came_at_the_same_time_as_one_it_does_not_go_with_is_taken_back() {
    each_backend(|url, here, there| {
        let rival = Model { card: Card::new(r#"{"display_name":"x","source_path":"y"}"#).unwrap(), ..model(2, "") };
        let crowded = Crowded { place: here.models(), rival: rival.clone() };
        let refused = block_on(crowded.register(model(1, "m")));
        assert!(matches!(refused, Err(Error::Unfit { .. })), "{url}: {refused:?}");
        assert_eq!(block_on(there.models().list(Query::All)).unwrap(), [rival], "{url}");
    });
}

#[test]
fn taints_change_where_they_stand_and_everybody_hears_of_it() {
    each_backend(|url, here, there| {
        let mut registration = block_on(here.models().register(model(1, "m"))).unwrap();
        let mut watch = block_on(there.models().watch(Query::All)).unwrap();
        assert_eq!(next(&mut watch), Change::Added(model(1, "m")), "{url}");
        assert_eq!(next(&mut watch), Change::Resync(vec![model(1, "m")]), "{url}");
        let tainted = block_on(registration.update_taints(taints(&["b", "a"]))).unwrap().clone();
        let text = tainted.card.json().as_str();
        assert!(text.ends_with(r#""runtime_config":{"b":1,"a":2,"taints":["a","b"]}}"#), "{url}: {text}");
        assert_eq!(next(&mut watch), Change::Updated(tainted.clone()), "{url}");
        // Again is no news: what is heard next is something else.
        assert_eq!(block_on(registration.update_taints(taints(&["a", "b"]))).unwrap(), &tainted, "{url}");
        let refused = block_on(registration.update_taints(taints(&["dynamo.topology/zone=a"])));
        assert!(matches!(refused, Err(Error::Record(error::Error::Taint(_)))), "{url}: {refused:?}");
        // Who registers the model without taints is given the one that is there.
        let again = block_on(here.models().register(model(1, "m"))).unwrap();
        assert_eq!(again.record(), &tainted, "{url}");
        drop(again);
        block_on(registration.unregister()).unwrap();
        assert_eq!(next(&mut watch), Change::Removed(tainted.key()), "{url}");
        until(|| block_on(here.models().list(Query::All)).unwrap().is_empty());
    });
}

#[test]
fn names_that_dynamo_trips_over_are_refused_and_topics_are_free() {
    fn refused<T: Debug>(url: &str, result: Result<T, Error>) {
        assert!(matches!(result, Err(Error::Record(_))), "{url}: {result:?}");
    }
    each_backend(|url, here, _| {
        let odd = EventChannel { scope: Scope::Namespace("a.b".to_owned()), ..channel(1, 1) };
        refused(url, block_on(here.channels().register(odd)));
        refused(url, block_on(here.sources().register(EventSource { topic: String::new(), ..source(0) })));
        refused(url, block_on(here.models().register(Model { suffix: Some("a/b".to_owned()), ..model(1, "m") })));
        let free = EventSource { topic: "a/b %.ü".to_owned(), ..source(0) };
        let _source = block_on(here.sources().register(free.clone())).unwrap();
        assert_eq!(block_on(here.sources().list(EventQuery::default())).unwrap(), [free], "{url}");
    });
}
