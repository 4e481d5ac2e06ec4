//! What peers may not keep for themselves by doing nothing, or next to nothing: places, connections, processor time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};
use ringplane_core::discovery::instance::Instance;
use ringplane_core::id::EndpointId;
use ringplane_core::wire::mux::{Frame, Hello, Kind, Meaning, Preface, goaway};
use ringplane_core::wire::parse::{Format, Limits, Parse};

use crate::facade::child::in_children;
use crate::facade::hostile::{farewell, frame, greeting, open};
use crate::facade::support::{
    both, connect, drivers, end, end_worker, on, place, processor_time, runtime, serve, until_worker,
};

const ECHO: &str = "test.idlers.echo";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    let body = request.body().await?;
    Ok(out.send(body).await?)
}

fn path(worker: &Worker) -> String {
    Instance::new(worker.instance_id(), EndpointId::parse(ECHO).unwrap(), worker.addr()).path
}

/// One call by somebody who means it.
async fn good(client: &Client) {
    let call = client.call(CallRequest::new(ECHO, "good").with_timeout(Duration::from_secs(20))).unwrap();
    assert_eq!(call.collect().await.unwrap(), ["good"]);
}

/// A stranger that opens so many streams and sends nothing on them.
fn holder(addr: SocketAddr, path: &str, streams: u32) -> TcpStream {
    let mut bytes = greeting();
    (0..streams).for_each(|n| bytes.extend(open(path, 2 * n + 1)));
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.write_all(&bytes).unwrap();
    socket
}

#[test]
fn calls_whose_bodies_never_come_leave_room_for_others_and_lose_their_places() {
    both(async |driver| {
        let (mut config, place) = (on(driver), place());
        config.worker.max_running = 1200;
        config.worker.mux.item_timeout = Duration::from_secs(1);
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place, config).await;
        let client = connect(&place, on(driver));
        let strangers = [400, 400].map(|streams| holder(worker.addr(), &path(&worker), streams));
        until_worker("each has its share", &worker, |now| now.served.overloaded == 200).await;
        good(&client).await;
        let after = until_worker("all of it is taken back", &worker, |now| now.served.stalled == 600).await;
        println!("measured: {driver:?}: {:?}", after.served);
        until_worker("nothing runs", &worker, |now| now.worker.jobs == 0).await;
        good(&client).await;
        drop(strangers);
        end(worker, client).await;
    });
}

/// Says what comes, and whether that was all there will be.
fn is_closed(socket: &mut TcpStream) -> bool {
    let mut bytes = [0; 1024];
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Begins a frame of 60,000 bytes on many connections and goes on with a byte every now and then on each, until the worker has
/// closed them all; how many it has not.
fn trickle(addr: SocketAddr, begun: &[u8], connections: usize) -> usize {
    let dial = || {
        let mut socket = TcpStream::connect(addr).unwrap();
        socket.write_all(begun).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let mut sockets: Vec<TcpStream> = (0..connections).map(|_| dial()).collect();
    for _ in 0..400 {
        sockets.retain_mut(|socket| socket.write_all(&[0]).is_ok() && !is_closed(socket));
        if sockets.is_empty() {
            break;
        }
        // Their pace: ten times as fast as the bound, if only bytes counted and not how many.
        std::thread::sleep(Duration::from_millis(50));
    }
    sockets.len()
}

#[test]
fn a_byte_now_and_then_keeps_no_connection_of_either_dialect() {
    both(async |driver| {
        let (mut config, place) = (on(driver), place());
        config.worker.mux.frame_timeout = Duration::from_millis(500);
        config.worker.requests.frame_timeout = Duration::from_millis(500);
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place, config).await;
        let client = connect(&place, on(driver));
        good(&client).await;
        let addr = worker.addr();
        let item = frame(Kind::Item, 0, 1, b"", &[0; 60_000]);
        let mux = [&greeting()[..], &open(&path(&worker), 1), &item[..100]].concat();
        let dynamo = [&9_u16.to_be_bytes()[..], b"some/path", &[0, 0], &60_000_u32.to_be_bytes()].concat();
        for begun in [mux, dynamo] {
            let left = tokio::task::spawn_blocking(move || trickle(addr, &begun, 100)).await.unwrap();
            assert_eq!(left, 0, "{driver:?}: connections that are still there");
            until_worker("the good one is left", &worker, |now| now.worker.connections == 1).await;
            good(&client).await;
        }
        assert_eq!(client.snapshot().await.unwrap().called.dials, 1, "the good one was left alone");
        end(worker, client).await;
    });
}

#[test]
fn a_connection_that_nobody_uses_is_closed_in_order() {
    both(async |driver| {
        let mut config = on(driver);
        config.worker.mux.idle_timeout = Duration::from_millis(500);
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place(), config).await;
        let mut socket = TcpStream::connect(worker.addr()).unwrap();
        socket.write_all(&greeting()).unwrap();
        let said = tokio::task::spawn_blocking(move || {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut said = Vec::new();
            socket.read_to_end(&mut said).map(|_| said)
        });
        assert_eq!(farewell(&said.await.unwrap().unwrap()), Some(goaway::DRAIN), "{driver:?}");
        until_worker("it is gone", &worker, |now| now.worker.connections == 0).await;
        end_worker(worker).await;
    });
}

