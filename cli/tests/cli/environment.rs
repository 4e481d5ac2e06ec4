//! Dynamo's variables, as the tool follows them.

use crate::support::Place;

const COUNT: &str = "demo.backend.count";

#[test]
fn a_worker_listens_where_the_variables_say_unless_it_is_told() {
    let place = Place::new();
    let port = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap().port().to_string();
    let env = [("DYN_TCP_RPC_HOST", "127.0.0.2"), ("DYN_TCP_RPC_PORT", port.as_str())];
    let (server, line) = place.serve_with(&env, &[COUNT, "--handler", "count"]);
    assert!(line.contains(&format!("at 127.0.0.2:{port},")), "{line}");
    place.run(&["call", COUNT, r#"{"n":1}"#]).expect_lines(&[r#"{"i":0}"#]);
    drop(server);
    let (_server, line) = place.serve_with(&env, &[COUNT, "--listen", "127.0.0.1:0"]);
    assert!(line.contains("at 127.0.0.1:"), "{line}");
    let (_server, line) = place.serve_with(&[("DYN_TCP_RPC_HOST", "lo")], &[COUNT]);
    assert!(line.contains("at 127."), "{line}");
}

#[test]
fn a_request_limit_makes_a_worker_refuse_the_rest() {
    let place = Place::new();
    let env = [("DYN_ENGINE_REQUEST_LIMIT", "1"), ("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", "0")];
    let (_server, _) = place.serve_with(&env, &[COUNT, "--handler", "count"]);
    let first = place.start(&["call", COUNT, r#"{"n":100000,"delay_ms":10}"#]);
    assert_eq!(first.line(), r#"{"i":0}"#);
    place.run(&["call", COUNT, r#"{"n":1}"#]).expect(5, "Overloaded");
}

#[test]
fn a_newer_name_that_holds_no_number_is_told_and_the_older_one_counts() {
    let place = Place::new();
    let newer = "DYN_BACKEND_ADMISSION_ENGINE_REQUEST_LIMIT";
    let env = [(newer, "one"), ("DYN_ENGINE_REQUEST_LIMIT", "1"), ("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", "0")];
    let server = place.start_with(&env, &["serve", COUNT, "--handler", "count"]);
    let told = server.error_line();
    assert!(told.contains("WARN") && told.contains(newer) && told.contains("`one`"), "{told}");
    assert!(server.error_line().contains("serving "));
    let first = place.start(&["call", COUNT, r#"{"n":100000,"delay_ms":10}"#]);
    assert_eq!(first.line(), r#"{"i":0}"#);
    place.run(&["call", COUNT, r#"{"n":1}"#]).expect(5, "Overloaded");
}

#[test]
fn what_cannot_be_followed_is_refused_by_name() {
    let place = Place::new();
    for (name, value) in
        [("DYN_RESPONSE_PLANE", "quic"), ("DYN_TCP_TLS_INSECURE", "1"), ("DYN_TCP_CONNECT_TIMEOUT", "soon")]
    {
        for command in ["serve", "call"] {
            place.start_with(&[(name, value)], &[command, COUNT]).end().expect(2, name);
        }
    }
}

/// A worker that takes requests by NATS has its record at a place, and no server is anywhere.
#[cfg(feature = "nats")]
#[test]
fn a_call_whose_nats_server_is_not_there_ends_in_its_time_and_says_so_in_a_line() {
    use std::time::{Duration, Instant};

    use ringplane_core::discovery::instance::{Instance, Transport, nats_subject};
    use ringplane_core::id::EndpointId;

    let place = Place::new();
    let url = format!("file:{}", place.path().join("discovery").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let backend = ringplane::discovery::open(&url).unwrap();
    let (id, endpoint) = (backend.instance_id(), EndpointId::parse(COUNT).unwrap());
    let transport = Transport::Nats(nats_subject(id, &endpoint));
    let instance = Instance { transport, ..Instance::new(id, endpoint, "127.0.0.1:1".parse().unwrap()) };
    let _registration = runtime.block_on(backend.register(instance)).unwrap();

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("nats://{nobody}");
    let env = [("NATS_SERVER", server.as_str())];
    place.start_with(&env, &["call", COUNT, "1", "--timeout", "1"]).end().expect(6, "deadline");
    // Once as long as a first connection may take, and not with each of three tries.
    let begun = Instant::now();
    place.start_with(&env, &["call", COUNT, "1"]).end().expect(4, "no connection to the broker");
    assert!(begun.elapsed() < Duration::from_secs(3 * 5), "{:?}", begun.elapsed());
    for (name, value) in [("NATS_AUTH_USERNAME", "alice"), ("NATS_SERVER", "nats://alice:@host")] {
        place.start_with(&[(name, value)], &["call", COUNT, "1"]).end().expect(2, name);
    }
}
