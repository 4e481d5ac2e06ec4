//! The HTTP listener against whoever may reach it: garbage, slowness, lies about lengths, crowds; and good requests beside.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringplane_tokio::request::http::{Config, Listener, Reply};
use ringplane_tokio::request::intake::{Request, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes on a loaded machine.
const BOUND: Duration = Duration::from_secs(30);

struct World {
    addr: SocketAddr,
    intake: Running,
    /// What was taken: endpoint, payload length, headers.
    taken: Arc<Mutex<Vec<(usize, usize, String)>>>,
    /// Requests that are not answered.
    held: Arc<Mutex<Vec<Request<Reply>>>>,
}

/// A listener with two endpoints: the first accepts, the second holds its requests.
async fn world(config: Config) -> World {
    let listener = Listener::bind(config).unwrap();
    let addr = listener.addr();
    let (taken, held) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(vec![])));
    let (record, keep) = (Arc::clone(&taken), Arc::clone(&held));
    let take = move |request: Request<Reply>| {
        let headers = String::from_utf8(request.headers.clone()).unwrap();
        record.lock().unwrap().push((request.endpoint, request.payload.len(), headers));
        if request.endpoint == 1 {
            keep.lock().unwrap().push(request);
        } else {
            request.answer.send("");
        }
    };
    let intake = listener.serve(&["good".to_owned(), "held".to_owned()], take).await.unwrap();
    World { addr, intake, taken, held }
}

impl World {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// What comes back for these bytes until the listener closes, which it must.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // It may close before it has read all.
        let _ = stream.write_all(bytes).await;
        all(&mut stream).await
    }

    /// A well-behaved request, with which a hostile one must not interfere.
    async fn is_well(&self) {
        let said = self.say(&post("good", "content-length: 5", "hello")).await;
        assert!(said.starts_with("HTTP/1.1 202"), "{said}");
    }
}

async fn all(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is an end too.
    let _ = timeout(BOUND, stream.read_to_end(&mut said)).await.expect("the listener closes");
    String::from_utf8_lossy(&said).into_owned()
}

fn post(endpoint: &str, headers: &str, body: &str) -> Vec<u8> {
    let head = format!("POST /v1/rpc/{endpoint} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n\r\n");
    [head.as_bytes(), body.as_bytes()].concat()
}

