//! What Dynamo callers may do to a live worker: each attack costs its own call or its own connection, and nothing else.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringplane::{Config, DriverChoice, Failure, Worker};
use ringplane::{Remote, Request, Responder};
use ringplane_core::wire::Class;
use ringplane_core::wire::{Request as Frame, Word};

use crate::facade::dynamo::{Caller, Home, NAME, emit};
use crate::facade::raw_worker::{frame, head};
use crate::facade::support::{both, end_worker, noise, on, place, serve, until_worker};

/// An item a millisecond: a call that goes on beside the attacks.
const STEADY: &str = "\"steady\"";
/// Items as fast as they go.
const ENDLESS: &str = "\"endless\"";

/// A number is answered with so many items.
async fn answer(mut request: Request<Remote>, out: Responder<Remote>) -> Result<(), Failure> {
    let body = request.body().await?;
    match std::str::from_utf8(&body).unwrap_or_default() {
        STEADY => loop {
            out.send("0").await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        },
        ENDLESS => loop {
            out.send(format!("\"{}\"", "x".repeat(10_000))).await?;
        },
        number => {
            for i in 0..number.parse::<u32>().map_err(Failure::invalid)? {
                out.send(i.to_string()).await?;
            }
            Ok(())
        }
    }
}

/// Short enough to be waited for, and long enough for those who behave on a busy machine.
const SHORT: Duration = Duration::from_secs(3);

/// A worker with bounds short enough to be seen.
async fn start(driver: DriverChoice, change: impl Fn(&mut Config)) -> Worker {
    let mut config = on(driver);
    config.worker.mux.hello_timeout = SHORT;
    config.worker.requests.frame_timeout = SHORT;
    config.worker.requests.send_timeout = SHORT;
    config.worker.responses.send_timeout = SHORT;
    config.worker.responses.fin_timeout = SHORT;
    config.worker.dial_timeout = SHORT;
    change(&mut config);
    let builder = Worker::builder().endpoint_on(tokio::runtime::Handle::current(), NAME, answer);
    serve(builder, &place(), config).await
}

/// A call that streams on, read on a thread of its own until the caller ends it.
struct Steady {
    /// Bytes so far.
    read: Arc<AtomicU64>,
    socket: TcpStream,
    reading: std::thread::JoinHandle<()>,
}

