//! What hostile Dynamo peers can make a process spend: memory, processor time, connections. Each in a process of its own.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringplane::{CallError, CallRequest, DriverChoice, Request, Responder, Worker};
use ringplane_core::wire::{Ack, Format, Limits, Parse};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::facade::child::in_children;
use crate::facade::dynamo::{Caller, NAME, emit};
use crate::facade::raw_worker::{Asked, FINAL, RawWorker, SENTINEL, frame, item, patiently, then_listen};
use crate::facade::support::{
    both, connect, drivers, end_client, end_worker, on, place, processor_time, resident, runtime, serve, until,
    until_client, until_worker,
};

/// Runs in a child on each driver.
fn each(scenario: impl AsyncFn(DriverChoice)) {
    in_children(&["io-uring", "tokio"], |role| {
        let driver = role.parse().unwrap();
        if drivers().any(|known| known == driver) {
            runtime().block_on(scenario(driver));
        }
    });
}

async fn endless(_: Request, out: Responder) -> Result<(), ringplane::Failure> {
    loop {
        out.send("0").await?;
    }
}

/// Writes from a thread while the runtime goes on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[test]
fn a_caller_that_reads_nothing_makes_a_worker_hold_its_bounds_and_no_more() {
    each(async |driver| {
        let mut config = on(driver);
        config.worker.requests.send_timeout = Duration::from_secs(2);
        config.worker.responses.send_timeout = Duration::from_secs(2);
        let worker = serve(Worker::builder().endpoint(NAME, endless), &place(), config).await;
        let (addr, before) = (worker.addr(), resident());

        // Paths of 60 kB that nobody serves, echoed in acks that nobody reads.
        let long = emit(&ringplane_core::wire::Request { path: &[b'p'; 60_000], headers: b"", payload: b"" });
        let mut socket = blocking(move || {
            let mut socket = TcpStream::connect(addr).unwrap();
            let _ = (0..1000).try_for_each(|_| socket.write_all(&long));
            socket
        })
        .await;
        until_worker("all of them are answered", &worker, |now| now.served.refused >= 1000).await;
        let after_paths = resident().saturating_sub(before);

        // Short ones, until the worker has had enough.
        let short = emit(&ringplane_core::wire::Request { path: b"p", headers: b"", payload: b"" }).repeat(1000);
        blocking(move || while socket.write_all(&short).is_ok() {}).await;
        until_worker("it is cut off", &worker, |now| now.worker.connections == 0).await;
        let after_acks = resident().saturating_sub(before);

        // Responses that nobody reads, of items as small as they can be.
        let mut caller = Caller::new(&worker, NAME);
        let (caller, homes) = blocking(move || {
            let mut homes = Vec::new();
            for _ in 0..50 {
                caller.requests.write_all(&caller.frame("unread", "1")).unwrap();
                assert_eq!(caller.ack(), "");
                homes.push(caller.home.accept().unwrap());
            }
            (caller, homes)
        })
        .await;
        let full = until_worker("nothing moves any more", &worker, |now| now.worker.jobs == 0).await;
        let after_items = resident().saturating_sub(before);
        println!("measured: {driver:?}: {after_paths}, {after_acks}, {after_items} bytes more; {:?}", full.served);
        assert!(after_paths < 16 << 20 && after_acks < 16 << 20, "{driver:?}: {after_paths} {after_acks}");
        // 256 KiB of items each, and what the driver has in its hands.
        assert!(after_items < 64 << 20, "{driver:?}: {after_items}");
        drop((caller, homes));
        end_worker(worker).await;
    });
}

#[test]
fn requests_by_the_thousand_at_once_are_all_answered_if_their_caller_reads_its_acks() {
    const COUNT: usize = 20_000;
    both(async |driver| {
        let worker = serve(Worker::builder().endpoint(NAME, endless), &place(), on(driver)).await;
        let addr = worker.addr();
        let all =
            emit(&ringplane_core::wire::Request { path: b"nobody/is/here", headers: b"", payload: b"" }).repeat(COUNT);
        let answered = blocking(move || {
            let mut socket = TcpStream::connect(addr).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            // It is done with writing, and says so, before it reads.
            socket.write_all(&all).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            let mut acks = Vec::new();
            socket.read_to_end(&mut acks).unwrap();
            let (mut rest, mut count) = (acks.as_slice(), 0);
            while let Ok(Parse::Complete { value, used }) = Ack::parse(rest, &Limits::default()) {
                assert!(value.text().ends_with(b"nobody/is/here"));
                rest = &rest[used..];
                count += 1;
            }
            count
        })
        .await;
        assert_eq!(answered, COUNT, "{driver:?}");
        let after = until_worker("it is gone", &worker, |now| now.worker.connections == 0).await;
        assert_eq!((after.served.refused, after.served.faults), (COUNT as u64, 0));
        end_worker(worker).await;
    });
}

