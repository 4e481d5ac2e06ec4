//! Requests that are streams, in Dynamo's protocol: by a caller written out by hand, by recordings of Dynamo, and by ours.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::path::Path;

use ringplane::{CallError, CallRequest, Config, DriverChoice, Failure, Request, Responder, Worker};
use ringplane::{Remote, WorkerBuilder};
use ringplane_core::caller::config::Dialect;
use ringplane_core::wire::dynamo::control::{CallHome, ConnectionInfo, Control, RequestType, StreamType};
use ringplane_core::wire::{Annotated, Class, Codec, Format, Limits, Parse, Request as Frame, TwoPart, Word};

use crate::facade::dynamo::{Caller, Home, emit};
use crate::facade::support::{both, connect, end, end_worker, on, place, serve, until_client, until_worker};

/// Served by a handler on the core, and by one on the tests' runtime.
const ENDPOINTS: [&str; 2] = ["test.streams.local", "test.streams.remote"];

/// What the recorded worker answered the `k`-th item with.
fn echoed(codec: Option<&str>, k: u8, item: &[u8]) -> Vec<u8> {
    let (codec, data) = match codec {
        Some("msgpack") => (Codec::Msgpack, [b"\x82\xA1k".as_slice(), &[k], b"\xA4echo", item].concat()),
        _ => (Codec::Json, [format!("{{\"k\":{k},\"echo\":").as_bytes(), item, b"}"].concat()),
    };
    Annotated::of(&data).write(codec).unwrap()
}

/// What it answered the end with.
fn ended(codec: Option<&str>, k: u8) -> Vec<u8> {
    match codec {
        Some("msgpack") => Annotated::of(&[b"\x81\xA3end".as_slice(), &[k]].concat()).write(Codec::Msgpack).unwrap(),
        _ => Annotated::of(format!("{{\"end\":{k}}}").as_bytes()).write(Codec::Json).unwrap(),
    }
}

async fn local(mut request: Request, out: Responder) -> Result<(), Failure> {
    let codec = request.open().codec.map(str::to_owned);
    let mut k = 0;
    while let Some(item) = request.next().await? {
        out.send(echoed(codec.as_deref(), k, &item)).await?;
        k += 1;
    }
    Ok(out.send(ended(codec.as_deref(), k)).await?)
}

async fn remote(mut request: Request<Remote>, out: Responder<Remote>) -> Result<(), Failure> {
    let codec = request.open().codec.map(str::to_owned);
    let mut k = 0;
    while let Some(item) = request.next().await? {
        out.send(echoed(codec.as_deref(), k, &item)).await?;
        k += 1;
    }
    Ok(out.send(ended(codec.as_deref(), k)).await?)
}

fn endpoints() -> WorkerBuilder {
    let here = tokio::runtime::Handle::current();
    Worker::builder().endpoint(ENDPOINTS[0], local).endpoint_on(here, ENDPOINTS[1], remote)
}

async fn start(place: &str, driver: DriverChoice) -> Worker {
    serve(endpoints(), place, on(driver)).await
}

fn many(caller: &Caller) -> Control {
    let info = caller.info("feed", StreamType::Request);
    let request_type = RequestType::ManyIn;
    Control { request_type, request_stream_connection_info: Some(info), ..caller.control("home") }
}

/// The two connections of a call, by what they are for.
fn accept_both(caller: &Caller) -> (Home, Home) {
    let (first, one) = caller.accept_any();
    let (second, two) = caller.accept_any();
    assert_eq!((&*first.subject, first.stream_type), ("feed", StreamType::Request), "dialed first");
    assert_eq!((&*second.subject, second.stream_type), ("home", StreamType::Response));
    (one, two)
}

fn part(header: &[u8], body: &[u8]) -> Vec<u8> {
    emit(&TwoPart::new(header, body))
}

/// Lets a blocking caller have its say on a thread of its own: handlers may need this one.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.unwrap()
}

async fn no_jobs(worker: &Worker) {
    until_worker("the handler is gone", worker, |snapshot| snapshot.worker.jobs == 0).await;
}

