//! Target: the worker's end of a request connection.

use ringplane_core::buf::SendQueue;
use ringplane_core::dynamo::request::server::{Config, Server};
use ringplane_core::protocol::Fault;
use ringplane_core::time::Instant;
use ringplane_core::wire::{Ack, Format, Limits, Parse, Request};

const LIMIT: usize = 2048;

type Seen = (Vec<Vec<u8>>, Option<Fault>);

/// The first byte says how the rest is cut. Frames, acks and the fault do not depend on the cut; every frame is what the
/// format reads, and has one ack, however many come at once; nothing is held beyond the limit.
pub fn request_server(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let (whole, acks) = run(bytes, bytes.len().max(1));
    let (pieces, same) = run(bytes, usize::from(*cut) + 1);
    assert_eq!(whole, pieces);
    assert_eq!(acks, same);

    let limits = Limits { max_message: LIMIT, ..Limits::default() };
    let (mut rest, mut frames) = (bytes, whole.0.iter());
    while let Ok(Parse::Complete { value, used }) = Request::parse(rest, &limits) {
        let Some(frame) = frames.next() else { panic!("a frame is missing: {:?}", whole.1) };
        assert_eq!(*frame, [value.path, value.headers, value.payload].concat());
        rest = &rest[used..];
    }
    assert_eq!(frames.next(), None);
}

fn run(bytes: &[u8], step: usize) -> (Seen, Vec<u8>) {
    let config = Config { max_message: LIMIT, max_acks: 16, ..Config::default() };
    let mut server = Server::new(config, Instant::ZERO);
    let mut frames = Vec::new();
    let mut fault = None;
    let mut acks = Vec::new();
    for mut piece in bytes.chunks(step) {
        loop {
            match server.next(&mut piece, Instant::ZERO) {
                Ok(Some(frame)) => {
                    frames.push([frame.path(), frame.headers(), &frame.payload()].concat());
                    server.answer(&Ack::Accepted, Instant::ZERO);
                    continue;
                }
                Ok(None) => {}
                Err(error) => fault = fault.or(Some(error)),
            }
            acks.extend(read(&mut server));
            if !server.can_go_on() {
                break;
            }
        }
        assert!(server.held() <= LIMIT);
    }
    let mut rest = acks.as_slice();
    let mut count = 0;
    while !rest.is_empty() {
        let Ok(Parse::Complete { used, .. }) = Ack::parse(rest, &Limits::default()) else {
            panic!("acks read as acks")
        };
        rest = &rest[used..];
        count += 1;
    }
    let refused = usize::from(matches!(fault, Some(Fault::Wire(_))));
    assert_eq!(count, frames.len() + refused);
    ((frames, fault), acks)
}

/// The acks that are due, as a peer reads them that reads everything.
fn read(server: &mut Server) -> Vec<u8> {
    let mut queue = SendQueue::new(1 << 20);
    server.poll_transmit(&mut queue);
    server.handle_sent(queue.len(), Instant::ZERO);
    let mut slices = [&[][..]; 4];
    let used = queue.slices(&mut slices);
    slices[..used].concat()
}
