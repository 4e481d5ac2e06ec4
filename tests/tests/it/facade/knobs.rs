//! Knobs of the drivers, set through the facade: each is checked, and what is set takes effect.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use ringplane::{CallRequest, Config, DriverChoice, Error, Failure, Keepalive, Request, Responder, Worker};
use ringplane::{Client, WorkerBuilder};

use crate::facade::support::{all, connect, drivers, end, end_worker, on, place, runtime, serve, until_worker};

const ITEMS: &str = "test.knobs.items";
const THREAD: &str = "test.knobs.thread";

/// The size of a receive buffer that the tests set, and of an item that fits into it with its head.
const BUFFER: usize = 512;
const ITEM: usize = 200;
const COUNT: usize = 4000;

async fn items(_: Request, out: Responder) -> Result<(), Failure> {
    for _ in 0..COUNT {
        out.send(vec![7; ITEM]).await?;
    }
    Ok(())
}

/// Answers with the number of the thread that it runs on.
async fn thread(_: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(rustix::thread::gettid().as_raw_pid().to_string()).await?)
}

fn worker() -> WorkerBuilder {
    Worker::builder().endpoint(ITEMS, items).endpoint(THREAD, thread)
}

/// A knob's name, and what puts it out of its bounds.
type Bad = (&'static str, fn(&mut Config));

const BAD: [Bad; 19] = [
    ("cores", |config| config.cores = 0),
    ("bridge", |config| config.bridge = 0),
    ("common.mailbox", |config| config.common.mailbox = 0),
    ("common.max_connections", |config| config.common.max_connections = 0),
    ("common.send_batch", |config| config.common.send_batch = 0),
    ("common.notsent_lowat", |config| config.common.notsent_lowat = 0),
    ("common.user_timeout", |config| config.common.user_timeout = Duration::MAX),
    ("common.home_user_timeout", |config| config.common.home_user_timeout = Duration::MAX),
    ("common.keepalive.idle", |config| keepalive(config).idle = Duration::ZERO),
    ("common.keepalive.interval", |config| keepalive(config).interval = Duration::ZERO),
    ("common.keepalive.retries", |config| keepalive(config).retries = 0),
    ("common.linger", |config| config.common.linger = Duration::MAX),
    ("io_uring.recv_buffer", |config| config.io_uring.recv_buffer = 0),
    ("io_uring.recv_buffers", |config| config.io_uring.recv_buffers = 3),
    ("io_uring.entries", |config| config.io_uring.entries = 0),
    ("io_uring.spin", |config| config.io_uring.spin = Duration::MAX),
    ("tokio.recv_buffer", |config| config.tokio.recv_buffer = 0),
    ("runtimes.recv_buffer", |config| config.runtimes.recv_buffer = 0),
    ("runtimes.entries", |config| config.runtimes.entries = 0),
];

fn keepalive(config: &mut Config) -> &mut Keepalive {
    config.common.keepalive.get_or_insert_default()
}

#[test]
fn a_knob_out_of_its_bounds_is_named_before_anything_starts() {
    let nowhere = "nothing:that-could-be-opened";
    let named = |error: Error| match error {
        Error::Config(error) => error.knob,
        other => panic!("{other:?}"),
    };
    for (knob, spoil) in BAD {
        let mut config = Config::default();
        spoil(&mut config);
        let served = runtime().block_on(worker().discovery(nowhere).config(config.clone()).serve());
        assert_eq!(named(served.map(drop).unwrap_err()), knob);
        let connected = Client::builder().discovery(nowhere).config(config).connect();
        assert_eq!(named(connected.map(drop).unwrap_err()), knob);
    }
}

#[test]
fn no_read_brings_more_than_the_receive_buffer_that_was_asked_for() {
    all(async |driver| {
        let place = place();
        let worker = serve(worker(), &place, on(driver)).await;
        let mut config = on(driver);
        config.io_uring.recv_buffer = BUFFER;
        config.tokio.recv_buffer = BUFFER;
        config.runtimes.recv_buffer = BUFFER;
        let client = connect(&place, config);
        let mut call = client.call(CallRequest::new(ITEMS, "")).unwrap();
        let mut count = 0;
        while let Some(item) = call.next().await {
            assert_eq!(item.unwrap().len(), ITEM);
            count += 1;
        }
        assert_eq!(count, COUNT);
        let read = client.snapshot().await.unwrap().driver;
        assert!(read.bytes_in as usize > COUNT * ITEM, "{read:?}");
        assert!(read.bytes_in <= read.reads * BUFFER as u64, "{read:?}");
        end(worker, client).await;
    });
}

#[test]
fn a_connection_beyond_the_bound_that_was_asked_for_is_closed_and_counted() {
    all(async |driver| {
        let mut config = on(driver);
        config.common.max_connections = 1;
        config.common.linger = Duration::ZERO;
        let worker = serve(worker(), &place(), config).await;
        let first = TcpStream::connect(worker.addr()).unwrap();
        until_worker("one is in", &worker, |snapshot| snapshot.driver.accepts == 1).await;
        let mut second = TcpStream::connect(worker.addr()).unwrap();
        until_worker("one is refused", &worker, |snapshot| snapshot.driver.refused == 1).await;
        assert_eq!(second.read(&mut [0; 8]).unwrap_or(0), 0);
        drop(first);
        until_worker("none is in", &worker, |snapshot| snapshot.driver.connections == 0).await;
        end_worker(worker).await;
    });
}

/// What a thread of this process has had of a processor, in ticks of 10 ms.
fn ticks(thread: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // utime and stime are the 14th and 15th, and two went with the name.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_driver_that_is_asked_to_spin_long_is_busy_while_nothing_happens() {
    if !drivers().any(|driver| driver == DriverChoice::IoUring) {
        return;
    }
    runtime().block_on(async {
        let place = place();
        let mut config = on(DriverChoice::IoUring);
        config.io_uring.spin = Duration::from_secs(1);
        let worker = serve(worker(), &place, config).await;
        let client = connect(&place, on(DriverChoice::IoUring));
        let begun = std::time::Instant::now();
        loop {
            // Short waits turn it on, which a busy machine may not have for a while.
            let mut id = String::new();
            for _ in 0..40 {
                let mut call = client.call(CallRequest::new(THREAD, "")).unwrap();
                while let Some(item) = call.next().await {
                    id = String::from_utf8(item.unwrap().to_vec()).unwrap();
                }
            }
            let before = ticks(&id);
            tokio::time::sleep(Duration::from_millis(400)).await;
            // A thread that sleeps has none of them.
            if ticks(&id) - before >= 5 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "it sleeps");
        }
        end(worker, client).await;
    });
}
