//! Receiving: portions to the machine, the ends of receives, and pauses.

use std::net::Shutdown;

use ringplane_core::buf::slab::Key;
use ringplane_core::id::ConnId;
use ringplane_core::protocol::{CloseReason, Protocol};
use ringplane_core::time::Instant;

use crate::driver::conn::State;
use crate::driver::net::Net;
use crate::kernel::op::Op;
use crate::kernel::pool::Buffer;

impl Net {
    pub(super) fn deliver<P: Protocol>(&mut self, machine: &mut P, key: Key, now: Instant, buffer: &Buffer) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.is_heard()) else { return };
        let bytes = self.ring.bytes(buffer);
        if bytes.is_empty() {
            return;
        }
        if let Err(fault) = machine.handle_recv(conn.id, bytes, now) {
            tracing::debug!(conn = ?conn.id, %fault, "the peer broke the protocol");
            self.stats.faults += 1;
            conn.faulty = true;
        }
    }

    pub(super) fn received<P: Protocol>(&mut self, machine: &mut P, key: Key, result: Result<u32, i32>, more: bool) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if !more {
            conn.receive = None;
            self.unarmed.push(key);
        } else if conn.paused {
            // The cancel came too late for this portion, or had no effect.
            self.cancel_receive(key);
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        let why = match result {
            Ok(1..) | Err(libc::EINTR | libc::EAGAIN | libc::ECANCELED) => return self.reclaim(key),
            Err(libc::ENOBUFS) => {
                self.stats.no_buffers += 1;
                self.ring.ran_short();
                return self.reclaim(key);
            }
            Ok(0) => CloseReason::Eof,
            Err(errno) => CloseReason::from_errno(errno),
        };
        conn.ended = true;
        let now = self.clock.now();
        match conn.state {
            State::Flushing if why == CloseReason::Eof => {}
            State::Open
                if why == CloseReason::Eof
                    && conn.failed.is_none()
                    && conn.is_heard()
                    && machine.handle_eof(conn.id, now) => {}
            State::Open => {
                let why = conn.failed.unwrap_or(why);
                self.end(machine, key, why);
            }
            _ => self.end(machine, key, CloseReason::Local),
        }
    }

    pub(super) fn cancelled(&mut self, key: Key, target: Key) {
        // Not found, or too late: either its last completion is on the way, or the kernel was busy with it just then.
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.state != State::Closing {
            // It pauses. If its receive goes on all the same, its next portion tells.
            conn.pausing = false;
        } else if self.ring.is_in_flight(target) && !conn.insisted {
            conn.insisted = true;
            // Fails only on a socket that is not connected; its dial is cancelled once more.
            let _ = conn.socket.shutdown(Shutdown::Both);
            self.ring.push(Op::Cancel { conn: key, target });
        }
    }

    /// Ends the receive of a connection. What it has received by then is delivered; what has not been received stays with
    /// the kernel.
    pub(super) fn pause(&mut self, id: ConnId) {
        if let Some(key) = self.names.get(&id).copied()
            && let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.state == State::Open)
        {
            conn.paused = true;
            self.cancel_receive(key);
        }
    }

    fn cancel_receive(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.state == State::Open && !conn.pausing)
            && let Some(target) = conn.receive
        {
            conn.pausing = true;
            self.ring.push(Op::Cancel { conn: key, target });
        }
    }

    pub(super) fn resume_receiving(&mut self, id: ConnId) {
        if let Some(key) = self.names.get(&id).copied()
            && let Some(conn) = self.conns.get_mut(key)
        {
            conn.paused = false;
            self.unarmed.push(key);
        }
    }
}
