//! Events from one process of the tool to another.

use crate::support::Place;

#[test]
fn what_one_process_publishes_others_print_in_order() {
    for (plane, slow) in [("mux", "wait"), ("zmq", "drop-newest")] {
        let place = Place::new();
        let listen = |more: &[&str]| {
            let words = ["sub", "demo.backend", "load", "--count", "4", "--event-plane", plane];
            let sub = place.start(&[&words, more].concat());
            let expected = format!("ringplane: listening to namespace.demo.component.backend.load by {plane}");
            assert_eq!(sub.error_line(), expected);
            sub
        };
        let (text, json) = (listen(&[]), listen(&["--json", "--slow", slow]));
        let mut publish = place.start(&["pub", "demo.backend", "load", "--listeners", "2", "--event-plane", plane]);
        publish.write("{\"gpu\": 0, \"used\": 0.5}\ntwo words\n[1,2]\n7\n");
        publish.end().expect_lines(&[]);
        text.end().expect_lines(&["{\"gpu\":0,\"used\":0.5}", "\"two words\"", "[1,2]", "7"]);
        let ended = json.end();
        assert_eq!((ended.code, ended.out.len()), (Some(0), 4), "{ended:?}");
        for (sequence, line) in ended.out.iter().enumerate() {
            let expected = format!("\"sequence\":{sequence}");
            assert!(line.contains("\"kind\":\"event\"") && line.contains(&expected), "{line}");
        }
    }
}

#[test]
fn a_plane_that_nobody_else_hears_and_one_that_is_none_are_refused() {
    let place = Place::new();
    place.run(&["sub", "demo", "load", "--event-plane", "inproc"]).expect(2, "heard by no other");
    place.run(&["pub", "demo", "load", "1", "--event-plane", "smoke"]).expect_usage("inproc, nats, zmq and mux");
    let env = [("DYN_EVENT_PLANE", "smoke")];
    place.start_with(&env, &["sub", "demo", "load"]).end().expect(2, "DYN_EVENT_PLANE is `smoke`");
    place.run(&["sub", "a.b.c.d", "load"]).expect_usage("a.b.c.d");
    place.run(&["sub", "demo", "load", "--group", "g"]).expect(2, "groups of subscribers");
}

#[test]
fn an_event_that_nobody_hears_is_published_all_the_same() {
    let place = Place::new();
    place.run(&["pub", "demo", "load", "{\"a\":1}"]).expect_lines(&[]);
}
