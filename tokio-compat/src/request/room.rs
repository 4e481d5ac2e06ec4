//! How many bytes of requests may be in memory between a plane and the cores.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound on bytes, counted in whole KiB. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    all: u32,
}

/// A request's share, until it is dropped.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        let all = kib(bytes);
        Self { free: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until there is room. A request larger than all of it waits for all of it, and goes alone.
    pub(crate) async fn reserve(&self, bytes: usize) -> Option<Share> {
        let share = kib(bytes).min(self.all);
        Arc::clone(&self.free).acquire_many_owned(share).await.ok().map(Share)
    }

    /// The share of so many bytes, if there is room for them now.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Share> {
        Arc::clone(&self.free).try_acquire_many_owned(kib(bytes)).ok().map(Share)
    }
}

impl Share {
    /// Makes it so many bytes in all; `false`, and as it was, if there is no room for them now. It never becomes smaller.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let more = kib(bytes).saturating_sub(u32::try_from(self.0.num_permits()).unwrap_or(u32::MAX));
        let room = Arc::clone(self.0.semaphore());
        match room.try_acquire_many_owned(more) {
            Ok(permit) => self.0.merge(permit),
            Err(_) => return false,
        }
        true
    }
}

/// Bytes in whole KiB, at least one.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_as_far_as_there_is_room_and_comes_back_with_its_drop() {
        let room = Room::new(10 << 10);
        let mut share = room.try_reserve(1).unwrap();
        assert!(share.grow(9 << 10) && !share.grow(11 << 10) && share.grow(3));
        let last = room.try_reserve(0).unwrap();
        assert!(room.try_reserve(0).is_none() && !share.grow(10 << 10));
        drop((share, last));
        assert!(room.try_reserve(10 << 10).is_some() && room.try_reserve((10 << 10) + 1).is_none());
    }

    #[tokio::test]
    async fn a_request_larger_than_the_room_goes_alone() {
        let room = Room::new(10 << 10);
        let share = room.reserve(1 << 20).await.unwrap();
        assert!(room.try_reserve(1).is_none());
        drop(share);
        assert!(room.try_reserve(1).is_some());
    }
}
