//! The sockets of one loop and what is on its way out of them.

use std::io::{ErrorKind, IoSlice, Result, Write};
use std::net::TcpStream;

use crate::engines::floor::frame::Out;
use crate::engines::floor::machine::{Dial, Machine};

/// Sockets by their numbers.
#[derive(Default, Debug)]
pub(crate) struct Sockets {
    list: Vec<Option<Socket>>,
    free: Vec<usize>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Where the bytes go.
    pub(crate) stream: TcpStream,
    /// The kernel takes no more; readiness is awaited.
    pub(crate) blocked: bool,
    out: Out,
}

/// How a flush ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Flushed {
    /// Nothing is left.
    All,
    /// The kernel takes no more.
    Blocked,
    /// Others have their turn first.
    More,
}

/// Writes to one connection in a row.
const WRITES: usize = 4;
/// Pieces of one write.
const PIECES: usize = 64;

impl Sockets {
    /// Takes over a connection that is up; its number.
    ///
    /// # Errors
    /// If it cannot be prepared.
    pub(crate) fn insert(&mut self, stream: TcpStream) -> Result<usize> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let socket = Socket { stream, blocked: false, out: Out::default() };
        let number = self.free.pop().unwrap_or(self.list.len());
        if number == self.list.len() {
            self.list.push(Some(socket));
        } else {
            self.list[number] = Some(socket);
        }
        Ok(number)
    }

    /// Makes a connection; on loopback that takes no waiting.
    ///
    /// # Errors
    /// If it is refused.
    pub(crate) fn dial(&mut self, dial: &Dial) -> Result<usize> {
        self.insert(TcpStream::connect(dial.address)?)
    }

    /// The connection with this number.
    pub(crate) fn get(&mut self, number: usize) -> Option<&mut Socket> {
        self.list.get_mut(number)?.as_mut()
    }

    /// Forgets a connection, which closes it.
    pub(crate) fn remove(&mut self, number: usize) {
        if self.list.get_mut(number).and_then(Option::take).is_some() {
            self.free.push(number);
        }
    }
}

impl Socket {
    /// Writes what the machine has for connection `number`.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(crate) fn flush(&mut self, number: usize, machine: &mut impl Machine) -> Result<Flushed> {
        for _ in 0..WRITES {
            if self.out.is_empty() {
                machine.fill(number, &mut self.out);
                if self.out.is_empty() {
                    return Ok(Flushed::All);
                }
            }
            let mut slices = [IoSlice::new(&[]); PIECES];
            let used = self.out.slices(&mut slices);
            match self.stream.write_vectored(&slices[..used]) {
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed::More)
    }
}
