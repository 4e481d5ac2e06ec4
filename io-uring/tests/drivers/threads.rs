//! Jobs, tasks, timers, panics: everything that is not bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc::{channel, sync_channel};
use std::time::Duration;

use ringplane_core::local::Host;
use ringplane_core::time::Instant;
use ringplane_io_uring::{Common, Config, Error, Given, OutOfBounds, SubmitError, start};

use crate::toy::{Event, Knobs, Node, PATIENCE, Role, ToyHost, few, small};

#[test]
fn a_full_mailbox_says_so_and_a_stopped_driver_too() {
    let node = Node::start(Role::Record, Common { mailbox: 2, ..few() });
    let (hold, held) = sync_channel::<()>(0);
    let (running, runs) = sync_channel::<()>(0);
    node.handle
        .submit(move |_, _| {
            running.send(()).unwrap();
            held.recv().unwrap();
        })
        .unwrap();
    runs.recv_timeout(PATIENCE).unwrap();
    let handle = node.handle.clone();
    assert_eq!([(); 3].map(|()| handle.submit(|_, _| {})), [Ok(()), Ok(()), Err(SubmitError::Full)]);
    hold.send(()).unwrap();
    node.until(|stats| stats.jobs == 3);
    node.stop();
    assert_eq!(handle.submit(|_, _| {}), Err(SubmitError::Stopped));
}

#[test]
fn a_stopped_driver_refuses_jobs_and_has_run_those_it_took() {
    let node = Node::start(Role::Record, small());
    let handle = node.handle.clone();
    let (sender, ran) = channel();
    for n in 0..1000 {
        let sender = sender.clone();
        handle.submit(move |_, _| sender.send(n).unwrap()).unwrap();
    }
    drop(sender);
    node.driver.halt();
    assert!(handle.is_stopped());
    assert_eq!(handle.submit(|_, _| {}), Err(SubmitError::Stopped));
    node.stop();
    assert!(ran.into_iter().eq(0..1000), "in order, all of them");
    assert!(handle.stats().jobs == 1000, "counters stay");
}

#[test]
fn a_task_woken_by_another_thread_goes_on() {
    let node = Node::start(Role::Record, small());
    let (questions, inbox) = async_channel::bounded::<u32>(1);
    let (answers, outbox) = channel();
    node.handle
        .submit(move |_, env| {
            env.spawn(async move {
                while let Ok(n) = inbox.recv().await {
                    answers.send(n * 2).unwrap();
                }
            });
        })
        .unwrap();
    for n in 0..2000 {
        questions.send_blocking(n).unwrap();
        assert_eq!(outbox.recv_timeout(PATIENCE), Ok(n * 2));
    }
    drop(questions);
    node.until(|stats| stats.tasks == 0);
    node.stop();
}

