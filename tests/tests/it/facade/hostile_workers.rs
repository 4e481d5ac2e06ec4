//! What Dynamo workers may do to a live caller: each attack costs its own call or its own connection, and nothing else.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringplane::{CallError, CallRequest, Client, Config, DriverChoice};
use ringplane_core::protocol::Fault;
use ringplane_core::wire::class::Class;
use ringplane_core::wire::mux::RejectCode;

use crate::facade::raw_worker::{Asked, FINAL, OK, RawWorker, SENTINEL, frame, head, item, patiently, then_listen};
use crate::facade::support::{both, connect, end_client, noise, on, place, until, until_client};

const NAME: &str = "test.hostile.workers";
/// A call that goes on beside the attacks.
const STEADY: &str = "steady";
/// A call that is answered as it should be, with two items.
const GOOD: &str = "good";

/// What came of a call: its items, or its error.
type Outcome = Result<usize, CallError>;

/// What a worker does with a request, and what must come of the call.
struct Attack {
    name: &'static str,
    script: fn(&Asked),
    expected: fn(&Outcome) -> bool,
}

const fn attack(name: &'static str, script: fn(&Asked), expected: fn(&Outcome) -> bool) -> Attack {
    Attack { name, script, expected }
}

const fn protocol(outcome: &Outcome) -> bool {
    matches!(outcome, Err(CallError::Protocol { delivered: true, .. }))
}

const fn disconnected(outcome: &Outcome) -> bool {
    matches!(outcome, Err(CallError::Disconnected { delivered: true, .. }))
}

const fn no_response(outcome: &Outcome) -> bool {
    matches!(outcome, Err(CallError::NoResponse))
}

const fn idle(outcome: &Outcome) -> bool {
    matches!(outcome, Err(CallError::Idle))
}

const fn not_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Err(CallError::NotAccepted))
}

const fn too_large(outcome: &Outcome) -> bool {
    matches!(outcome, Err(CallError::ItemTooLarge { .. }))
}

fn failed(outcome: &Outcome) -> bool {
    matches!(outcome, Err(CallError::Failed { .. }))
}

fn one_item(outcome: &Outcome) -> bool {
    *outcome == Ok(1)
}

/// Everything behind the prologue of a stream that is brought home.
fn streamed(asked: &Asked, bytes: &[u8]) {
    then_listen(asked.start(), bytes);
}

/// Everything behind the handshake.
fn behind_handshake(asked: &Asked, bytes: &[u8]) {
    then_listen(asked.come(), bytes);
}

/// Everything on a connection home, the handshake too.
fn instead_of_handshake(asked: &Asked, bytes: &[u8]) {
    asked.ack("");
    then_listen(asked.dial(), bytes);
}

fn whole() -> Vec<u8> {
    [item("1"), frame(b"", FINAL), frame(SENTINEL, b"")].concat()
}

fn hung_up(socket: &TcpStream) {
    let _ = socket.shutdown(Shutdown::Write);
}

fn slowly(mut socket: TcpStream, bytes: &[u8]) {
    for byte in bytes {
        if socket.write_all(&[*byte]).is_err() {
            return;
        }
    }
    let _ = socket.read_to_end(&mut Vec::new());
}

/// Writes the same until nobody takes it.
fn for_ever(mut socket: TcpStream, bytes: &[u8], pause: Duration) {
    while socket.write_all(bytes).is_ok() {
        std::thread::sleep(pause);
    }
}

/// All that a worker may do on connections home. The requests come over one connection, which must outlive them.
fn at_home() -> Vec<Attack> {
    [instead_of_a_handshake(), instead_of_a_prologue(), in_the_stream(), at_the_end()].into_iter().flatten().collect()
}

