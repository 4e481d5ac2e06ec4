//! One call's two directions on one connection.

use alloc::boxed::Box;
use alloc::sync::Arc;

use bytes::Bytes;

use crate::buf::outbox;
use crate::buf::room::Turn;
use crate::buf::slab::Key;
use crate::id::StreamId;
use crate::mux::credit::{Allowance, Window, is_announced};
use crate::mux::event::{Ending, Opening};
use crate::mux::inbox::{Inbox, cost};
use crate::time::Instant;
use crate::wire::mux::frame::{Head, ITEM_COST};
use crate::wire::mux::message::{CancelMode, RejectCode, Status};

/// One stream. The side that opened it is done when the peer's terminal frame (`Item` with LAST, `End`, `Reject`) has
/// arrived; the other side is done when its own terminal frame has been written.
///
/// ```text
///  opener:    Queued ──written──▶ Live ──peer's terminal──▶ Over ──reader drained, released──▶ gone
///               └──cancelled──▶ gone   └──released early──▶ Zombie ──peer's terminal──▶ gone
///  acceptor:  Live ──end()/reject() called──▶ Ending ──written──▶ gone
/// ```
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// The owner's name for it.
    pub(super) tag: u64,
    pub(super) ours: bool,
    /// Ours: what to open with, until it has been written.
    pub(super) opening: Option<Arc<Opening>>,
    /// Theirs: the header of the open frame.
    pub(super) header: Bytes,

    pub(super) outbox: Outbox,
    pub(super) front: Front,
    pub(super) writing: Writing,
    /// Credit from the peer's windows, and from its reservations.
    pub(super) allowance: Allowance,
    pub(super) reserved: Allowance,

    pub(super) inbox: Inbox,
    pub(super) window: Window,
    pub(super) reading: Reading,
    /// Bytes of the connection's reserve pool granted to this stream and not given back.
    pub(super) pool_held: u64,

    pub(super) due: Due,
    pub(super) listed: Listed,
    /// Where a writer stands that was turned away for what others hold.
    pub(super) turn: Turn,
    /// The reader has been told of items it has not taken yet.
    pub(super) told: bool,
    /// Something has moved on it, or somebody began to wait, since it was looked at last.
    pub(super) moved: bool,
    /// When it was seen to have moved.
    pub(super) since: Instant,
}

/// Items on their way out of a stream; each counts as much as its credit, in the peer's windows.
pub(super) type Outbox = outbox::Outbox<{ ITEM_COST as usize }>;

/// Our direction.
///
/// ```text
///  Open ──end(), or the stream stands still──▶ Ending ──written──▶ Done
///    ├──theirs: the opener kills it──▶ Muted ──end()──▶ Ending
///    └──ours: cancel(Kill)──▶ Killed
/// ```
#[derive(Debug)]
pub(super) enum Writing {
    /// Items may be queued.
    Open,
    /// Theirs: the opener has killed it. No items are taken any more, and the outcome is still to come.
    Muted,
    /// This outcome goes behind the items queued.
    Ending(Ending),
    /// The terminal frame is out.
    Done,
    /// Ours: it is killed, and no terminal frame follows.
    Killed,
}

/// The peer's direction.
///
/// ```text
///  Open ──the peer's terminal frame──▶ Over
///    └──discard_input()──▶ Discarding ──the peer's terminal frame──▶ Discarding, with an outcome
/// ```
#[derive(Debug)]
pub(super) enum Reading {
    /// Items come in.
    Open,
    /// It ended so; items that wait can be read.
    Over(Ending),
    /// Nobody reads any more: what arrives is dropped, and its credit returned to the connection. How it ended, once it has.
    Discarding(Option<Ending>),
}

impl Reading {
    /// How the direction ended, if it has.
    pub(super) const fn outcome(&self) -> Option<&Ending> {
        match self {
            Self::Open => None,
            Self::Over(ending) => Some(ending),
            Self::Discarding(ending) => ending.as_ref(),
        }
    }

    /// Whether nobody reads any more.
    pub(super) const fn is_discarding(&self) -> bool {
        matches!(self, Self::Discarding(_))
    }

    /// The peer's terminal frame has come.
    pub(super) fn end(&mut self, outcome: Ending) {
        match self {
            Self::Discarding(ending) => *ending = Some(outcome),
            Self::Open | Self::Over(_) => *self = Self::Over(outcome),
        }
    }

