//! What a queue decides without asking anybody: its depth, what may be purged, when a task is a dead letter.

/// What a consumer has before it.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Depth {
    /// Messages that it was never handed.
    pub pending: u64,
    /// Messages that it was handed and that it has not acknowledged, those included that wait to be handed out again.
    pub unacknowledged: u64,
}

impl Depth {
    /// All that is to be done. Dynamo's depth leaves out what is in hand.
    pub fn total(&self) -> u64 {
        self.pending + self.unacknowledged
    }
}

/// What becomes of a task that was handed out for the `tries`th time.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Try,
    Bury,
}

/// A task that was handed out: one more often than allowed was never answered for, as what ends its worker is not.
pub(crate) fn taken(tries: u64, max_tries: u32) -> Verdict {
    if max_tries > 0 && tries > max_tries.into() { Verdict::Bury } else { Verdict::Try }
}

/// A task that failed: the last try allowed is not followed by another.
pub(crate) fn failed(tries: u64, max_tries: u32) -> Verdict {
    if max_tries > 0 && tries >= max_tries.into() { Verdict::Bury } else { Verdict::Try }
}

/// The first sequence that has to stay, of what each consumer has acknowledged up to. One that has acknowledged nothing
/// protects all, and so does a queue without consumers: nobody has seen what is in it.
pub(crate) fn acknowledged(floors: impl IntoIterator<Item = u64>) -> Option<u64> {
    floors.into_iter().min().filter(|floor| *floor > 0).map(|floor| floor.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_consumer_keeps_what_it_has_not_acknowledged() {
        assert_eq!(acknowledged([]), None);
        assert_eq!(acknowledged([7]), Some(8));
        assert_eq!(acknowledged([7, 3, 9]), Some(4));
        // Dynamo passes over one that has acknowledged nothing, and takes its messages from it.
        assert_eq!(acknowledged([7, 0, 9]), None);
        assert_eq!(acknowledged([u64::MAX]), Some(u64::MAX));
    }

    #[test]
    fn a_task_is_tried_so_often_and_no_more() {
        assert_eq!(
            [1, 2, 3, 4].map(|tries| taken(tries, 3)),
            [Verdict::Try, Verdict::Try, Verdict::Try, Verdict::Bury]
        );
        assert_eq!(
            [1, 2, 3, 4].map(|tries| failed(tries, 3)),
            [Verdict::Try, Verdict::Try, Verdict::Bury, Verdict::Bury]
        );
        assert_eq!([taken(u64::MAX, 0), failed(u64::MAX, 0)], [Verdict::Try; 2]);
        assert_eq!([taken(1, 1), failed(1, 1)], [Verdict::Try, Verdict::Bury]);
    }

    #[test]
    fn depth_counts_what_is_in_hand() {
        // As captured: five queued, one acknowledged, four in hand; Dynamo says 0.
        assert_eq!(Depth { pending: 0, unacknowledged: 4 }.total(), 4);
    }
}
