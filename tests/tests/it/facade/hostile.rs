//! What strangers may throw at a live worker.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringplane::{CallRequest, Request, Responder, Worker};
use ringplane_core::discovery::instance::Instance;
use ringplane_core::id::{EndpointId, StreamId};
use ringplane_core::wire::checksum::Crc32c;
use ringplane_core::wire::mux::{Frame, Head, Hello, Kind, Meaning, Open, Preface, flags, goaway};
use ringplane_core::wire::parse::{Format, Limits, Parse};
use ringplane_core::worker::stats::Footprint;

use crate::facade::child::in_children;
use crate::facade::support::{
    all, connect, drivers, end, end_worker, noise, place, resident, runtime, serve, small_windows, until, until_worker,
    with_mux,
};

const STEADY: &str = "test.hostile.steady";
const CRC: Crc32c = Crc32c::PORTABLE;

async fn steady(_: Request, out: Responder) -> Result<(), ringplane::Failure> {
    loop {
        out.send(vec![1; 100]).await?;
    }
}

/// What the worker does with what it got.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Reaction {
    /// It says why it goes, and closes.
    Farewell(u8),
    /// It closes without a word.
    Closes,
    /// It takes the bytes for a Dynamo caller's and closes, at most after a refusal.
    Refuses,
    /// It closes once the stranger has hung up, with or without a word.
    Ends,
}

pub(super) fn frame(kind: Kind, flags: u8, stream: u32, header: &[u8], body: &[u8]) -> Vec<u8> {
    [&Head::seal(kind, flags, StreamId(stream), header, body, CRC).unwrap()[..], header, body].concat()
}

/// A head that says what it likes, with a checksum that fits.
fn head(kind: u8, flags: u8, header_len: u16, body_len: u32) -> Vec<u8> {
    let mut head = vec![kind, flags];
    head.extend(header_len.to_be_bytes());
    head.extend(1_u32.to_be_bytes());
    head.extend(body_len.to_be_bytes());
    head.extend(0_u32.to_be_bytes());
    let crc = CRC.of(&head);
    head.extend(crc.to_be_bytes());
    head
}

pub(super) fn greeting() -> Vec<u8> {
    let hello = Hello { stream_window: 1 << 20, connection_window: 1 << 24, max_item: 1 << 20, max_streams: 100 };
    [&Preface::OURS.to_bytes()[..], &frame(Kind::Hello, 0, 0, &hello.to_bytes(), b"")].concat()
}

pub(super) fn open(path: &str, stream: u32) -> Vec<u8> {
    let mut header = Vec::new();
    let open = Open { path, request_id: "r", ..Open::default() };
    open.write([].into_iter(), |bytes| header.extend_from_slice(bytes)).unwrap();
    frame(Kind::Open, 0, stream, &header, b"")
}

