//! What policies hear of calls, and in which order.

use alloc::sync::Arc;
use std::sync::Mutex;
use std::vec::Vec;

use crate::caller::config::Config;
use crate::caller::dynamo::framed_tests::{OK, SEVEN, World, ack, frame};
use crate::id::InstanceId;
use crate::mux::event::Ending;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Eligible};
use crate::route::policy::any::AnyPolicy;
use crate::route::policy::custom::Custom;
use crate::route::policy::pick::{News, Pick};
use crate::tests::net::{Mood, Net, request};
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::codec::Codec;
use crate::worker;

type Heard = Arc<Mutex<Vec<&'static str>>>;

/// Picks the first, and writes down what it hears.
struct Listens(Heard);

impl Pick for Listens {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, _: &mut Rng) -> Option<usize> {
        eligible.iter().next().map(|(index, _)| index)
    }

    fn handle_news(&mut self, _: &Ask<'_>, _: InstanceId, news: News, _: Instant) {
        self.0.lock().unwrap().push(match news {
            News::Dispatched => "dispatched",
            News::FirstItem(_) => "first item",
            News::Failed(_) => "failed",
            News::Ended => "ended",
            News::Gone => "gone",
        });
    }
}

fn listening() -> (AnyPolicy, Heard) {
    let heard = Heard::default();
    let policy = heard.clone();
    (Custom::new(move || Listens(policy.clone())).into(), heard)
}

#[test]
fn a_policy_hears_of_an_answer_before_it_hears_that_it_is_a_failure_and_of_the_end_last() {
    let (policy, heard) = listening();
    let mut net = Net::new(Config::default(), worker::Config::default(), 1);
    net.sites[1].echoes = false;
    let endpoint = net.caller().endpoint(policy);
    net.instances(endpoint, &[1]);
    let call = net.call(endpoint, request("x"));
    net.pump();
    let (now, job) = (net.now, net.sites[1].jobs.pop_front().unwrap());
    net.worker(1).finish(job, Ending::failed(Class::Internal, "", ""), now);
    net.pump();
    net.outcome(call).unwrap_err();
    let answered = ["dispatched", "first item", "failed", "ended"];
    assert_eq!(*heard.lock().unwrap(), answered);

    heard.lock().unwrap().clear();
    net.sites[1].mood = Mood::Refusing;
    net.reset(1);
    let call = net.call(endpoint, request("x"));
    net.advance(Config::default().instance_timeout * 2);
    net.outcome(call).unwrap_err();
    let tries = heard.lock().unwrap();
    assert!(tries.len() >= 9 && tries.chunks(3).all(|one| one == ["dispatched", "failed", "ended"]), "{tries:?}");
}

#[test]
fn the_same_holds_in_dynamos_protocol_for_a_failure_in_place_of_a_stream_and_for_one_within() {
    let typed =
        r#"{"error_type":"Unknown","class":"Internal","reason":"backend.unknown","message":"m","diagnostic":"m"}"#;
    let prologue = std::format!("{{\"error\":\"boom\",\"typed_error\":{typed}}}");
    let item = std::format!("{{\"data\":{{\"event\":\"error\",\"error\":{typed}}},\"complete_final\":false}}");
    let within = [frame(OK, b""), frame(b"", SEVEN), frame(b"", item.as_bytes())].concat();
    let at_once = [frame(OK, b""), frame(b"", item.as_bytes())].concat();
    for bytes in [frame(prologue.as_bytes(), b""), within, at_once] {
        let (policy, heard) = listening();
        let mut world = World::with(Codec::Json, policy);
        let (call, conn, control, _) = world.call();
        world.recv(conn, &ack(""));
        let home = world.home(&control);
        world.recv(home, &bytes);
        world.outcome(call).1.unwrap().unwrap_err();
        assert_eq!(*heard.lock().unwrap(), ["dispatched", "first item", "failed", "ended"]);
    }
}