#[test]
fn requests_by_the_thousand_of_a_caller_far_ahead_of_its_acks_wait_and_are_all_answered_in_order() {
    const COUNT: usize = 240_000;
    each(async |driver| {
        let worker = serve(Worker::builder().endpoint(NAME, endless), &place(), on(driver)).await;
        let path = |number: usize| format!("nobody/{number:0>180}");
        let socket = TcpStream::connect(worker.addr()).unwrap();
        let stuck = std::sync::Arc::new(AtomicBool::new(false));
        let before = resident();
        // 48 MB, of which the kernel takes some; it reads once it is held back.
        let writing = tokio::task::spawn_blocking({
            let (mut socket, stuck) = (socket.try_clone().unwrap(), stuck.clone());
            move || {
                let whole = (0..COUNT / 1000).all(|thousand| {
                    let paths = (0..1000).map(|number| path(thousand * 1000 + number));
                    let frames = paths.flat_map(|path| {
                        emit(&ringplane_core::wire::Request { path: path.as_bytes(), headers: b"", payload: b"" })
                    });
                    patiently(&mut socket, &frames.collect::<Vec<u8>>(), || stuck.store(true, Ordering::SeqCst))
                });
                socket.shutdown(Shutdown::Write).unwrap();
                whole
            }
        });
        until("the caller is held back", || stuck.load(Ordering::SeqCst)).await;
        let held = resident().saturating_sub(before);
        let answered = blocking(move || {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let (mut reader, mut ack, mut count) = (std::io::BufReader::new(socket), vec![0; 4], 0);
            while reader.read_exact(&mut ack[..4]).is_ok() {
                ack.resize(4 + u32::from_be_bytes(ack[..4].try_into().unwrap()) as usize, 0);
                reader.read_exact(&mut ack[4..]).unwrap();
                assert!(ack.ends_with(path(count).as_bytes()), "ack {count}: {}", String::from_utf8_lossy(&ack));
                count += 1;
            }
            count
        })
        .await;
        assert_eq!((answered, writing.await.unwrap()), (COUNT, true), "{driver:?}");
        println!("measured: {driver:?}: {held} bytes more while the caller is held back");
        assert!(held < 16 << 20, "{driver:?}: {held}");
        let after = until_worker("it is gone", &worker, |now| now.worker.connections == 0).await;
        assert_eq!((after.served.refused, after.served.faults), (COUNT as u64, 0));
        end_worker(worker).await;
    });
}

/// Scripts by the request's body.
fn play(asked: &Asked) {
    match asked.body.as_str() {
        "good" => then_listen(asked.start(), &[item("1"), frame(b"", FINAL), frame(SENTINEL, b"")].concat()),
        "two acks" => {
            asked.ack("");
            then_listen(asked.start(), &[item("1"), frame(b"", FINAL), frame(SENTINEL, b"")].concat());
        }
        "many acks" => asked.say(&[0; 400]),
        "silent" => then_listen(asked.start(), &item("1")),
        _ => asked.ack(""),
    }
}

async fn good(client: &ringplane::Client) {
    let call = client.call(CallRequest::new(NAME, "good").with_timeout(Duration::from_secs(20))).unwrap();
    assert_eq!(call.collect().await.unwrap(), ["1"]);
}

#[test]
fn items_that_nobody_reads_make_a_caller_hold_its_mark_and_the_worker_wait() {
    each(async |driver| {
        const BOUND: usize = 16 << 20;
        let (place, stuck) = (place(), std::sync::Arc::new(AtomicBool::new(false)));
        let mut worker = RawWorker::new({
            let stuck = stuck.clone();
            move |asked| {
                if asked.body == "tiny" {
                    let (mut socket, many) = (asked.start(), item("0").repeat(1000));
                    while patiently(&mut socket, &many, || stuck.store(true, Ordering::SeqCst)) {}
                } else {
                    play(asked);
                }
            }
        });
        worker.advertise(NAME, &place).await;
        let mut config = on(driver);
        config.caller.call_home.max_unread = BOUND;
        let client = connect(&place, config);
        good(&client).await;
        let before = resident();
        let mut call = client.call(CallRequest::new(NAME, "tiny")).unwrap();
        let most = Cell::new(0);
        until("the worker is held back", || {
            most.set(most.get().max(resident().saturating_sub(before)));
            stuck.load(Ordering::SeqCst)
        })
        .await;
        let most = most.get();
        println!("measured: {driver:?}: {most} bytes more for a bound of {BOUND}");
        assert!(most < 4 * BOUND, "{driver:?}: {most}");
        good(&client).await;
        // Far more than was held: the worker goes on.
        for _ in 0..200_000 {
            assert_eq!(call.next().await, Some(Ok("0".into())), "{driver:?}");
        }
        drop(call);
        good(&client).await;
        end_client(client).await;
    });
}

