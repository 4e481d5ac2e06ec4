//! The slots connections live in, their names, and the send queues they borrow.

use std::sync::Arc;
use std::task::Waker;

use hashbrown::HashMap;
use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;

use crate::tcp::connection::Connection;
use crate::tcp::ready::{ReadyList, SlotWaker};

/// Send queues kept for reuse.
const SPARE_QUEUES: usize = 32;
/// Heap bytes all of them keep together. Memory that is given back after every large write is memory the kernel has to
/// clear before the next.
const SPARE_BYTES: usize = 4 << 20;

/// A place for one connection at a time.
pub(crate) struct Slot {
    pub(crate) id: Arc<SlotWaker>,
    pub(crate) waker: Waker,
    pub(crate) connection: Option<Connection>,
}

/// All connections of a driver.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_name: HashMap<ConnId, u32>,
    ready: Arc<ReadyList>,
}

impl Slots {
    pub(crate) fn new(ready: Arc<ReadyList>) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), by_name: HashMap::new(), ready }
    }

    /// Puts `connection` into a slot and returns its number.
    pub(crate) fn insert(&mut self, connection: Connection) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            let number = u32::try_from(self.slots.len()).expect("fewer connections than descriptors");
            let id = SlotWaker::new(number, Arc::clone(&self.ready));
            let waker = Waker::from(Arc::clone(&id));
            self.slots.push(Slot { id, waker, connection: None });
            number
        });
        self.by_name.insert(connection.name, number);
        self.slots[number as usize].connection = Some(connection);
        number
    }

    /// Empties a slot.
    pub(crate) fn remove(&mut self, number: u32) -> Option<Connection> {
        let connection = self.slots[number as usize].connection.take()?;
        self.by_name.remove(&connection.name);
        self.free.push(number);
        Some(connection)
    }

    pub(crate) fn get(&mut self, number: u32) -> &mut Slot {
        &mut self.slots[number as usize]
    }

    pub(crate) fn find(&self, name: ConnId) -> Option<u32> {
        self.by_name.get(&name).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The numbers slots have had so far: `0..bound`.
    pub(crate) fn bound(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("fewer connections than descriptors")
    }
}

/// Send queues on loan: a connection keeps one only while it holds bytes.
pub(crate) struct Queues {
    spare: Vec<SendQueue>,
    bytes: usize,
    limit: usize,
}

impl Queues {
    pub(crate) fn new(limit: usize) -> Self {
        Self { spare: Vec::new(), bytes: 0, limit }
    }

    pub(crate) fn take(&mut self) -> SendQueue {
        let Some(queue) = self.spare.pop() else { return SendQueue::new(self.limit) };
        self.bytes -= queue.capacity();
        queue
    }

    /// Takes an empty queue back.
    pub(crate) fn give(&mut self, queue: SendQueue) {
        let bytes = self.bytes + queue.capacity();
        if self.spare.len() < SPARE_QUEUES && bytes <= SPARE_BYTES {
            self.bytes = bytes;
            self.spare.push(queue);
        }
    }
}
