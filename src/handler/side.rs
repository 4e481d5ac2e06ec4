//! Where a handler runs, and what differs there: how items come and go, and whether its future may move.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::local::{Failure, SendItemError};
use ringplane_core::worker::job::Cause;

/// Where a handler runs: [`Local`] or [`Remote`].
pub trait Side: Sides {}

/// On the core that received the request, where nothing blocks. Its future stays there, so it need not be `Send`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Local;

/// On a tokio runtime of the user's own. Its future is `Send`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Remote;

impl Side for Local {}
impl Side for Remote {}

/// What a [`Side`] is made of. Not to be implemented elsewhere.
#[expect(
    unnameable_types,
    reason = "the sides are sealed: users name `Local` and `Remote`, never what a side is made of"
)]
pub trait Sides: Sized + 'static {
    /// The items of a request.
    type Items: Items;
    /// The way back to the caller.
    type Out: Out;
    /// What a handler's answer is until it is there.
    type Future: Future<Output = Result<(), Failure>>;
}

/// The items of a request as they come.
#[expect(
    unnameable_types,
    reason = "the sides are sealed: users name `Local` and `Remote`, never what a side is made of"
)]
pub trait Items: Debug {
    /// The next one; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Failure>>;

    /// The next ones, as many as are there, one at least and `max` at most, which is not 0. Says how many; 0 after the last.
    fn next_batch(&mut self, items: &mut Vec<Bytes>, max: usize) -> impl Future<Output = Result<usize, Failure>>;

    /// Time left until the caller gives up.
    fn remaining(&self) -> Option<Duration>;
}

/// The way back to a caller.
#[expect(
    unnameable_types,
    reason = "the sides are sealed: users name `Local` and `Remote`, never what a side is made of"
)]
pub trait Out: Clone + Debug {
    /// Sends an item, waiting for room.
    fn send(&self, item: Bytes) -> impl Future<Output = Result<(), SendItemError>>;

    /// Sends items, waiting for room. Those that have been sent are gone from `items`, however it ends.
    fn send_many(&self, items: &mut Vec<Bytes>) -> impl Future<Output = Result<(), SendItemError>>;

    /// Completes when the call is cancelled.
    fn cancelled(&self) -> impl Future<Output = Cause>;

    /// Why the call is cancelled, if it is.
    fn cause(&self) -> Option<Cause>;

    /// Time left until the caller gives up.
    fn remaining(&self) -> Option<Duration>;

    /// Completes after a while.
    fn sleep(&self, after: Duration) -> impl Future<Output = ()>;
}
