//! Events from a PUB socket to a SUB socket, each on a thread of its own, as many on their way as in the other measurements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringplane_benches::engine::Result;
use zmq::{Context, Message, PUB, SNDMORE, SUB};

use crate::engine::socket;

const TOPIC: &str = "events";
/// Events that are published before anything else is looked at.
const BATCH: u64 = 64;
/// The longest that both ends may take to meet.
const MEETING: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Shared {
    heard: AtomicU64,
    over: AtomicBool,
}

/// Events that arrive each second. The order is a warm-up and a time to measure in milliseconds, the bytes of an event, and how many
/// may be on their way.
pub(crate) fn measure(order: &[String]) -> Result<f64> {
    let [warmup, measure, payload, window] = order else { return Err("four numbers are wanted".into()) };
    let (warmup, measure) = (Duration::from_millis(warmup.parse()?), Duration::from_millis(measure.parse()?));
    let (payload, window) = (vec![7; payload.parse()?], window.parse()?);
    let (context, shared) = (Context::new(), Arc::new(Shared::default()));
    let publisher = socket(&context, PUB)?;
    publisher.bind("tcp://127.0.0.1:*")?;
    let place = publisher.get_last_endpoint()?.map_err(|_| "an address that is no text")?;
    let subscriber = socket(&context, SUB)?;
    subscriber.set_subscribe(TOPIC.as_bytes())?;
    subscriber.connect(&place)?;
    let (speaking, listening) = (Arc::clone(&shared), Arc::clone(&shared));
    let speaker = thread::spawn(move || speak(&publisher, &speaking, &payload, window).map(|()| publisher));
    // Both sockets live until all has arrived: libzmq aborts a process whose connection ends between two parts of a message.
    let listener = thread::spawn(move || listen(&subscriber, &listening).map(|()| subscriber));
    let heard = || shared.heard.load(Ordering::Relaxed);
    let begun = Instant::now();
    while heard() == 0 {
        if begun.elapsed() > MEETING {
            return Err("libzmq: no event arrives".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(warmup);
    let (before, begun) = (heard(), Instant::now());
    thread::sleep(measure);
    let rate = (heard() - before) as f64 / begun.elapsed().as_secs_f64();
    shared.over.store(true, Ordering::Relaxed);
    let publisher = speaker.join().map_err(|_| "the publisher panicked")??;
    let subscriber = listener.join().map_err(|_| "the subscriber panicked")??;
    drop((publisher, subscriber));
    Ok(rate)
}

fn listen(socket: &zmq::Socket, shared: &Shared) -> std::result::Result<(), zmq::Error> {
    let mut message = Message::new();
    // It is over once nothing has come for so many milliseconds from a publisher that sends no more.
    socket.set_rcvtimeo(100)?;
    loop {
        match socket.recv(&mut message, 0) {
            Err(zmq::Error::EAGAIN) if shared.over.load(Ordering::Relaxed) => return Ok(()),
            Err(zmq::Error::EAGAIN) => continue,
            received => received?,
        }
        socket.recv(&mut message, 0)?;
        shared.heard.fetch_add(1, Ordering::Relaxed);
    }
}

fn speak(socket: &zmq::Socket, shared: &Shared, payload: &[u8], window: u64) -> std::result::Result<(), zmq::Error> {
    let mut sent = 0;
    while !shared.over.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            socket.send(TOPIC, SNDMORE)?;
            socket.send(payload, 0)?;
        }
        let heard = shared.heard.load(Ordering::Relaxed);
        if heard == 0 {
            // What is published before both ends have met is not waited for.
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        sent += BATCH;
        while sent.saturating_sub(shared.heard.load(Ordering::Relaxed)) > window && !shared.over.load(Ordering::Relaxed)
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}
