//! A worker process killed with SIGKILL: its record outlives it, and callers must not mind.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::Instant;

use ringplane::core::discovery::key::Query;
use ringplane::{CallError, CallRequest, Client, DriverChoice, Failure, Request, Responder, Worker};

use crate::facade::child::{command, role};
use crate::facade::support::{both, connect, end, on, runtime, serve};

const WHO: &str = "test.killed.who";
const READY: &str = "the worker serves";
/// Calls made one after the other once the process is gone: far more than tries at the dead address may be.
const AFTER: usize = 300;
/// Tries at the dead address: the first, and one at the end of each mark of 1, 2, 4 and 8 s before its record expires.
const DIALS: u64 = 5;

/// Answers with the process that answers.
async fn who(_: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(std::process::id().to_string()).await?)
}

/// Serves until the parent is gone.
fn serve_in_child(url: &str) {
    runtime().block_on(async {
        let worker = serve(Worker::builder().endpoint(WHO, who), url, on(DriverChoice::Tokio)).await;
        println!("{READY}");
        let _ = std::io::stdin().read(&mut [0]);
        drop(worker);
    });
}

/// A child process that is killed with its owner.
struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(name: &str, url: &str) -> Killed {
    let child = command(&[], name, url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = Killed(child.unwrap());
    let out = BufReader::new(child.0.stdout.take().unwrap());
    assert!(out.lines().any(|line| line.unwrap().contains(READY)), "the child ended before it served");
    child
}

async fn ask(client: &Client) -> Result<String, CallError> {
    let items = client.call(CallRequest::new(WHO, "").idempotent()).unwrap().collect().await?;
    Ok(items.iter().map(|item| String::from_utf8_lossy(item)).collect())
}

#[test]
fn a_killed_worker_is_left_alone_from_the_first_sign_on_while_its_record_is_still_there() {
    if let Some(url) = role() {
        return serve_in_child(&url);
    }
    let name = std::thread::current().name().expect("tests run on threads named after them").to_owned();
    both(async |driver| {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file:{}", directory.path().display());
        let mut child = spawn(&name, &url);
        let worker = serve(Worker::builder().endpoint(WHO, who), &url, on(driver)).await;
        let client = connect(&url, on(driver));
        let mut answered = BTreeSet::new();
        while answered.len() < 2 {
            answered.insert(ask(&client).await.unwrap());
            tokio::task::yield_now().await;
        }
        let before = client.snapshot().await.unwrap().called;
        // Under way when it happens: only what it had already taken may fail.
        let under_way: Vec<_> =
            (0..100).map(|_| client.call(CallRequest::new(WHO, "").idempotent()).unwrap()).collect();
        child.kill();
        let begun = Instant::now();
        for call in under_way {
            if let Err(error) = call.collect().await {
                assert!(matches!(error, CallError::Disconnected { delivered: true, .. }), "{error:?}");
            }
        }
        let ours = std::process::id().to_string();
        for _ in 0..AFTER {
            assert_eq!(ask(&client).await.unwrap(), ours);
        }
        let listed = ringplane::discovery::open(&url).unwrap().list(Query::All).await.unwrap().len();
        let after = client.snapshot().await.unwrap().called;
        println!("measured: {driver:?}: {:?}, {} dials, {listed} records", begun.elapsed(), after.dials - before.dials);
        assert_eq!(listed, 2, "its record has expired, so this has shown nothing");
        assert!(after.dials - before.dials <= DIALS, "{before:?} {after:?}");
        end(worker, client).await;
    });
}