#[test]
fn a_request_stream_is_read_while_its_answer_comes_and_ends_it_in_each_way_it_can_end() {
    type Ending = (&'static [u8], &'static [u8], bool);
    let endings: [Option<Ending>; 8] = [
        Some((b"\"sentinel\"", b"", true)),
        Some((b"\"stop\"", b"", false)),
        Some((b"\"kill\"", b"", false)),
        Some((b"\"stop\"", b"with a body", false)),
        Some((b"", b"", false)),
        Some((b"\"Kill\"", b"", false)),
        Some((b"no word", b"", false)),
        None,
    ];
    both(async |driver| {
        let worker = start(&place(), driver).await;
        for endpoint in ENDPOINTS {
            for items in [0_u8, 2] {
                for ending in endings {
                    let mut caller = Caller::new(&worker, endpoint);
                    blocking(move || {
                        caller.requests.write_all(&caller.request(&many(&caller), b"")).unwrap();
                        assert_eq!(caller.ack(), "");
                        let (mut feed, mut home) = accept_both(&caller);
                        home.prologue();
                        for k in 0..items {
                            feed.socket.write_all(&part(b"", b"{\"a\":1}")).unwrap();
                            assert_eq!(home.item(), Some(echoed(None, k, b"{\"a\":1}")), "while the request is open");
                        }
                        match ending {
                            Some((header, body, _)) => feed.socket.write_all(&part(header, body)).unwrap(),
                            None => feed.socket.shutdown(Shutdown::Write).unwrap(),
                        }
                        if ending.is_some_and(|(_, _, well)| well) {
                            assert_eq!((home.item(), home.item()), (Some(ended(None, items)), None));
                            home.sentinel();
                        }
                        assert_eq!(home.frame(), None, "{ending:?}: neither final nor sentinel");
                        let _ = feed.socket.shutdown(Shutdown::Write);
                        assert_eq!(feed.frame(), None, "nothing ever follows the handshake");
                    })
                    .await;
                    no_jobs(&worker).await;
                }
            }
        }
        end_worker(worker).await;
    });
}

#[test]
fn a_request_that_is_a_stream_and_wrong_is_refused_at_home() {
    both(async |driver| {
        let worker = start(&place(), driver).await;
        let mut caller = Caller::new(&worker, ENDPOINTS[0]);
        caller = blocking(move || {
            let single = Control { request_type: RequestType::SingleIn, ..many(&caller) };
            let lost = Control { request_stream_connection_info: None, ..many(&caller) };
            let same =
                Control { request_stream_connection_info: Some(caller.info("home", StreamType::Request)), ..lost };
            let lost = Control { request_stream_connection_info: None, ..many(&caller) };
            let wrong: [(&Control, &[u8], &str); 4] = [
                (&many(&caller), b"1", "a body and a stream"),
                (&single, b"", "no body"),
                (&lost, b"", "no connection info"),
                (&same, b"", "one subject"),
            ];
            for (control, body, text) in wrong {
                caller.requests.write_all(&caller.request(control, body)).unwrap();
                assert_eq!(caller.ack(), "");
                let (_, mut home) = caller.accept();
                let prologue = home.prologue();
                assert!(prologue.error.unwrap().contains(text));
                assert_eq!(prologue.typed_error.unwrap().class(), Class::InvalidRequest);
                home.sentinel();
            }
            for control in [&single, &lost] {
                caller.requests.write_all(&caller.request(control, b"7")).unwrap();
                assert_eq!(caller.ack(), "");
                let (_, mut home) = caller.accept();
                home.prologue();
                assert_eq!((home.item(), home.item()), (Some(echoed(None, 0, b"7")), Some(ended(None, 1))));
                assert_eq!(home.item(), None);
                home.sentinel();
            }
            caller
        })
        .await;
        drop(caller);
        end_worker(worker).await;
    });
}

