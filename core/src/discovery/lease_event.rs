//! What passes between a lease and its owner: what the registry is asked, what it answers, what became of the records.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::discovery::trouble::Cause;

/// A lease of the registry.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseId(pub i64);

/// What the driver shall do. Every action is answered once with its attempt, or with [`Lease::handle_failed`](crate::discovery::lease::Lease::handle_failed).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Get a lease: [`Lease::handle_granted`](crate::discovery::lease::Lease::handle_granted).
    Grant {
        /// Goes back with the answer.
        attempt: u64,
        /// The id that records carry: the best choice, if it is free.
        wish: Option<LeaseId>,
        /// Life without renewal.
        ttl: Duration,
    },
    /// Renew: [`Lease::handle_renewed`](crate::discovery::lease::Lease::handle_renewed).
    Renew {
        /// Goes back with the answer.
        attempt: u64,
        /// Which.
        lease: LeaseId,
    },
    /// Write a record, unless there is one; then answer with that: [`Lease::handle_written`](crate::discovery::lease::Lease::handle_written).
    Create {
        /// Goes back with the answer.
        attempt: u64,
        /// The whole key.
        key: String,
        /// What it shall hold.
        value: Vec<u8>,
        /// Under which lease.
        lease: LeaseId,
    },
    /// Put our own record under another lease, if it has not changed since: [`Lease::handle_written`](crate::discovery::lease::Lease::handle_written).
    Adopt {
        /// Goes back with the answer.
        attempt: u64,
        /// The whole key.
        key: String,
        /// What it holds and shall hold.
        value: Vec<u8>,
        /// Under which lease.
        lease: LeaseId,
        /// The revision it was last changed in.
        revision: u64,
    },
    /// Remove a record if it holds this: [`Lease::handle_removed`](crate::discovery::lease::Lease::handle_removed).
    Remove {
        /// Goes back with the answer.
        attempt: u64,
        /// The whole key.
        key: String,
        /// What it must hold.
        value: Vec<u8>,
    },
}

/// What is at a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its value.
    pub value: Vec<u8>,
    /// The lease it is under, if any.
    pub lease: Option<LeaseId>,
    /// The revision it was last changed in.
    pub revision: u64,
}

/// The answer to [`Action::Create`] and [`Action::Adopt`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// The record is there, under our lease, by this action.
    Done,
    /// Nothing was written: this is there.
    Exists(Found),
    /// Nothing was written: the record has changed or gone meanwhile.
    Changed,
    /// Nothing was written: there is no such lease.
    NoLease,
}

/// Something the owner should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// There is a lease.
    Granted(LeaseId),
    /// The registry has forgotten the lease. Serving goes on; a new one is asked for.
    Lost(LeaseId),
    /// The record is there.
    Registered {
        /// Its key.
        key: String,
        /// Whether it had been there before: somebody removed it, or the lease was lost.
        again: bool,
    },
    /// Somebody else's value is at the key, which does not serve. It is left alone and tried again at every check.
    Foreign {
        /// The key.
        key: String,
    },
    /// The record is gone at our wish.
    Removed {
        /// Its key.
        key: String,
    },
    /// The registry does not let us write a record that was never there. It is tried again all the same.
    Refused {
        /// The key.
        key: String,
        /// What it says.
        cause: Cause,
    },
    /// Something is not done and will be tried again: told when that begins and when its cause changes.
    Failing(Cause),
    /// Everything that was failing is done.
    Recovered,
}

/// Whether what was found at a whole key does as well as our own value: `serves(key, ours, found)`.
pub type Serves = fn(&str, &[u8], &[u8]) -> bool;

/// What became of the wish to register.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// It will be written.
    New,
    /// This process has the same record already, or will have: it stays until both are taken back.
    Shared,
    /// This process has another record there.
    Taken,
}
