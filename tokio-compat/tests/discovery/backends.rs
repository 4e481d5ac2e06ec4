//! What every backend does alike, and how URLs name them.

use std::sync::Arc;

use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::set::Change;
use ringplane_core::id::EndpointId;
use ringplane_tokio::discovery::{Backend, Error, Mem, Place, open, random_instance_id};

use crate::support::{block_on, instance, next, until};

/// Runs `check` on two handles of each backend that see the same instances.
pub(crate) fn each_backend(check: impl Fn(&str, Arc<dyn Backend>, Arc<dyn Backend>)) {
    let directory = tempfile::tempdir().unwrap();
    let file = format!("file:{}", directory.path().display());
    let mem = format!("mem:{}", random_instance_id());
    for url in [mem, file] {
        check(&url, open(&url).unwrap(), open(&url).unwrap());
    }
    #[cfg(feature = "etcd")]
    if let Some(server) = ringplane_servers::etcd::Etcd::start() {
        check(server.url(), open(server.url()).unwrap(), open(server.url()).unwrap());
    }
}

#[test]
fn a_registered_instance_is_listed_by_others_until_it_is_taken_back() {
    each_backend(|url, here, there| {
        let one = instance("ns.comp.ep", u64::MAX);
        let registration = block_on(here.endpoints().register(one.clone())).unwrap();
        assert_eq!(registration.instance(), &one);
        let listed = block_on(there.endpoints().list(Query::All)).unwrap();
        assert!(listed.iter().eq([&one]), "{url}: {listed:?}");
        block_on(registration.unregister()).unwrap();
        assert_eq!(block_on(here.endpoints().list(Query::All)).unwrap(), [], "{url}");
        assert_eq!(block_on(there.endpoints().list(Query::All)).unwrap(), [], "{url}");
        let again = block_on(here.endpoints().register(one.clone())).unwrap();
        drop(again);
        until(|| block_on(there.endpoints().list(Query::All)).unwrap().is_empty());
    });
}

#[test]
fn a_watch_hears_what_is_there_then_one_resync_then_changes() {
    each_backend(|url, here, there| {
        let (one, two) = (instance("ns.comp.ep", 1), instance("ns.comp.ep", 2));
        let first = block_on(here.endpoints().register(one.clone())).unwrap();
        let mut watch = block_on(there.endpoints().watch(Query::Endpoint(one.endpoint.clone()))).unwrap();
        assert_eq!(next(&mut watch), Change::Added(one.clone()), "{url}");
        assert_eq!(next(&mut watch), Change::Resync(vec![one.clone()]), "{url}");
        let _elsewhere = block_on(here.register(instance("ns.comp.other", 1))).unwrap();
        let second = block_on(here.endpoints().register(two.clone())).unwrap();
        assert_eq!(next(&mut watch), Change::Added(two.clone()), "{url}");
        drop(first);
        assert_eq!(next(&mut watch), Change::Removed(one.key()), "{url}");
        block_on(second.unregister()).unwrap();
        assert_eq!(next(&mut watch), Change::Removed(two.key()), "{url}");
    });
}

#[test]
fn a_query_finds_its_level_and_no_name_that_merely_begins_alike() {
    each_backend(|url, here, there| {
        let names = ["ns.comp.ep", "ns.comp.ep2", "ns.comp2.ep", "ns2.comp.ep"];
        let _all: Vec<_> = names.iter().map(|name| block_on(here.register(instance(name, 7))).unwrap()).collect();
        let (namespace, component) = ("ns".to_owned(), "comp".to_owned());
        let queries = [
            (Query::All, 4),
            (Query::Namespace(namespace.clone()), 3),
            (Query::Component { namespace, component }, 2),
            (Query::Endpoint(EndpointId::new("ns", "comp", "ep")), 1),
        ];
        for (query, expected) in queries {
            assert_eq!(block_on(there.endpoints().list(query.clone())).unwrap().len(), expected, "{url} {query:?}");
        }
    });
}

#[test]
fn a_key_in_use_is_refused_and_stays_whose_it_was() {
    each_backend(|url, here, there| {
        let one = instance("ns.comp.ep", 1);
        let _registration = block_on(here.endpoints().register(one.clone())).unwrap();
        let usurper = Instance { addr: ([127, 0, 0, 1], 9).into(), ..one.clone() };
        for backend in [&here, &there] {
            let refused = block_on(backend.endpoints().register(usurper.clone()));
            let Err(Error::Exists { key }) = refused else { panic!("{url}: {refused:?}") };
            assert_eq!(key, "v1/instances/ns/comp/ep/1");
        }
        assert_eq!(block_on(there.endpoints().list(Query::All)).unwrap(), [one]);
    });
}

#[test]
fn a_name_that_cannot_be_written_is_refused() {
    each_backend(|url, here, _| {
        let instance = Instance { endpoint: EndpointId::new("a/b", "c", "d"), ..instance("ns.comp.ep", 1) };
        assert!(matches!(block_on(here.register(instance)), Err(Error::Record(_))), "{url}");
    });
}

#[test]
fn a_watch_outlives_the_handle_it_came_from() {
    each_backend(|url, here, there| {
        let mut watch = block_on(there.endpoints().watch(Query::All)).unwrap();
        drop(there);
        assert_eq!(next(&mut watch), Change::Resync(vec![]));
        let one = instance("ns.comp.ep", 1);
        let _registration = block_on(here.endpoints().register(one.clone())).unwrap();
        assert_eq!(next(&mut watch), Change::Added(one), "{url}");
    });
}

#[test]
fn what_is_written_and_read_is_counted() {
    each_backend(|url, here, there| {
        let moves = !url.starts_with("mem:");
        let one = block_on(here.endpoints().register(instance("ns.comp.ep", 1))).unwrap();
        // Told before it is counted, perhaps.
        until(|| here.counters().registered.writes == u64::from(moves));
        let mut watch = block_on(there.endpoints().watch(Query::All)).unwrap();
        assert_eq!(next(&mut watch), Change::Added(one.instance().clone()), "{url}");
        until(|| (there.counters().discovered.snapshots > 0) == moves);
        assert_eq!(there.counters().registered.writes, 0, "{url}: the other has written it");
    });
}

#[test]
fn clones_of_a_memory_share_it_and_separate_ones_do_not() {
    let (here, apart) = (Mem::new(), Mem::new());
    let shown = |mem: &Mem| block_on((mem as &dyn Backend).endpoints().list(Query::All)).unwrap().len();
    let _registration = block_on(here.register(instance("ns.comp.ep", 1))).unwrap();
    assert_eq!((shown(&here.clone()), shown(&apart)), (1, 0));
    assert_eq!(here.instance_id(), here.clone().instance_id());
    assert_ne!(here.instance_id(), apart.instance_id());
}

#[test]
fn a_url_nobody_understands_says_so() {
    assert!(matches!(open("consul:x"), Err(Error::UnknownScheme(url)) if url == "consul:x"));
    assert!(matches!(open(""), Err(Error::UnknownScheme(_))));
    #[cfg(not(feature = "etcd"))]
    assert!(matches!(open("etcd://localhost:2379"), Err(Error::NotInThisBuild { scheme: "etcd" })));
    assert!(matches!(open("file:"), Err(Error::NoDirectory)));
    assert!(matches!(open("file:/dev/null/x"), Err(Error::Io { .. })));
}
