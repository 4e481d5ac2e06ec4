//! Writing: straight to the socket while it takes bytes, through the ring for the rest.

use std::net::Shutdown;
use std::rc::Rc;

use ringplane_core::buf::slab::Key;
use ringplane_core::protocol::{CloseReason, Protocol};
use socket2::Socket;

use crate::driver::conn::State;
use crate::driver::net::Net;
use crate::driver::sender::{Written, write};
use crate::kernel::op::{Op, SendJob};

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
