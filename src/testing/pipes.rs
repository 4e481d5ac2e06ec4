//! Connections of a node to itself, in memory.

use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;
use ringplane_core::node::Node;
use ringplane_core::protocol::{Action, CloseReason, Protocol as _};
use ringplane_core::time::Instant;
use ringplane_driver::drain::Carry;

/// Bytes that a connection writes at once.
const WRITE: usize = 16 << 10;
/// Parts of a write.
const PARTS: usize = 64;

/// The two ends of each connection.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    ends: Vec<[ConnId; 2]>,
    /// The time of this turn.
    pub(super) now: Instant,
}

impl Pipes {
    fn peer(&self, conn: ConnId) -> Option<ConnId> {
        let [one, other] = *self.ends.iter().find(|ends| ends.contains(&conn))?;
        Some(if one == conn { other } else { one })
    }

    /// What one end writes is received by the other at once.
    fn write(&mut self, node: &mut Node, conn: ConnId) -> bool {
        let mut queue = SendQueue::new(WRITE);
        if !node.poll_transmit(conn, &mut queue, self.now) {
            return false;
        }
        let mut parts = [&[][..]; PARTS];
        let used = queue.slices(&mut parts);
        let bytes = parts.get(..used).unwrap_or_default().concat();
        node.handle_sent(conn, bytes.len(), self.now);
        match self.peer(conn) {
            Some(peer) if node.handle_recv(peer, &bytes, self.now).is_ok() => {}
            _ => self.cut(node, conn),
        }
        true
    }

    fn cut(&mut self, node: &mut Node, conn: ConnId) {
        if let Some(at) = self.ends.iter().position(|ends| ends.contains(&conn)) {
            for end in self.ends.swap_remove(at) {
                let why = if end == conn { CloseReason::Local } else { CloseReason::Eof };
                node.handle_close(end, why, self.now);
            }
        }
    }
}

impl Carry<Node> for Pipes {
    fn transmit(&mut self, node: &mut Node) -> bool {
        let mut moved = false;
        while let Some(conn) = node.poll_ready() {
            moved |= self.write(node, conn);
        }
        moved
    }

    fn act(&mut self, node: &mut Node) -> bool {
        let mut moved = false;
        while let Some(action) = node.poll_action() {
            moved = true;
            match action {
                Action::Connect { conn, .. } => {
                    let accepted = ConnId::accepted(conn.number());
                    self.ends.push([conn, accepted]);
                    node.handle_open(conn, None, self.now);
                    node.handle_open(accepted, None, self.now);
                }
                Action::Listen { .. } => node.handle_listening(Err(CloseReason::Refused), self.now),
                // What is written here is received at once.
                Action::Pause { .. } | Action::Resume { .. } => {}
                Action::Close { conn, .. } => self.cut(node, conn),
            }
        }
        moved
    }
}
