//! Target: a pair of mux connections under any schedule, against the model.

use ringplane_core::mux::{Config, Ending};
use ringplane_core::wire::Class;
use ringplane_core::wire::mux::{CancelMode, Status};

use super::mux::seal;
use crate::mux_model::{Setup, Trust, World};

/// Lengths of items around every threshold there is.
const SIZES: [usize; 16] =
    [0, 1, 33, 1000, 4096, 4097, 16_384, 20_000, 32_752, 32_753, 40_000, 65_536, 65_537, 69_969, 150_000, 300_001];

/// `data` is a schedule: mode, two bytes of settings, then operations of two bytes each. Sides, calls and sizes are taken
/// from their bits, so that every input is a schedule.
pub fn connections(data: &[u8]) {
    let Some(([mode, dialer, acceptor], mut rest)) = data.split_first_chunk() else { return };
    let trust = [Trust::Honest, Trust::Honest, Trust::Damaged, Trust::Hostile][usize::from(mode % 4)];
    let mut world = World::new(Setup { trust, configs: [config(*dialer), config(*acceptor)] });
    if mode & 4 == 0 {
        world.exchange();
    }
    while let Some(([op, arg], tail)) = rest.split_first_chunk() {
        rest = tail;
        if world.is_over() {
            break;
        }
        // Injected frames are read from the schedule itself.
        if op % 16 == 15 && trust == Trust::Hostile {
            let (frame, tail) = rest.split_at(usize::from(arg % 32).min(rest.len()));
            world.inject(usize::from(arg >> 7), &seal(frame).unwrap_or_default());
            rest = tail;
            continue;
        }
        apply(&mut world, *op, *arg);
    }
    world.finish();
}

fn config(byte: u8) -> Config {
    let pick = |shift: u8, of: [u32; 4]| of[usize::from(byte >> shift & 3)];
    let stream_window = pick(0, [65_568, 70_000, 100_000, 300_000]);
    Config {
        stream_window,
        connection_window: stream_window * pick(2, [1, 1, 2, 3]),
        max_item: 300_000,
        reserve_pool: pick(4, [300_000, 300_000, 400_000, 900_000]).into(),
        max_streams: pick(6, [1, 2, 4, 16]),
        send_buffer: if byte & 1 == 0 { 20_000 } else { 200_000 },
        ..Config::default()
    }
}

fn apply(world: &mut World, op: u8, arg: u8) {
    let call = usize::from(op >> 4) % world.calls().max(1);
    let side = usize::from(arg >> 7);
    let ending = if arg & 1 == 0 { Ending::ok() } else { Ending::failed(Class::Internal, "r", "m") };
    match op % 16 {
        0 => world.open(side),
        1..=3 => world.send(call, side, SIZES[usize::from(arg % 16)]),
        4 => world.end(call, side, ending, arg & 6 == 6),
        5 | 6 => {
            for _ in 0..arg & 7 {
                world.recv(call, side);
            }
        }
        7 => world.cancel(call, if arg & 1 == 0 { CancelMode::Stop } else { CancelMode::Kill }),
        8 if arg & 1 == 0 => world.release(call),
        8 => world.status(call, side, Status::Queued(arg.into())),
        9 if arg & 7 == 0 => world.reject(call),
        9 | 10 => {
            world.transmit(side, [1, 500, 5000, 64 << 10][usize::from(arg & 3)]);
        }
        11 | 12 => {
            world.deliver(side, [1, 7, 19, 28, 100, 1000, 50_000, usize::MAX][usize::from(arg & 7)]);
        }
        13 if arg & 0x7F == 0x7F => world.go_away(side),
        14 if arg & 0x3F == 0x3F => world.advance(side, arg & 0x40 != 0),
        13 | 14 => {
            world.exchange();
        }
        _ => world.damage(side, usize::from(arg & 0x7F) * 37, arg.into()),
    }
}