impl Steady {
    /// Makes the call on the request connection of `caller`.
    fn new(caller: &mut Caller) -> Self {
        caller.requests.write_all(&caller.frame("steady", STEADY)).unwrap();
        assert_eq!(caller.ack(), "");
        let (_, mut home) = caller.accept();
        home.prologue();
        let (read, socket) = (Arc::new(AtomicU64::new(0)), home.socket.try_clone().unwrap());
        let counted = read.clone();
        let reading = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(len @ 1..) = home.socket.read(&mut piece) {
                counted.fetch_add(len as u64, Ordering::SeqCst);
            }
        });
        Self { read, socket, reading }
    }

    fn flows(&self) {
        let (before, mut waited) = (self.read.load(Ordering::SeqCst), 0);
        while self.read.load(Ordering::SeqCst) <= before + 200 {
            assert!(waited < 20_000, "the steady call flows");
            waited += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the call, which has not ended by itself.
    fn end(mut self) -> u64 {
        assert!(!self.reading.is_finished(), "the steady call goes on");
        let kill = frame(Word::Kill.header(), b"");
        self.socket.write_all(&kill).unwrap();
        self.reading.join().unwrap();
        self.read.load(Ordering::SeqCst)
    }
}

/// A call that is answered as it should be.
fn served(caller: &mut Caller) {
    caller.requests.write_all(&caller.frame("good", "2")).unwrap();
    assert_eq!(caller.ack(), "");
    let (subject, mut home) = caller.accept();
    assert_eq!(subject, "good");
    home.prologue();
    assert_eq!([home.item(), home.item(), home.item()], [Some(b"0".to_vec()), Some(b"1".to_vec()), None]);
    home.sentinel();
}

/// What becomes of a whole request frame.
#[derive(Copy, Clone, Debug)]
enum Answer {
    /// The ack refuses it in words that begin so.
    Refused(&'static str),
    /// It is acked, and an error of this class comes home.
    Told(Class),
    /// It is acked, and there is nobody at home to tell.
    Lost,
    /// It is acked and answered: what is wrong with it does not matter.
    Served,
}

/// Whole request frames that are wrong inside.
fn requests(caller: &Caller, worker: SocketAddr) -> Vec<(String, Vec<u8>, Answer)> {
    use Answer::{Lost, Refused, Served, Told};
    let good = String::from_utf8(caller.control("attack").write().unwrap()).unwrap();
    let here = caller.home.local_addr().unwrap().to_string();
    let framed = |payload: &[u8]| emit(&Frame { path: caller.path.as_bytes(), headers: b"", payload });
    let asked = |header: &str, body: &[u8]| framed(&frame(header.as_bytes(), body));
    let to = |path: &[u8]| emit(&Frame { path, headers: b"", payload: b"" });
    let said = |header_len, body_len| framed(&[head(header_len, body_len, 0), vec![b'x'; 100]].concat());
    let unavailable = Refused("Server unavailable: ");
    let unknown = Refused("Server unavailable: unknown endpoint");
    let payload = Refused("Server unavailable: payload");
    let mut list = vec![
        ("a path nobody serves", to(b"nobody"), unknown),
        ("a path of 60 kB", to(&[b'p'; 60_000]), unknown),
        ("a path that is no text", to(&[0xFE, 0xFF, 0x80]), unknown),
        ("a frame of nothing", vec![0; 8], unknown),
        ("no payload", framed(b""), Refused("Server unavailable: truncated payload")),
        ("a header of 2^64 - 1", said(u64::MAX, 0), payload),
        ("a body of 2^40", said(0, 1 << 40), payload),
        ("lengths that overflow", said(1 << 63, 1 << 63), payload),
        ("a byte less than it says", said(50, 51), Refused("Server unavailable: truncated payload")),
        ("a header above its limit", asked(&"x".repeat(140_000), b"1"), payload),
        ("a wrong checksum", framed(&[&head(1, 1, 99)[..], b"xy"].concat()), payload),
        ("no JSON", asked("{", b"1"), unavailable),
        ("another JSON", asked("[1,2]", b"1"), unavailable),
        ("JSON nested deep", asked(&"[".repeat(100_000), b"1"), unavailable),
        ("JSON of one long text", asked(&format!("\"{}\"", "x".repeat(120_000)), b"1"), unavailable),
        (
            "a key nobody knows, nested deep",
            asked(&good.replacen('{', &format!("{{\"x\":{},", nested()), 1), b"1"),
            Served,
        ),
        ("another call's context", asked(&good.replacen("\"id\":\"id\"", "\"id\":\"di\"", 1), b"1"), unavailable),
        ("the other stream", asked(&good.replace("\\\"response\\\"", "\\\"request\\\""), b"1"), unavailable),
        ("a pigeon", asked(&good.replace("tcp_server", "pigeon"), b"1"), unavailable),
        ("QUIC", asked(&good.replace("tcp_server", "quic-response"), b"1"), Refused("Server unavailable: responses")),
        ("a home by name", asked(&good.replace("127.0.0.1", "localhost"), b"1"), unavailable),
        ("a codec nobody knows", asked(&good.replace("\"json\"", "\"cbor\""), b"1"), Told(Class::InvalidRequest)),
        ("no body", asked(&good, b""), Told(Class::InvalidRequest)),
        ("nobody at home", asked(&good.replace(&here, "127.0.0.1:1"), b"1"), Lost),
        ("a home that swallows everything", asked(&good.replace(&here, "192.0.2.1:9"), b"1"), Lost),
        ("the worker for a home", asked(&good.replace(&here, &worker.to_string()), b"1"), Lost),
    ]
    .into_iter()
    .map(|(name, bytes, answer)| (name.to_owned(), bytes, answer))
    .collect::<Vec<_>>();
    for seed in 0..50 {
        let payload = noise(seed as usize * 97 + 24, seed);
        list.push((format!("noise {seed}"), framed(&payload), unavailable));
    }
    list
}

fn nested() -> String {
    format!("{}{}", "[".repeat(5000), "]".repeat(5000))
}

#[test]
fn a_bad_request_is_answered_and_costs_nothing_on_its_own_connection() {
    both(async |driver| {
        let worker = start(driver, |_| {}).await;
        let mut caller = Caller::new(&worker, NAME);
        let addr = worker.addr();
        let attacked = tokio::task::spawn_blocking(move || {
            let steady = Steady::new(&mut caller);
            let attacks = requests(&caller, addr);
            for (name, bytes, answer) in &attacks {
                caller.requests.write_all(bytes).unwrap();
                let ack = caller.ack();
                match answer {
                    Answer::Refused(words) => assert!(ack.starts_with(words), "{driver:?}: {name}: {ack}"),
                    Answer::Lost => assert_eq!(ack, "", "{driver:?}: {name}"),
                    Answer::Served => {
                        assert_eq!(ack, "", "{driver:?}: {name}");
                        let (_, mut home) = caller.accept();
                        home.prologue();
                        assert_eq!((home.item(), home.item()), (Some(b"0".to_vec()), None));
                        home.sentinel();
                    }
                    Answer::Told(class) => {
                        assert_eq!(ack, "", "{driver:?}: {name}");
                        let (subject, mut home) = caller.accept();
                        assert_eq!(subject, "attack");
                        let failure = home.prologue().typed_error.unwrap();
                        assert_eq!(failure.class(), *class, "{driver:?}: {name}");
                        home.sentinel();
                    }
                }
                served(&mut caller);
                steady.flows();
            }
            (caller, steady, attacks.len())
        });
        let (caller, steady, count) = attacked.await.unwrap();
        // What dialed in vain is over; the request connection and the steady call's are not.
        let left = until_worker("the lost calls are over", &worker, |now| now.worker.jobs == 1).await;
        assert_eq!(left.served.connections, 2, "{driver:?}: the caller's, and the worker's own");
        let items = tokio::task::spawn_blocking(move || steady.end()).await.unwrap();
        println!("measured: {driver:?}: {count} attacks, {items} items meanwhile");
        drop(caller);
        end_worker(worker).await;
    });
}

/// A name, what is asked for, and what a caller does with the response that comes home. What it gives back stays open.
type AtHome = (&'static str, &'static str, fn(Home) -> Option<TcpStream>);

fn say(mut home: Home, bytes: &[u8]) -> Option<TcpStream> {
    let _ = home.socket.write_all(bytes);
    // The worker ends the stream without its last words; what it had written may come before that.
    let _ = home.socket.read_to_end(&mut Vec::new());
    None
}

fn read_to_the_sentinel(home: &mut Home) {
    while home.frame().is_some_and(|(header, _)| header != Word::Sentinel.header()) {}
}

fn homes() -> Vec<AtHome> {
    vec![
        ("a sentinel", ENDLESS, |home| say(home, &frame(Word::Sentinel.header(), b""))),
        ("a word nobody knows", ENDLESS, |home| say(home, &frame(b"\"pause\"", b""))),
        ("a capital", ENDLESS, |home| say(home, &frame(b"\"Stop\"", b""))),
        ("no JSON", ENDLESS, |home| say(home, &frame(b"stop", b""))),
        ("a stop with a body", ENDLESS, |home| say(home, &frame(Word::Stop.header(), b"x"))),
        ("data", ENDLESS, |home| say(home, &frame(b"", b"{}"))),
        ("nothing", ENDLESS, |home| say(home, &frame(b"", b""))),
        ("garbage", ENDLESS, |home| say(home, &noise(5000, 4))),
        ("a length of 2^63", ENDLESS, |home| say(home, &head(1 << 63, 0, 0))),
        ("lengths that overflow", ENDLESS, |home| say(home, &head(u64::MAX, u64::MAX, 0))),
        ("stops without end", ENDLESS, |home| say(home, &frame(Word::Stop.header(), b"").repeat(100_000))),
        ("a kill a byte at a time", ENDLESS, |mut home| {
            let _ = frame(Word::Kill.header(), b"").iter().try_for_each(|byte| home.socket.write_all(&[*byte]));
            say(home, b"")
        }),
        ("half-closed, then gone", ENDLESS, |mut home| {
            let _ = home.socket.shutdown(Shutdown::Write);
            let _ = home.socket.read_exact(&mut vec![0; 1 << 20]);
            None
        }),
        ("half a word, hung up", ENDLESS, |mut home| {
            let _ = home.socket.write_all(&frame(Word::Stop.header(), b"")[..20]);
            None
        }),
        ("closed with everything unread", ENDLESS, |_| None),
        ("never read", ENDLESS, |home| Some(home.socket)),
        ("never closed after the sentinel", "1", |mut home| {
            read_to_the_sentinel(&mut home);
            Some(home.socket)
        }),
        ("words after the end", "1", |mut home| {
            read_to_the_sentinel(&mut home);
            say(home, &frame(Word::Kill.header(), b"").repeat(3))
        }),
        ("garbage after the end", "1", |mut home| {
            read_to_the_sentinel(&mut home);
            say(home, &noise(1000, 8))
        }),
    ]
}

#[test]
fn whatever_a_caller_says_to_its_response_costs_that_response_and_no_other() {
    both(async |driver| {
        let worker = start(driver, |_| {}).await;
        let mut caller = Caller::new(&worker, NAME);
        let attacked = tokio::task::spawn_blocking(move || {
            let steady = Steady::new(&mut caller);
            let mut attackers = Vec::new();
            for (name, body, attack) in homes() {
                caller.requests.write_all(&caller.frame(name, body)).unwrap();
                assert_eq!(caller.ack(), "");
                let (subject, mut home) = caller.accept();
                assert_eq!(subject, name);
                home.prologue();
                assert!(home.item().is_some());
                attackers.push((name, std::thread::spawn(move || attack(home))));
                served(&mut caller);
                steady.flows();
            }
            let mut open = Vec::new();
            for (name, attacker) in attackers {
                open.extend(attacker.join().unwrap_or_else(|_| panic!("{driver:?}: {name}")));
            }
            served(&mut caller);
            (caller, steady, open)
        });
        let (caller, steady, open) = attacked.await.unwrap();
        let left = until_worker("the attacked calls are over", &worker, |now| {
            now.worker.jobs == 1 && now.worker.connections == 2
        });
        assert_eq!(left.await.served.connections, 1, "{driver:?}: one request connection served them all");
        tokio::task::spawn_blocking(move || steady.end()).await.unwrap();
        drop((caller, open));
        end_worker(worker).await;
    });
}

/// What the worker does with a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Reaction {
    /// It refuses in an ack with these words, and closes.
    Refuses(&'static str),
    /// It closes, at most after a refusal.
    Closes,
    /// It closes once the caller has hung up.
    Ends,
}

/// Connections that are wrong as a whole.
fn connections(caller: &Caller) -> Vec<(String, Vec<u8>, Reaction)> {
    use Reaction::{Closes, Ends, Refuses};
    let good = caller.frame("attack", "1");
    let path = [&(caller.path.len() as u16).to_be_bytes()[..], caller.path.as_bytes()].concat();
    let lengths = |headers: u16, payload: u32| [&path[..], &headers.to_be_bytes(), &payload.to_be_bytes()].concat();
    let large = Refuses("Server unavailable: message too large");
    let mut list = vec![
        ("a payload of 4 GiB", lengths(0, u32::MAX), large),
        ("a byte too many", lengths(0, (32 << 20) - 7 - caller.path.len() as u32), large),
        ("a payload that never comes", lengths(0, 1 << 20), Closes),
        ("headers that never come", [&path[..], &u16::MAX.to_be_bytes()].concat(), Closes),
        ("a path that never comes", vec![0xFE, 0xFF, b'p'], Closes),
        ("half a request", good[..good.len() / 2].to_vec(), Closes),
        ("a byte", vec![0], Closes),
        ("nothing", Vec::new(), Closes),
        ("half a request, hung up", good[..good.len() / 2].to_vec(), Ends),
        ("half a length, hung up", vec![0], Ends),
        ("nothing, hung up", Vec::new(), Ends),
    ]
    .into_iter()
    .map(|(name, bytes, reaction)| (name.to_owned(), bytes, reaction))
    .collect::<Vec<_>>();
    for seed in 0..50 {
        list.push((format!("noise {seed}"), noise(seed as usize * 131 + 1, seed), Closes));
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

#[test]
fn a_bad_connection_is_closed_for_what_it_is_and_disturbs_nobody() {
    both(async |driver| {
        let worker = start(driver, |_| {}).await;
        let mut caller = Caller::new(&worker, NAME);
        let addr = worker.addr();
        let attacked = tokio::task::spawn_blocking(move || {
            let steady = Steady::new(&mut caller);
            let attacks = connections(&caller);
            let speaking = attacks.iter().map(|(name, bytes, reaction)| {
                let (bytes, reaction) = (bytes.clone(), *reaction);
                (name, reaction, std::thread::spawn(move || speak(addr, &bytes, reaction == Reaction::Ends)))
            });
            let speaking: Vec<_> = speaking.collect();
            // Those that say nothing at all, hundreds of them.
            let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(addr).unwrap()).collect();
            served(&mut caller);
            for (name, reaction, attacker) in speaking {
                let answer = attacker.join().unwrap_or_else(|_| panic!("{driver:?}: {name}"));
                let text = String::from_utf8_lossy(answer.get(4..).unwrap_or_default()).into_owned();
                let fits = match reaction {
                    Reaction::Refuses(words) => text.starts_with(words),
                    Reaction::Closes => answer.is_empty() || text.starts_with("Server ") || answer[0] == 0xFF,
                    Reaction::Ends => answer.is_empty(),
                };
                assert!(fits, "{driver:?}: {name}: {answer:?}");
                served(&mut caller);
                steady.flows();
            }
            for mut socket in silent {
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0, "{driver:?}: the silent are sent away");
            }
            // One that is slow is no attack: each byte arrives by itself.
            let slow = caller.frame("slow", "1");
            slow.iter().for_each(|byte| caller.requests.write_all(&[*byte]).unwrap());
            assert_eq!(caller.ack(), "");
            let (_, mut home) = caller.accept();
            home.prologue();
            assert_eq!((home.item(), home.item()), (Some(b"0".to_vec()), None));
            home.sentinel();
            (caller, steady)
        });
        let (caller, steady) = attacked.await.unwrap();
        let left = until_worker("only the steady call is left", &worker, |now| now.worker.connections == 2).await;
        assert_eq!((left.worker.jobs, left.worker.held), (1, 0));
        tokio::task::spawn_blocking(move || steady.end()).await.unwrap();
        drop(caller);
        end_worker(worker).await;
    });
}

#[test]
fn half_sent_requests_of_many_connections_are_bounded_together() {
    both(async |driver| {
        const BOUND: usize = 4 << 20;
        let worker = start(driver, |config| {
            config.worker.max_partial = BOUND;
            config.worker.requests.frame_timeout = Duration::from_secs(30);
            // The caller says nothing while the others write 20 MiB.
            config.worker.mux.hello_timeout = Duration::from_secs(60);
        });
        let worker = worker.await;
        let mut caller = Caller::new(&worker, NAME);
        let addr = worker.addr();
        let part = [&(caller.path.len() as u16).to_be_bytes()[..], caller.path.as_bytes(), &[0; 2]].concat();
        let part = [&part[..], &(30_u32 << 20).to_be_bytes(), &[0; 1 << 20]].concat();
        let strangers = tokio::task::spawn_blocking(move || {
            let write = |mut socket: TcpStream| {
                // The oldest of them are closed while the others write.
                let _ = socket.write_all(&part);
                socket
            };
            (0..20).map(|_| write(TcpStream::connect(addr).unwrap())).collect::<Vec<_>>()
        });
        let strangers = strangers.await.unwrap();
        let full = until_worker("the others have been refused", &worker, |now| now.served.overloaded >= 16).await;
        assert!(full.worker.held <= BOUND as u64, "{driver:?}: {full:?}");
        let caller = tokio::task::spawn_blocking(move || {
            served(&mut caller);
            caller
        });
        drop((caller.await.unwrap(), strangers));
        until_worker("all is given back", &worker, |now| now.worker.held == 0 && now.worker.connections == 0).await;
        end_worker(worker).await;
    });
}

#[test]
fn a_caller_that_resets_what_comes_home_costs_its_own_calls() {
    both(async |driver| {
        let worker = start(driver, |_| {}).await;
        let mut caller = Caller::new(&worker, NAME);
        let attacked = tokio::task::spawn_blocking(move || {
            let steady = Steady::new(&mut caller);
            // A home of its own that closes whatever arrives, whenever it arrives.
            let hostile = TcpListener::bind("127.0.0.1:0").unwrap();
            let good = std::mem::replace(&mut caller.home, hostile);
            for _ in 0..200 {
                caller.requests.write_all(&caller.frame("reset", ENDLESS)).unwrap();
                assert_eq!(caller.ack(), "");
                drop(caller.home.accept().unwrap());
            }
            caller.home = good;
            served(&mut caller);
            steady.flows();
            (caller, steady)
        });
        let (caller, steady) = attacked.await.unwrap();
        until_worker("they are over", &worker, |now| now.worker.jobs == 1 && now.worker.connections == 2).await;
        tokio::task::spawn_blocking(move || steady.end()).await.unwrap();
        drop(caller);
        end_worker(worker).await;
    });
}
