//! The driver's own life: jobs, wakes from elsewhere, timers, tasks, start and stop.

use std::future::{pending, poll_fn};
use std::net::TcpListener;
use std::sync::mpsc::{channel, sync_channel};
use std::task::Poll;
use std::time::Duration;

use ringplane_core::id::ConnId;
use ringplane_core::local::env::Host;
use ringplane_core::protocol::CloseReason;
use ringplane_core::time::Instant;
use ringplane_tokio::tcp::{Common, Config, Error, Given, OutOfBounds, SubmitError};

use crate::echo::{EchoHost, Event, Side};

#[test]
fn a_full_mailbox_refuses_and_takes_again_after_the_driver_caught_up() {
    let side = Side::start(Common { mailbox: 2, ..Common::default() }, Given::default());
    let (entered, inside) = channel();
    let (release, gate) = sync_channel::<()>(0);
    let hold = move |_: &_, _: &_| {
        entered.send(()).unwrap();
        gate.recv().unwrap();
    };
    side.handle.submit(hold).unwrap();
    inside.recv().unwrap();
    let mut taken = 0;
    while side.handle.submit(|_, _| {}).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 2);
    assert_eq!(side.handle.submit(|_, _| {}), Err(SubmitError::Full));
    release.send(()).unwrap();
    side.until(|stats| stats.jobs == 3);
    assert_eq!(side.handle.submit(|_, _| {}), Ok(()));
    side.stop();
}

#[test]
fn a_stopped_driver_refuses_jobs_and_has_run_those_it_took() {
    let side = Side::dialer();
    let handle = side.handle.clone();
    let (sender, ran) = channel();
    for n in 0..1000 {
        let sender = sender.clone();
        handle.submit(move |_, _| sender.send(n).unwrap()).unwrap();
    }
    drop(sender);
    side.stop();
    assert!(ran.into_iter().eq(0..1000), "in order, all of them");
    assert_eq!(handle.submit(|_, _| {}), Err(SubmitError::Stopped));
}

#[test]
fn a_machines_timer_fires_when_due_and_not_before() {
    let side = Side::dialer();
    let (sender, asked) = channel();
    side.handle
        .submit(move |host, env| {
            // A later deadline first: the timer has to move to the earlier one.
            host.with(|machine| machine.wake_at(Instant::FAR));
            let later = env.clone();
            let host = std::rc::Rc::clone(host);
            env.spawn(async move {
                let at = later.now() + Duration::from_millis(20);
                host.with(|machine| machine.wake_at(at));
                later.touch();
                sender.send(at).unwrap();
            });
        })
        .unwrap();
    let at = asked.recv().unwrap();
    let Event::Timeout(fired) = side.next() else { panic!("no timeout") };
    assert!(fired >= at, "{fired:?} before {at:?}");
    side.stop();
}

#[test]
fn sleeping_tasks_wake_in_the_order_of_their_deadlines() {
    let side = Side::dialer();
    let (sender, woken) = channel();
    side.handle
        .submit(move |_, env| {
            for millis in [30, 10, 20] {
                let (env, sender) = (env.clone(), sender.clone());
                let sleeper = env.clone();
                env.spawn(async move {
                    sleeper.sleep(Duration::from_millis(millis)).await;
                    sender.send(millis).unwrap();
                });
            }
        })
        .unwrap();
    assert_eq!(woken.into_iter().collect::<Vec<_>>(), [10, 20, 30]);
    side.stop();
}

