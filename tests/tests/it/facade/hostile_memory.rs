//! What peers that read nothing, give no credit or say too much can make a worker hold, and who is served meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringplane::{Call, CallError, CallRequest, Client, Config, DriverChoice, Failure, Request, Responder, Worker};
use ringplane_core::discovery::instance::Instance;
use ringplane_core::id::EndpointId;
use ringplane_core::wire::class::Class;
use ringplane_core::wire::mux::{Hello, Kind, Open, Preface};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;

use crate::facade::child::in_children;
use crate::facade::dynamo::{Caller, emit};
use crate::facade::hostile::{frame, open};
use crate::facade::support::{
    connect, drivers, end_client, end_worker, on, place, resident, runtime, serve, until_worker,
};

const HEAVY: &str = "test.memory.heavy";
const ECHO: &str = "test.memory.echo";
const MIB: usize = 1 << 20;
/// What drivers, sockets, streams and the allocator take beside what is counted.
const BESIDE: usize = 48 * MIB;

/// Runs in a child on each driver.
fn each(scenario: impl AsyncFn(DriverChoice)) {
    in_children(&["io-uring", "tokio"], |role| {
        let driver = role.parse().unwrap();
        if drivers().any(|known| known == driver) {
            runtime().block_on(scenario(driver));
        }
    });
}

/// Answers with items as large as it is asked for, each made when there is room for it.
async fn heavy(mut request: Request, out: Responder) -> Result<(), Failure> {
    let len = String::from_utf8_lossy(&request.body().await?).parse().unwrap_or(MIB);
    loop {
        out.ready(len).await?;
        out.send(vec![1; len]).await?;
    }
}

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

async fn start(place: &str, config: Config) -> (Worker, String) {
    let worker = serve(Worker::builder().endpoint(HEAVY, heavy).endpoint(ECHO, echo), place, config).await;
    let path = Instance::new(worker.instance_id(), EndpointId::parse(HEAVY).unwrap(), worker.addr()).path;
    (worker, path)
}

/// A caller's first words, with windows of its choice.
fn greeting(stream_window: u32, connection_window: u32) -> Vec<u8> {
    let hello = Hello { stream_window, connection_window, max_item: 64 << 20, max_streams: 100 };
    [&Preface::OURS.to_bytes()[..], &frame(Kind::Hello, 0, 0, &hello.to_bytes(), b"")].concat()
}

/// Opens `count` calls that ask for items of `len` bytes.
fn ask(path: &str, count: u32, len: usize) -> Vec<u8> {
    let one = |id| {
        let item = frame(Kind::Item, ringplane_core::wire::mux::flags::LAST, id, b"", len.to_string().as_bytes());
        [open(path, id), item].concat()
    };
    (0..count).flat_map(|number| one(2 * number + 1)).collect()
}

/// Writes from a thread of its own, whether or not anybody reads.
async fn say(worker: &Worker, bytes: Vec<u8>) -> TcpStream {
    let addr = worker.addr();
    let writing = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(addr).unwrap();
        let _ = socket.write_all(&bytes);
        socket
    });
    writing.await.unwrap()
}

/// A call of a caller that does as it should.
async fn served(client: &Client, len: usize) {
    let request = CallRequest::new(ECHO, vec![7; len]).with_timeout(Duration::from_secs(60));
    let items = client.call(request).unwrap().collect().await.unwrap();
    assert_eq!((items.len(), items[0].len()), (1, len));
}

