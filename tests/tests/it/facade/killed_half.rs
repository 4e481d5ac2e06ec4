//! Half of the worker processes killed with SIGKILL under load: what was in the middle of a stream fails unless it migrates, and
//! nothing else does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use ringplane::{CallError, CallRequest, Client, KeepAll, MigrationConfig, Onward};

use crate::facade::child::role;
use crate::facade::killed::directory;
use crate::facade::restarts::{ALL, COUNT, PLACES, Process, known, serve_in_child, this_test};
use crate::facade::support::{both, clients, end_client, until};

const WORKERS: usize = 4;
/// Callers of each protocol and kind: together 60 % of what all workers take at once.
const CALLERS: u64 = WORKERS as u64 * PLACES as u64 * 6 / 10 / 4;
/// Requests after the kill before it is over.
const ENOUGH: u64 = 300;

/// What callers of one kind have seen.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    requests: AtomicU64,
    failed: AtomicU64,
}

impl Seen {
    fn note(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

fn whole(items: &[Bytes]) -> bool {
    items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).eq((0..ALL).map(|number| number.to_string()))
}

/// Calls that do not migrate: one that fails was perhaps seen by a worker.
async fn plain(client: &Client, seen: &Seen) {
    while !seen.over.load(Ordering::SeqCst) {
        let mut call = client.call(CallRequest::new(COUNT, "0")).unwrap();
        let mut items = Vec::new();
        let outcome = loop {
            match call.next().await {
                Some(Ok(item)) => items.push(item),
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        };
        match outcome {
            Ok(()) => assert!(whole(&items), "{items:?}"),
            Err(error) => {
                let seen_by_a_worker = matches!(
                    error,
                    CallError::Disconnected { delivered: true, .. } | CallError::Protocol { delivered: true, .. }
                );
                assert!(seen_by_a_worker, "after {} items: {error:?}", items.len());
                seen.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
        seen.note();
    }
}

/// The request for the items behind those that have come.
fn behind(request: &CallRequest, items: &[Bytes]) -> Onward {
    Onward::Request(request.clone().with_body(items.len().to_string()))
}

/// Calls that migrate: none fails, and each item comes once.
async fn migrating(client: &Client, seen: &Seen) {
    while !seen.over.load(Ordering::SeqCst) {
        let resume = KeepAll::new(behind as fn(&_, &_) -> _);
        let request = CallRequest::new(COUNT, "0");
        let mut call = client.call_migrating(request, MigrationConfig::default(), resume).unwrap();
        let mut items = Vec::new();
        while let Some(item) = call.next().await {
            items.push(item.unwrap());
        }
        assert!(whole(&items), "{items:?}");
        seen.note();
    }
}

#[test]
fn half_of_the_workers_killed_under_load_costs_what_was_in_the_middle_and_with_migration_nothing() {
    if let Some(role) = role() {
        return serve_in_child(&role);
    }
    let name = this_test();
    both(async |driver| {
        let (_place, url) = directory();
        let mut workers = join_all((0..WORKERS).map(|_| {
            let (name, url) = (name.clone(), url.clone());
            async move { tokio::task::spawn_blocking(move || Process::spawn(&name, driver, &url)).await.unwrap() }
        }))
        .await;
        let clients = clients(&url, driver);
        known(&clients, WORKERS).await;
        let seen: Vec<[Seen; 2]> = clients.iter().map(|_| Default::default()).collect();
        let load = clients.iter().zip(&seen).flat_map(|(client, [stays, goes_on])| {
            (0..CALLERS).map(move |_| async move { tokio::join!(plain(client, stays), migrating(client, goes_on)) })
        });
        let all = || seen.iter().flatten();
        let kill = async {
            until("every kind of call is answered", || all().all(|seen| seen.requests() >= 10)).await;
            let before: Vec<u64> = all().map(Seen::requests).collect();
            workers.drain(..WORKERS / 2).for_each(|mut worker| worker.child.kill());
            let is_enough = || all().zip(&before).all(|(seen, before)| seen.requests() >= before + ENOUGH / 4);
            until("calls are answered by the others", is_enough).await;
            all().for_each(|seen| seen.over.store(true, Ordering::SeqCst));
        };
        tokio::join!(join_all(load), kill);
        let requests: u64 = all().map(Seen::requests).sum();
        let failed: u64 = all().map(|seen| seen.failed.load(Ordering::SeqCst)).sum();
        let mut attempts = 0;
        for client in clients {
            let called = client.snapshot().await.unwrap().called;
            attempts += called.calls + called.retries;
            end_client(client).await;
        }
        println!("measured: {requests} requests, {attempts} attempts, {failed} failed");
        assert!(attempts * 10 <= requests * 12, "{attempts} attempts of {requests} requests");
        // A caller that does not migrate meets each of the dead once at the most.
        let most = (WORKERS / 2 * seen.len()) as u64 * CALLERS;
        assert!(failed <= most, "{failed} of at most {most} failed");
    });
}
