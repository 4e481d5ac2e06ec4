//! A driver leaves no descriptor open, and lives through having none. Alone in its process: it counts and limits all.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ringplane_core::protocol::CloseReason;
use rustix::process::{Resource, getrlimit, setrlimit};

#[path = "tcp/echo.rs"]
#[expect(dead_code, reason = "the other binary uses the rest")]
mod echo;

use echo::{Event, Side};

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_driver_survives_the_lack_of_descriptors_and_leaves_none_open() {
    // With tokio's feature `signal` on, as in a build of the whole workspace, the first runtime of a process opens a
    // pair of sockets that it keeps for good.
    Side::listener().0.stop();
    let before = settled_descriptors();
    for _ in 0..3 {
        let (server, addr) = Side::listener();
        let peers: Vec<_> = (0..20).map(|_| TcpStream::connect(addr).unwrap()).collect();
        server.until(|stats| stats.accepts == 20);
        assert!(open_descriptors() > before + 40);
        starve(&server, addr);
        server.stop();
        drop(peers);
        assert_descriptors(before);
    }
}

/// What is open once nothing more closes: the same count for a tenth of a second.
fn settled_descriptors() -> usize {
    let mut count = open_descriptors();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(100) {
        let now = open_descriptors();
        if now != count {
            (count, since) = (now, Instant::now());
        }
        std::thread::yield_now();
    }
    count
}

/// What has been dropped on another thread may be closed a moment later; what leaks stays open.
fn assert_descriptors(expected: usize) {
    let end = Instant::now() + Duration::from_secs(10);
    while open_descriptors() != expected && Instant::now() < end {
        std::thread::yield_now();
    }
    assert_eq!(open_descriptors(), expected);
}

/// Takes the descriptors away: a connection waits in the backlog, a dial is refused, and both recover.
fn starve(server: &Side, addr: std::net::SocketAddr) {
    let accepted = server.handle.stats().accepts;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let early = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let generous = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(3), ..generous }).unwrap();
    early.connect(&addr.into()).unwrap();
    let errors = server.handle.stats().accept_pauses;
    server.until(|stats| stats.accept_pauses > errors);
    let dial = server.connect(7, listener.local_addr().unwrap());
    let refused = Event::Closed(dial, CloseReason::NoDescriptors);
    while server.next() != refused {}
    setrlimit(Resource::Nofile, generous).unwrap();
    server.until(|stats| stats.accepts == accepted + 1);
    server.connect(8, listener.local_addr().unwrap());
    server.until(|stats| stats.dials > stats.dial_failures);
}