fn instead_of_a_handshake() -> Vec<Attack> {
    vec![
        attack("nobody comes", |asked| asked.ack(""), no_response),
        attack("silent", |asked| instead_of_handshake(asked, b""), no_response),
        attack("half a handshake", |asked| instead_of_handshake(asked, &asked.handshake()[..50]), no_response),
        attack("garbage for a handshake", |asked| instead_of_handshake(asked, &noise(300, 5)), no_response),
        attack("a handshake of data", |asked| instead_of_handshake(asked, &item("1")), no_response),
        attack("a handshake of 2^40", |asked| instead_of_handshake(asked, &head(1 << 40, 0, 0)), no_response),
        attack("a handshake of 2^63", |asked| instead_of_handshake(asked, &head(1 << 63, 1 << 63, 0)), no_response),
        attack("a body of 2^64 - 1", |asked| instead_of_handshake(asked, &head(75, u64::MAX, 0)), no_response),
        attack(
            "a subject nobody knows",
            |asked| {
                let stranger = br#"{"subject":"00000000-0000-4000-8000-000000000000","stream_type":"response"}"#;
                instead_of_handshake(asked, &[frame(stranger, b""), frame(OK, b""), whole()].concat());
            },
            no_response,
        ),
        attack(
            "the other stream's name",
            |asked| {
                let text = format!("{{\"subject\":\"{}\",\"stream_type\":\"request\"}}", asked.home.subject);
                instead_of_handshake(asked, &[frame(text.as_bytes(), b""), whole()].concat());
            },
            no_response,
        ),
        attack(
            "a subject used twice",
            |asked| {
                let first = asked.start();
                let again = [asked.handshake(), frame(OK, b""), item("7"), item("8")].concat();
                then_listen(asked.dial(), &again);
                then_listen(first, &whole());
            },
            one_item,
        ),
        attack(
            "hung up before the handshake",
            |asked| {
                asked.ack("");
                hung_up(&asked.dial());
            },
            no_response,
        ),
        attack(
            "a byte at a time",
            |asked| {
                asked.ack("");
                slowly(asked.dial(), &[asked.handshake(), frame(OK, b""), whole()].concat());
            },
            one_item,
        ),
    ]
}

