//! Load of every kind for a while: no call is lost, and neither side holds more in the end than it did.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::pair::Pair;
use crate::place::Kind;
use crate::process::Peer;

/// Unary calls, streams and large bodies, as fast as they go.
pub(crate) fn seconds_of_mixed_load(caller: Kind, worker: Kind, codec: &'static str) {
    let mut pair = Pair::new(caller, worker, codec);
    let fast = [
        ("unary", json!({"request": {"mode": "echo", "text": "x"}, "repeat": 100, "parallel": 10})),
        ("streams", json!({"request": {"n": 50}, "repeat": 20, "parallel": 5})),
        ("bodies", json!({"request": {"mode": "big", "size": 100_000}, "repeat": 10, "parallel": 2})),
    ];
    round(&mut pair, "warm", &fast);
    let before = Held::of(&pair);
    let (begun, mut rounds) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(4) {
        rounds += 1;
        round(&mut pair, &format!("round-{rounds}"), &fast);
    }
    // An allocator keeps some; what leaks grows with the rounds.
    before.is_not_outgrown(&pair, (64 << 20) + rounds * 1024);
}

/// Two hundred calls at once of every kind at a moderate rate, for five minutes where changes are judged (`CI` is set), for
/// twenty seconds elsewhere, or for `INTEROP_LOAD_SECONDS`. In the second half nothing grows any more.
pub(crate) fn minutes_of_mixed_load(caller: Kind, worker: Kind, codec: &'static str) {
    let given = std::env::var("INTEROP_LOAD_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    let seconds = given.unwrap_or(if std::env::var_os("CI").is_some() { 300 } else { 20 });
    let mut pair = Pair::new(caller, worker, codec);
    // Together 200 calls under way. Each part takes about three seconds, most of them spent waiting.
    let slow = [
        ("streams", json!({"request": {"n": 10, "delay_ms": 120}, "repeat": 300, "parallel": 150})),
        ("unary", json!({"request": {"mode": "echo", "text": "x"}, "repeat": 450, "parallel": 45, "pause_ms": 250})),
        ("bodies", json!({"request": {"mode": "big", "size": 300_000}, "repeat": 15, "parallel": 3, "pause_ms": 500})),
        (
            "uploads",
            json!({"request": {"mode": "length"}, "pad": 300_000, "repeat": 10, "parallel": 2, "pause_ms": 500}),
        ),
    ];
    let (begun, half) = (Instant::now(), Duration::from_secs(seconds) / 2);
    let (mut rounds, mut middle) = (0, None);
    while begun.elapsed() < 2 * half {
        rounds += 1;
        round(&mut pair, &format!("round-{rounds}"), &slow);
        broken_off(&mut pair, rounds);
        if begun.elapsed() >= half && middle.is_none() {
            middle = Some((rounds, Held::of(&pair)));
        }
    }
    let (at, middle) = middle.expect("there is a second half");
    println!(
        "measured: {rounds} rounds in {:?}; {middle:?} after {at}, {:?} at the end",
        begun.elapsed(),
        Held::of(&pair)
    );
    // A kilobyte lost by each of the 775 calls of a round would be more.
    middle.is_not_outgrown(&pair, (12 << 20) + (rounds - at) * (128 << 10));
}

/// One call is stopped, one is dropped, two fail.
fn broken_off(pair: &mut Pair, round: u64) {
    let endless = json!({"n": 100_000, "delay_ms": 5});
    let fails = |after: u64| json!({"mode": "fail", "kind": "RuntimeError", "after": after});
    let calls = [
        ("stopped", json!({"request": endless, "stop_after": 2}), "end"),
        ("dropped", json!({"request": endless, "drop_after": 2}), "dropped"),
        ("failing", json!({"request": fails(0)}), "error"),
        ("failing-later", json!({"request": fails(3)}), "error"),
    ];
    for (kind, mut command, ending) in calls {
        let name = format!("{kind}-{round}");
        command["call"] = json!(name);
        command["context"] = json!(name);
        pair.caller.tell(&command);
        let (_, line) = pair.ending(&name);
        assert!(line.get(ending).is_some(), "{line}");
    }
}

fn round(pair: &mut Pair, name: &str, kinds: &[(&str, serde_json::Value)]) {
    for (kind, command) in kinds {
        let mut command = command.clone();
        command["call"] = json!(format!("{name}-{kind}"));
        command["timeout"] = json!(25);
        pair.caller.tell(&command);
    }
    for (kind, _) in kinds {
        let (_, ending) = pair.ending(&format!("{name}-{kind}"));
        assert_eq!(ending["failed"], 0, "{ending}");
    }
}

/// What both processes hold between two rounds.
#[derive(Debug)]
struct Held {
    /// Resident bytes of the caller and of the worker.
    memory: [u64; 2],
    descriptors: [usize; 2],
}

impl Held {
    fn of(pair: &Pair) -> Self {
        let peers = [&pair.caller, &pair.worker];
        Self { memory: peers.map(Peer::memory), descriptors: peers.map(Peer::descriptors) }
    }

    /// Whether the peers hold no more than this, but for `allowed` bytes and a few descriptors.
    fn is_not_outgrown(&self, pair: &Pair, allowed: u64) {
        for (peer, (memory, descriptors)) in
            [&pair.caller, &pair.worker].into_iter().zip(self.memory.into_iter().zip(self.descriptors))
        {
            let now = peer.memory();
            assert!(now < memory + allowed, "{} MiB, {} MiB before", now >> 20, memory >> 20);
            settled(peer, descriptors);
        }
    }
}

/// Call-home connections close a little after their calls.
fn settled(peer: &Peer, before: usize) {
    let until = Instant::now() + Duration::from_secs(15);
    while peer.descriptors() > before + 8 {
        assert!(Instant::now() < until, "{} descriptors, {before} before", peer.descriptors());
        std::thread::sleep(Duration::from_millis(100));
    }
}
