//! The engine: a ROUTER that answers, a DEALER for each connection that asks, sync on one thread a side.

use std::net::SocketAddr;

use ringplane_benches::content::Pattern;
use ringplane_benches::engine::{Result, Sides};
use ringplane_benches::line::Ready;
use ringplane_benches::measure::{Measured, Plan};
use ringplane_benches::numbered::{ONE_PART, Part, prefix};
use ringplane_benches::scenario::Scenario;
use zmq::{Context, DONTWAIT, Message, ROUTER, SNDMORE, Socket, SocketType};

use crate::caller::load;
use crate::server::Server;

/// ZeroMQ as its guide has it (zguide, chapters 1 and 3): one I/O thread for less than a gigabyte a second, sockets used
/// by one thread and read until they are empty before it waits for them, `ROUTER` and `DEALER` for asynchronous requests.
/// No high-water mark: with one, ROUTER drops what it cannot queue and says nothing.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Libzmq;

impl Sides for Libzmq {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        let context = Context::new();
        let router = socket(&context, ROUTER)?;
        router.bind("tcp://0.0.0.0:*")?;
        let place = router.get_last_endpoint()?.map_err(|_| "an address that is no text")?;
        ready.tell(place.trim_start_matches("tcp://"));
        Server::new(router, Pattern::new(scenario.largest())).run()
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        let server: SocketAddr = address.parse()?;
        load(scenario, server, plan)
    }
}

/// Messages that one socket is read for before others have their turn.
pub(crate) const TURN: usize = 256;

/// A socket without bounds that leaves nothing to wait for when it closes.
pub(crate) fn socket(context: &Context, kind: SocketType) -> Result<Socket> {
    let socket = context.socket(kind)?;
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.set_linger(0)?;
    Ok(socket)
}

/// Sends a payload with its number. What comes before, whom it is for, has been sent.
pub(crate) fn send(socket: &Socket, number: u64, part: Part, payload: &[u8]) -> Result<()> {
    let prefix = prefix(number, part);
    if payload.len() > ONE_PART {
        socket.send(&prefix[..], SNDMORE)?;
        return Ok(socket.send(payload, 0)?);
    }
    let mut message = Message::with_size(prefix.len() + payload.len());
    let (first, rest) = message.split_at_mut(prefix.len());
    first.copy_from_slice(&prefix);
    rest.copy_from_slice(payload);
    Ok(socket.send(message, 0)?)
}

/// A message's next part, if there is one now.
pub(crate) fn receive(socket: &Socket) -> Result<Option<Message>> {
    match socket.recv_msg(DONTWAIT) {
        Ok(message) => Ok(Some(message)),
        Err(zmq::Error::EAGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
