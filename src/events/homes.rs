//! At which instance each publisher was heard last, so that it can be asked again.

use std::collections::BTreeMap;

use ringplane_core::discovery::PublisherId;
use ringplane_core::id::InstanceId;

/// Publishers whose instances are kept in mind, in two halves: once the newer half is full, the older one is forgotten, with the
/// publishers that were heard longest ago.
#[derive(Debug)]
pub(super) struct Homes {
    half: usize,
    newer: BTreeMap<PublisherId, InstanceId>,
    older: BTreeMap<PublisherId, InstanceId>,
}

impl Homes {
    /// For so many publishers.
    pub(super) const fn new(most: usize) -> Self {
        Self { half: most / 2, newer: BTreeMap::new(), older: BTreeMap::new() }
    }

    /// A publisher is heard at an instance.
    pub(super) fn heard(&mut self, publisher: PublisherId, at: InstanceId) {
        self.older.remove(&publisher);
        if self.newer.len() >= self.half && !self.newer.contains_key(&publisher) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(publisher, at);
    }

    /// Where to ask a publisher.
    pub(super) fn of(&self, publisher: PublisherId) -> Option<InstanceId> {
        self.newer.get(&publisher).or_else(|| self.older.get(&publisher)).copied()
    }

    /// The instance is gone, and nothing of it is heard any more: its publishers cannot be asked.
    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.newer.retain(|_, home| *home != instance);
        self.older.retain(|_, home| *home != instance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: InstanceId = InstanceId(1);
    const THERE: InstanceId = InstanceId(2);

    #[test]
    fn a_publisher_is_asked_where_it_was_heard_last_until_that_is_gone() {
        let mut homes = Homes::new(8);
        homes.heard(PublisherId(1), HERE);
        homes.heard(PublisherId(2), HERE);
        homes.heard(PublisherId(1), THERE);
        assert_eq!([1, 2, 3].map(|id| homes.of(PublisherId(id))), [Some(THERE), Some(HERE), None]);
        homes.forget(HERE);
        assert_eq!([1, 2].map(|id| homes.of(PublisherId(id))), [Some(THERE), None]);
    }

    #[test]
    fn publishers_that_come_and_go_push_out_those_heard_longest_ago_and_no_other() {
        const MOST: usize = 100;
        let mut homes = Homes::new(MOST);
        for id in 1..10 * MOST as u64 {
            homes.heard(PublisherId(id), HERE);
            // One that is heard all the time.
            homes.heard(PublisherId(0), THERE);
            assert!(homes.newer.len() + homes.older.len() <= MOST, "{id}");
            for ago in 0..(MOST as u64 / 2 - 1).min(id) {
                assert_eq!(homes.of(PublisherId(id - ago)), Some(HERE), "{id}: {ago} ago");
            }
            assert_eq!(homes.of(PublisherId(0)), Some(THERE));
        }
        assert_eq!(homes.of(PublisherId(1)), None);
    }
}
