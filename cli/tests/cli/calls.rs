//! Calls that end well: what goes in, what comes out.

use ringplane_core::route::policy::any::ALL;

use crate::support::Place;

const COUNT: &[&str] = &["demo.backend.count", "--handler", "count"];

#[test]
fn two_processes_echo_requests_from_every_source() {
    let place = Place::new();
    let server = place.serve(&["demo.backend.echo"]);
    place.run(&["call", "demo.backend.echo", "{\"z\": 1, \"a\": 2.5}"]).expect_lines(&["{\"z\":1,\"a\":2.5}"]);
    place.run(&["call", "demo/backend/echo", "two words"]).expect_lines(&["\"two words\""]);
    place.run(&["call", "dyn://demo.backend.echo"]).expect_lines(&["\"\""]);

    let path = place.path().join("request");
    std::fs::write(&path, [0xFF, 0x01]).unwrap();
    let file = format!("@{}", path.display());
    place.run(&["call", "demo.backend.echo", &file]).expect_lines(&["{\"hex\":\"ff01\"}"]);

    let mut call = place.start(&["call", "demo.backend.echo", "-", "--driver", "tokio"]);
    call.write("[1,\n2]\n");
    call.end().expect_lines(&["[1,2]"]);
    drop(server);
}

#[test]
fn which_instance_answered_and_in_what_time_is_said_where_it_is_asked_for() {
    let place = Place::new();
    let (_server, said) = place.serve_with(&[], COUNT);
    let called = place.run(&["call", "demo.backend.count", r#"{"n":2}"#, "--verbose"]);
    called.expect_lines(&["{\"i\":0}", "{\"i\":1}"]);
    let told: Vec<&str> = called.err.split(": ").collect();
    let at = told[0].strip_prefix("instance ").and_then(|at| at.split_once(" at ")).unwrap();
    assert!(said.contains(at.1) && u64::from_str_radix(at.0, 16).is_ok(), "{called:?} of {said}");
    assert!(told[1].starts_with("2 items in ") && told[1].contains(" ms, the first after "), "{called:?}");
    let nowhere = place.run(&["call", "-v", "demo.backend.count", "--router", "direct:1"]);
    assert!(nowhere.err.contains("no instance: 0 items in "), "{nowhere:?}");
    assert_eq!(nowhere.code, Some(3));
}

#[test]
fn payloads_are_in_the_codec_of_the_record_or_the_one_named_and_items_are_wrapped_on_request() {
    for codec in ["msgpack", "json"] {
        let place = Place::new();
        let _server = place.serve(&["demo.backend.count", "--handler", "count", "--codec", codec, "--annotated"]);
        let call = |more: &[&str]| place.run(&[&["call", "demo.backend.count", r#"{"n":2}"#], more].concat());
        call(&["--annotated"]).expect_lines(&[r#"{"i":0}"#, r#"{"i":1}"#]);
        call(&[]).expect_lines(&[r#"{"data":{"i":0}}"#, r#"{"data":{"i":1}}"#]);
        for named in ["msgpack", "json"] {
            call(&["--annotated", "--codec", named]).expect_lines(&[r#"{"i":0}"#, r#"{"i":1}"#]);
        }
    }
    let place = Place::new();
    let _server = place.serve(&["demo.backend.cat", "--annotated", "--exec", "cat"]);
    let call = |more: &[&str]| place.run(&[&["call", "demo.backend.cat", "--annotated"], more].concat());
    call(&[r#"{"b":[1,null],"a":"x"}"#]).expect_lines(&[r#"{"b":[1,null],"a":"x"}"#]);
    // No request is `null`, and an item without a value is none.
    call(&["--codec", "msgpack"]).expect_lines(&[]);
    call(&["--codec", "json", "no json"]).expect(2, "JSON");
    assert_eq!(call(&["--codec", "cbor"]).code, Some(2));
}

#[test]
fn a_request_stream_is_converted_line_by_line_to_the_codec_named() {
    let place = Place::new();
    let _server = place.serve(&["demo.backend.echo", "--annotated"]);
    let mut call = place.start(&["call", "demo.backend.echo", "--bidi", "--codec", "msgpack", "--annotated"]);
    for (line, answer) in [("{\"b\": 1, \"a\": 2}", "{\"b\":1,\"a\":2}"), ("two words", "\"two words\""), ("7", "7")] {
        call.write(&format!("{line}\n"));
        assert_eq!(call.line(), answer);
    }
    call.end().expect_lines(&[]);
}

#[test]
fn items_go_both_ways_at_the_same_time() {
    let place = Place::new();
    let _server = place.serve(&["demo.backend.echo", "--driver", "tokio"]);
    let mut call = place.start(&["call", "demo.backend.echo", "--bidi"]);
    for line in ["1", "{}", "three"] {
        call.write(&format!("{line}\n"));
        assert_eq!(call.line().trim_matches('"'), line, "answered while stdin is open");
    }
    call.write("the last line lacks its end");
    call.end().expect_lines(&["\"the last line lacks its end\""]);
}

#[test]
fn items_go_both_ways_in_dynamos_protocol_too() {
    let place = Place::new();
    let echo = place.serve(&["demo.backend.echo", "--codec", "json"]);
    let cat = place.serve(&["demo.backend.cat", "--exec", "cat"]);
    for endpoint in ["demo.backend.echo", "demo.backend.cat"] {
        for driver in ["tokio", "auto"] {
            let line = ["call", endpoint, "--bidi", "--dialect", "call-home", "--driver", driver];
            let mut call = place.start(&line);
            for (line, answer) in [("1", "1"), ("{\"a\":2}", "{\"a\":2}"), ("two words", "\"two words\"")] {
                call.write(&format!("{line}\n"));
                assert_eq!(call.line(), answer, "answered while stdin is open");
            }
            call.end().expect_lines(&[]);
        }
        place.run(&["call", endpoint, "--dialect", "call-home", "7"]).expect_lines(&["7"]);
        place.run(&["call", endpoint, "--dialect", "mux", "7"]).expect_lines(&["7"]);
    }
    drop((echo, cat));
}

#[test]
fn count_ignores_unknown_keys_and_refuses_what_it_does_not_understand() {
    let place = Place::new();
    let _server = place.serve(COUNT);
    let call = |request: &str| place.run(&["call", "demo.backend.count", request]);
    call(r#"{"n":2,"model":"m","stream":true}"#).expect_lines(&[r#"{"i":0}"#, r#"{"i":1}"#]);
    call(r#"{"n":1,"size":3,"delay_ms":1}"#).expect_lines(&[r#"{"i":0,"text":"xxx"}"#]);
    assert_eq!(place.run(&["call", "demo.backend.count"]).out.len(), 5);
    call("{\"n\":").expect(2, "line 1 column 5");
    place.run(&["call", "demo.backend.count", "--raw", "{\"n\":"]).expect(8, "InvalidRequest");
}

#[test]
fn metadata_trace_and_router_are_taken() {
    let place = Place::new();
    let _server = place.serve(&[
        "demo.backend.env",
        "--exec",
        "sh",
        "-c",
        "echo $TRACEPARENT; echo \"$TRACESTATE\"; echo $RINGPLANE_REQUEST_ID",
    ]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let state = "rojo=1 ,,  congo=t61 rcWkgMzE";
    let line = ["call", "demo.backend.env", "--metadata", "a=b", "--metadata", "c=", "--router", "random"];
    let ended = place.run(&[&line[..], &["--traceparent", trace, "--tracestate", state]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.out[0], format!("\"{trace}\""));
    assert_eq!(ended.out[1], format!("\"{state}\""));
    assert_eq!(ended.out[2].len(), "\"4bf92f35-77b3-4da6-a3ce-929d0e0e4736\"".len(), "{ended:?}");
}

#[test]
fn a_call_takes_every_routing_policy_and_its_help_lists_them() {
    let place = Place::new();
    let _server = place.serve(COUNT);
    let help = place.run(&["call", "--help"]).out.join(" ");
    for row in ALL.iter().filter(|row| row.argument.is_none()) {
        let ended = place.run(&["call", "demo.backend.count", r#"{"n":1}"#, "--router", row.name]);
        ended.expect_lines(&[r#"{"i":0}"#]);
        assert!(help.contains(row.name), "{} in {help}", row.name);
    }
}

#[test]
fn an_instance_is_listed_watched_called_by_its_id_and_gone_with_its_server() {
    let place = Place::new();
    let watch = place.start(&["discover", "watch", "demo.backend", "--json"]);
    let server = place.serve(COUNT);
    let added = watch.line();
    assert!(added.contains("\"event\":\"added\"") && added.contains("mux/1"), "{added}");

    let list = place.run(&["discover", "list", "demo"]);
    let columns: Vec<_> = list.out[0].split_whitespace().collect();
    assert!(matches!(columns[..], [_, "demo.backend.count", _, "mux/1"]), "{columns:?}");
    assert!(added.contains(columns[0]) && added.contains(columns[2]), "{added} {columns:?}");
    place.run(&["discover", "list", "demo.backend2"]).expect_lines(&[]);
    let examined = place.run(&["discover", "list", "demo", "--health"]);
    assert!(examined.out[0].contains("mux/1  serves it, dialed in "), "{examined:?}");

    let direct = format!("direct:{}", columns[0]);
    let ended = place.run(&["call", "demo.backend.count", r#"{"n":1}"#, "--router", &direct]);
    ended.expect_lines(&[r#"{"i":0}"#]);
    let other = place.run(&["call", "demo.backend.count", "--router", "direct:1"]);
    assert_eq!(other.code, Some(3), "{other:?}");

    server.signal(rustix::process::Signal::TERM);
    let removed = watch.line();
    assert!(removed.contains("\"event\":\"removed\"") && removed.contains(columns[0]), "{removed}");
    assert_eq!(server.end().code, Some(0));
    watch.signal(rustix::process::Signal::INT);
    watch.end().expect_lines(&[]);
}

#[test]
fn models_channels_and_sources_are_listed_and_watched() {
    use ringplane_core::discovery::card::Card;
    use ringplane_core::discovery::{EventChannel, EventSource, EventTransport, Model, PublisherId, Scope};
    use ringplane_core::id::{EndpointId, InstanceId};

    let place = Place::new();
    let watch = place.start(&["discover", "models", "demo", "--watch", "--json"]);
    let url = format!("file:{}", place.path().join("discovery").display());
    let backend = ringplane::discovery::open(&url).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let card = Card::new(r#"{"display_name":"llama","source_path":"x"}"#).unwrap();
    let model = Model { endpoint: EndpointId::new("demo", "a", "b"), id: InstanceId(0xab), suffix: None, card };
    let mut model = runtime.block_on(backend.models().register(model)).unwrap();
    let added = watch.line();
    assert!(added.contains("\"event\":\"added\"") && added.contains("\"name\":\"llama\""), "{added}");
    let taints = ["slow".to_owned()].into();
    runtime.block_on(model.update_taints(taints)).unwrap();
    let updated = watch.line();
    assert!(updated.contains("\"event\":\"updated\"") && updated.contains("\"taints\":[\"slow\"]"), "{updated}");
    let line = "ab                demo.a.b  llama  taints=slow";
    place.run(&["discover", "models"]).expect_lines(&[line]);

    let (scope, topic, publisher) = (Scope::Namespace("demo".to_owned()), "kv".to_owned(), PublisherId(0xc));
    let transport = EventTransport::Nats { subject_prefix: "namespace.demo".to_owned() };
    let channel = EventChannel { scope: scope.clone(), topic: topic.clone(), publisher, transport };
    let _channel = runtime.block_on(backend.channels().register(channel)).unwrap();
    let metadata = Default::default();
    let source = EventSource { scope, topic, publisher, metadata };
    let _source = runtime.block_on(backend.sources().register(source)).unwrap();
    let line = "c               demo  kv  nats  namespace.demo";
    place.run(&["discover", "channels", "demo", "--topic", "kv"]).expect_lines(&[line]);
    place.run(&["discover", "channels", "demo.a"]).expect_lines(&[]);
    place.run(&["discover", "sources", "--topic", "other"]).expect_lines(&[]);
    place.run(&["discover", "sources"]).expect_lines(&["c               demo  kv  null"]);

    drop(model);
    let removed = watch.line();
    assert!(removed.contains("\"event\":\"removed\""), "{removed}");
    watch.signal(rustix::process::Signal::INT);
    watch.end().expect_lines(&[]);
}

#[test]
fn listed_instances_that_are_gone_are_told_from_those_that_serve_and_from_strangers() {
    use ringplane_core::discovery::instance::{Instance, Transport};
    use ringplane_core::id::{EndpointId, InstanceId};

    let place = Place::new();
    let server = place.serve(COUNT);
    let listed = place.run(&["discover", "list", "--json"]);
    let alive: serde_json::Value = serde_json::from_str(&listed.out[0]).unwrap();
    let there: std::net::SocketAddr = alive["address"].as_str().unwrap().parse().unwrap();
    // A port of the system that nobody listens at.
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let url = format!("file:{}", place.path().join("discovery").display());
    let backend = ringplane::discovery::open(&url).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut kept = Vec::new();
    for (id, addr, mux, transport) in [
        (2, there, Some(1), Transport::Tcp),
        (3, nobody, Some(1), Transport::Tcp),
        (4, there, None, Transport::Nats("somewhere".to_owned())),
    ] {
        let mut record = Instance::new(InstanceId(id), EndpointId::new("other", "b", "c"), addr);
        (record.mux, record.transport) = (mux, transport);
        kept.push(runtime.block_on(backend.endpoints().claim(record)).unwrap());
    }
    let found = place.run(&["discover", "list", "--health", "--json"]);
    let told: Vec<serde_json::Value> = found.out.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of =
        |id: &str| told.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("{found:?}"))["health"].clone();
    assert_eq!(of(alive["id"].as_str().unwrap())["found"], "serves it");
    assert!(of(alive["id"].as_str().unwrap())["dial_us"].is_u64());
    assert_eq!(
        (of("2")["alive"].clone(), of("2")["found"].clone()),
        (false.into(), "serves other endpoints: another worker has the address".into())
    );
    assert_eq!((of("3")["alive"].clone(), of("3")["found"].clone()), (false.into(), "dead: connection refused".into()));
    assert_eq!((of("4")["alive"].clone(), of("4")["found"].clone()), (serde_json::Value::Null, "not dialed".into()));
    drop(kept);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.end().code, Some(0));
}