#[test]
fn jobs_from_many_threads_all_run() {
    let node = Node::start(Role::Record, small());
    let (sender, receiver) = channel();
    let threads = (0..4u32).map(|thread| {
        let (handle, sender) = (node.handle.clone(), sender.clone());
        std::thread::spawn(move || {
            for n in 0..5000 {
                let job = || {
                    let sender = sender.clone();
                    handle.submit(move |_, _| sender.send(thread * 5000 + n).unwrap())
                };
                while job() == Err(SubmitError::Full) {
                    std::thread::yield_now();
                }
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    let mut seen: Vec<u32> = (0..20_000).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..20_000));
    node.stop();
}

#[test]
fn ten_thousand_tasks_sleep_and_finish() {
    let node = Node::start(Role::Record, small());
    let (sender, receiver) = channel();
    node.handle
        .submit(move |_, env| {
            let done = Rc::new(Cell::new(0));
            for n in 0..10_000u64 {
                let (inner, done, sender) = (env.clone(), done.clone(), sender.clone());
                env.spawn(async move {
                    inner.sleep(Duration::from_micros(n % 977)).await;
                    done.set(done.get() + 1);
                    if done.get() == 10_000 {
                        sender.send(()).unwrap();
                    }
                });
            }
        })
        .unwrap();
    receiver.recv_timeout(PATIENCE).unwrap();
    node.until(|stats| stats.tasks == 0);
    node.stop();
}

#[test]
fn timers_fire_in_order_and_never_early() {
    let node = Node::start(Role::Record, small());
    let (sender, receiver) = channel();
    node.handle
        .submit(move |_, env| {
            let order = Rc::new(RefCell::new(Vec::new()));
            for millis in [30u64, 10, 20, 0] {
                let (inner, sender, order) = (env.clone(), sender.clone(), order.clone());
                env.spawn(async move {
                    let start = inner.now();
                    inner.sleep(Duration::from_millis(millis)).await;
                    assert!(inner.now().since(start) >= Duration::from_millis(millis));
                    order.borrow_mut().push(millis);
                    sender.send(order.borrow().clone()).unwrap();
                });
            }
        })
        .unwrap();
    let all: Vec<_> = (0..4).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(all[3], [0, 10, 20, 30]);
    node.stop();
}

#[test]
fn the_machine_is_woken_at_its_deadline_and_an_idle_driver_sleeps() {
    let node = Node::start(Role::Record, small());
    let (sender, receiver) = channel();
    node.handle
        .submit(move |host, env| {
            let at = env.now() + Duration::from_millis(20);
            host.with(|toy| toy.set_deadline(at));
            sender.send(at).unwrap();
        })
        .unwrap();
    let at = receiver.recv_timeout(PATIENCE).unwrap();
    let turns = node.until(|stats| stats.jobs == 1).turns;
    assert_eq!(node.next(), Event::Timeout);
    let (sender, receiver) = channel::<Instant>();
    node.handle.submit(move |_, env| sender.send(env.now()).unwrap()).unwrap();
    assert!(receiver.recv_timeout(PATIENCE).unwrap() >= at);
    assert!(node.handle.stats().turns < turns + 20, "it must not have turned idly");
    node.stop();
}

#[test]
fn a_spinning_driver_answers_and_stops_as_well() {
    let own = Config { spin: Duration::from_micros(50), ..small() };
    let node = Node::start(Role::Echo, Knobs { common: few(), own, cpu: Some(0) });
    let mut stream = std::net::TcpStream::connect(node.addr).unwrap();
    for n in 0..200u8 {
        std::io::Write::write_all(&mut stream, &[n]).unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
        assert_eq!(byte, [n]);
    }
    node.stop();
}

#[test]
fn panicking_tasks_and_jobs_are_counted_and_the_driver_goes_on() {
    let node = Node::start(Role::Record, small());
    node.handle.submit(|_, _| panic!("on purpose")).unwrap();
    node.handle.submit(|_, env| env.spawn(async { panic!("on purpose") })).unwrap();
    node.until(|stats| stats.panics == 2);
    node.stop();
}

#[test]
fn a_panicking_machine_ends_its_driver_and_leaves_nothing_in_the_kernel() {
    let node = Node::start(Role::Panic, small());
    let mut stream = std::net::TcpStream::connect(node.addr).unwrap();
    std::io::Write::write_all(&mut stream, b"x").unwrap();
    let start = std::time::Instant::now();
    while node.handle.submit(|_, _| {}) != Err(SubmitError::Stopped) {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let report = node.driver.stop();
    assert!(report.failed);
    assert_eq!((report.ops_in_flight, report.connections, report.descriptors), (0, 0, 0));
}

#[test]
fn a_driver_that_cannot_start_says_why() {
    let start = |common, cpu, panics: bool| {
        start::<ToyHost>("refused", common, small(), Given { listener: None, cpu }, move |_| {
            assert!(!panics, "on purpose");
            unreachable!("not reached in the other cases")
        })
        .unwrap_err()
    };
    assert_eq!(start(few(), Some(1000), true), Error::Pin { cpu: 1000, errno: 22 });
    let error = start(Common { mailbox: 0, ..few() }, None, true);
    assert!(matches!(error, Error::Config(OutOfBounds { knob: "common.mailbox", .. })), "{error:?}");
    assert_eq!(start(few(), None, true), Error::Make);
}
