//! A worker process that stands still for longer than its record lives: others delete the record, and it comes back.

use std::path::Path;
use std::time::{Duration, Instant};

use ringplane::DriverChoice;
use ringplane_core::discovery::key::Query;
use rustix::process::{Pid, Signal, kill_process};

use crate::facade::child::role;
use crate::facade::killed::{ask, directory, serve_in_child, spawn};
use crate::facade::support::{connect, end_client, on, runtime};

/// A record lives for 10 s, is deleted once somebody has watched it for as long, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_worker_stopped_until_its_record_was_deleted_registers_again_and_serves_on() {
    if let Some(url) = role() {
        return serve_in_child(&url);
    }
    let (place, url) = directory();
    let name = std::thread::current().name().expect("tests run on threads named after them").to_owned();
    let child = spawn(&name, &url);
    let pid = Pid::from_child(&child.0);
    let bucket = place.path().join("v1/instances");
    runtime().block_on(async {
        // Somebody who deletes what is dead, and a caller that knows the worker.
        let reaper = ringplane::discovery::open(&url).unwrap();
        let client = connect(&url, on(DriverChoice::Tokio));
        let theirs = child.0.id().to_string();
        assert_eq!(ask(&client, true).await.unwrap(), theirs);
        let registered = files(&bucket);
        assert_eq!(registered.len(), 1);
        kill_process(pid, Signal::STOP).unwrap();
        let stopped = Instant::now();
        until("its record is deleted", || files(&bucket).is_empty()).await;
        assert!(stopped.elapsed() >= Duration::from_secs(7), "{:?}: it had three more seconds", stopped.elapsed());
        assert_eq!(reaper.endpoints().list(Query::All).await.unwrap(), []);
        kill_process(pid, Signal::CONT).unwrap();
        until("its record is back", || files(&bucket) == registered).await;
        let fresh = connect(&url, on(DriverChoice::Tokio));
        for client in [client, fresh] {
            assert_eq!(ask(&client, true).await.unwrap(), theirs);
            end_client(client).await;
        }
        assert_eq!(reaper.endpoints().list(Query::All).await.unwrap().len(), 1);
    });
}
