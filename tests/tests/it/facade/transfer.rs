//! Large answers, large requests, and very many calls at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ringplane::{CallRequest, Request, Responder, Worker};
use tokio::sync::Semaphore;

use crate::facade::support::{all, connect, end, is_on_a_runtime_of_others, noise, on, place, serve, until};

const MIB: usize = 1 << 20;
const ECHO: &str = "test.transfer.run";

/// Item `index` of the large answer: a window into `base` that no other item has.
fn item(base: &Bytes, index: usize) -> Bytes {
    base.slice(index * 7..index * 7 + MIB)
}

#[test]
fn an_answer_of_a_gibibyte_in_items_of_a_mebibyte_arrives_intact_and_in_order() {
    const ITEMS: usize = 1024;
    let base = Bytes::from(noise(MIB + ITEMS * 7, 1));
    all(async |driver| {
        let source = base.clone();
        // An eighth says as much about a runtime made by others: it is the same machine.
        let items = if is_on_a_runtime_of_others(driver) { ITEMS / 8 } else { ITEMS };
        let handler = move |_: Request, out: Responder| {
            let source = source.clone();
            async move {
                for index in 0..items {
                    out.send(item(&source, index)).await?;
                }
                Ok(())
            }
        };
        let place = place();
        let worker = serve(Worker::builder().endpoint(ECHO, handler), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let begun = Instant::now();
        let mut call = client.call(CallRequest::new(ECHO, "")).unwrap();
        let (mut crc, mut len, mut expected) = (0, 0, 0);
        for index in 0..items {
            let got = call.next().await.unwrap().unwrap();
            let sent = item(&base, index);
            assert!(got == sent, "{driver:?}: item {index} differs");
            crc = ringplane_crc32c::append(crc, &got);
            expected = ringplane_crc32c::append(expected, &sent);
            len += got.len();
        }
        assert!(call.next().await.is_none());
        assert_eq!((len, crc), (items * MIB, expected));
        println!("measured: {driver:?}: {items} MiB in {:?}", begun.elapsed());
        end(worker, client).await;
    });
}

#[test]
fn a_request_of_64_mib_in_one_item_or_in_many_arrives_intact() {
    let body = Bytes::from(noise(64 * MIB, 2));
    let crc = ringplane_crc32c::crc32c(&body);
    all(async |driver| {
        let handler = |mut request: Request, out: Responder| async move {
            let (mut crc, mut len) = (0, 0);
            while let Some(item) = request.next().await? {
                crc = ringplane_crc32c::append(crc, &item);
                len += item.len() as u64;
            }
            Ok(out.send([&crc.to_be_bytes()[..], &len.to_be_bytes()].concat()).await?)
        };
        let place = place();
        let worker = serve(Worker::builder().endpoint(ECHO, handler), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let expected = [&crc.to_be_bytes()[..], &(body.len() as u64).to_be_bytes()].concat();

        let begun = Instant::now();
        let whole = client.call(CallRequest::new(ECHO, body.clone())).unwrap();
        assert_eq!(whole.collect().await.unwrap(), std::slice::from_ref(&expected));
        println!("measured: {driver:?}: one item of 64 MiB in {:?}", begun.elapsed());

        let mut parts = client.call(CallRequest::streaming(ECHO)).unwrap();
        for at in (0..body.len()).step_by(MIB) {
            parts.send(body.slice(at..at + MIB)).await.unwrap();
        }
        parts.finish();
        assert_eq!(parts.collect().await.unwrap(), [expected]);
        end(worker, client).await;
    });
}

#[test]
fn ten_thousand_calls_at_once_on_one_connection_all_end_well() {
    const CALLS: usize = 10_000;
    const WAVE: usize = 2_000;
    all(async |driver| {
        let waiting = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let handler = {
            let (waiting, gate) = (waiting.clone(), gate.clone());
            move |mut request: Request, out: Responder| {
                let (waiting, gate) = (waiting.clone(), gate.clone());
                async move {
                    let body = request.body().await?;
                    waiting.fetch_add(1, Ordering::SeqCst);
                    let _open = gate.acquire().await;
                    Ok(out.send(body).await?)
                }
            }
        };
        let place = place();
        let mut config = on(driver);
        // By default there are fewer places, of which one connection holds a quarter.
        (config.worker.max_running, config.worker.share) = (CALLS, 100);
        let worker = serve(Worker::builder().endpoint(ECHO, handler), &place, config).await;
        let client = connect(&place, on(driver));
        let begun = Instant::now();
        let calls = FuturesUnordered::new();
        for number in 0..CALLS {
            let call = client.call(CallRequest::new(ECHO, number.to_be_bytes().to_vec())).unwrap();
            calls.push(async move { (number, call.collect().await) });
            // A mailbox holds 4,096 commands; nobody can submit more than that without a pause.
            if (number + 1) % WAVE == 0 {
                until("the wave has arrived", || waiting.load(Ordering::SeqCst) == number + 1).await;
            }
        }
        let (there, here) = (worker.snapshot().await.unwrap(), client.snapshot().await.unwrap());
        assert_eq!(
            (there.worker.jobs, there.worker.streams, there.worker.connections),
            (CALLS as u64, CALLS as u64, 1)
        );
        assert_eq!((here.caller.calls, here.caller.connections), (CALLS as u64, 1));
        gate.add_permits(CALLS);
        let outcomes: Vec<_> = calls.collect().await;
        assert_eq!(outcomes.len(), CALLS);
        for (number, outcome) in outcomes {
            assert_eq!(outcome.unwrap(), [number.to_be_bytes().to_vec()]);
        }
        let (there, here) = (worker.snapshot().await.unwrap(), client.snapshot().await.unwrap());
        assert_eq!((there.served.connections, there.served.admitted), (1, CALLS as u64));
        assert_eq!((here.called.dials, here.called.succeeded, here.called.retries), (1, CALLS as u64, 0));
        assert_eq!((there.mux.streams, there.driver.accepts, here.driver.dials), (CALLS as u64, 1, 1));
        println!("measured: {driver:?}: {CALLS} calls at once over one connection in {:?}", begun.elapsed());
        end(worker, client).await;
    });
}