/// The share of one processor that this process uses while nothing happens.
fn busy() -> f64 {
    let (begun, before) = (Instant::now(), processor_time());
    // A measurement takes its time; nothing is waited for.
    std::thread::sleep(Duration::from_secs(1));
    (processor_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// The same once it has come to rest, if it does: what was on its way first has to fill some socket.
fn busy_at_rest() -> f64 {
    (0..5).map(|_| busy()).find(|share| *share < 0.1).unwrap_or(1.0)
}

#[test]
fn a_peer_that_breaks_the_rules_keeps_no_processor_busy() {
    each(async |driver| {
        let place = place();
        let mut theirs = RawWorker::new(play);
        theirs.advertise(NAME, &place).await;
        let mut config = on(driver);
        config.caller.health.base = Duration::ZERO;
        let client = connect(&place, config);
        good(&client).await;
        let two = client.call(CallRequest::new(NAME, "two acks")).unwrap();
        assert_eq!(two.collect().await.unwrap(), ["1"]);
        let after_two = blocking(busy).await;
        assert!(after_two < 0.1, "{driver:?}: {after_two} of a processor after two acks for one request");

        // The rest of them together, each at the point where it hangs.
        let many = client.call(CallRequest::new(NAME, "many acks")).unwrap();
        let mut silent = client.call(CallRequest::new(NAME, "silent")).unwrap();
        assert_eq!(silent.next().await, Some(Ok("1".into())));
        let nobody = client.call(CallRequest::new(NAME, "nobody comes home")).unwrap();
        let ours = serve(Worker::builder().endpoint(NAME, endless), &self::place(), on(driver)).await;
        let mut caller = Caller::new(&ours, NAME);
        let unread = caller.frame("unread", "1");
        caller.requests.write_all(&unread).unwrap();
        let half = blocking({
            let addr = ours.addr();
            move || {
                let home = caller.home.accept().unwrap();
                let mut half = TcpStream::connect(addr).unwrap();
                half.write_all(&unread[..unread.len() / 2]).unwrap();
                let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(addr).unwrap()).collect();
                (caller, home, half, silent)
            }
        })
        .await;
        let after_all = blocking(busy_at_rest).await;
        println!("measured: {driver:?}: {after_two:.3} and {after_all:.3} of a processor");
        assert!(after_all < 0.1, "{driver:?}: {after_all} of a processor while peers hang");
        drop((many, silent, nobody, half));
        good(&client).await;
        end_client(client).await;
        end_worker(ours).await;
    });
}

#[test]
fn ten_thousand_connections_that_name_no_subject_shut_nobody_out() {
    each(async |driver| {
        const FLOOD: usize = 10_000;
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum.map(|most| most.min(20_000)).or(Some(20_000));
        let _ = setrlimit(Resource::Nofile, limit);
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(20_000) as usize;
        // Both ends are in this process.
        let kept = (descriptors - 200) / 3;
        let (place, home) = (place(), std::sync::Arc::new(std::sync::Mutex::new(String::new())));
        let mut worker = RawWorker::new({
            let home = home.clone();
            move |asked| {
                home.lock().unwrap().clone_from(&asked.home.address);
                play(asked);
            }
        });
        worker.advertise(NAME, &place).await;
        let mut config = on(driver);
        config.caller.max_unclaimed = 1000;
        let client = connect(&place, config);
        good(&client).await;
        let mut steady = client.call(CallRequest::new(NAME, "silent")).unwrap();
        assert_eq!(steady.next().await, Some(Ok("1".into())));
        let (addr, before) = (home.lock().unwrap().clone(), resident());
        let (progress, mut flooding) = tokio::sync::mpsc::channel(1);
        let flood = tokio::task::spawn_blocking(move || {
            let mut open = VecDeque::new();
            for number in 0..FLOOD {
                let mut socket = TcpStream::connect(&addr).unwrap();
                // Half of a handshake, or not a word.
                let _ = if number % 2 == 0 { socket.write_all(&[0; 40]) } else { Ok(()) };
                open.push_back(socket);
                if open.len() > kept {
                    open.pop_front();
                }
                if number % 250 == 0 {
                    progress.blocking_send(()).unwrap();
                }
            }
            open
        });
        let mut calls = 0;
        while flooding.recv().await.is_some() {
            good(&client).await;
            calls += 1;
        }
        let flooded = client.snapshot().await.unwrap();
        let grown = resident().saturating_sub(before);
        println!("measured: {driver:?}: {calls} calls meanwhile, {grown} bytes more: {:?}", flooded.caller);
        assert!(calls == FLOOD / 250 && flooded.caller.connections < 1100, "{driver:?}: {flooded:?}");
        assert!(grown < 64 << 20, "{driver:?}: {grown}");
        good(&client).await;
        drop(flood.await.unwrap());
        until_client("the flood is gone", &client, |now| now.caller.connections <= 2).await;
        drop(steady);
        let last = client.call(CallRequest::new(NAME, "nobody comes home").with_timeout(Duration::from_millis(100)));
        assert_eq!(last.unwrap().collect().await, Err(CallError::DeadlineExceeded));
        end_client(client).await;
    });
}