#[test]
fn a_task_woken_by_a_foreign_thread_runs_and_what_it_says_is_written() {
    let (server, addr) = Side::listener();
    let client = Side::dialer();
    let conn = client.connected(0, addr);
    let (sender, waker) = channel();
    let (go, gone) = channel::<()>();
    client
        .handle
        .submit(move |host, env| {
            let (host, toucher) = (std::rc::Rc::clone(host), env.clone());
            env.spawn(async move {
                poll_fn(|cx| {
                    if gone.try_recv().is_ok() {
                        return Poll::Ready(());
                    }
                    sender.send(cx.waker().clone()).unwrap();
                    Poll::Pending
                })
                .await;
                host.with(|machine| machine.send(conn, &b"late"[..]));
                toucher.touch();
            });
        })
        .unwrap();
    let waker = waker.recv().unwrap();
    go.send(()).unwrap();
    waker.wake();
    assert_eq!(client.next(), Event::Bytes(conn, b"late".to_vec()));
    client.stop();
    server.stop();
}

#[test]
fn a_stop_closes_connections_and_dials_once_each_and_drops_tasks_that_hold_the_host() {
    let (server, addr) = Side::listener();
    let client = Side::dialer();
    let conns: Vec<ConnId> = (0..5).map(|n| client.connected(n, addr)).collect();
    client
        .handle
        .submit(|host, env| {
            let host = std::rc::Rc::clone(host);
            env.spawn(async move {
                pending::<()>().await;
                drop(host);
            });
        })
        .unwrap();
    let (report, rest) = client.rest();
    assert!(report.is_clean(), "{report:?}");
    let closed: Vec<_> = conns.iter().map(|conn| Event::Closed(*conn, CloseReason::Local)).collect();
    assert_eq!(rest, closed);
    let (report, rest) = server.rest();
    assert!(report.is_clean(), "{report:?}");
    let closes = rest.iter().filter(|event| matches!(event, Event::Closed(..))).count();
    assert_eq!(closes, 5, "{rest:?}");
}

#[test]
fn a_task_that_panics_is_counted_and_the_driver_goes_on() {
    let side = Side::dialer();
    side.handle.submit(|_, env| env.spawn(async { panic!("on purpose") })).unwrap();
    side.handle.submit(|_, _| {}).unwrap();
    while side.handle.stats().panics == 0 {
        let _ = side.handle.submit(|_, env| env.touch());
        std::thread::yield_now();
    }
    side.stop();
}

#[test]
fn a_job_that_panics_is_counted_and_the_driver_goes_on() {
    let side = Side::dialer();
    side.handle.submit(|_, _| panic!("on purpose")).unwrap();
    side.until(|stats| stats.panics == 1);
    side.stop();
}

#[test]
fn a_panic_of_the_machine_shows_in_the_report_and_stops_the_handle() {
    let side = Side::dialer();
    let handle = side.handle.clone();
    side.command(|machine| machine.panic_when_asked());
    let (report, _) = side.rest();
    assert!(report.failed);
    assert_eq!(handle.submit(|_, _| {}), Err(SubmitError::Stopped));
}

#[test]
fn what_cannot_start_says_why_and_leaves_no_thread() {
    fn start(common: Common, recv_buffer: usize, cpu: Option<usize>) -> Error {
        let (config, given) = (Config { recv_buffer }, Given { listener: None, cpu });
        ringplane_tokio::tcp::start::<EchoHost>("never", common, config, given, |_| panic!("on purpose")).unwrap_err()
    }
    let none = Common { mailbox: 0, ..Common::default() };
    assert!(matches!(start(none, 1, None), Error::Config(OutOfBounds { knob: "common.mailbox", .. })));
    let error = start(Common::default(), 0, None);
    assert!(matches!(error, Error::Config(OutOfBounds { knob: "tokio.recv_buffer", .. })), "{error:?}");
    assert!(matches!(start(Common::default(), 1, Some(1_000_000)), Error::Affinity { .. }));
    assert!(matches!(start(Common::default(), 1, None), Error::Panicked));
}

#[test]
fn a_stopped_listener_gives_its_address_back() {
    let (server, addr) = Side::listener();
    let client = Side::dialer();
    client.connected(0, addr);
    client.stop();
    server.stop();
    // Not even a lingering accept socket holds it: the dialer closed first and owns the TIME_WAIT.
    TcpListener::bind(addr).unwrap();
}
