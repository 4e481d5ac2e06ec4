//! One call as both owners know it: what was sent in each direction and what must therefore arrive.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use ringplane_core::buf::Key;
use ringplane_core::mux::Ending;
use ringplane_core::wire::Class;
use ringplane_core::wire::mux::CancelMode;

/// The largest item the model sends, in bytes.
pub(super) const MAX_ITEM: usize = 300_001;

/// Which end of a call: whoever opened it, or the other one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    Opener = 0,
    Acceptor = 1,
}

/// How an owner let go of a stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Done {
    Ended,
    Rejected,
    Unsent,
    Released,
}

#[derive(Debug)]
pub(super) struct Call {
    /// The side that opened it.
    pub(super) opener: usize,
    pub(super) keys: [Option<Key>; 2],
    /// What each end sends.
    pub(super) out: [Direction; 2],
    pub(super) done: [Option<Done>; 2],
    pub(super) cancel: Option<CancelMode>,
    /// The acceptor has heard of a kill.
    pub(super) kill_seen: bool,
    pub(super) statuses: usize,
}

/// One direction: from the end that sends to the end that reads.
#[derive(Debug, Default)]
pub(super) struct Direction {
    sent: Items,
    read: usize,
    pub(super) ended: Option<Ending>,
    /// Items may be missing at the end: the direction was aborted or the call killed.
    pub(super) cut: bool,
    pub(super) outcome: Option<Ending>,
    /// The reader has been told and has not been turned away since.
    pub(super) readable: bool,
    /// A writer was turned away and waits to be told.
    pub(super) blocked: bool,
}

#[derive(Default)]
struct Items(Vec<Bytes>);

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(Bytes::len)).finish()
    }
}

impl Call {
    pub(super) fn new(opener: usize, key: Key) -> Self {
        Self {
            opener,
            keys: [Some(key), None],
            out: Default::default(),
            done: [None; 2],
            cancel: None,
            kill_seen: false,
            statuses: 0,
        }
    }

    pub(super) const fn end_at(&self, side: usize) -> End {
        if side == self.opener { End::Opener } else { End::Acceptor }
    }

    pub(super) const fn side_of(&self, end: End) -> usize {
        match end {
            End::Opener => self.opener,
            End::Acceptor => 1 - self.opener,
        }
    }

    /// Both ends have let go; an acceptor that never heard of the call has nothing to let go of.
    pub(super) fn is_done(&self) -> bool {
        self.done[0].is_some() && (self.done[1].is_some() || self.keys[1].is_none())
    }

    /// Whether an item may be refused because the direction is over.
    pub(super) fn may_be_closed(&self, end: End, leaving: bool) -> bool {
        let over = match end {
            End::Opener => self.out[1].ended.is_some() || self.done[1].is_some() || leaving,
            End::Acceptor => false,
        };
        over || self.out[end as usize].ended.is_some()
            || self.done[end as usize].is_some()
            || self.cancel == Some(CancelMode::Kill)
    }

    pub(super) fn killed(&mut self) {
        self.cancel = Some(CancelMode::Kill);
        self.out.iter_mut().for_each(|direction| direction.cut = true);
    }
}

impl Direction {
    /// Nothing has been sent and nothing ended.
    pub(super) const fn is_fresh(&self) -> bool {
        self.sent.0.is_empty() && self.ended.is_none()
    }

    /// The item that would be sent next if it had `len` bytes; every item of a run is different.
    pub(super) fn next_item(&self, call: usize, end: End, len: usize) -> Bytes {
        let at = (call * 31 + end as usize * 101 + self.sent.0.len() * 7) % 509;
        pattern().slice(at..at + len)
    }

    pub(super) fn push(&mut self, item: Bytes) {
        assert!(self.ended.is_none(), "an item was taken after the end");
        self.sent.0.push(item);
    }

    pub(super) fn on_item(&mut self, item: &Bytes) {
        assert!(self.outcome.is_none(), "an item after the outcome");
        let expected = self.sent.0.get(self.read).expect("an item nobody sent");
        assert_eq!(item.len(), expected.len(), "item {}", self.read);
        assert!(item == expected, "item {} has other bytes", self.read);
        self.read += 1;
    }

    pub(super) fn on_end(&mut self, got: &Ending) {
        if let Some(outcome) = &self.outcome {
            assert_eq!(got, outcome, "the outcome has changed");
            return;
        }
        let given = self.ended.as_ref().expect("an outcome nobody gave");
        let torn = self.cut && given.class.is_none() && got.class == Some(Class::Cancelled);
        assert!(got == given || torn, "given {given:?}, read {got:?}");
        assert!(self.cut || self.read == self.sent.0.len(), "{} of {} items read", self.read, self.sent.0.len());
        self.outcome = Some(got.clone());
    }
}

fn pattern() -> &'static Bytes {
    static PATTERN: OnceLock<Bytes> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut state = 1_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..MAX_ITEM + 512).map(next).collect::<Vec<_>>().into()
    })
}
