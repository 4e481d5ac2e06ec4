//! A driver on its caller's own thread: one future among those that the caller's tokio runs.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ringplane_core::local::env::{Env, Host};
use ringplane_driver::clock::Clock;
use ringplane_driver::config::Common;
use ringplane_driver::drain::PATIENCE;
use ringplane_driver::executor::Executor;
use ringplane_driver::handle::{Driver, Farewell, Report, attach};
use tokio::runtime;

use crate::tcp::config::{Config, Error};
use crate::tcp::gauge::Gauge;
use crate::tcp::net::Net;
use crate::tcp::ready::ReadyList;
use crate::tcp::start::assemble;

/// Makes a driver without a thread. It runs while the future is polled, which is to be done on this thread, in this tokio, and
/// without long pauses: beside tasks that block, it is not heard. It ends when the driver is stopped; dropping it before
/// breaks its connections off. `make` runs at once; it may already spawn tasks.
///
/// # Errors
/// See [`Error`]; [`Error::Runtime`] outside of a tokio runtime.
///
/// # Panics
/// If the runtime has been built without sockets or timers.
pub fn here<H: Host>(
    common: Common,
    config: Config,
    listener: Option<TcpListener>,
    make: impl FnOnce(&Env) -> Rc<H>,
) -> Result<(Driver<H>, Here<H>), Error> {
    common.validate()?;
    config.validate()?;
    runtime::Handle::try_current().map_err(|error| Error::Runtime(io::Error::other(error)))?;
    let list = Arc::new(ReadyList::default());
    let (driver, inbox, farewell) = attach(common.mailbox, list.clone());
    let (clock, connections) = (Rc::new(Clock::start()), Gauge::default());
    let net =
        Net::new(&common, &config, listener, list, clock.clone(), connections.clone()).map_err(Error::Listener)?;
    let executor = Executor::new(inbox.bell().clone());
    let work = assemble(inbox, executor.clone(), net, clock, make);
    // Until its first turn this is a thread like any other.
    executor.retire();
    let end = End { executor, connections, host: Rc::downgrade(&work.host), farewell, in_poll: false };
    Ok((driver, Here { run: Box::pin(tokio::task::unconstrained(work.run())), end }))
}

/// A driver as a future; see [`here`].
pub struct Here<H: Host> {
    // Dropped first: what is counted at the end is what it has left.
    run: Pin<Box<dyn Future<Output = ()>>>,
    end: End<H>,
}

impl<H: Host> fmt::Debug for Here<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").finish_non_exhaustive()
    }
}

impl<H: Host> Future for Here<H> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.end.in_poll = true;
        let polled = self.run.as_mut().poll(cx);
        self.end.in_poll = false;
        ready!(polled);
        self.end.tell();
        Poll::Ready(())
    }
}

/// Counts what is left when the driver has ended, or has been dropped.
struct End<H> {
    executor: Executor<Arc<ReadyList>>,
    connections: Gauge,
    host: Weak<H>,
    farewell: Farewell,
    /// Still set if a poll has panicked.
    in_poll: bool,
}

impl<H> End<H> {
    fn tell(&self) {
        let tasks = self.executor.clear(PATIENCE);
        self.farewell.tell(Report {
            connections: self.connections.count(),
            tasks,
            hosts: self.host.strong_count(),
            failed: self.in_poll,
            ..Report::default()
        });
    }
}

impl<H> Drop for End<H> {
    fn drop(&mut self) {
        self.tell();
    }
}