#[test]
fn answers_that_nobody_takes_are_held_within_their_sums_and_others_are_served() {
    each(async |driver| {
        const SUM: usize = 32 * MIB;
        let place = place();
        let mut config = on(driver);
        config.worker.max_outgoing = SUM;
        config.worker.mux.connection_buffer = 8 * MIB;
        config.worker.mux.send_timeout = Duration::from_secs(6);
        config.worker.mux.ping_interval = Duration::from_secs(20);
        let (worker, path) = start(&place, config.clone()).await;
        let client = connect(&place, config);
        served(&client, 10).await;
        let before = resident();

        // One connection gives credit for next to nothing: 150 answers of 8 MB.
        let greedy = say(&worker, [greeting(70_000, 70_000), ask(&path, 150, 8_000_000)].concat()).await;
        let one = until_worker("they run", &worker, |now| now.worker.jobs == 150 && now.worker.outgoing > 0).await;
        assert!(one.worker.outgoing as usize <= 12 * MIB, "{driver:?}: {one:?}");
        served(&client, 4000).await;

        // Eight more give all the credit there is and read nothing.
        let mut strangers = Vec::new();
        for _ in 0..8 {
            let bytes = [greeting(64 << 20, 1 << 30), ask(&path, 100, MIB)].concat();
            strangers.push(say(&worker, bytes).await);
        }
        let full = until_worker("all of them run", &worker, |now| {
            now.worker.jobs >= 800 && now.worker.outgoing as usize > SUM - 4 * MIB
        });
        let full = full.await;
        for _ in 0..20 {
            served(&client, 4000).await;
        }
        let grown = resident().saturating_sub(before);
        println!("measured: {driver:?}: {grown} bytes more, {:?}", full.worker);
        assert!(full.worker.outgoing as usize <= SUM + MIB, "{driver:?}: {full:?}");
        assert!(grown <= SUM + BESIDE, "{driver:?}: {grown} bytes more");

        // Those that take no bytes lose their connection; then there is room for large answers too.
        served(&client, 4 * MIB).await;
        drop((greedy, strangers));
        until_worker("all is given back", &worker, |now| now.worker.outgoing == 0 && now.worker.jobs == 0).await;
        end_client(client).await;
        end_worker(worker).await;
    });
}

#[test]
fn answers_that_come_home_to_nobody_are_held_within_their_sum() {
    each(async |driver| {
        const SUM: usize = 8 * MIB;
        const CALLS: usize = 60;
        let mut config = on(driver);
        config.worker.max_outgoing = SUM;
        let (worker, _) = start(&place(), config).await;
        let mut caller = Caller::new(&worker, HEAVY);
        let before = resident();
        let homes = tokio::task::spawn_blocking(move || {
            let mut homes = Vec::new();
            for _ in 0..CALLS {
                caller.requests.write_all(&caller.frame("unread", "1000000")).unwrap();
                assert_eq!(caller.ack(), "");
                homes.push(caller.home.accept().unwrap());
            }
            (caller, homes)
        });
        let homes = homes.await.unwrap();
        let full = until_worker("all of them run", &worker, |now| {
            now.worker.jobs as usize == CALLS && now.worker.outgoing as usize > SUM - 2 * MIB
        });
        let full = full.await;
        let grown = resident().saturating_sub(before);
        println!("measured: {driver:?}: {grown} bytes more, {:?}", full.worker);
        assert!(full.worker.outgoing as usize <= SUM + MIB, "{driver:?}: {full:?}");
        assert!(grown <= SUM + BESIDE, "{driver:?}: {grown} bytes more");
        drop(homes);
        until_worker("all is given back", &worker, |now| now.worker.outgoing == 0 && now.worker.jobs == 0).await;
        end_worker(worker).await;
    });
}

#[test]
fn headers_of_calls_under_way_are_held_within_their_share_and_others_are_served() {
    each(async |driver| {
        const CALLS: u32 = 3000;
        let place = place();
        let mut config = on(driver);
        config.worker.max_request_bytes = 32 * MIB;
        let (worker, path) = start(&place, config.clone()).await;
        let client = connect(&place, config);
        served(&client, 10).await;
        let before = resident();
        let mut header = Vec::new();
        let long = "x".repeat(64_000);
        let opening = Open { path: &path, request_id: "r", ..Open::default() };
        opening.write([("long", long.as_str())].into_iter(), |bytes| header.extend_from_slice(bytes)).unwrap();
        let opens = (0..CALLS).flat_map(|number| frame(Kind::Open, 0, 2 * number + 1, &header, b""));
        let stranger = say(&worker, greeting(70_000, 70_000).into_iter().chain(opens).collect()).await;
        let full = until_worker("all of them have come", &worker, |now| {
            now.served.overloaded + now.worker.jobs == u64::from(CALLS)
        });
        let full = full.await;
        served(&client, 10).await;
        let grown = resident().saturating_sub(before);
        println!("measured: {driver:?}: {grown} bytes more, {:?}", full.worker);
        // A quarter of the whole, for one connection.
        assert!((100..=131).contains(&full.worker.jobs) && full.worker.kept as usize <= 8 * MIB, "{full:?}");
        assert!(grown <= 8 * MIB + BESIDE, "{driver:?}: {grown} bytes more");
        drop(stranger);
        until_worker("all is given back", &worker, |now| now.worker.kept == 0 && now.worker.jobs == 0).await;
        end_client(client).await;
        end_worker(worker).await;
    });
}

