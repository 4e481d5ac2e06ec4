//! Starting a driver, and the course of its thread.

use std::io;
use std::panic::resume_unwind;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use ringplane_core::local::env::{Env, Host};
use ringplane_driver::clock::Clock;
use ringplane_driver::config::{Common, Given};
use ringplane_driver::cpu;
use ringplane_driver::drain::PATIENCE;
use ringplane_driver::executor::Executor;
use ringplane_driver::handle::{Driver, Ready, Report, launch};
use ringplane_driver::mailbox::Inbox;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::tcp::config::{Config, Error};
use crate::tcp::gauge::Gauge;
use crate::tcp::net::Net;
use crate::tcp::ready::ReadyList;
use crate::tcp::turn::{Beside, Loop, Timer};

/// Tasks tokio polls before it looks at the sockets again. Its default of 61 is meant for smaller tasks than a turn.
const EVENT_INTERVAL: u32 = 31;

/// Starts a driver: a thread called `name` with a tokio of its own, which accepts and stays where `given` says. `make` runs on
/// that thread and makes the host, the machine and what surrounds it; it may already spawn tasks. Returns once the host exists and
/// the listener, if there is one, accepts.
///
/// # Errors
/// See [`Error`]. Nothing keeps running then.
pub fn start<H: Host>(
    name: &str,
    common: Common,
    config: Config,
    given: Given,
    make: impl FnOnce(&Env) -> Rc<H> + Send + 'static,
) -> Result<Driver<H>, Error> {
    common.validate()?;
    config.validate()?;
    let list = Arc::new(ReadyList::default());
    let body = move |inbox, ready: &Ready<Error>| live(&common, &config, given, inbox, make, ready);
    Ok(launch(name, common.mailbox, list, body)?)
}

fn live<H: Host>(
    common: &Common,
    config: &Config,
    given: Given,
    inbox: Inbox<H, Arc<ReadyList>>,
    make: impl FnOnce(&Env) -> Rc<H>,
    ready: &Ready<Error>,
) -> Report {
    let pin = |cpu| cpu::pin(cpu).map_err(|source| Error::Affinity { cpu, source });
    match given.cpu.map_or(Ok(()), pin).and_then(|()| runtime()) {
        Ok(runtime) => {
            let net = |list, clock, gauge| Net::new(common, config, given.listener, list, clock, gauge);
            drive(runtime, net, inbox, make, ready)
        }
        Err(error) => {
            ready.tell(Err(error));
            Report::default()
        }
    }
}

fn drive<H: Host>(
    runtime: LocalRuntime,
    net: impl FnOnce(Arc<ReadyList>, Rc<Clock>, Gauge) -> io::Result<Net>,
    inbox: Inbox<H, Arc<ReadyList>>,
    make: impl FnOnce(&Env) -> Rc<H>,
    ready: &Ready<Error>,
) -> Report {
    let connections = Gauge::default();
    let executor = Executor::new(inbox.bell().clone());
    let tasks = executor.clone();
    let mut host = Weak::new();
    let outcome = runtime.block_on(async {
        let clock = Rc::new(Clock::start());
        let list = inbox.bell().waker().clone();
        let net = match net(list, clock.clone(), connections.clone()) {
            Ok(net) => net,
            Err(error) => {
                ready.tell(Err(Error::Listener(error)));
                return Ok(());
            }
        };
        let work = assemble(inbox, executor, net, clock, make);
        host = Rc::downgrade(&work.host);
        ready.tell(Ok(()));
        // As a task and not as the root future: tokio wakes the root with a system call, a task without.
        tokio::task::spawn_local(tokio::task::unconstrained(work.run())).await
    });
    // Of a loop that broke off there are some.
    let tasks = tasks.clear(PATIENCE);
    // What lingers beyond its time goes with it.
    drop(runtime);
    if let Err(error) = outcome
        && error.is_panic()
    {
        resume_unwind(error.into_panic());
    }
    Report { connections: connections.count(), tasks, hosts: host.strong_count(), ..Report::default() }
}

/// The loop of the machine that `make` builds. Needs a running tokio.
pub(crate) fn assemble<H: Host>(
    inbox: Inbox<H, Arc<ReadyList>>,
    executor: Executor<Arc<ReadyList>>,
    net: Net,
    clock: Rc<Clock>,
    make: impl FnOnce(&Env) -> Rc<H>,
) -> Loop<H> {
    let beside = Rc::new(Beside::default());
    let env = environment(&clock, &executor, &beside, inbox.bell().waker());
    let host = make(&env);
    let timer = Timer::new(clock.epoch());
    Loop { host, env, clock, beside, inbox, executor, net, timer }
}

fn environment(
    clock: &Rc<Clock>,
    executor: &Executor<Arc<ReadyList>>,
    beside: &Rc<Beside>,
    list: &Arc<ReadyList>,
) -> Env {
    let (clock, spawner) = (clock.clone(), executor.clone());
    let (beside, list) = (beside.clone(), list.clone());
    let touch = move || {
        if !beside.touched.replace(true) && !beside.in_turn.get() {
            list.wake_driver();
        }
    };
    Env::new(move || clock.read(), move |task| spawner.spawn(task), touch)
}

fn runtime() -> Result<LocalRuntime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .thread_keep_alive(Duration::from_secs(1))
        .build_local(LocalOptions::default())
        .map_err(Error::Runtime)
}