fn instead_of_a_prologue() -> Vec<Attack> {
    vec![
        attack("a handshake and no more", |asked| behind_handshake(asked, b""), no_response),
        attack("half a prologue", |asked| behind_handshake(asked, &frame(OK, b"")[..30]), no_response),
        attack("hung up after the handshake", |asked| hung_up(&asked.come()), disconnected),
        attack("a prologue that is no JSON", |asked| behind_handshake(asked, &frame(b"{", b"")), protocol),
        attack("a prologue with a body", |asked| behind_handshake(asked, &frame(OK, b"x")), protocol),
        attack("a prologue of 2^40", |asked| behind_handshake(asked, &head(1 << 40, 0, 0)), protocol),
        attack("a prologue of 200 kB", |asked| behind_handshake(asked, &head(200_000, 0, 0)), protocol),
        attack("a prologue with an error", |asked| behind_handshake(asked, &frame(br#"{"error":"x"}"#, b"")), failed),
        attack("a prologue nested deep", |asked| behind_handshake(asked, &frame(&nested(), b"")), protocol),
        attack("items before the prologue", |asked| behind_handshake(asked, &whole()), protocol),
        attack("an end before the prologue", |asked| behind_handshake(asked, &frame(SENTINEL, b"")), protocol),
    ]
}

/// A prologue whose error has a cause that has a cause, thousands of times.
fn nested() -> Vec<u8> {
    let (open, close) = (r#"{"error_type":"Unknown","caused_by":"#.repeat(3000), "}".repeat(3000));
    format!("{{\"error\":\"x\",\"typed_error\":{open}null{close}}}").into_bytes()
}

fn in_the_stream() -> Vec<Attack> {
    vec![
        attack("hung up in the stream", |asked| hung_up(&asked.start()), disconnected),
        attack(
            "hung up within an item",
            |asked| {
                let mut socket = asked.start();
                let _ = socket.write_all(&item("123")[..30]);
                hung_up(&socket);
            },
            disconnected,
        ),
        attack("silent after an item", |asked| streamed(asked, &item("1")), idle),
        attack("half an item", |asked| streamed(asked, &item("1")[..30]), idle),
        attack("nothing, again and again", |asked| for_ever(asked.start(), &frame(b"", b""), SHORT), idle),
        attack("a sentinel without the end", |asked| streamed(asked, &frame(SENTINEL, b"")), disconnected),
        attack("a header that is no JSON", |asked| streamed(asked, &frame(b"junk", b"")), protocol),
        attack("a worker that says stop", |asked| streamed(asked, &frame(br#""stop""#, b"")), protocol),
        attack("header and body", |asked| streamed(asked, &frame(SENTINEL, FINAL)), protocol),
        attack("a body that is no item", |asked| streamed(asked, &frame(b"", b"{}")), protocol),
        attack("an item of nothing", |asked| streamed(asked, &frame(b"", br#"{"complete_final":false}"#)), protocol),
        attack("an item nested deep", |asked| streamed(asked, &item(&"[".repeat(100_000))), protocol),
        attack("an item of 2^40", |asked| streamed(asked, &head(0, 1 << 40, 0)), too_large),
        attack("an item of 2^63", |asked| streamed(asked, &head(0, 1 << 63, 0)), too_large),
        attack("lengths that overflow", |asked| streamed(asked, &head(u64::MAX, u64::MAX, 0)), protocol),
        attack("garbage for an item", |asked| streamed(asked, &noise(3000, 3)), protocol),
        attack(
            "a wrong checksum",
            |asked| streamed(asked, &[&head(0, FINAL.len() as u64, 12_345)[..], FINAL].concat()),
            protocol,
        ),
        attack(
            "a failure and more items",
            |asked| {
                let failure = item(r#"{"event":"error","comment":["boom"]}"#);
                streamed(asked, &[failure, item("2"), item("3")].concat());
            },
            failed,
        ),
    ]
}

fn at_the_end() -> Vec<Attack> {
    vec![
        attack(
            "the end without a sentinel",
            |asked| streamed(asked, &[item("1"), frame(b"", FINAL)].concat()),
            one_item,
        ),
        attack("items after the end", |asked| streamed(asked, &[whole(), item("2"), item("3")].concat()), one_item),
        attack(
            "an item after the final frame",
            |asked| streamed(asked, &[item("1"), frame(b"", FINAL), item("2"), frame(SENTINEL, b"")].concat()),
            protocol,
        ),
        attack(
            "garbage for a sentinel",
            |asked| streamed(asked, &[item("1"), frame(b"", FINAL), noise(5000, 9)].concat()),
            protocol,
        ),
        attack(
            "hung up instead of a sentinel",
            |asked| {
                let mut socket = asked.start();
                let _ = socket.write_all(&[item("1"), frame(b"", FINAL)].concat());
                hung_up(&socket);
            },
            one_item,
        ),
    ]
}

/// The attack whose ack comes behind its first item.
const HOME_FIRST: &str = "a refusal of what came home";
/// Between writes of those that write for ever.
const SHORT: Duration = Duration::from_millis(1);

/// All that a worker may do on the request connection. Each has a worker of its own, whose connection may end.
fn by_acks() -> Vec<Attack> {
    [instead_of_an_ack(), beside_an_answer()].into_iter().flatten().collect()
}

fn instead_of_an_ack() -> Vec<Attack> {
    vec![
        attack("no ack", |_| {}, not_accepted),
        attack("half an ack", |asked| asked.say(&[0, 0, 0, 40, b'S', b'e']), not_accepted),
        attack(
            "a late ack",
            |asked| {
                asked.wait();
                asked.ack("");
            },
            not_accepted,
        ),
        attack("garbage acks", |asked| asked.say(&[&[0x80][..], &noise(64, 1)].concat()), protocol),
        attack("an ack of 4 GiB", |asked| asked.say(&u32::MAX.to_be_bytes()), protocol),
        attack("an ack of 200 kB", |asked| asked.say(&200_000_u32.to_be_bytes()), protocol),
        attack(
            "an ack nobody knows",
            |asked| asked.ack("what is this"),
            |outcome| class(outcome, Class::BackendProtocol),
        ),
        attack("Dynamo's silent refusal", |asked| asked.ack("Invalid endpoint path"), rejected),
        attack("Dynamo 1.0's refusal", |asked| asked.ack("Unknown endpoint: x"), rejected),
        attack(
            "Dynamo's failed read",
            |asked| asked.ack("Read error: message too large: 1 bytes (max: 1 bytes)"),
            |outcome| matches!(outcome, Err(CallError::Rejected { code: RejectCode::TooLarge, .. })),
        ),
        attack(
            "a refusal a byte at a time",
            |asked| b"\x00\x00\x00\x13Server overloaded: ".iter().for_each(|byte| asked.say(&[*byte])),
            |outcome| matches!(outcome, Err(CallError::Rejected { code: RejectCode::Overloaded, .. })),
        ),
        attack(
            "closed before the ack",
            |asked| {
                let _ = asked.requests.shutdown(Shutdown::Both);
            },
            disconnected,
        ),
        attack("half-closed before the ack", |asked| hung_up(&asked.requests), disconnected),
    ]
}

fn beside_an_answer() -> Vec<Attack> {
    vec![
        attack(
            "two acks for one request",
            |asked| {
                asked.ack("");
                then_listen(asked.start(), &whole());
            },
            one_item,
        ),
        attack(
            HOME_FIRST,
            |asked| {
                let mut socket = asked.dial();
                let _ = socket.write_all(&[asked.handshake(), frame(OK, b""), item("1")].concat());
                asked.wait();
                asked.ack("Server overloaded: worker at capacity");
                then_listen(socket, &[frame(b"", FINAL), frame(SENTINEL, b"")].concat());
            },
            one_item,
        ),
        attack(
            "a refusal, and an answer all the same",
            |asked| {
                asked.ack("what is this");
                let answer = [asked.handshake(), frame(OK, b""), whole()].concat();
                then_listen(asked.dial(), &answer);
            },
            // Two sockets: either may be heard first, and what is heard first counts.
            |outcome| failed(outcome) || one_item(outcome),
        ),
    ]
}

const fn rejected(outcome: &Outcome) -> bool {
    matches!(outcome, Err(CallError::Rejected { .. }))
}

fn class(outcome: &Outcome, class: Class) -> bool {
    matches!(outcome, Err(error @ CallError::Failed { .. }) if error.class() == class)
}

/// What a worker of this table does, and what a good one does with the calls that are no attacks.
fn play(attacks: &[Attack], asked: &Asked) {
    match asked.body.as_str() {
        STEADY => for_ever(asked.start(), &item("0"), SHORT),
        GOOD => streamed(asked, &[item("1"), whole()].concat()),
        name => (attacks.iter().find(|attack| attack.name == name).expect(name).script)(asked),
    }
}

/// Bounds short enough to be seen, and long enough for those who behave on a busy machine.
fn hasty(driver: DriverChoice) -> Config {
    let mut config = on(driver);
    // An instance that answers one call badly must not be avoided by those that follow.
    config.caller.health.base = Duration::ZERO;
    config.caller.call_home.response_timeout = Duration::from_secs(2);
    config.caller.item_timeout = Duration::from_secs(2);
    config.caller.responses.handshake_timeout = Duration::from_secs(1);
    config.caller.responses.sentinel_timeout = Duration::from_secs(1);
    config
}

async fn outcome(client: &Client, body: &'static str) -> Outcome {
    let request = CallRequest::new(NAME, body).with_timeout(Duration::from_secs(30));
    let outcome = client.call(request).unwrap().collect().await;
    outcome.map(|items| items.len())
}

/// A call that streams on, and how many items it has had.
fn steady(client: &Client) -> (tokio::task::JoinHandle<()>, Arc<AtomicU64>) {
    let (read, mut call) = (Arc::new(AtomicU64::new(0)), client.call(CallRequest::new(NAME, STEADY)).unwrap());
    let counted = read.clone();
    let reading = tokio::spawn(async move {
        while let Some(item) = call.next().await {
            item.expect("the steady call goes on");
            counted.fetch_add(1, Ordering::SeqCst);
        }
        panic!("the steady call has ended");
    });
    (reading, read)
}

async fn flows(read: &AtomicU64) {
    let before = read.load(Ordering::SeqCst);
    until("the steady call flows", || read.load(Ordering::SeqCst) > before + 3).await;
}

/// The steady call is dropped, and nothing is left.
async fn ends(client: Client, reading: tokio::task::JoinHandle<()>) {
    assert!(!reading.is_finished());
    reading.abort();
    assert!(reading.await.unwrap_err().is_cancelled());
    until_client("only request connections are left", &client, |now| now.caller.connections <= 2).await;
    end_client(client).await;
}

#[test]
fn whatever_a_worker_brings_home_costs_its_own_call_and_not_the_connection_they_share() {
    both(async |driver| {
        let (place, attacks) = (place(), at_home());
        let mut worker = RawWorker::new(|asked| play(&at_home(), asked));
        worker.advertise(NAME, &place).await;
        let client = connect(&place, hasty(driver));
        let (reading, read) = steady(&client);
        flows(&read).await;
        let calls: Vec<_> = attacks.iter().map(|attack| outcome(&client, attack.name)).collect();
        let outcomes = futures::future::join_all(calls).await;
        for (attack, outcome) in attacks.iter().zip(&outcomes) {
            assert!((attack.expected)(outcome), "{driver:?}: {}: {outcome:?}", attack.name);
            assert_eq!(worker.asked(attack.name), 1, "{driver:?}: {}: no call is made twice", attack.name);
        }
        flows(&read).await;
        assert_eq!(outcome(&client, GOOD).await, Ok(2));
        assert_eq!(worker.accepted(), 1, "{driver:?}: all of them came over one connection");
        println!("measured: {driver:?}: {} attacks, {} items meanwhile", attacks.len(), read.load(Ordering::SeqCst));
        ends(client, reading).await;
    });
}

#[test]
fn whatever_a_worker_says_for_an_ack_costs_what_it_was_said_to_and_no_call_that_was_taken() {
    both(async |driver| {
        for attack in by_acks() {
            let place = place();
            let mut worker = RawWorker::new(|asked| play(&by_acks(), asked));
            worker.advertise(NAME, &place).await;
            let mut config = hasty(driver);
            config.caller.accept_timeout = Duration::from_secs(1);
            let client = connect(&place, config);
            // It was taken over the very connection that is attacked.
            let (reading, read) = steady(&client);
            flows(&read).await;
            let name = attack.name;
            let told = if name == HOME_FIRST {
                // The refusal follows the first item.
                let mut call = client.call(CallRequest::new(NAME, name)).unwrap();
                call.next().await.unwrap().unwrap();
                worker.release();
                call.collect().await.map(|rest| rest.len() + 1)
            } else {
                outcome(&client, name).await
            };
            worker.release();
            assert!((attack.expected)(&told), "{driver:?}: {name}: {told:?}");
            flows(&read).await;
            // Whether over the same connection or a new one: the next call finds its own answer.
            assert_eq!(outcome(&client, GOOD).await, Ok(2), "{driver:?}: after {name}");
            flows(&read).await;
            ends(client, reading).await;
        }
    });
}

#[test]
fn a_worker_that_reads_no_requests_costs_the_calls_that_wait_for_it() {
    both(async |driver| {
        let place = place();
        // Nobody accepts: the kernel takes what its buffers hold.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = hasty(driver);
        config.caller.requests.send_timeout = Duration::from_secs(1);
        let mut instance = ringplane_core::discovery::Instance::new(
            ringplane_core::id::InstanceId(7),
            ringplane_core::id::EndpointId::parse(NAME).unwrap(),
            listener.local_addr().unwrap(),
        );
        instance.codec = ringplane_core::discovery::instance::Codec::Json;
        let _registered = ringplane::discovery::open(&place).unwrap().endpoints().register(instance).await.unwrap();
        let client = connect(&place, config);
        let call = client.call(CallRequest::new(NAME, vec![b' '; 24 << 20])).unwrap();
        let error = call.collect().await.unwrap_err();
        let stalled = matches!(error, CallError::Protocol { fault: Fault::Stalled, delivered: true });
        assert!(stalled, "{driver:?}: {error:?}");
        end_client(client).await;
    });
}

#[test]
fn a_connection_home_that_nobody_waits_for_is_reset() {
    both(async |driver| {
        let (place, (seen, home)) = (place(), std::sync::mpsc::channel());
        let mut worker = RawWorker::new(move |asked| {
            play(&[], asked);
            // The subject is spent, and one that closes its half is served on: only a reset says that nobody is there.
            let mut late = asked.dial();
            let _ = late.write_all(&asked.handshake());
            let _ = seen.send(late.read_to_end(&mut Vec::new()).map_err(|error| error.kind()));
        });
        worker.advertise(NAME, &place).await;
        let client = connect(&place, hasty(driver));
        assert_eq!(outcome(&client, GOOD).await, Ok(2));
        let late = tokio::task::spawn_blocking(move || home.recv_timeout(Duration::from_secs(20)).unwrap());
        assert_eq!(late.await.unwrap(), Err(std::io::ErrorKind::ConnectionReset), "{driver:?}");
        end_client(client).await;
    });
}

#[test]
fn a_response_nobody_reads_holds_its_worker_back_and_comes_whole_once_somebody_does() {
    both(async |driver| {
        const ITEMS: usize = 6000;
        let (place, stuck) = (place(), Arc::new(AtomicU64::new(0)));
        let mut worker = RawWorker::new({
            let stuck = stuck.clone();
            move |asked| match asked.body.as_str() {
                "much" => {
                    let text = format!("\"{}\"", "x".repeat(7998));
                    let (mut socket, many) = (asked.start(), item(&text).repeat(ITEMS));
                    let _ = patiently(&mut socket, &many, || _ = stuck.fetch_add(1, Ordering::SeqCst));
                    then_listen(socket, &[frame(b"", FINAL), frame(SENTINEL, b"")].concat());
                }
                _ => play(&[], asked),
            }
        });
        worker.advertise(NAME, &place).await;
        let mut config = hasty(driver);
        config.caller.call_home.max_unread = 1 << 20;
        let client = connect(&place, config);
        let (reading, read) = steady(&client);
        let mut call = client.call(CallRequest::new(NAME, "much")).unwrap();
        // Longer than the silence that would end a call whose reader waits for its worker.
        until("the worker is held back", || stuck.load(Ordering::SeqCst) > 10).await;
        flows(&read).await;
        assert_eq!(client.snapshot().await.unwrap().called.failed, 0, "{driver:?}");
        let mut items = 0;
        while let Some(item) = call.next().await {
            assert_eq!(item.map(|item| item.len()), Ok(8000), "{driver:?}: after {items} items");
            items += 1;
        }
        assert_eq!(items, ITEMS, "{driver:?}");
        flows(&read).await;
        ends(client, reading).await;
        assert_eq!(worker.accepted(), 1);
    });
}