/// Leaves this process `more` bytes of address space beyond what it has.
fn leave(more: usize) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').next().unwrap().parse().unwrap();
    let limit = (pages * rustix::param::page_size() + more) as u64;
    setrlimit(Resource::As, Rlimit { current: Some(limit), maximum: getrlimit(Resource::As).maximum }).unwrap();
}

/// Awaits calls of `len` bytes each: how many were served, and how many were told that there is no memory.
async fn outcomes(calls: Vec<Call>, len: usize) -> (usize, usize) {
    let (mut served, mut refused) = (0, 0);
    for call in calls {
        match call.collect().await {
            Ok(items) => {
                assert_eq!(items, [len.to_string()]);
                served += 1;
            }
            Err(CallError::Failed { class: Class::CapacityExhausted, message, .. }) => {
                assert_eq!(&*message, "there is no memory for an item of the request");
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    (served, refused)
}

/// Sends all but the last byte of a frame on one connection after the other, until one is refused: the connections, and what its
/// ack says.
fn until_refused(worker: &Worker, frame: &[u8]) -> (Vec<TcpStream>, Option<String>) {
    let mut sockets = Vec::new();
    let refused = (0..6).find_map(|_| {
        let mut socket = TcpStream::connect(worker.addr()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let _ = socket.write_all(&frame[..frame.len() - 1]);
        let mut ack = [0; 128];
        let len = socket.read(&mut ack).unwrap_or(0);
        sockets.push(socket);
        ack[..len].get(4..).map(|text| String::from_utf8_lossy(text).into_owned())
    });
    (sockets, refused)
}

#[test]
fn a_request_that_cannot_be_held_is_refused_and_the_process_lives() {
    const LEN: usize = 60_000_000;
    each(async |driver| {
        let place = place();
        let mut config = on(driver);
        config.worker.requests.max_message = 64 << 20;
        let release = Arc::new(Semaphore::new(0));
        let hold = {
            let release = release.clone();
            move |mut request: Request, out: Responder| {
                let release = release.clone();
                async move {
                    let body = request.body().await?;
                    let _ = release.acquire().await;
                    Ok(out.send(body.len().to_string()).await?)
                }
            }
        };
        let builder = Worker::builder().endpoint(HEAVY, hold).endpoint(ECHO, echo);
        let worker = serve(builder, &place, config.clone()).await;
        let client = connect(&place, config);
        let body = Bytes::from(vec![7; LEN]);
        served(&client, 2 * MIB).await;
        let path = Caller::new(&worker, HEAVY).path;
        let frame = emit(&ringplane_core::wire::Request { path: path.as_bytes(), headers: b"", payload: &body });
        leave(150 << 20);

        // Over mux: some of them fit, the others are told why not.
        let calls: Vec<_> = (0..6)
            .map(|_| {
                let request = CallRequest::new(HEAVY, body.clone()).with_timeout(Duration::from_secs(60));
                client.call(request).unwrap()
            })
            .collect();
        until_worker("each fits or is refused", &worker, |now| {
            now.served.overloaded > 0 && now.served.overloaded + now.worker.jobs == 6
        })
        .await;
        served(&client, 10).await;
        release.close();
        let (fit, refused) = outcomes(calls, LEN).await;
        assert!(fit > 0 && refused > 0 && fit + refused == 6, "{driver:?}: {fit} fit, {refused} were refused");

        // By Dynamo's protocol.
        let (sockets, refused) = until_refused(&worker, &frame);
        let text = refused.expect("one of them is refused");
        assert!(text.starts_with("Server overloaded: no memory for a request of "), "{driver:?}: {text}");
        served(&client, 10).await;
        drop(sockets);
        until_worker("all is given back", &worker, |now| now.worker.held == 0 && now.worker.jobs == 0).await;
        served(&client, 2 * MIB).await;
        end_client(client).await;
        end_worker(worker).await;
    });
}
