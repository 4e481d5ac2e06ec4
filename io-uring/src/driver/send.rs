//! Writing: straight to the socket while it takes bytes, through the ring for the rest.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::rc::Rc;

use ringplane_core::buf::slab::Key;
use ringplane_core::protocol::{CloseReason, Protocol};
use socket2::Socket;

use crate::driver::conn::State;
use crate::driver::net::Net;
use crate::kernel::op::{Op, SendJob};

/// Jobs kept for reuse. A connection has one only while it writes.
const SPARES: usize = 64;
/// Heap bytes all of them keep together. Memory that is given back after every large write is memory the kernel has to
/// clear before the next.
const SPARE_BYTES: usize = 4 << 20;

/// Send memory and the connections that wait for their next turn.
#[derive(Debug)]
pub(crate) struct Sender {
    limit: usize,
    #[expect(clippy::vec_box, reason = "an operation owns the box: its address must not change")]
    spares: Vec<Box<SendJob>>,
    spare_bytes: usize,
    postponed: Vec<Key>,
    resumed: Vec<Key>,
}

/// How far a direct write got.
enum Written {
    All,
    /// The socket's buffer is full.
    Some,
    Failed(CloseReason),
}

impl Sender {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, spares: Vec::new(), spare_bytes: 0, postponed: Vec::new(), resumed: Vec::new() }
    }

    /// Whether the driver must not wait.
    pub(crate) const fn has_postponed(&self) -> bool {
        !self.postponed.is_empty()
    }

    fn job(&mut self) -> Box<SendJob> {
        let Some(job) = self.spares.pop() else { return SendJob::new(self.limit) };
        self.spare_bytes -= job.queue().capacity();
        job
    }

    fn keep(&mut self, mut job: Box<SendJob>) {
        job.reset();
        let bytes = self.spare_bytes + job.queue().capacity();
        if self.spares.len() < SPARES && bytes <= SPARE_BYTES {
            self.spare_bytes = bytes;
            self.spares.push(job);
        }
    }
}

impl Net {
    /// Asks `key` again with the next [`Net::resume`], of which there is one a turn, and not before.
    pub(crate) fn postpone(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key)
            && !std::mem::replace(&mut conn.postponed, true)
        {
            self.sender.postponed.push(key);
        }
    }

    /// Asks the connections that were put off.
    pub(crate) fn resume<P: Protocol>(&mut self, machine: &mut P) {
        let mut keys = std::mem::take(&mut self.sender.resumed);
        std::mem::swap(&mut keys, &mut self.sender.postponed);
        for key in keys.drain(..) {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.postponed = false;
            }
            self.transmit_on(machine, key);
        }
        self.sender.resumed = keys;
    }

    /// Pulls and writes what `key` has, unless a write is in flight; its completion asks again. A full batch is its share of
    /// a turn: what is to be read, timers and tasks do not wait for more.
    pub(crate) fn transmit_on<P: Protocol>(&mut self, machine: &mut P, key: Key) {
        loop {
            let now = self.now();
            let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.may_write()) else { return };
            let mut job = self.sender.job();
            machine.poll_transmit(conn.id, job.queue_mut(), now);
            if job.queue().is_empty() {
                self.sender.keep(job);
                if conn.state == State::Flushing {
                    self.flushed(machine, key);
                }
                return;
            }
            let full = job.queue().is_full();
            let (sent, written) = write(&mut job, &conn.socket);
            self.stats.writes += u64::from(sent > 0);
            self.stats.bytes_out += sent as u64;
            if sent > 0 {
                machine.handle_sent(conn.id, sent, now);
            }
            match written {
                Written::All => {
                    self.sender.keep(job);
                    if full {
                        return self.postpone(key);
                    }
                }
                Written::Some => {
                    self.stats.short_writes += u64::from(sent > 0);
                    let socket = conn.socket.clone();
                    return self.submit(key, socket, job);
                }
                Written::Failed(why) => {
                    self.sender.keep(job);
                    return self.broken(machine, key, why);
                }
            }
        }
    }

    /// A write through the ring has completed.
    pub(crate) fn sent<P: Protocol>(
        &mut self,
        machine: &mut P,
        key: Key,
        result: Result<u32, i32>,
        mut job: Box<SendJob>,
        socket: Rc<Socket>,
    ) {
        let now = self.now();
        let Some(conn) = self.conns.get_mut(key) else { return self.sender.keep(job) };
        conn.send = None;
        let closing = conn.state == State::Closing;
        match result {
            _ if closing => {
                self.sender.keep(job);
                self.reclaim(key);
            }
            Ok(sent @ 1..) => {
                self.stats.bytes_out += u64::from(sent);
                job.queue_mut().advance(sent as usize);
                machine.handle_sent(conn.id, sent as usize, now);
                if job.queue().is_empty() {
                    self.sender.keep(job);
                    self.postpone(key);
                } else {
                    self.submit(key, socket, job);
                }
            }
            Err(libc::EAGAIN | libc::EINTR) => self.submit(key, socket, job),
            Ok(0) | Err(_) => {
                self.sender.keep(job);
                self.broken(machine, key, CloseReason::from_errno(result.err().unwrap_or(libc::EPIPE)));
            }
        }
    }

    fn submit(&mut self, key: Key, socket: Rc<Socket>, job: Box<SendJob>) {
        self.stats.ring_sends += 1;
        let op = self.ring.push(Op::Send { conn: key, socket, job });
        if let Some(conn) = self.conns.get_mut(key) {
            conn.send = Some(op);
        }
    }

    /// Nothing can be written any more. What the peer sent before that is still received: it may be the very answer
    /// that made it close. The shutdown makes sure that the receive ends; that of a peer which has finished writing has.
    fn broken<P: Protocol>(&mut self, machine: &mut P, key: Key, why: CloseReason) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.state == State::Flushing {
            return self.end(machine, key, CloseReason::Local);
        }
        if conn.ended {
            return self.end(machine, key, why);
        }
        conn.failed = Some(why);
        // Fails if the peer has reset the connection, which ends the receive as well.
        let _ = conn.socket.shutdown(Shutdown::Both);
    }
}

fn write(job: &mut SendJob, socket: &Socket) -> (usize, Written) {
    let mut sent = 0;
    while !job.queue().is_empty() {
        match job.write(socket) {
            Ok((0, _)) => return (sent, Written::Some),
            Ok((bytes, all)) => {
                sent += bytes;
                if !all {
                    return (sent, Written::Some);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (sent, Written::Some),
            Err(error) => {
                return (sent, Written::Failed(CloseReason::from_errno(error.raw_os_error().unwrap_or(0))));
            }
        }
    }
    (sent, Written::All)
}