    /// Nobody reads any more.
    pub(super) fn discard_input(&mut self) {
        *self = match core::mem::replace(self, Self::Open) {
            Self::Open => Self::Discarding(None),
            Self::Over(ending) => Self::Discarding(Some(ending)),
            discarding @ Self::Discarding(_) => discarding,
        };
    }
}

/// How far the first item has got.
///
/// ```text
///  Unpaid ──covered by the windows──▶ Paid{at} ──all bytes out──▶ Unpaid (next item)
///    └──larger than the window──▶ Announced ──reservation──▶ Reserved{at} ──┘
///  any but Unpaid ──the item is dropped──▶ Truncated
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Front {
    /// Nothing of it has been sent.
    Unpaid,
    /// Paid whole from the windows; bytes up to `at` are out.
    Paid { at: usize },
    /// Its length has been told; the peer will reserve memory for it.
    Announced,
    /// Paid by the peer's reservation; bytes up to `at` are out.
    Reserved { at: usize },
    /// It was dropped when a part of it, or its length, had been written: nothing follows, and the direction cannot end well.
    Truncated,
}

/// Control frames waiting to be written, at most one of each: bounded by construction.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) status: Option<Status>,
    pub(super) cancel: Option<CancelMode>,
    pub(super) reserve: Option<u32>,
    pub(super) credit: bool,
    pub(super) reject: Option<Box<(RejectCode, u32, Box<str>)>>,
}

/// On which of the connection's lists the stream stands; at most once on each.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) urgent: bool,
    pub(super) ready: bool,
    /// Waits for connection credit. A key without this mark may still stand on the list.
    pub(super) blocked: bool,
    /// Waits for room beside the others. A key whose stream has no such turn may still stand on the list.
    pub(super) waiting: bool,
}

/// The item frame whose body is arriving.
#[derive(Copy, Clone, Debug)]
pub(super) struct Current {
    /// Its stream, unless the body is to be dropped.
    pub(super) key: Option<Key>,
    pub(super) head: Head,
}

impl Stream {
    pub(super) fn new(id: StreamId, ours: bool, tag: u64, allowance: u32, window: u32) -> Self {
        Self {
            id,
            tag,
            ours,
            opening: None,
            header: Bytes::new(),
            outbox: Outbox::default(),
            front: Front::Unpaid,
            writing: Writing::Open,
            allowance: Allowance::new(allowance.into()),
            reserved: Allowance::default(),
            inbox: Inbox::default(),
            window: Window::new(window),
            reading: Reading::Open,
            pool_held: 0,
            due: Due::default(),
            listed: Listed::default(),
            turn: Turn::None,
            told: false,
            moved: true,
            since: Instant::ZERO,
        }
    }

    /// Nothing more will cross the wire for this stream.
    pub(super) const fn is_over(&self) -> bool {
        if self.ours { self.reading.outcome().is_some() } else { matches!(self.writing, Writing::Done) }
    }

    /// Whether the owner may still end our direction.
    pub(super) const fn is_writable(&self) -> bool {
        matches!(self.writing, Writing::Open | Writing::Muted) && !self.is_over() && self.due.reject.is_none()
    }

    /// Whether the owner may still queue items.
    pub(super) const fn takes_items(&self) -> bool {
        matches!(self.writing, Writing::Open) && self.is_writable() && !self.reading.is_discarding()
    }

    /// Credit the first queued item costs.
    pub(super) fn first_cost(&self) -> Option<u64> {
        self.outbox.first().map(|item| cost(item.len() as u64))
    }

    /// Drops the items that wait; what they held.
    pub(super) fn drop_items(&mut self) -> usize {
        if self.front != Front::Truncated {
            self.front = Front::Unpaid;
        }
        self.outbox.clear()
    }

    /// What the first queued item costs in the windows, of which the peer's are `window`; nothing without one.
    pub(super) fn next_price(&self, window: u32) -> Option<u64> {
        let cost = self.first_cost()?;
        Some(if is_announced(cost, window) { ITEM_COST.into() } else { cost })
    }

    /// Whether anything of the data kind waits to be written.
    pub(super) fn has_data(&self) -> bool {
        self.opening.is_some() || !self.outbox.is_empty() || matches!(self.writing, Writing::Ending(_))
    }
}
