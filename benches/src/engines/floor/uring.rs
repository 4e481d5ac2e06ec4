//! The loop on io_uring: multishot receive into shared buffers, writes tried directly, readiness asked for only when the
//! kernel takes no more.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use crate::engine::Result;
use crate::engines::floor::machine::Machine;
use crate::engines::floor::ring::{Completion, Ring};
use crate::engines::floor::sockets::{Flushed, Sockets};

const LISTENER: u64 = u64::MAX;
/// The lowest bit of a token: readiness to write, otherwise bytes received.
const WRITABLE: u64 = 1;

/// Drives `machine` until it is over.
///
/// # Errors
/// If the system refuses something or the machine finds an error.
pub(crate) fn run(listener: Option<&TcpListener>, machine: &mut impl Machine, spin: bool) -> Result<()> {
    let mut work = Loop { ring: Ring::open()?, sockets: Sockets::default() };
    if let Some(listener) = listener {
        listener.set_nonblocking(true)?;
        work.ring.readable(listener, LISTENER)?;
    }
    let mut next = machine.tick(Instant::now());
    while !machine.todo().over {
        // A connection that is up may bring calls that are due.
        let dialed = !machine.todo().dial.is_empty();
        work.carry_out(machine)?;
        if machine.todo().over {
            break;
        }
        let hurry = spin || dialed || !machine.todo().dirty.is_empty();
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        work.ring.enter(if hurry { Some(Duration::ZERO) } else { left })?;
        let now = Instant::now();
        while let Some(completion) = work.ring.next() {
            match completion.token {
                LISTENER => work.accept(listener, completion.more, machine, now)?,
                token if token & WRITABLE != 0 => work.writable((token >> 1) as usize, machine),
                _ => work.received(completion, machine, now)?,
            }
        }
        next = machine.tick(now);
    }
    Ok(())
}

struct Loop {
    ring: Ring,
    sockets: Sockets,
}

impl Loop {
    fn accept(
        &mut self,
        listener: Option<&TcpListener>,
        more: bool,
        machine: &mut impl Machine,
        now: Instant,
    ) -> Result<()> {
        let Some(listener) = listener else { return Ok(()) };
        if !more {
            self.ring.readable(listener, LISTENER)?;
        }
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let conn = self.sockets.insert(stream)?;
                    self.watch(conn)?;
                    machine.opened(conn, None, now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn watch(&mut self, conn: usize) -> Result<()> {
        let Some(socket) = self.sockets.get(conn) else { return Ok(()) };
        Ok(self.ring.receive(&socket.stream, (conn as u64) << 1)?)
    }

    fn writable(&mut self, conn: usize, machine: &mut impl Machine) {
        if let Some(socket) = self.sockets.get(conn) {
            socket.blocked = false;
            machine.todo().dirty.push(conn);
        }
    }

    fn received(&mut self, completion: Completion, machine: &mut impl Machine, now: Instant) -> Result<()> {
        let conn = (completion.token >> 1) as usize;
        let short = completion.result == -libc::ENOBUFS;
        let outcome = if completion.result > 0 {
            machine.received(conn, self.ring.bytes(&completion), now)
        } else if short {
            Ok(())
        } else {
            self.sockets.remove(conn);
            machine.closed(conn)
        };
        self.ring.done(completion);
        if !completion.more && (short || completion.result > 0) {
            self.watch(conn)?;
        }
        outcome
    }

    /// Dials, writes and closes what the machine wants.
    fn carry_out(&mut self, machine: &mut impl Machine) -> Result<()> {
        for conn in std::mem::take(&mut machine.todo().close) {
            // Closing the descriptor would not end the receive; the end of the receive closes it.
            if let Some(socket) = self.sockets.get(conn) {
                let _ = socket.stream.shutdown(Shutdown::Both);
            }
        }
        for dial in std::mem::take(&mut machine.todo().dial) {
            let conn = self.sockets.dial(&dial)?;
            self.watch(conn)?;
            machine.opened(conn, Some(dial), Instant::now());
        }
        let mut dirty = std::mem::take(&mut machine.todo().dirty);
        for conn in dirty.drain(..) {
            let Some(socket) = self.sockets.get(conn).filter(|socket| !socket.blocked) else { continue };
            match socket.flush(conn, machine) {
                Ok(Flushed::All) => {}
                Ok(Flushed::More) => machine.todo().dirty.push(conn),
                Ok(Flushed::Blocked) => {
                    socket.blocked = true;
                    self.ring.writable(&socket.stream, ((conn as u64) << 1) | WRITABLE)?;
                }
                // The receive ends too, and says so.
                Err(_) => {}
            }
        }
        if machine.todo().dirty.is_empty() {
            // Its memory is used again.
            machine.todo().dirty = dirty;
        }
        Ok(())
    }
}
