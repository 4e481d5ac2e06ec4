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
    /// Our direction's outcome, once the owner has given it and until it has been written.
    pub(super) ending: Option<Ending>,
    /// Our direction's terminal has been written.
    pub(super) sent_all: bool,
    /// Credit from the peer's windows, and from its reservations.
    pub(super) allowance: Allowance,
    pub(super) reserved: Allowance,

    pub(super) inbox: Inbox,
    pub(super) window: Window,
    /// The peer's direction's outcome, once it has arrived.
    pub(super) outcome: Option<Ending>,
    /// Bytes of the connection's reserve pool granted to this stream and not given back.
    pub(super) pool_held: u64,

    /// Nobody reads any more; what arrives is dropped and its credit returned to the connection.
    pub(super) deaf: bool,
    /// The opener has killed it: this side's items are dropped, later ones are not taken.
    pub(super) killed: bool,
    /// An item was dropped after a part of it had been written, so the direction cannot end well any more.
    pub(super) torn: bool,
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

/// How far the first item has got.
///
/// ```text
///  Unpaid ──covered by the windows──▶ Paid{at} ──all bytes out──▶ Unpaid (next item)
///    └──larger than the window──▶ Announced ──reservation──▶ Reserved{at} ──┘
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
    pub(super) line: bool,
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
            ending: None,
            sent_all: false,
            allowance: Allowance::new(allowance.into()),
            reserved: Allowance::default(),
            inbox: Inbox::default(),
            window: Window::new(window),
            outcome: None,
            pool_held: 0,
            deaf: false,
            killed: false,
            torn: false,
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
        if self.ours { self.outcome.is_some() } else { self.sent_all }
    }

    /// Whether the owner may still queue items.
    pub(super) const fn is_writable(&self) -> bool {
        self.ending.is_none() && !self.sent_all && !self.is_over() && self.due.reject.is_none()
    }

    /// Credit the first queued item costs.
    pub(super) fn first_cost(&self) -> Option<u64> {
        self.outbox.first().map(|item| cost(item.len() as u64))
    }

    /// Drops the items that wait; what they held.
    pub(super) fn drop_items(&mut self) -> usize {
        self.front = Front::Unpaid;
        self.outbox.clear()
    }

    /// What the first queued item costs in the windows, of which the peer's are `window`; nothing without one.
    pub(super) fn next_price(&self, window: u32) -> Option<u64> {
        let cost = self.first_cost()?;
        Some(if is_announced(cost, window) { ITEM_COST.into() } else { cost })
    }

    /// Whether anything of the data kind waits to be written.
    pub(super) fn has_data(&self) -> bool {
        self.opening.is_some() || !self.outbox.is_empty() || (self.ending.is_some() && !self.sent_all)
    }
}
