//! A call that has been sent in Dynamo's protocol, and where its streams meet.

use core::net::SocketAddr;

use crate::buf::slab::Key;
use crate::caller::config::CallHome;
use crate::caller::dynamo::window::Posted;
use crate::caller::phase::Phase;
use crate::caller::pool::Loss;
use crate::dynamo::subjects::Subject;
use crate::time::Instant;
use crate::wire::codec::Codec;

/// A call that has been sent in Dynamo's protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::caller) struct Sent {
    pub(in crate::caller) by: Via,
    pub(in crate::caller) subject: Subject,
    pub(in crate::caller) codec: Codec,
    /// The connection that brings its response.
    pub(in crate::caller) home: Option<Key>,
    pub(in crate::caller) phase: Phase,
    /// Where its items are fetched, if it has any number of them.
    pub(in crate::caller) feed: Option<Feed>,
    /// How and when its request connection was lost, if that was after the worker had taken it.
    pub(in crate::caller) lost: Option<(Loss, Instant)>,
}

impl Sent {
    /// Whether the worker has taken it and has not come home with the response.
    pub(in crate::caller) fn is_awaited_home(&self) -> bool {
        self.phase == Phase::Accepted && self.home.is_none()
    }

    /// Until when it waits for the first word of its response, the worker having taken it at `since`.
    pub(in crate::caller) fn home_until(&self, since: Instant, config: &CallHome) -> Instant {
        let patience = since + config.patience();
        self.lost.filter(|_| self.is_awaited_home()).map_or(patience, |(_, at)| patience.min(at + config.lost_timeout))
    }

    /// The request connection it stands on.
    pub(in crate::caller) const fn link(&self) -> Option<Key> {
        match self.by {
            Via::Link(link) => Some(link),
            Via::Carrier(_) => None,
        }
    }
}

/// What the request went by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(in crate::caller) enum Via {
    /// A request connection.
    Link(Key),
    /// A carrier outside this machine.
    Carrier(Posted),
}

/// The request stream of a call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(in crate::caller) struct Feed {
    pub(in crate::caller) subject: Subject,
    /// The connection on which the worker fetches the items.
    pub(in crate::caller) link: Option<Key>,
}

/// Where a call's streams meet.
pub(in crate::caller) struct Home {
    pub(in crate::caller) listener: SocketAddr,
    pub(in crate::caller) subject: Subject,
    /// Of the request's stream, if it is one.
    pub(in crate::caller) feed: Option<Subject>,
}