/// Every kind of bad input, and what it is worth.
fn attacks(path: &str) -> Vec<(String, Vec<u8>, Reaction)> {
    use Reaction::{Closes, Ends, Farewell, Refuses};
    let greeted = |rest: &[&[u8]]| [&greeting()[..], &rest.concat()].concat();
    let opened = |rest: &[&[u8]]| [greeted(&[&open(path, 1)]), rest.concat()].concat();
    let huge = frame(Kind::Item, flags::MORE, 1, &(1_u64 << 62).to_be_bytes(), b"");
    let item = frame(Kind::Item, 0, 1, b"", &[0; 60_000]);
    let pings: Vec<u8> = (0..5_000_u64).flat_map(|token| frame(Kind::Ping, 0, 0, &token.to_be_bytes(), b"")).collect();
    let version = [&[0xFF, 0xFF][..], b"rpmx", &[9, 9]].concat();
    let dynamo = [&9_u16.to_be_bytes()[..], b"some/path", &[0, 0], &5_u32.to_be_bytes(), b"hello"].concat();
    let mut list = vec![
        ("a body of 4 GiB".to_owned(), greeted(&[&head(3, 0, 0, u32::MAX)]), Farewell(goaway::TOO_LARGE)),
        ("an item of 4 EiB".to_owned(), opened(&[&huge]), Farewell(goaway::TOO_LARGE)),
        ("more than its credit".to_owned(), opened(&[&item.repeat(40)]), Farewell(goaway::CREDIT)),
        ("a kind nobody knows".to_owned(), greeted(&[&head(200, 0, 0, 0)]), Farewell(goaway::MALFORMED)),
        ("a wrong checksum".to_owned(), greeted(&[&[0; 20]]), Farewell(goaway::CHECKSUM)),
        ("two openings of one stream".to_owned(), opened(&[&open(path, 1)]), Farewell(goaway::STATE)),
        ("a flood of pings".to_owned(), greeted(&[&pings]), Farewell(goaway::FLOOD)),
        ("another version".to_owned(), version, Farewell(goaway::VERSION)),
        ("a request for nobody, hung up".to_owned(), dynamo, Ends),
        ("a web browser".to_owned(), b"GET / HTTP/1.1\r\nhost: here\r\n\r\n".to_vec(), Refuses),
        ("half a preface".to_owned(), Preface::OURS.to_bytes()[..5].to_vec(), Closes),
        ("half a frame".to_owned(), opened(&[&item[..1000]]), Ends),
        ("a greeting and no more".to_owned(), greeting(), Ends),
        ("nothing".to_owned(), Vec::new(), Closes),
        ("a preface, hung up".to_owned(), Preface::OURS.to_bytes().to_vec(), Ends),
    ];
    for seed in 0..50 {
        list.push((format!("noise {seed}"), noise(seed as usize * 97 + 1, seed), Refuses));
        let rest = noise(seed as usize * 97 + 21, seed + 1000);
        list.push((format!("noise {seed} after a greeting"), greeted(&[&rest]), Farewell(goaway::CHECKSUM)));
    }
    list
}

/// Says `bytes`, then listens until the worker closes.
fn speak(addr: SocketAddr, bytes: &[u8], hang_up: bool) -> Vec<u8> {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The worker may close before it has read everything.
    let _ = socket.write_all(bytes);
    if hang_up {
        let _ = socket.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    if let Err(error) = socket.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the worker does not close");
    }
    answer
}

/// The code of the farewell in what a worker said.
pub(super) fn farewell(answer: &[u8]) -> Option<u8> {
    let mut rest = answer.strip_prefix(&Preface::OURS.to_bytes()[..])?;
    while let Ok(Parse::Complete { value, used }) = Frame::parse(rest, &Limits::default()) {
        if let Ok(Meaning::GoAway(goaway)) = value.meaning() {
            return Some(goaway.code);
        }
        rest = &rest[used..];
    }
    None
}