#[test]
fn items_that_nobody_offers_where_they_are_to_be_fetched_cost_the_call_with_a_reason() {
    both(async |driver| {
        let worker = start(&place(), driver).await;
        for endpoint in ENDPOINTS {
            let mut caller = Caller::new(&worker, endpoint);
            blocking(move || {
                let gone: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
                let mut feed = many(&caller).request_stream().unwrap();
                feed.address = gone.to_string();
                let info = ConnectionInfo::new(&feed).unwrap();
                let control = Control { request_stream_connection_info: Some(info), ..many(&caller) };
                caller.requests.write_all(&caller.request(&control, b"")).unwrap();
                assert_eq!(caller.ack(), "");
                let (_, mut home) = caller.accept();
                home.prologue();
                let failure = Annotated::read(Codec::Json, &home.item().unwrap()).unwrap().failure().unwrap();
                assert_eq!((failure.class(), failure.key().name()), (Class::Unavailable, "transport.cannot_connect"));
                assert_eq!(home.item(), None);
                home.sentinel();
            })
            .await;
            no_jobs(&worker).await;
        }
        end_worker(worker).await;
    });
}

#[test]
fn an_answer_that_ends_first_lets_go_of_a_request_that_goes_on() {
    async fn first(mut request: Request, out: Responder) -> Result<(), Failure> {
        let item = request.next().await?.unwrap_or_default();
        Ok(out.send(item).await?)
    }
    both(async |driver| {
        let worker = serve(Worker::builder().endpoint(ENDPOINTS[0], first), &place(), on(driver)).await;
        let mut caller = Caller::new(&worker, ENDPOINTS[0]);
        blocking(move || {
            caller.requests.write_all(&caller.request(&many(&caller), b"")).unwrap();
            let (mut feed, mut home) = accept_both(&caller);
            feed.socket.write_all(&part(b"", b"1")).unwrap();
            home.prologue();
            assert_eq!((home.item(), home.item()), (Some(b"1".to_vec()), None));
            home.sentinel();
            // What nobody reads any more is taken all the same, until the caller has said its last word and closed.
            for _ in 0..64 {
                feed.socket.write_all(&part(b"", &[b'2'; 65_536])).unwrap();
            }
            feed.socket.write_all(&part(Word::Sentinel.header(), b"")).unwrap();
            feed.socket.shutdown(Shutdown::Write).unwrap();
            assert_eq!(feed.frame(), None);
        })
        .await;
        until_worker("both connections are gone", &worker, |snapshot| snapshot.worker.connections == 0).await;
        end_worker(worker).await;
    });
}

/// One direction of a recorded conversation.
fn recorded(name: &str, direction: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/request-plane");
    fs::read(folder.join(format!("{name}.{direction}.bin"))).unwrap()
}

/// The recorded request, for this caller and this worker: nothing changes but the path and the two addresses.
fn readdressed(caller: &Caller, bytes: &[u8]) -> Vec<u8> {
    let Ok(Parse::Complete { value, .. }) = Frame::parse(bytes, &Limits::default()) else { panic!("a request") };
    let Ok(Parse::Complete { value: part, .. }) = TwoPart::parse(value.payload, &Limits::default()) else { panic!() };
    let mut control = Control::read(part.header).unwrap();
    let address = caller.home.local_addr().unwrap().to_string();
    let here = |place: CallHome| ConnectionInfo::new(&CallHome { address: address.clone(), ..place }).unwrap();
    control.connection_info = here(control.response_stream().unwrap());
    control.request_stream_connection_info = Some(here(control.request_stream().unwrap()));
    let payload = emit(&TwoPart::new(&control.write().unwrap(), part.body));
    emit(&Frame { path: caller.path.as_bytes(), headers: value.headers, payload: &payload })
}

