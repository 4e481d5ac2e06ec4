//! Peers that vanish: sockets cut, and paths that swallow everything without a word.

use std::time::{Duration, Instant};

use ringplane::discovery::Registration;
use ringplane::{Call, CallError, CallRequest, Client, Config, Request, Responder, Worker};
use ringplane_core::mux::config::Config as Mux;
use ringplane_core::protocol::Fault;

use crate::facade::proxy::{Proxy, Way};
use crate::facade::support::{
    Seen, all, both, connect, drivers, end_client, end_worker, on, place, runtime, serve, until, until_client, with_mux,
};

const RUN: &str = "test.vanish.run";
const CALLS: usize = 5;

type Outcome = Result<(), ringplane::Failure>;

/// Half of the calls stream on for ever, half fall silent after the first item.
fn handler(seen: &Seen) -> impl Fn(Request, Responder) -> futures::future::LocalBoxFuture<'static, Outcome> + use<> {
    let seen = seen.clone();
    move |mut request, out| {
        let seen = seen.clone();
        Box::pin(async move {
            let _here = seen.enter();
            let endless = request.body().await? == "endless";
            out.send("first").await?;
            if !endless {
                std::future::pending::<()>().await;
            }
            loop {
                out.send("more").await?;
            }
        })
    }
}

struct Scene {
    seen: Seen,
    worker: Worker,
    proxy: Proxy,
    client: Client,
    calls: Vec<Call>,
    _registered: Registration,
}

/// Five calls in full flow over a proxy.
async fn scene(config: Config) -> Scene {
    let (seen, there, here) = (Seen::default(), place(), place());
    let worker = serve(Worker::builder().endpoint(RUN, handler(&seen)), &there, config.clone()).await;
    let proxy = Proxy::new(&worker, None);
    let _registered = proxy.advertise(&worker, RUN, &here).await;
    let client = connect(&here, config);
    let mut calls = Vec::new();
    for number in 0..CALLS {
        let body = if number % 2 == 0 { "endless" } else { "silent" };
        let mut call = client.call(CallRequest::new(RUN, body)).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), "first");
        calls.push(call);
    }
    Scene { seen, worker, proxy, client, calls, _registered }
}

/// Every call ends with one error, which `expected` knows.
async fn all_end(calls: Vec<Call>, expected: impl Fn(&CallError) -> bool) {
    for mut call in calls {
        let error = loop {
            match call.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("a broken stream ended well"),
            }
        };
        assert!(expected(&error), "{error:?}");
        assert!(!error.is_retryable());
        assert!(call.next().await.is_none());
    }
}

async fn finish(scene: (Worker, Proxy, Client)) {
    let (worker, proxy, client) = scene;
    proxy.cut();
    end_client(client).await;
    end_worker(worker).await;
}

#[test]
fn when_the_socket_is_cut_every_call_ends_with_one_error_and_every_handler_ends() {
    all(async |driver| {
        let Scene { seen, worker, proxy, client, calls, _registered } = scene(on(driver)).await;
        let begun = Instant::now();
        proxy.cut();
        all_end(calls, |error| matches!(error, CallError::Disconnected { delivered: true, .. })).await;
        until("every handler is gone", || seen.gone() == CALLS).await;
        println!("measured: {driver:?}: {CALLS} calls over after {:?}", begun.elapsed());
        finish((worker, proxy, client)).await;
    });
}

/// Notices a silent peer soon, yet not one that does not run for a second because the machine is busy.
fn impatient(mux: &mut Mux) {
    mux.ping_interval = Duration::from_millis(500);
    mux.ping_timeout = Duration::from_secs(2);
}

/// The path swallows everything; how long the calls and the handlers took to notice.
async fn black_hole(config: Config) -> (Duration, Duration) {
    let Scene { seen, worker, proxy, client, calls, _registered } = scene(config).await;
    proxy.hold(Way::Up);
    proxy.hold(Way::Down);
    let begun = Instant::now();
    let silent = |error: &CallError| {
        matches!(error, CallError::Protocol { fault: Fault::Silent | Fault::Stalled, delivered: true })
    };
    all_end(calls, silent).await;
    let noticed = begun.elapsed();
    until("every handler is gone", || seen.gone() == CALLS).await;
    let gone = begun.elapsed();
    until_client("the connection is given up", &client, |snapshot| snapshot.caller.connections == 0).await;
    finish((worker, proxy, client)).await;
    (noticed, gone)
}

#[test]
fn when_the_path_swallows_everything_both_sides_notice_within_their_ping_interval_and_timeout() {
    both(async |driver| {
        let (noticed, gone) = black_hole(with_mux(driver, impatient)).await;
        println!("measured: {driver:?}: calls over after {noticed:?}, handlers after {gone:?}; the bound is 2.5 s");
        // With the default settings it would be ten seconds.
        assert!(noticed.max(gone) < Duration::from_secs(8), "{driver:?}: {noticed:?}, {gone:?}");
    });
}

/// A write under way ends with its connection; how, differs from driver to driver, and is a race with the kernel.
#[test]
fn writes_that_the_path_has_swallowed_end_with_their_connections() {
    for driver in drivers() {
        let config = with_mux(driver, impatient);
        let run = |_| {
            let config = config.clone();
            std::thread::spawn(move || runtime().block_on(black_hole(config)))
        };
        let threads: Vec<_> = (0..8).map(run).collect();
        for thread in threads {
            assert!(thread.join().is_ok(), "{driver:?}: something was left");
        }
    }
}

#[test]
fn with_default_settings_a_path_that_swallows_everything_is_noticed_within_ten_seconds() {
    let run = |driver| std::thread::spawn(move || (driver, runtime().block_on(black_hole(on(driver)))));
    let threads: Vec<_> = drivers().map(run).collect();
    for thread in threads {
        let (driver, (noticed, gone)) = thread.join().unwrap();
        println!("measured: {driver:?}: calls over after {noticed:?}, handlers after {gone:?}; the bound is 10 s");
        // The margin is for a machine that does other things too; a missed ping would cost another five seconds.
        assert!(noticed.max(gone) < Duration::from_millis(13_000), "{driver:?}: {noticed:?}, {gone:?}");
    }
}
