//! The broker for events.

use rustix::process::Signal;

use crate::support::Place;

#[test]
fn a_broker_registers_itself_and_takes_its_record_back() {
    let place = Place::new();
    let broker = place.start(&["zmq-broker", "--namespace", "ns"]);
    let said = broker.error_line();
    assert!(said.contains("publishers connect to tcp://127.0.0.1:"), "{said}");
    let registered = broker.error_line();
    assert!(registered.contains("the broker of namespace `ns`"), "{registered}");
    let channels = || place.run(&["discover", "channels", "--json"]);
    let listed = channels();
    let xpub = said.split(' ').next_back().unwrap();
    assert!(listed.out.iter().any(|line| line.contains("zmq_broker") && line.contains(xpub)), "{listed:?}");
    broker.signal(Signal::INT);
    assert_eq!(broker.end().code, Some(0));
    assert_eq!(channels().out, [""; 0]);
}

#[test]
fn a_broker_that_cannot_listen_says_where() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("tcp://{}", taken.local_addr().unwrap());
    place.run(&["zmq-broker", "--xsub", &at]).expect(1, &at);
    place.run(&["zmq-broker", "--xpub", "tcp://:x"]).expect_usage("--xpub");
    place.start_with(&[("ZMQ_BROKER_XPUB_BIND", &at)], &["zmq-broker"]).end().expect(1, &at);
}
