//! Worker processes that are replaced one after the other while calls run all the time.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use ringplane::{
    CallRequest, Client, Codec, DriverChoice, Ended, Failure, Leftovers, Request, Responder, Signals, Worker,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::facade::child::{command, role};
use crate::facade::killed::{Killed, directory};
use crate::facade::support::{both, clients, end_client, on, runtime, serve, until};

pub(crate) const COUNT: &str = "test.restarts.count";
const READY: &str = "the worker serves";
const DRAINED: &str = "the worker has drained";
/// The items of an answer.
pub(crate) const ALL: u32 = 6;
/// Calls that a worker runs at once.
pub(crate) const PLACES: usize = 10;

/// Counts from the number of the request, a few milliseconds apart.
async fn count(mut request: Request, out: Responder) -> Result<(), Failure> {
    let body = request.body().await?;
    let first: u32 = String::from_utf8_lossy(&body).parse().map_err(Failure::invalid)?;
    for number in first..ALL {
        out.send(number.to_string()).await?;
        out.sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Serves as its role says until a signal ends it.
pub(crate) fn serve_in_child(role: &str) {
    let (driver, url) = role.split_once(' ').unwrap();
    let driver: DriverChoice = driver.parse().unwrap();
    std::thread::spawn(|| {
        // The parent is gone, in whatever way.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    runtime().block_on(async {
        let mut signals = Signals::new().unwrap();
        let mut config = on(driver);
        config.worker.max_running = PLACES;
        let worker = serve(Worker::builder().codec(Codec::Json).endpoint(COUNT, count), url, config).await;
        println!("{READY}");
        let ended = worker.run_until(&mut signals).await;
        assert_eq!(ended, Ended::InOrder { cut_off: 0, left: Leftovers::default() });
        println!("{DRAINED}");
    });
}

/// A process that serves.
pub(crate) struct Process {
    pub(crate) child: Killed,
    out: BufReader<ChildStdout>,
    /// It ends when this is gone.
    _owner: ChildStdin,
}

impl Process {
    pub(crate) fn spawn(name: &str, driver: DriverChoice, url: &str) -> Self {
        let role = format!("{} {url}", driver.name());
        let child = command(&[], name, &role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = Killed(child.unwrap());
        let mut out = BufReader::new(child.0.stdout.take().unwrap());
        assert!(says(&mut out, READY), "the child ended before it served");
        let owner = child.0.stdin.take().unwrap();
        Self { child, out, _owner: owner }
    }

    /// Has it end in order, and waits for that.
    fn terminate(mut self) {
        let pid = Pid::from_child(&self.child.0);
        kill_process(pid, Signal::TERM).unwrap();
        assert!(says(&mut self.out, DRAINED), "the child ended in another way");
        assert!(self.child.0.wait().unwrap().success());
    }
}

/// Whether it says so before it ends.
fn says(out: &mut BufReader<ChildStdout>, what: &str) -> bool {
    out.lines().any(|line| line.unwrap().contains(what))
}

/// What callers see.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    answered: AtomicUsize,
}

/// Callers that call one after the other until they are told to stop. Every call is answered, in full and in order.
async fn calling(client: &Client, callers: usize, request: &CallRequest, seen: &Seen) {
    let caller = |_| async {
        while !seen.over.load(Ordering::SeqCst) {
            let items = client.call(request.clone()).unwrap().collect().await.unwrap();
            assert_eq!(items, (0..ALL).map(|number| number.to_string()).collect::<Vec<_>>());
            seen.answered.fetch_add(1, Ordering::SeqCst);
        }
    };
    join_all((0..callers).map(caller)).await;
}

/// Waits for so many more answers.
async fn answers(seen: &Seen, more: usize) {
    let before = seen.answered.load(Ordering::SeqCst);
    until("calls are answered", || seen.answered.load(Ordering::SeqCst) >= before + more).await;
}

/// Waits until every client knows so many workers.
pub(crate) async fn known(clients: &[Client], workers: usize) {
    let known = async {
        for client in clients {
            while client.instances(COUNT).await.unwrap().len() != workers {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known).await.expect("the clients never know all workers");
}

pub(crate) fn this_test() -> String {
    std::thread::current().name().expect("tests run on threads named after them").to_owned()
}

#[test]
fn a_rolling_restart_under_load_has_no_error_that_a_caller_sees() {
    if let Some(role) = role() {
        return serve_in_child(&role);
    }
    let name = this_test();
    both(async |driver| {
        let (_place, url) = directory();
        let mut old: Vec<Process> = (0..2).map(|_| Process::spawn(&name, driver, &url)).collect();
        let clients = clients(&url, driver);
        let seen = [Seen::default(), Seen::default()];
        // Dynamo's callers cannot be told on their connection that the worker leaves: what they send behind its last word was
        // perhaps seen. Over mux nothing is in doubt.
        let requests = [CallRequest::new(COUNT, "0"), CallRequest::new(COUNT, "0").idempotent()];
        let load = join_all((0..2).map(|n| calling(&clients[n], 4, &requests[n], &seen[n])));
        let roll = async {
            for _ in 0..old.len() {
                let leaves = old.remove(0);
                let (name, url) = (name.clone(), url.clone());
                known(&clients, 2).await;
                old.push(tokio::task::spawn_blocking(move || Process::spawn(&name, driver, &url)).await.unwrap());
                known(&clients, 3).await;
                tokio::task::spawn_blocking(move || leaves.terminate()).await.unwrap();
                join_all(seen.iter().map(|seen| answers(seen, 20))).await;
            }
            seen.iter().for_each(|seen| seen.over.store(true, Ordering::SeqCst));
        };
        tokio::join!(load, roll);
        for client in clients {
            end_client(client).await;
        }
    });
}
