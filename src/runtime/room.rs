//! How many bytes a call may have between a core and another thread, beside the bound on items.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Bytes of items on the way between a core and another thread, per call and direction; one larger item goes alone.
const BYTES: usize = 256 << 10;
/// What an item counts for beside its bytes.
const COST: usize = 64;

/// The sender's end: room for items.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

/// The receiver's end. Without it there is no room for ever.
#[derive(Debug)]
pub(crate) struct Taken(Room);

/// The receiver is gone.
pub(crate) struct Gone;

/// Both ends.
pub(crate) fn room() -> (Room, Taken) {
    let room = Room(Arc::new(Semaphore::new(BYTES)));
    (room.clone(), Taken(room))
}

impl Room {
    /// Waits for room for an item of `len` bytes.
    pub(crate) async fn take(&self, len: usize) -> Result<(), Gone> {
        let permit = self.0.acquire_many(weight(len)).await.map_err(|_| Gone)?;
        permit.forget();
        Ok(())
    }
}

impl Taken {
    /// An item of `len` bytes has arrived.
    pub(crate) fn give_back(&self, len: usize) {
        self.0.0.add_permits(weight(len) as usize);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.close();
    }
}

fn weight(len: usize) -> u32 {
    (len + COST).min(BYTES) as u32
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll(future: std::pin::Pin<&mut impl Future<Output = Result<(), Gone>>>) -> Option<bool> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome.is_ok()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_large_item_goes_alone_and_whoever_waits_learns_that_the_receiver_is_gone() {
        let (room, taken) = room();
        assert_eq!(poll(pin!(room.take(64 << 20))), Some(true));
        let mut next = pin!(room.take(1));
        assert_eq!(poll(next.as_mut()), None);
        taken.give_back(64 << 20);
        assert_eq!(poll(next.as_mut()), Some(true));
        let mut last = pin!(room.take(BYTES));
        assert_eq!(poll(last.as_mut()), None);
        drop(taken);
        assert_eq!(poll(last.as_mut()), Some(false));
    }
}
