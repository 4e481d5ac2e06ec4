//! What becomes of events, told to those that watch.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use crate::event::message::Message;
use crate::event::subject::Subject;
use crate::wire::context::TraceContext;
use crate::wire::trace_context::TraceParent;

/// Watches the events that a process publishes and takes.
///
/// Each method is called on the thread where the thing happens, which waits for it, and does nothing unless it is written. Publishers
/// and subscribers are on threads of the program's, so that an observer of events is shared between threads; an
/// [`Observer`](crate::observer::Observer) of calls stays on its core.
pub trait EventObserver: Send + Sync {
    /// An event is about to be published. What is answered is kept until that is done.
    fn publishing(&self, _event: &Publishing<'_>) -> Option<Box<dyn Underway>> {
        None
    }

    /// A subscriber takes an event.
    fn consumed(&self, _event: &Consumed<'_>) {}
}

impl fmt::Debug for dyn EventObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventObserver")
    }
}

/// What an observer keeps of an event that is being published. It is dropped without more if nobody waits any longer.
pub trait Underway: Send {
    /// The parent that the event names in place of what it was published in: the span of the publishing.
    fn span(&self) -> Option<TraceParent> {
        None
    }

    /// The event is with its transport, or lost.
    fn ended(self: Box<Self>, _outcome: Result<(), &dyn Error>) {}
}

/// An event that is about to be published.
#[derive(Copy, Clone, Debug)]
pub struct Publishing<'a> {
    /// What it is published under.
    pub subject: &'a Subject,
    /// Bytes of its payload.
    pub bytes: usize,
    /// The trace that it is published in; empty if in none.
    pub trace: &'a TraceContext,
}

/// An event that a subscriber takes.
#[derive(Copy, Clone, Debug)]
pub struct Consumed<'a> {
    /// What was subscribed to.
    pub subject: &'a Subject,
    /// The event.
    pub message: &'a Message,
}

/// Several observers as one, each of which is told in turn. The span of an event is that of the last that has one.
impl EventObserver for Vec<Arc<dyn EventObserver>> {
    fn publishing(&self, event: &Publishing<'_>) -> Option<Box<dyn Underway>> {
        let all: Vec<_> = self.iter().filter_map(|one| one.publishing(event)).collect();
        if all.is_empty() { None } else { Some(Box::new(all)) }
    }

    fn consumed(&self, event: &Consumed<'_>) {
        self.iter().for_each(|one| one.consumed(event));
    }
}

impl Underway for Vec<Box<dyn Underway>> {
    fn span(&self) -> Option<TraceParent> {
        self.iter().rev().find_map(|one| one.span())
    }

    fn ended(self: Box<Self>, outcome: Result<(), &dyn Error>) {
        self.into_iter().for_each(|one| one.ended(outcome));
    }
}
