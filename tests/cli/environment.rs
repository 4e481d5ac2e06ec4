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