#[test]
fn credit_in_crumbs_costs_the_worker_little() {
    const STREAMS: u32 = 4000;
    const CRUMBS: u64 = 2000;
    in_children(&["io-uring", "tokio"], |role| {
        let driver = role.parse().unwrap();
        if !drivers().any(|known| known == driver) {
            return;
        }
        runtime().block_on(async {
            let answer = async |_: Request, out: Responder| Ok(out.send(vec![1; 1000]).await?);
            let mut config = on(driver);
            (config.worker.max_running, config.worker.share) = (STREAMS as usize, 100);
            let worker = serve(Worker::builder().endpoint(ECHO, answer), &place(), config).await;
            // Windows that a few dozen answers use up.
            let window = 70_000;
            let hello =
                Hello { stream_window: window, connection_window: window, max_item: 1 << 16, max_streams: STREAMS };
            let mut bytes = Preface::OURS.to_bytes().to_vec();
            bytes.extend(frame(Kind::Hello, 0, 0, &hello.to_bytes(), b""));
            let path = path(&worker);
            (0..STREAMS).for_each(|n| bytes.extend(open(&path, 2 * n + 1)));
            let mut socket = TcpStream::connect(worker.addr()).unwrap();
            socket.write_all(&bytes).unwrap();
            let all = u64::from(STREAMS);
            until_worker("all have answered", &worker, |now| now.served.admitted == all && now.worker.jobs == 0).await;
            let before = processor_time();
            tokio::task::spawn_blocking(move || {
                let mut heard = Vec::new();
                for token in 1..=CRUMBS {
                    let crumb = frame(Kind::Credit, 0, 0, &1_u32.to_be_bytes(), b"");
                    socket.write_all(&[crumb, frame(Kind::Ping, 0, 0, &token.to_be_bytes(), b"")].concat()).unwrap();
                    until_pong(&mut socket, &mut heard, token);
                }
            })
            .await
            .unwrap();
            let spent = processor_time() - before;
            println!("measured: {driver:?}: {CRUMBS} crumbs for {STREAMS} streams: {spent:?}");
            assert!(spent < Duration::from_millis(1500), "{driver:?}: {spent:?}");
            end_worker(worker).await;
        });
    });
}

/// Reads frames until the answer to a ping.
fn until_pong(socket: &mut TcpStream, heard: &mut Vec<u8>, token: u64) {
    loop {
        let skip = if heard.starts_with(&[0xFF, 0xFF]) { Preface::OURS.to_bytes().len() } else { 0 };
        if let Some(rest) = heard.get(skip..)
            && let Ok(Parse::Complete { value, used }) = Frame::parse(rest, &Limits::default())
        {
            let found = matches!(value.meaning(), Ok(Meaning::Pong(answer)) if answer == token);
            heard.drain(..skip + used);
            if found {
                return;
            }
            continue;
        }
        let mut bytes = [0; 1 << 16];
        let len = socket.read(&mut bytes).unwrap();
        assert!(len > 0, "the worker has closed");
        heard.extend_from_slice(&bytes[..len]);
    }
}
