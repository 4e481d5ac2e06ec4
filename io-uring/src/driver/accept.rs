//! Accepting: what listeners bring, and where responses come home.

use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use ringplane_core::id::ConnId;
use ringplane_core::protocol::{CloseReason, Protocol};
use socket2::{SockRef, Socket};

use crate::driver::conn::{Conn, State};
use crate::driver::listener::Listener;
use crate::driver::net::Net;

impl Net {
    pub(super) fn listen<P: Protocol>(&mut self, machine: &mut P, addr: SocketAddr) {
        let bound = TcpListener::bind(addr).and_then(|listener| {
            self.options.apply(SockRef::from(&listener), true)?;
            let addr = listener.local_addr()?;
            self.homes = Some(Listener::new(listener, true));
            Ok(addr)
        });
        let now = self.clock.now();
        machine
            .handle_listening(bound.map_err(|error| CloseReason::from_errno(error.raw_os_error().unwrap_or(0))), now);
    }

    /// What an accept tells about its listener.
    pub(super) fn listener_said(&mut self, home: bool, one: bool, error: Option<i32>, more: bool) {
        let now = self.clock.now();
        let listener = if home { &mut self.homes } else { &mut self.listener };
        if let Some(listener) = listener {
            if one {
                listener.accepted();
            }
            if !more && listener.disarmed(error, now) {
                self.stats.accept_pauses += 1;
            }
        }
    }

    pub(super) fn accepted<P: Protocol>(&mut self, machine: &mut P, fd: OwnedFd, home: bool) {
        if self.stopping {
            return self.turn_away(fd.into());
        }
        if self.conns.len() >= self.max_connections {
            self.stats.refused += 1;
            return;
        }
        self.stats.accepts += 1;
        let id = if home {
            self.came_home += 1;
            ConnId::accepted_home(self.came_home)
        } else {
            self.accepted += 1;
            ConnId::accepted(self.accepted)
        };
        let key = self.conns.insert(Conn::new(id, Rc::new(Socket::from(fd)), State::Open));
        self.names.insert(id, key);
        self.open(machine, key);
    }

    /// A connection that nobody is there for any more.
    pub(super) fn turn_away(&mut self, socket: Socket) {
        self.stats.refused += 1;
        if self.linger.is_zero() || socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        self.accepted += 1;
        let conn = Conn::new(ConnId::accepted(self.accepted), Rc::new(socket), State::Lingering);
        let key = self.conns.insert(conn);
        self.linger(key);
    }
}
