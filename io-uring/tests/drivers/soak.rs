//! Random dials, writes and ends on two drivers at once: every connection ends once and nothing is left.

use std::collections::BTreeSet;

use ringplane_core::id::ConnId;
use ringplane_core::protocol::Closing;
use ringplane_io_uring::{Common, Config, Flavor};

use crate::toy::{Event, Knobs, Node, Role, few, pattern, small};

/// xorshift64: good enough to be different every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn random_life_ends_every_connection_once_and_leaves_nothing() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    println!("SEED={seed}");
    for flavor in Flavor::ALL {
        live(Dice(seed), flavor);
    }
}

fn live(mut dice: Dice, flavor: Flavor) {
    let own = Config { recv_buffers: 4, recv_buffer: 1000, entries: 8, flavor, ..small() };
    let knobs = Knobs { common: Common { send_batch: 10_000, ..few() }, own, cpu: None };
    let (server, client) = (Node::start(Role::Echo, knobs), Node::start(Role::Echo, knobs));
    let total = 500;
    let mut open = BTreeSet::new();
    for n in 0..total {
        let (conn, addr) = (ConnId::dialed(n), server.addr);
        open.insert(conn);
        client.tell(move |toy| toy.dial(conn, addr));
        for _ in 0..dice.roll(4) {
            let (conn, len) = (ConnId::dialed(n.saturating_sub(dice.roll(20))), dice.roll(30_000) as usize);
            let (node, abort, close) = (dice.roll(2), dice.roll(2), dice.roll(3));
            let how = if abort == 0 { Closing::Abort } else { Closing::Flush };
            let node = if node == 0 { &server } else { &client };
            node.tell(move |toy| {
                // A server does not know the client's names: any of its own will do.
                let own = toy.connections();
                let conn = if own.contains(&conn) { Some(conn) } else { own.last().copied() };
                let Some(conn) = conn else { return };
                toy.send(conn, pattern(n, len).into());
                if close == 0 {
                    toy.close(conn, how);
                }
            });
        }
        while open.len() > 100 {
            drain_one(&client, &mut open);
            client.tell(|toy| {
                if let Some(conn) = toy.connections().first() {
                    toy.close(*conn, Closing::Abort)
                }
            });
        }
    }
    while !open.is_empty() {
        client.tell(|toy| toy.connections().into_iter().for_each(|conn| toy.close(conn, Closing::Flush)));
        drain_one(&client, &mut open);
    }
    server.until(|stats| stats.connections == 0);
    client.until(|stats| stats.connections == 0 && stats.ops_in_flight == 2);
    client.stop();
    server.stop();
}

fn drain_one(node: &Node, open: &mut BTreeSet<ConnId>) {
    if let Event::Closed(conn, _) = node.next() {
        assert!(open.remove(&conn));
    }
}