#[test]
fn bad_input_of_every_kind_is_answered_for_what_it_is_and_disturbs_nobody() {
    all(async |driver| {
        let place = place();
        let mut config = with_mux(driver, |mux| {
            small_windows(mux);
            mux.hello_timeout = Duration::from_millis(300);
        });
        config.worker.requests.frame_timeout = Duration::from_millis(50);
        let worker = serve(Worker::builder().endpoint(STEADY, steady), &place, config).await;
        let client = connect(&place, config_of(driver));
        let read = Arc::new(AtomicU64::new(0));
        let mut stream = client.call(CallRequest::new(STEADY, "")).unwrap();
        let reading = tokio::spawn({
            let read = read.clone();
            async move {
                while let Some(Ok(_)) = stream.next().await {
                    read.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let path = Instance::new(worker.instance_id(), EndpointId::parse(STEADY).unwrap(), worker.addr()).path;
        let (addr, attacks) = (worker.addr(), attacks(&path));
        for (name, bytes, reaction) in &attacks {
            let (bytes, hang_up) = (bytes.clone(), *reaction == Reaction::Ends);
            let answer = tokio::task::spawn_blocking(move || speak(addr, &bytes, hang_up)).await.unwrap();
            let said = farewell(&answer);
            match reaction {
                Reaction::Farewell(code) => assert_eq!(said, Some(*code), "{driver:?}: {name}: {answer:?}"),
                Reaction::Closes => assert!(answer.is_empty(), "{driver:?}: {name}: {answer:?}"),
                Reaction::Refuses => {
                    let text = answer.get(4..).unwrap_or_default();
                    assert!(answer.is_empty() || text.starts_with(b"Server "), "{driver:?}: {name}: {answer:?}");
                }
                Reaction::Ends => {}
            }
            let before = read.load(Ordering::SeqCst);
            until("the other stream flows", || read.load(Ordering::SeqCst) > before).await;
        }
        println!("measured: {driver:?}: {} attacks, {} items meanwhile", attacks.len(), read.load(Ordering::SeqCst));
        let after = until_worker("only the good one is left", &worker, |now| now.worker.connections == 1).await;
        assert_eq!(after.worker.streams, 1);
        assert!(!reading.is_finished());
        reading.abort();
        assert!(reading.await.unwrap_err().is_cancelled());
        assert_eq!(client.snapshot().await.unwrap().called.dials, 1);
        end(worker, client).await;
    });
}

fn config_of(driver: ringplane::DriverChoice) -> ringplane::Config {
    with_mux(driver, small_windows)
}

#[test]
fn strangers_that_use_up_all_their_credit_make_the_worker_hold_that_much_and_no_more() {
    const STRANGERS: usize = 10;
    const ITEM: usize = 30_000;
    in_children(&["io-uring", "tokio"], |role| {
        let driver = role.parse().unwrap();
        if !drivers().any(|known| known == driver) {
            return;
        }
        runtime().block_on(async {
            let deaf = |_: Request, _out: Responder| std::future::pending();
            let worker = serve(Worker::builder().endpoint(STEADY, deaf), &place(), config_of(driver)).await;
            let path = Instance::new(worker.instance_id(), EndpointId::parse(STEADY).unwrap(), worker.addr()).path;
            let mux = config_of(driver).worker.mux;
            // Four items on each of eight streams, and on ten more the promise of one that needs half the pool.
            let mut bytes = greeting();
            for stream in (1..16).step_by(2) {
                bytes.extend(open(&path, stream));
                bytes.extend(frame(Kind::Item, 0, stream, b"", &[0; ITEM]).repeat(4));
            }
            for stream in (17..36).step_by(2) {
                bytes.extend(open(&path, stream));
                bytes.extend(frame(Kind::Item, flags::MORE, stream, &(1_u64 << 20).to_be_bytes(), b""));
            }
            let before = resident();
            let strangers: Vec<TcpStream> = (0..STRANGERS)
                .map(|_| {
                    let mut socket = TcpStream::connect(worker.addr()).unwrap();
                    socket.write_all(&bytes).unwrap();
                    socket
                })
                .collect();
            let (held, reserved) = (STRANGERS * 32 * ITEM, STRANGERS * (2 << 20));
            let full = until_worker("everything has arrived", &worker, |now| {
                now.worker.held >= held as u64 && now.worker.reserved >= reserved as u64
            });
            let full = full.await.worker;
            let grown = resident().saturating_sub(before);
            println!("measured: {driver:?}: {STRANGERS} strangers: {full:?}, {grown} bytes of memory more");
            assert!(full.held <= STRANGERS as u64 * u64::from(mux.connection_window));
            assert_eq!(full.reserved, STRANGERS as u64 * mux.reserve_pool);
            // A promise takes no memory until it is kept; the rest is what drivers and sockets need.
            assert!(grown <= held + (16 << 20), "{grown} bytes more");
            for mut socket in strangers {
                // The next item of any stream is one too many.
                socket.write_all(&frame(Kind::Item, 0, 1, b"", &[0; ITEM])).unwrap();
                let mut answer = Vec::new();
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                socket.read_to_end(&mut answer).unwrap();
                assert_eq!(farewell(&answer), Some(goaway::CREDIT));
            }
            until_worker("all is given back", &worker, |now| now.worker == Footprint::default()).await;
            end_worker(worker).await;
        });
    });
}
