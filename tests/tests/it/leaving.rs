//! A driver that is stopped: peers that still send get a FIN and time to end, whichever driver it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use ringplane_core::local::{Env, LocalNode};
use ringplane_core::node::Node;
use ringplane_core::{caller, worker};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends its side once it has seen the driver's end, and had ten more writes taken.
fn end(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_to_end(&mut Vec::new()).expect("FIN, not a reset");
    for _ in 0..10 {
        stream.write_all(&[7; 10_000]).expect("no reset");
    }
}

/// The same on every driver; all have the same shape.
macro_rules! on_drivers {
    ($($name:ident: $driver:path;)*) => {
        $(#[test]
        fn $name() {
            use $driver as driver;
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let common = driver::Common { linger: PATIENCE, ..driver::Common::default() };
            let node = |env: &Env| {
                LocalNode::new(Node::new(worker::Config::default(), caller::config::Config::default(), 1), env)
            };
            let config = driver::Config::default();
            let driver = driver::start("leaving", common, config, driver::Given::listener(listener), node).unwrap();
            let handle = driver.handle();
            let known = TcpStream::connect(addr).unwrap();
            let begun = std::time::Instant::now();
            while handle.stats().accepts == 0 {
                assert!(begun.elapsed() < PATIENCE, "{:?}", handle.stats());
                std::thread::yield_now();
            }
            let (busy, is_busy) = channel();
            let (release, released) = channel::<()>();
            let hold = move |_: &_, _: &_| {
                busy.send(()).unwrap();
                released.recv().unwrap();
            };
            handle.submit(hold).expect("the mailbox has room");
            is_busy.recv_timeout(PATIENCE).unwrap();
            // Nobody has a turn for these before the stop.
            let late = [(); 3].map(|()| TcpStream::connect(addr).unwrap());
            driver.halt();
            release.send(()).unwrap();
            end(known);
            late.into_iter().for_each(end);
            let report = driver.stop();
            assert!(report.is_clean(), "{report:?}");
        })*
    };
}

on_drivers! {
    io_uring_resets_no_peer_that_still_sends: ringplane_io_uring;
    tokio_resets_no_peer_that_still_sends: ringplane_tokio::tcp;
    monoio_resets_no_peer_that_still_sends: ringplane_io_uring::monoio;
    tokio_uring_resets_no_peer_that_still_sends: ringplane_io_uring::tokio_uring;
}
