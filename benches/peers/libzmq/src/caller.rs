//! The load: the generator's tasks between two looks at the sockets, all on one thread.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt;
use ringplane_benches::engine::Result;
use ringplane_benches::load::{Client, Runtime, generate};
use ringplane_benches::measure::{Measured, Plan};
use ringplane_benches::numbered::{Part, Reply, Waiting, parse};
use ringplane_benches::scenario::{Scenario, address};
use zmq::{Context, DEALER, Message, POLLIN, Socket, poll};

use crate::engine::{TURN, receive, send, socket};
use crate::timers::{Timers, millis};

/// Makes the scenario's calls.
pub(crate) fn load(scenario: &Scenario, server: SocketAddr, plan: &Plan) -> Result<Measured> {
    let mut pool = LocalPool::new();
    let hub = Hub {
        context: Context::new(),
        server,
        dealers: Rc::new(RefCell::new((0..scenario.all_connections()).map(|_| None).collect())),
        timers: Rc::default(),
        spawner: pool.spawner(),
    };
    let measured = Rc::new(Cell::new(None));
    let (done, scenario, plan, client) = (measured.clone(), scenario.clone(), *plan, hub.clone());
    pool.spawner().spawn_local(async move {
        let runtime = client.clone();
        done.set(Some(generate(&scenario, &plan, client, runtime).await));
    })?;
    loop {
        pool.run_until_stalled();
        if let Some(measured) = measured.take() {
            // Sockets with answers still to come close when the process ends.
            std::mem::forget((pool, hub));
            return Ok(measured);
        }
        let mut any = hub.fire();
        any |= hub.read()?;
        if !any {
            hub.wait()?;
        }
    }
}

/// Sockets and timers, which the generator's tasks and the loop share.
#[derive(Clone)]
struct Hub {
    context: Context,
    server: SocketAddr,
    dealers: Rc<RefCell<Vec<Option<Dealer>>>>,
    timers: Rc<RefCell<Timers<Waker>>>,
    spawner: LocalSpawner,
}

/// A connection, and the calls that wait for it.
struct Dealer {
    socket: Socket,
    waiting: Waiting,
}

impl Hub {
    /// Wakes what is due.
    fn fire(&self) -> bool {
        let (mut any, now) = (false, Instant::now());
        while let Some(waker) = self.timers.borrow_mut().due(now) {
            waker.wake();
            any = true;
        }
        any
    }

    /// Reads what has come.
    fn read(&self) -> Result<bool> {
        let mut any = false;
        for dealer in self.dealers.borrow().iter().flatten() {
            for _ in 0..TURN {
                let Some(first) = receive(&dealer.socket)? else { break };
                any = true;
                let more = first.get_more();
                let (number, part, small) = parse(&first)?;
                let payload = if more {
                    Bytes::from_owner(Owned(dealer.socket.recv_msg(0)?))
                } else {
                    Bytes::copy_from_slice(small)
                };
                dealer.waiting.deliver(number, part, payload);
            }
        }
        Ok(any)
    }

    /// Sleeps until a message comes or something is due.
    fn wait(&self) -> Result<()> {
        let dealers = self.dealers.borrow();
        let mut items: Vec<_> = dealers.iter().flatten().map(|dealer| dealer.socket.as_poll_item(POLLIN)).collect();
        poll(&mut items, millis(self.timers.borrow().next()))?;
        Ok(())
    }
}

/// A message as the owner of bytes.
struct Owned(Message);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Client for Hub {
    type Call = Reply;

    async fn call(&self, connection: usize, request: Bytes) -> Result<Reply> {
        let mut dealers = self.dealers.borrow_mut();
        let slot = dealers.get_mut(connection).ok_or("no such connection")?;
        let dealer = match slot {
            Some(dealer) => dealer,
            None => {
                let socket = socket(&self.context, DEALER)?;
                socket.connect(&format!("tcp://{}", address(self.server, connection)))?;
                slot.insert(Dealer { socket, waiting: Waiting::default() })
            }
        };
        let (number, reply) = dealer.waiting.open();
        send(&dealer.socket, number, Part::Item, &request)?;
        Ok(reply)
    }
}

impl Runtime for Hub {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // The pool lives as long as the load.
        let _ = self.spawner.spawn_local(task);
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> {
        let timers = self.timers.clone();
        poll_fn(move |cx| {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            timers.borrow_mut().push(at, cx.waker().clone());
            Poll::Pending
        })
    }
}
