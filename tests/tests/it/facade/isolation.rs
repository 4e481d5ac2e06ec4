//! A reader that stops holds up nobody else, and nothing grows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use ringplane::{Call, CallRequest, Client, Config, DriverChoice, Request, Responder, Worker};
use ringplane_core::mux::config::Config as Mux;

use crate::facade::support::{Seen, all, connect, end, noise, place, serve, small_windows, until, with_mux};

const ENDLESS: &str = "test.isolation.endless";
const MIXED: &str = "test.isolation.mixed";
const BRIDGE: usize = 4;

/// Sends items of the length asked for until nobody reads them, and counts.
fn endless(seen: &Seen) -> impl Fn(Request, Responder) -> futures::future::LocalBoxFuture<'static, Outcome> + use<> {
    let seen = seen.clone();
    move |mut request, out| {
        let seen = seen.clone();
        Box::pin(async move {
            let _here = seen.enter();
            let len = request.body().await?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            let item = Bytes::from(noise(len, 3));
            loop {
                out.send(item.clone()).await?;
                seen.items.fetch_add(1, Ordering::SeqCst);
            }
        })
    }
}

type Outcome = Result<(), ringplane::Failure>;

/// The length of item `index` of the mixed stream: mostly small, some large, some larger than the window.
const fn mixed_len(index: usize) -> usize {
    match index {
        index if index % 1000 == 999 => 300_000,
        index if index % 100 == 50 => 40_000,
        index => index % 512,
    }
}

async fn mixed(mut request: Request, out: Responder) -> Outcome {
    let items = request.body().await?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    let base = Bytes::from(noise(300_000, 4));
    for index in 0..items {
        out.send(base.slice(..mixed_len(index))).await?;
    }
    Ok(())
}

/// Reads a whole mixed stream; how many bytes it was.
async fn read_mixed(client: &Client, items: usize) -> usize {
    let base = noise(300_000, 4);
    let mut call = client.call(CallRequest::new(MIXED, items.to_be_bytes().to_vec())).unwrap();
    let mut bytes = 0;
    for index in 0..items {
        let item = call.next().await.unwrap().unwrap();
        assert!(item == base[..mixed_len(index)], "item {index} differs");
        bytes += item.len();
    }
    assert!(call.next().await.is_none());
    bytes
}

fn config(driver: DriverChoice) -> Config {
    Config { bridge: BRIDGE, ..with_mux(driver, small_windows) }
}

/// Begins a stream and stops reading after its first item.
async fn stalled(client: &Client, len: usize) -> Call {
    let mut call = client.call(CallRequest::new(ENDLESS, len.to_be_bytes().to_vec())).unwrap();
    assert_eq!(call.next().await.unwrap().unwrap().len(), len);
    call
}

/// Waits until the handler has sent all it may: its count rests while other calls come and go.
async fn at_rest(seen: &Seen, client: &Client) -> usize {
    let last = AtomicUsize::new(usize::MAX);
    loop {
        let now = seen.items();
        if last.swap(now, Ordering::Relaxed) == now {
            return now;
        }
        read_mixed(client, 2_000).await;
    }
}

#[test]
fn a_reader_that_stops_does_not_delay_another_stream_and_memory_stays_within_its_credit() {
    const ITEMS: usize = 20_000;
    all(async |driver| {
        let seen = Seen::default();
        let place = place();
        let builder = Worker::builder().endpoint(ENDLESS, endless(&seen)).endpoint(MIXED, mixed);
        let worker = serve(builder, &place, config(driver)).await;
        let client = connect(&place, config(driver));
        let mux: Mux = config(driver).caller.mux;

        let len = 10_000;
        let mut a = stalled(&client, len).await;
        let sent = at_rest(&seen, &client).await;
        let begun = Instant::now();
        let bytes = read_mixed(&client, ITEMS).await;
        println!(
            "measured: {driver:?}: {ITEMS} items, {bytes} bytes, in {:?} beside a stalled stream",
            begun.elapsed()
        );
        assert_eq!(seen.items(), sent, "the stalled stream's handler went on");
        // Read, in the bridge and the pump's hand, in the stream's window, in the handler's send buffer.
        let bound = (1 + BRIDGE + 1) * len + mux.stream_window as usize + mux.send_buffer + len;
        println!("measured: {driver:?}: {} bytes sent into a stalled stream, bound {bound}", sent * len);
        assert!(sent * len <= bound, "{} bytes were sent, {bound} may be", sent * len);
        let held = client.snapshot().await.unwrap().caller;
        println!("measured: {driver:?}: the client holds {} bytes, {} reserved", held.held, held.reserved);
        assert!(held.held <= mux.stream_window.into() && held.reserved == 0, "{held:?}");
        // It was held up, not broken.
        for _ in 0..100 {
            assert_eq!(a.next().await.unwrap().unwrap().len(), len);
        }
        drop(a);
        until("the endless handler is gone", || seen.gone() == 1).await;
        end(worker, client).await;
    });
}

#[test]
fn a_reader_that_stops_amid_items_larger_than_the_window_does_not_delay_large_items_of_another_stream() {
    all(async |driver| {
        let seen = Seen::default();
        let place = place();
        let builder = Worker::builder().endpoint(ENDLESS, endless(&seen)).endpoint(MIXED, mixed);
        let worker = serve(builder, &place, config(driver)).await;
        let client = connect(&place, config(driver));
        let mux: Mux = config(driver).caller.mux;
        let a = stalled(&client, 400_000).await;
        let sent = at_rest(&seen, &client).await;
        let bytes = read_mixed(&client, 5_000).await;
        let held = client.snapshot().await.unwrap().caller;
        println!("measured: {driver:?}: {bytes} bytes beside {sent} unread large items; {held:?}");
        assert_eq!(seen.items(), sent, "the stalled stream's handler went on");
        assert!(held.held <= mux.stream_window.into() && held.reserved <= mux.reserve_pool, "{held:?}");
        drop(a);
        until("the endless handler is gone", || seen.gone() == 1).await;
        end(worker, client).await;
    });
}
