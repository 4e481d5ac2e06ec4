//! Two connections back to back, without a network.

use std::sync::Arc;

use bytes::Bytes;
use ringplane_core::buf::SendQueue;
use ringplane_core::mux::{Config, Connection, Ending, Event, Opening, Recv, Role};
use ringplane_core::time::Instant;

/// A caller's and a worker's connection, joined by memory.
#[derive(Debug)]
pub struct Pair {
    caller: Connection,
    worker: Connection,
    opening: Arc<Opening>,
    queue: SendQueue,
    tags: u64,
}

impl Pair {
    /// Two connections, each with this configuration, that have greeted each other.
    pub fn new(config: Config) -> Self {
        let opening = Opening { path: "1/bench/backend/echo".into(), request_id: "bench".into(), ..Opening::default() };
        let mut pair = Self {
            caller: Connection::new(Role::Dialer, config, Instant::ZERO),
            worker: Connection::new(Role::Acceptor, config, Instant::ZERO),
            opening: Arc::new(opening),
            queue: SendQueue::new(config.send_buffer),
            tags: 0,
        };
        pair.exchange(&Bytes::new(), 0);
        pair
    }

    /// One call: the request's one item out, `answers` items of the same content back, read to the end. Returns the
    /// bytes read. Windows are opened and credit comes back as in earnest.
    ///
    /// # Panics
    /// If the call does not end well.
    pub fn call(&mut self, item: &Bytes, answers: usize) -> usize {
        self.tags += 1;
        let stream = self.caller.open(self.tags, self.opening.clone()).expect("the connection takes streams");
        self.caller.send(stream, item.clone()).expect("an empty queue takes any item");
        self.caller.end(stream, Ending::default());
        self.exchange(item, answers);
        let mut read = 0;
        loop {
            match self.caller.recv(stream) {
                Recv::Item(item) => read += item.len(),
                Recv::Pending => assert!(self.exchange(item, answers), "a call that does not end"),
                Recv::End(ending) => {
                    assert_eq!(ending, Ending::default(), "a call that fails");
                    self.caller.release(stream);
                    return read;
                }
            }
        }
    }

    /// Moves bytes both ways until both sides are quiet; the worker answers what it is asked. Whether anything moved.
    fn exchange(&mut self, item: &Bytes, answers: usize) -> bool {
        let mut moved = false;
        loop {
            let out = carry(&mut self.caller, &mut self.worker, &mut self.queue);
            answer(&mut self.worker, item, answers);
            let back = carry(&mut self.worker, &mut self.caller, &mut self.queue);
            while self.caller.poll_event().is_some() {}
            if !out && !back {
                return moved;
            }
            moved = true;
        }
    }
}

/// Moves one batch from one side to the other.
fn carry(from: &mut Connection, to: &mut Connection, queue: &mut SendQueue) -> bool {
    if !from.poll_transmit(queue, Instant::ZERO) {
        return false;
    }
    while !queue.is_empty() {
        let mut slices = [&[][..]; 64];
        let used = queue.slices(&mut slices);
        let mut written = 0;
        for bytes in slices.iter().take(used) {
            to.handle_recv(bytes, Instant::ZERO).expect("our own bytes keep the rules");
            written += bytes.len();
        }
        queue.advance(written);
        from.handle_sent(written, Instant::ZERO);
    }
    true
}

/// The worker's application: once a request is read, `answers` items and the end.
fn answer(worker: &mut Connection, item: &Bytes, answers: usize) {
    while let Some(event) = worker.poll_event() {
        let Event::Opened(key) = event else { continue };
        worker.set_tag(key, key.to_u64());
        while let Recv::Item(_) = worker.recv(key) {}
        for _ in 0..answers {
            worker.send(key, item.clone()).expect("the answers fit the send buffer");
        }
        worker.end(key, Ending::default());
    }
}