#[test]
fn recorded_conversations_with_a_dynamo_worker_are_repeated_to_the_byte() {
    both(async |driver| {
        let worker = start(&place(), driver).await;
        for endpoint in ENDPOINTS {
            for (name, items) in [("bidi-clean", 2), ("bidi-stop", 1), ("bidi-kill", 1)] {
                let mut caller = Caller::new(&worker, endpoint);
                blocking(move || {
                    caller.requests.write_all(&readdressed(&caller, &recorded(name, "req"))).unwrap();
                    let mut ack = [0; 4];
                    caller.requests.read_exact(&mut ack).unwrap();
                    assert_eq!(ack.as_slice(), recorded(name, "resp"));
                    let (mut feed, _) = caller.home.accept().unwrap();
                    let (mut home, _) = caller.home.accept().unwrap();
                    let (said, brought) = (recorded(name, "reqstream-down"), recorded(name, "callhome-up"));
                    // The last word goes once the items are answered: behind a stop nothing has to come.
                    let word = if items == 2 { Word::Sentinel } else { Word::Stop }.header().len();
                    let (before, last) = said.split_at(said.len() - 24 - word);
                    feed.write_all(before).unwrap();
                    let mut answers = vec![0; brought.len() - if items == 2 { 58 + 41 + 34 } else { 0 }];
                    home.read_exact(&mut answers).unwrap();
                    feed.write_all(last).unwrap();
                    feed.shutdown(Shutdown::Write).unwrap();
                    home.read_to_end(&mut answers).map(drop).unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert_eq!(answers, brought, "{name}");
                    let mut handshake = Vec::new();
                    feed.read_to_end(&mut handshake).unwrap();
                    assert_eq!(handshake, recorded(name, "reqstream-up"), "{name}");
                })
                .await;
                no_jobs(&worker).await;
            }
        }
        end_worker(worker).await;
    });
}

fn homely(driver: DriverChoice) -> Config {
    let mut config = on(driver);
    config.caller.dialect = Dialect::CallHome;
    config
}

#[test]
fn our_caller_and_our_worker_stream_both_ways_in_dynamos_protocol() {
    both(async |driver| {
        for codec in [Codec::Json, Codec::Msgpack] {
            let place = place();
            let worker = serve(endpoints().codec(codec), &place, on(driver)).await;
            let client = connect(&place, homely(driver));
            let text = vec![b'x'; 200_000];
            let (small, big) = match codec {
                Codec::Json => (b"{\"a\":1}".to_vec(), [b"\"", &text[..], b"\""].concat()),
                Codec::Msgpack => (b"\x81\xA1a\x01".to_vec(), [b"\xDB\x00\x03\x0D\x40", &text[..]].concat()),
            };
            let name = Some(codec.name());
            for endpoint in ENDPOINTS {
                let mut call = client.call(CallRequest::streaming(endpoint)).unwrap();
                let sender = call.take_sender().unwrap();
                for k in 0..100 {
                    let item = if k % 10 == 9 { &big } else { &small };
                    sender.send(item.clone()).await.unwrap();
                    assert_eq!(call.next().await.unwrap().unwrap(), echoed(name, k, item));
                }
                drop(sender);
                assert_eq!(call.next().await.unwrap().unwrap(), ended(name, 100));
                assert_eq!(call.next().await, None);

                let mut empty = client.call(CallRequest::streaming(endpoint)).unwrap();
                drop(empty.take_sender());
                assert_eq!(empty.collect().await.unwrap(), [ended(name, 0)]);
                let one = client.call(CallRequest::new(endpoint, "7")).unwrap().collect().await.unwrap();
                assert_eq!(one, [echoed(name, 0, b"7"), ended(name, 1)], "one item is a stream of one");
            }
            let used = until_client("every call is over", &client, |snapshot| snapshot.caller.calls == 0).await;
            assert_eq!(used.called.sent_home, 6);
            end(worker, client).await;
        }
    });
}

#[test]
fn our_caller_stops_kills_and_drops_a_request_that_is_a_stream() {
    both(async |driver| {
        let place = place();
        let worker = start(&place, driver).await;
        let client = connect(&place, homely(driver));
        for endpoint in ENDPOINTS {
            for how in ["stop", "stop at once", "kill", "drop"] {
                let mut call = client.call(CallRequest::streaming(endpoint)).unwrap();
                let sender = call.take_sender().unwrap();
                if how != "stop at once" {
                    sender.send("\x01").await.unwrap();
                    assert_eq!(call.next().await.unwrap().unwrap(), echoed(Some("msgpack"), 0, b"\x01"));
                }
                match how {
                    "kill" => {
                        call.kill();
                        assert_eq!(call.next().await, Some(Err(CallError::Cancelled)));
                    }
                    "drop" => drop(call),
                    _ => {
                        call.stop();
                        assert!(matches!(call.next().await, None | Some(Err(CallError::Cancelled))), "{how}");
                    }
                }
                no_jobs(&worker).await;
                drop(sender);
            }
        }
        end(worker, client).await;
    });
}
