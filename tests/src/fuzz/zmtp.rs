//! Target: connections of ZeroMQ sockets.

use bytes::{Bytes, BytesMut};
use ringplane_core::event::zmtp::{Config, Connection, Event, Fault};
use ringplane_core::time::Instant;
use ringplane_core::wire::zmtp::{Command, Frame, SocketType, put_message, take_frame};

/// Bytes of a frame, and of a message, that are small enough for a short input to exceed.
const SMALL: usize = 96;
const FRAMES: usize = 4;

/// A connection hears the same in whatever pieces bytes come and never more than its bounds allow; what it hears is read the same
/// when it is written again; and a command that is read means the same.
pub fn zmtp(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let kinds = [SocketType::Pub, SocketType::Sub, SocketType::Router, SocketType::Dealer];
    let kind = kinds[usize::from(first & 3)];
    let (whole, ending) = heard(kind, data, data.len().max(1));
    let (pieces, other) = heard(kind, data, usize::from(first >> 2) + 1);
    assert_eq!((&whole, &ending), (&pieces, &other), "pieces change nothing");
    for event in &whole {
        let Event::Message(parts) = event else { continue };
        assert!(parts.len() <= FRAMES && parts.iter().map(Bytes::len).sum::<usize>() <= SMALL);
        written_again(parts);
    }
    if let Ok(command) = Command::read(&Bytes::copy_from_slice(data)) {
        means_the_same(&command);
    }
}

/// What a connection hears of `data` in pieces of this size, and why it ends.
fn heard(kind: SocketType, data: &[u8], piece: usize) -> (Vec<Event>, Result<(), Fault>) {
    let config = Config { max_message: SMALL, max_frames: FRAMES, ..Config::new(kind) };
    let mut connection = Connection::new(config, Instant::ZERO);
    let (mut input, mut events, mut ending) = (BytesMut::new(), Vec::new(), Ok(()));
    for piece in data.chunks(piece) {
        input.extend_from_slice(piece);
        ending = connection.handle_recv(&mut input, Instant::ZERO);
        events.extend(std::iter::from_fn(|| connection.poll_event()));
        if ending.is_err() {
            break;
        }
        assert!(!connection.is_open() || input.len() < SMALL + 9, "a frame that is whole is taken");
    }
    (events, ending)
}

fn written_again(parts: &[Bytes]) {
    let mut out = BytesMut::new();
    put_message(parts, &mut out);
    for (at, part) in parts.iter().enumerate() {
        let frame = Frame::Part { body: part.clone(), more: at + 1 < parts.len() };
        assert_eq!(take_frame(&mut out, SMALL), Ok(Some(frame)));
    }
    assert!(out.is_empty());
}

fn means_the_same(command: &Command) {
    // A stranger's socket has no name here, and a reason has a length of one byte.
    let long = matches!(command, Command::Error(reason) if reason.len() > 255);
    if long || matches!(command, Command::Other | Command::Ready { socket: None, .. }) {
        return;
    }
    let mut out = BytesMut::new();
    command.put(&mut out);
    let Ok(Some(Frame::Command(body))) = take_frame(&mut out, usize::MAX) else { panic!("it is a command") };
    assert_eq!(Command::read(&body).as_ref(), Ok(command));
}