#[tokio::test]
async fn a_request_is_taken_with_its_headers_and_acked_with_an_empty_202() {
    let world = world(Config::default()).await;
    let said = world.say(&post("good", "request-id: r1\r\ncookie: c\r\ncontent-length: 5", "hello")).await;
    assert!(said.starts_with("HTTP/1.1 202") && said.ends_with("\r\n\r\n"), "{said}");
    let said = world.say(&post("good", "transfer-encoding: chunked", "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")).await;
    assert!(said.starts_with("HTTP/1.1 202"), "{said}");
    let taken = world.taken.lock().unwrap().clone();
    assert_eq!(taken, [(0, 5, r#"{"request-id":"r1"}"#.to_owned()), (0, 7, "{}".to_owned())]);
}

#[tokio::test]
async fn http2_is_understood_without_an_upgrade() {
    let world = world(Config::default()).await;
    let connector = hyper_util::client::legacy::connect::HttpConnector::new();
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build::<_, http_body_util::Full<bytes::Bytes>>(connector);
    for (path, status) in [("good", 202), ("other", 404)] {
        let uri = format!("http://{}/v1/rpc/{path}", world.addr);
        let request = hyper::Request::post(uri).body(bytes::Bytes::from_static(b"x").into()).unwrap();
        let response = timeout(BOUND, client.request(request)).await.unwrap().unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (status, hyper::Version::HTTP_2));
    }
}

#[tokio::test]
async fn what_is_no_request_for_an_endpoint_has_its_status() {
    let world = world(Config { max_body: Some(10), ..Config::default() }).await;
    for (bytes, status) in [
        (post("other", "content-length: 0", ""), "404"),
        (b"GET /v1/rpc/good HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(), "405"),
        (post("good", "content-length: 11", "hello world"), "413"),
        // The length is a lie, and is refused before a byte of it has come.
        (post("good", "content-length: 99999999999", ""), "413"),
        (post("good", "transfer-encoding: chunked", "b\r\nhello world\r\n0\r\n\r\n"), "413"),
        (post("good", "content-length: -1", ""), "400"),
        (post("good", "content-length: 5\r\ncontent-length: 6", "hello"), "400"),
        (post("good", "transfer-encoding: chunked", "zz\r\n"), "400"),
    ] {
        let said = world.say(&bytes).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {said}");
    }
    assert!(world.taken.lock().unwrap().is_empty());
    world.is_well().await;
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let world = world(Config { quiet: Duration::from_millis(500), ..Config::default() }).await;
    let long = [b"POST /v1/rpc/good HTTP/1.1\r\nx: ".as_slice(), &[b'a'; 200_000]].concat();
    // HTTP/2's preface with a frame that is none behind.
    let frames = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 64]].concat();
    for bytes in [b"\0\0\0\0".as_slice(), &[0xff; 5000], b"hello\r\n\r\n", &long, &frames, b"PRI * HT", b""] {
        let said = world.say(bytes).await;
        assert!(!said.starts_with("HTTP/1.1 202"), "{said}");
        world.is_well().await;
    }
}

#[tokio::test]
async fn a_header_that_does_not_come_and_a_connection_that_says_nothing_end() {
    let world = world(Config { quiet: Duration::from_millis(200), ..Config::default() }).await;
    let mut silent = world.connect().await;
    let mut slow = world.connect().await;
    let dribble = tokio::spawn(async move {
        // One byte at a time does not prolong it.
        for byte in b"POST /v1/rpc/good HTTP/1.1\r\n".iter().cycle() {
            if slow.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(all(&mut silent).await, "");
    timeout(BOUND, dribble).await.expect("the slow one is cut off").unwrap();
    world.is_well().await;
}

#[tokio::test]
async fn a_refusal_is_heard_by_a_caller_that_writes_its_whole_request_first() {
    let world = world(Config { max_body: Some(1 << 20), in_hand_bytes: 4 << 20, ..Config::default() }).await;
    let chunk = vec![b'x'; 40 << 20];
    for (endpoint, length, status) in [
        ("good", "content-length: 41943040".to_owned(), "413"),
        ("other", "content-length: 41943040".to_owned(), "404"),
        ("good", format!("transfer-encoding: chunked\r\n\r\n{:x}", 40 << 20), "413"),
    ] {
        let mut stream = world.connect().await;
        let head = post(endpoint, &length, "");
        // A chunk begins where the head would have ended.
        let head = if length.starts_with('t') { &head[..head.len() - 2] } else { &head[..] };
        timeout(BOUND, stream.write_all(head)).await.unwrap().unwrap();
        timeout(BOUND, stream.write_all(&chunk)).await.unwrap().expect("it is read to its end");
        if length.starts_with('t') {
            timeout(BOUND, stream.write_all(b"\r\n0\r\n\r\n")).await.unwrap().unwrap();
        }
        let said = all(&mut stream).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{endpoint} {length}: {said}");
        world.is_well().await;
    }
}

#[tokio::test]
async fn a_refused_request_is_read_for_a_bounded_time_and_to_a_bounded_length() {
    let config = Config { drain: 1 << 20, body: Duration::from_millis(500), ..Config::default() };
    let world = world(config).await;
    // Too long by its length alone, without a length, and too slow.
    let endless = "transfer-encoding: chunked\r\n\r\nffffffff";
    for (length, pause) in [("content-length: 1048577", 0), (endless, 0), ("content-length: 1000000", 10)] {
        let mut stream = world.connect().await;
        stream.write_all(&post("other", length, "")).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let flood = tokio::spawn(async move {
            let bytes = vec![b'x'; if pause > 0 { 1 } else { 1 << 16 }];
            let mut written = 0_usize;
            while write.write_all(&bytes).await.is_ok() {
                written += bytes.len();
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            written
        });
        let mut said = [0; 12];
        timeout(BOUND, read.read_exact(&mut said)).await.expect("it is refused").unwrap();
        assert_eq!(&said, b"HTTP/1.1 404", "{length}");
        let written = timeout(BOUND, flood).await.expect("the connection ends").unwrap();
        // What was read, and what lies in the buffers of two sockets.
        assert!(written < 64 << 20, "{length}: {written}");
    }
    world.is_well().await;
}

#[tokio::test]
async fn a_body_that_stands_still_or_takes_too_long_is_refused() {
    let config = Config { stall: Duration::from_millis(200), body: Duration::from_millis(600), ..Config::default() };
    let world = world(config).await;
    let said = world.say(&post("good", "content-length: 5", "hel")).await;
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    let mut stream = world.connect().await;
    stream.write_all(&post("good", "content-length: 1000", "")).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let dribble = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut said = [0; 12];
    timeout(BOUND, read.read_exact(&mut said)).await.expect("it is cut off").unwrap();
    assert_eq!(&said, b"HTTP/1.1 400");
    drop(read);
    timeout(BOUND, dribble).await.expect("the connection ends").unwrap();
    assert!(world.taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn requests_and_bytes_beyond_the_bounds_are_refused_and_there_is_room_again_afterwards() {
    let one = Config { in_hand: 1, answer: BOUND, ..Config::default() };
    let four_kib = Config { in_hand_bytes: 4096, max_body: Some(4096), answer: BOUND, ..Config::default() };
    for (config, held, refused) in [(one, 2, 0), (four_kib, 3000, 2000)] {
        let world = world(config).await;
        let body = |len: usize| (format!("content-length: {len}"), "x".repeat(len));
        let ((length, text), (more, further)) = (body(held), body(refused));
        let mut holding = world.connect().await;
        holding.write_all(&post("held", &length, &text)).await.unwrap();
        while world.held.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let said = world.say(&post("good", &more, &further)).await;
        assert!(said.starts_with("HTTP/1.1 503") && said.contains("Server overloaded"), "{said}");
        // A request that is dropped without an answer refuses itself.
        world.held.lock().unwrap().clear();
        assert!(all(&mut holding).await.starts_with("HTTP/1.1 503"));
        let said = world.say(&post("good", &more, &further)).await;
        assert!(said.starts_with("HTTP/1.1 202"), "{said}");
        world.is_well().await;
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_a_core_that_says_nothing_is_not_waited_for() {
    let config = Config { max_connections: 1, answer: Duration::from_millis(300), ..Config::default() };
    let world = world(config).await;
    let mut holding = world.connect().await;
    holding.write_all(&post("held", "content-length: 2", "hi")).await.unwrap();
    // It is served once the first one has its refusal and closes.
    world.is_well().await;
    assert!(all(&mut holding).await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn a_plane_that_leaves_answers_what_it_has_and_takes_nothing_new() {
    let world = world(Config { answer: BOUND, ..Config::default() }).await;
    let mut holding = world.connect().await;
    holding.write_all(&post("held", "content-length: 2", "hi")).await.unwrap();
    while world.held.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let leaving = tokio::spawn(world.intake.leave());
    while TcpStream::connect(world.addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    world.held.lock().unwrap().remove(0).answer.send("");
    assert!(all(&mut holding).await.starts_with("HTTP/1.1 202"));
    timeout(BOUND, leaving).await.expect("it ends").unwrap();
}
