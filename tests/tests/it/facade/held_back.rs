//! A handler that does not read holds the caller of a request that is a stream back, and loses none of its items.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringplane::{CallRequest, Request, Responder, Worker};
use ringplane_core::caller::config::Dialect;
use ringplane_core::wire::Codec;
use tokio::sync::Notify;

use crate::facade::support::{both, connect, end, on, place, serve, until};

const NAME: &str = "test.held.back";

#[test]
fn a_handler_that_pauses_holds_its_caller_back_and_then_gets_every_item() {
    both(async |driver| {
        const ITEMS: usize = 512;
        const SIZE: usize = 64 << 10;
        let (place, go) = (place(), Arc::new(Notify::new()));
        let mut config = on(driver);
        config.worker.items.max_unread = 1 << 20;
        // Shorter than the pause, which is not the caller's silence.
        config.worker.items.item_timeout = Duration::from_secs(1);
        let handler = {
            let go = Arc::clone(&go);
            move |mut request: Request, out: Responder| {
                let go = Arc::clone(&go);
                async move {
                    go.notified().await;
                    let mut bytes = 0;
                    while let Some(item) = request.next().await? {
                        bytes += item.len();
                    }
                    Ok(out.send(bytes.to_string()).await?)
                }
            }
        };
        let mut client_config = on(driver);
        client_config.caller.dialect = Dialect::CallHome;
        let worker = serve(Worker::builder().codec(Codec::Json).endpoint(NAME, handler), &place, config).await;
        let client = connect(&place, client_config);
        let mut call = client.call(CallRequest::streaming(NAME)).unwrap();
        let (sender, sent) = (call.take_sender().unwrap(), Arc::new(AtomicUsize::new(0)));
        let sending = tokio::spawn({
            let sent = Arc::clone(&sent);
            async move {
                for _ in 0..ITEMS {
                    sender.send(vec![7; SIZE]).await.unwrap();
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let last = Cell::new((0, Instant::now()));
        until("the caller is held back", || {
            let now = sent.load(Ordering::SeqCst);
            if now != last.get().0 {
                last.set((now, Instant::now()));
            }
            now > 0 && last.get().1.elapsed() > Duration::from_millis(1500)
        })
        .await;
        let held = sent.load(Ordering::SeqCst);
        println!("measured: {driver:?}: {held} of {ITEMS} items sent while nobody read");
        assert!(held * SIZE < 24 << 20, "{driver:?}: {held} of {ITEMS}");
        go.notify_one();
        assert_eq!(call.next().await, Some(Ok((ITEMS * SIZE).to_string().into())), "{driver:?}");
        assert_eq!(call.next().await, None);
        sending.await.unwrap();
        end(worker, client).await;
    });
}
